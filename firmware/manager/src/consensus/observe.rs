//! Watches openraft and says who leads.

use std::{
    collections::BTreeSet,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use bramble_cluster::{NodeId, Timestamp};
use openraft::{Instant as _, RaftMetrics, rt::WatchReceiver as _, type_config::alias::InstantOf};
use tokio::time::{MissedTickBehavior, interval};

use crate::{
    Leadership,
    consensus::{
        ELECTION, HEARTBEAT, Inner, Raft,
        log::Log,
        reach::{LEADERS_PATIENCE, OTHERS_PATIENCE},
        types::Types,
    },
};

/// A quorum that did not answer for this long is lost. Longer than openraft's lease, after which a
/// leader accepts nothing more; shorter than it takes the others to elect another.
const QUORUM_PATIENCE: Duration = Duration::from_millis(700);
/// A log with more bytes than this is replaced by a snapshot, however few items it has.
const LOG_BYTES: usize = 8 * 1024 * 1024;

const _: () = assert!(QUORUM_PATIENCE.as_millis() > ELECTION.1.as_millis());

/// Runs until openraft ends.
pub(crate) async fn run(inner: Weak<Inner>, raft: Raft, log: Arc<Log>) {
    let mut metrics = raft.metrics();
    let mut ticks = interval(HEARTBEAT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut observer = Observer::new();
    loop {
        tokio::select! {
            changed = metrics.changed() => if changed.is_err() { return },
            _ = ticks.tick() => {}
        }
        let Some(inner) = inner.upgrade() else { return };
        let failed = {
            let metrics = metrics.borrow_and_update();
            observer.look(&inner, &metrics);
            metrics.running_state.as_ref().err().map(ToString::to_string)
        };
        if let Some(reason) = failed {
            let is_wanted = inner.running.read().is_ok_and(|running| running.is_some());
            if is_wanted {
                tracing::error!(reason, "the consensus has failed");
                inner.failure.send_replace(Some(reason));
            }
            return;
        }
        if observer.should_snapshot(&log)
            && let Err(error) = raft.trigger().snapshot().await
        {
            tracing::debug!(%error, "openraft has stopped");
        }
    }
}

/// What has to be remembered between two looks.
#[derive(Debug)]
struct Observer {
    /// The same instant by openraft's clock and by ours.
    anchor: (InstantOf<Types>, Instant),
    /// The term that this node leads, and since when.
    leading: Option<(u64, Instant)>,
    last_leader: Option<NodeId>,
    snapshot_wanted_at: usize,
}

impl Observer {
    fn new() -> Self {
        let anchor = (InstantOf::<Types>::now(), Instant::now());
        Self { anchor, leading: None, last_leader: None, snapshot_wanted_at: LOG_BYTES }
    }

    fn instant(&self, theirs: InstantOf<Types>) -> Option<Instant> {
        let (anchor, ours) = self.anchor;
        if theirs >= anchor {
            ours.checked_add(theirs - anchor)
        } else {
            ours.checked_sub(anchor - theirs)
        }
    }

    fn look(&mut self, inner: &Inner, metrics: &RaftMetrics<Types>) {
        let me = inner.node;
        let voters: BTreeSet<NodeId> =
            metrics.membership_config.voter_ids().map(|voter| voter.0).collect();
        let is_alone = voters.len() == 1 && voters.contains(&me);
        let acked = metrics.last_quorum_acked.and_then(|at| self.instant(at.into_inner()));
        let leads = metrics.state.is_leader();
        if !leads {
            self.leading = None;
        } else if self.leading.is_none_or(|(term, _)| term != metrics.current_term) {
            // Being elected was an answer of a quorum.
            self.leading = Some((metrics.current_term, Instant::now()));
        }
        let last_quorum = match self.leading {
            Some(_) if is_alone => Some(Instant::now()),
            Some((_, since)) => acked.max(Some(since)),
            None => None,
        };
        inner.standing.update(voters.clone(), last_quorum);
        let followed = inner.standing.followed().filter(|followed| {
            !leads && metrics.current_leader.is_some_and(|leader| leader.0 == followed.leader)
        });
        let quorum = last_quorum.or_else(|| {
            // A leader that no quorum has answered yet was elected by one, just now.
            followed.map(|followed| followed.last_quorum.unwrap_or(followed.heard))
        });
        let has_quorum = quorum.is_some_and(|at| at.elapsed() < QUORUM_PATIENCE);
        let leader = match followed {
            _ if !has_quorum => None,
            Some(followed) => Some(followed.leader),
            None => leads.then_some(me),
        };
        let patience = if leads { LEADERS_PATIENCE } else { OTHERS_PATIENCE };
        let mut reachable = inner.reach.among(&voters, patience);
        reachable.extend(voters.get(&me));
        let has_applied_its_own =
            metrics.last_applied.is_some_and(|id| id.leader_id.term == metrics.current_term);
        let former = inner.leadership.borrow().clone();
        let seen = Leadership {
            leader,
            is_leader_here: leader == Some(me) && has_applied_its_own,
            term: metrics.current_term,
            voters,
            reachable,
            former_leader: self.former_leader(&former, leader),
            since: former.since,
            quorum_lost: self.quorum_lost(&former, has_quorum, quorum),
        };
        self.publish(inner, former, seen);
    }

    fn publish(&mut self, inner: &Inner, former: Leadership, mut seen: Leadership) {
        let is_turn = seen.leader != former.leader
            || seen.is_leader_here != former.is_leader_here
            || (seen.leader.is_some() && seen.term != former.term);
        if is_turn {
            seen.since = now(inner, &seen);
            match seen.leader {
                Some(leader) => {
                    tracing::info!(%leader, term = seen.term, here = seen.is_leader_here, "leader");
                }
                None => tracing::warn!(term = seen.term, "no leader"),
            }
        }
        self.last_leader = seen.leader.or(self.last_leader);
        if seen != former {
            inner.leadership.send_replace(seen);
        }
    }

    /// Whoever led last and does not now.
    fn former_leader(&self, former: &Leadership, leader: Option<NodeId>) -> Option<NodeId> {
        match (self.last_leader, leader) {
            (Some(last), Some(leader)) if last != leader => Some(last),
            (Some(last), None) => Some(last),
            _ if former.leader.is_none() && leader.is_some() => {
                // The same leader again: whoever led before it is of no interest any more.
                None
            }
            _ => former.former_leader,
        }
    }

    fn quorum_lost(
        &self,
        former: &Leadership,
        has_quorum: bool,
        last: Option<Instant>,
    ) -> Option<Instant> {
        if has_quorum {
            return None;
        }
        // A node that has just started knows of no quorum at all: it was lost before then.
        Some(last.or(former.quorum_lost).unwrap_or_else(Instant::now))
    }

    /// Whether the log has become large; asked again only after it has grown further.
    fn should_snapshot(&mut self, log: &Log) -> bool {
        let bytes = log.live_bytes();
        if bytes < LOG_BYTES {
            self.snapshot_wanted_at = LOG_BYTES;
            return false;
        }
        let is_due = bytes >= self.snapshot_wanted_at;
        if is_due {
            self.snapshot_wanted_at = bytes.saturating_add(LOG_BYTES);
        }
        is_due
    }
}

fn now(inner: &Inner, seen: &Leadership) -> Timestamp {
    let last_entry = inner.last_instant.get();
    if seen.is_leader_here {
        inner.clock.now(seen.term, last_entry)
    } else {
        inner.clock.wall().max(last_entry)
    }
}
