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
