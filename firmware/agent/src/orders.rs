//! The board's standing orders: the last assignment it took, who gave it, and how fresh the
//! leader's word is. Kept in the run folder, so that a restarted daemon goes on where it was.

mod record;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bramble_cluster::{Assignment, ClusterId, NodeId, OnPartition, Timestamp};
use bramble_peering::session::Welcome;
use bramble_planner::{node::is_newer, timing::CUT_OFF_AFTER};
use tokio::sync::watch;

use self::record::Record;
use crate::clock::{BoardClock, SystemClock};

/// The orders of the moment.
#[derive(Debug, Clone, Default)]
pub(crate) struct Current {
    /// What to run. Generation 0 until a first assignment has come.
    pub(crate) assignment: Arc<Assignment>,
    /// Counts the sessions that brought an assignment: what was said in an earlier one is judged
    /// anew by what the cluster knows in this one.
    pub(crate) session: u64,
    /// Who leads, while a session is open.
    pub(crate) leader: Option<NodeId>,
    /// Whether the leader has said that this board may leave.
    pub(crate) may_leave: bool,
    /// Counts how often a board that was cut off was confirmed again.
    pub(crate) confirmations: u64,
}

/// The standing orders. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Orders(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    clock: BoardClock,
    record: Record,
    current: watch::Sender<Current>,
    leader: Mutex<LeadersWord>,
}

/// What heartbeats brought.
#[derive(Debug, Clone, Copy, Default)]
struct LeadersWord {
    /// When the last answered heartbeat was sent, less the age of the leader's quorum.
    confirmed_at: Option<Timestamp>,
    /// The cluster clock, and this board's clock at the same instant.
    clocks: Option<(Timestamp, Timestamp)>,
    /// Whether an assignment came in this session.
    has_assigned: bool,
}

impl Orders {
    /// The orders that an earlier daemon left in `run` for this cluster, if any.
    pub(crate) fn load(run: &Path, cluster: ClusterId, clock: BoardClock) -> Self {
        let record = Record::new(run, cluster);
        let assignment = Arc::new(record.assignment().unwrap_or_default());
        let confirmed_at = record.confirmed_at();
        let leader = Mutex::new(LeadersWord { confirmed_at, ..LeadersWord::default() });
        let current = watch::Sender::new(Current { assignment, ..Current::default() });
        Self(Arc::new(Shared { clock, record, current, leader }))
    }

    /// Tells of each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Current> {
        self.0.current.subscribe()
    }

    /// This board's clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    /// How the operating system's clock relates to this board's.
    pub(crate) fn system_clock(&self) -> SystemClock {
        self.0.clock.system_clock()
    }

    /// When the leader, and with it a quorum, was last known to count on this board.
    pub(crate) fn confirmed_at(&self) -> Option<Timestamp> {
        self.word().confirmed_at
    }

    /// An instant of this board's clock, by the cluster's clock.
    pub(crate) fn cluster_time(&self, at: Timestamp) -> Timestamp {
        match self.word().clocks {
            Some((cluster, board)) if at > board => cluster + at.since(board),
            Some((cluster, board)) => cluster - board.since(at),
            None => at,
        }
    }

    /// A leader opened a session.
    pub(crate) fn session_began(&self, welcome: &Welcome) {
        let now = self.now();
        let mut word = self.word();
        word.clocks = Some((welcome.now, now));
        word.has_assigned = false;
        drop(word);
        self.0.current.send_modify(|current| {
            current.leader = Some(welcome.leader);
            current.may_leave = false;
        });
    }

    /// The session is over.
    pub(crate) fn session_ended(&self) {
        self.0.current.send_modify(|current| current.leader = None);
    }

    /// Takes an assignment, unless it is older than the one there is.
    pub(crate) fn take(&self, assignment: Arc<Assignment>) {
        let current = self.0.current.borrow().assignment.generation;
        let offered = assignment.generation;
        if !is_newer(offered, current) {
            tracing::warn!(
                ?offered,
                ?current,
                "an assignment older than the current one is refused"
            );
            return;
        }
        if let Err(error) = self.0.record.keep_assignment(&assignment) {
            tracing::warn!(%error, "the assignment would be forgotten with the daemon");
        }
        let is_first = !std::mem::replace(&mut self.word().has_assigned, true);
        self.0.current.send_modify(|current| {
            current.session += u64::from(is_first);
            current.assignment = assignment;
        });
    }

    /// The leader says that this board may leave.
    pub(crate) fn let_leave(&self) {
        self.0.current.send_modify(|current| current.may_leave = true);
    }

    /// The heartbeat sent at `sent_at` was answered by a leader whose quorum was `quorum_age` old.
    pub(crate) fn confirm(&self, sent_at: Timestamp, quorum_age: Duration, cluster_now: Timestamp) {
        let confirmed_at = sent_at - quorum_age;
        let now = self.now();
        let mut word = self.word();
        let was_cut_off = word.confirmed_at.is_none_or(|at| now >= at + CUT_OFF_AFTER);
        word.clocks = Some((cluster_now, now));
        word.confirmed_at = word.confirmed_at.max(Some(confirmed_at));
        drop(word);
        if was_cut_off {
            // The loop sleeps over heartbeats, but not over this.
            self.0.current.send_modify(|current| current.confirmations += 1);
        }
        let stops = |assignment: &Assignment| {
            assignment.tasks.iter().any(|task| task.spec.on_partition == OnPartition::Stop)
        };
        // Only such tasks depend on it; without them an idle board writes nothing, not even here.
        if stops(&self.0.current.borrow().assignment)
            && let Err(error) = self.0.record.keep_confirmed_at(confirmed_at)
        {
            tracing::warn!(%error, "the leader's last word would be forgotten with the daemon");
        }
    }

    fn word(&self) -> MutexGuard<'_, LeadersWord> {
        self.0.leader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
