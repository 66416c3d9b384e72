//! The constants of time on which boards and leader must agree.

use std::time::Duration;

/// How often a board sends its leader a heartbeat.
pub const HEARTBEAT: Duration = Duration::from_millis(200);

/// A board that the leader has not heard of for this long is down: its tasks start elsewhere.
pub const DOWN_AFTER: Duration = Duration::from_millis(1_500);

/// A board whose last heartbeat confirmed by the quorum was sent this long ago counts itself as
/// cut off: it starts nothing new and asks its `on_partition: stop` tasks to stop.
///
/// Three heartbeats may be lost or late before that.
pub const CUT_OFF_AFTER: Duration = Duration::from_millis(700);

/// A board cut off since this long kills what is left of its `on_partition: stop` tasks.
///
/// Counted, as [`CUT_OFF_AFTER`], from when the last confirmed heartbeat was *sent*: the leader
/// cannot have received it earlier, so its [`DOWN_AFTER`] ends later by at least the difference.
pub const CUT_OFF_KILL_AFTER: Duration = Duration::from_millis(1_100);

/// What a kill, and a board that was busy, may take before the leader starts the task elsewhere.
const KILL_MARGIN: Duration = Duration::from_millis(300);

const _: () = assert!(HEARTBEAT.as_millis() * 3 < CUT_OFF_AFTER.as_millis());
const _: () = assert!(CUT_OFF_AFTER.as_millis() < CUT_OFF_KILL_AFTER.as_millis());
const _: () = assert!(
    CUT_OFF_KILL_AFTER.as_millis() + KILL_MARGIN.as_millis() <= DOWN_AFTER.as_millis(),
    "a cut-off board must have killed its tasks before the leader may start them elsewhere"
);

/// How long a new leader waits for a board that it has not heard of yet: every board has to find the
/// new leader first.
pub const LEADER_GRACE: Duration = Duration::from_secs(3);

/// How long a new leader waits for the board of the leader before it. That board is most likely why
/// there is a new one.
pub const SUSPECT_AFTER: Duration = Duration::from_millis(400);

/// How long the first replacement of an ended task waits; doubled with each that dies young.
pub const RESTART_FIRST: Duration = Duration::from_millis(100);

/// How long a replacement of an ended task waits at most.
pub const RESTART_MAX: Duration = Duration::from_secs(30);

/// A task that ran for this long did not die young.
pub const GOOD_RUN: Duration = Duration::from_secs(10);

/// How long a task that should leave its board waits for its successor to run.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// How long a successor that starts first waits for room before it takes its predecessor's.
pub const ROOM_PATIENCE: Duration = Duration::from_secs(5);

/// A board must have been Ready for this long before tasks move to it for balance.
pub const REBALANCE_AFTER: Duration = Duration::from_secs(10);

/// Between two moves for balance.
pub const REBALANCE_COOL_DOWN: Duration = Duration::from_secs(5);

/// For how long a failed task speaks against its board for tasks of the same service.
pub const FAILURE_MEMORY: Duration = Duration::from_secs(300);

/// A waiting task is explained anew at most this often.
pub const EXPLAIN_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A board that was down for this long will not tell how its tasks ended.
pub const ORPHAN_AFTER: Duration = Duration::from_secs(24 * 3_600);

const _: () = assert!(DOWN_AFTER.as_millis() <= LEADER_GRACE.as_millis());
