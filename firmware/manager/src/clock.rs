//! The cluster clock: what stamps entries.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use bramble_cluster::Timestamp;

/// The clock of a leadership. It starts at the wall clock's time or at the last entry's, whichever
/// is later, and then follows the monotonic clock: a wall clock that is set while a node leads
/// moves nothing, and time never runs backwards from one leader to the next.
#[derive(Clone)]
pub(crate) struct ClusterClock {
    wall: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    started: Arc<Mutex<Option<Start>>>,
}

impl fmt::Debug for ClusterClock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClusterClock").finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Copy)]
struct Start {
    term: u64,
    at: Instant,
    time: Timestamp,
}

impl ClusterClock {
    /// Over a wall clock.
    pub(crate) fn new(wall: Arc<dyn Fn() -> Timestamp + Send + Sync>) -> Self {
        Self { wall, started: Arc::default() }
    }

    /// What this board believes the time to be.
    pub(crate) fn wall(&self) -> Timestamp {
        (self.wall)()
    }

    /// The time in a term of this node, in which entries up to `last_entry` were applied.
    pub(crate) fn now(&self, term: u64, last_entry: Timestamp) -> Timestamp {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        match *started {
            Some(start) if start.term == term => (start.time + start.at.elapsed()).max(last_entry),
            before => {
                let before = before.map(|start| start.time + start.at.elapsed());
                let time = self.wall().max(last_entry).max(before.unwrap_or_default());
                *started = Some(Start { term, at: Instant::now(), time });
                time
            }
        }
    }
}
