//! Who votes: changing it, and what becomes of those who do not any more.
//!
//! New voters first receive the log as learners. Then the old and the new voters agree, with a
//! quorum of each, and from there on the new ones alone. A node that is left out is told so; if it
//! was not there to be told, it learns it when it next asks for votes, or from its own log. It then
//! closes its log and forgets it, but keeps its vote: should it become a voter again it must not
//! vote twice in one term.
//!
//! Who becomes a voter again is sent the log from its beginning, and on the way comes past the times
//! when it voted, perhaps alone. By those it must not lead: while its log is being filled it stands
//! for no election. It may as soon as a leader that counts its vote has sent it all that is committed,
//! or it votes by an item that is later than all that was committed when the filling began: both are
//! not before the item that took it in again.

use std::{
    collections::BTreeSet,
    sync::{Arc, PoisonError, Weak},
    time::Duration,
};

use bramble_cluster::NodeId;
use openraft::{
    ChangeMembers,
    errors::{ClientWriteError, RaftError},
    rt::WatchReceiver as _,
};
use tokio::time::timeout;

use crate::{
    Leadership,
    consensus::{
        Consensus, END_PATIENCE, Events, Inner, Running, StartError, folder,
        link::Lane,
        standing::Event,
        types::{Position, Types, Voter},
        wire::{Dismissal, Request},
    },
};

/// New voters get this long to receive the log.
const CATCH_UP_PATIENCE: Duration = Duration::from_secs(10);
/// A new voter may lag this many items when it begins to vote.
const CATCH_UP_ITEMS: u64 = 50;
/// The managers get this long to agree to a change.
const AGREE_PATIENCE: Duration = Duration::from_secs(5);
/// A successor gets this long to take over.
const HAND_OVER_PATIENCE: Duration = Duration::from_millis(700);
/// A dismissed node gets this long to answer.
const DISMISS_PATIENCE: Duration = Duration::from_secs(1);
/// A node that its own log says is out waits this long for a leader that says otherwise.
const SILENCE: Duration = Duration::from_secs(2);
/// How often a node looks whether its own log says that it is out.
const LOOK: Duration = Duration::from_secs(1);

/// A log that a leader fills.
#[derive(Debug, Default)]
pub(super) struct Filling {
    /// What was committed when the leader's first items came: who votes by a later item does now.
    floor: Option<Position>,
}

/// Why the voters did not change.
#[derive(Debug, thiserror::Error)]
pub enum VotersError {
    /// Only the leader changes the voters.
    #[error("this node is not the leader")]
    NotLeader,
    /// There must be voters.
    #[error("a cluster without managers cannot change any more")]
    Nobody,
    /// An earlier change is under way.
    #[error("the managers are being changed already")]
    Busy,
    /// New voters did not receive the log in time.
    #[error("{} did not catch up with the log in time", list(nodes))]
    Lagging {
        /// Who.
        nodes: BTreeSet<NodeId>,
    },
    /// The managers did not agree in time, or not at all.
    #[error("the managers did not agree to the change: {reason}")]
    NotAgreed {
        /// What openraft says.
        reason: String,
    },
}

impl Consensus {
    /// Makes `voters` the managers. Returns once the change is agreed by both the old and the new
    /// ones. A call that fails changes nothing, or can be repeated to finish.
    pub async fn change_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), VotersError> {
        if voters.is_empty() {
            return Err(VotersError::Nobody);
        }
        let _voting = self.inner.voting.try_lock().map_err(|_| VotersError::Busy)?;
        let running = self.running().ok_or(VotersError::NotLeader)?;
        let (current, learners) = members(&running)?;
        if current == voters && learners.is_empty() {
            return Ok(());
        }
        let newcomers: BTreeSet<NodeId> = voters.difference(&current).copied().collect();
        for newcomer in newcomers.difference(&learners) {
            self.agree(running.raft.add_learner(Voter(*newcomer), (), false)).await?;
        }
        self.await_catch_up(&running, &newcomers).await?;
        if current != voters {
            let goal: BTreeSet<Voter> = voters.iter().copied().map(Voter).collect();
            self.agree(running.raft.change_membership(goal, false)).await?;
        }
        let leftover: BTreeSet<NodeId> = learners.difference(&voters).copied().collect();
        if !leftover.is_empty() {
            let gone = ChangeMembers::RemoveNodes(leftover.iter().copied().map(Voter).collect());
            self.agree(running.raft.change_membership(gone, false)).await?;
        }
        let dismissed = current.difference(&voters).chain(&leftover).copied();
        self.dismiss(&running, dismissed.filter(|node| *node != self.inner.node).collect());
        Ok(())
    }

    /// Hands leadership to another voter, before this board goes down on purpose.
    pub async fn hand_over(&self, successor: NodeId) -> Result<(), VotersError> {
        let running = self.running().ok_or(VotersError::NotLeader)?;
        let handed = running.raft.trigger().transfer_leader(Voter(successor)).await;
        handed.map_err(|error| VotersError::NotAgreed { reason: error.to_string() })
    }

    /// Hands leadership to the voter that has most of the log, and waits until it has changed hands.
    pub(crate) async fn hand_over_to_anybody(&self) {
        let Some(running) = self.running() else { return };
        let successor = {
            let leadership = self.inner.leadership.borrow();
            let metrics = running.raft.metrics();
            let metrics = metrics.borrow_watched();
            let replication = metrics.replication.iter().flatten();
            replication
                .filter(|(voter, _)| voter.0 != self.inner.node)
                .filter(|(voter, _)| leadership.voters.contains(&voter.0))
                .filter(|(voter, _)| leadership.reachable.contains(&voter.0))
                .max_by_key(|(_, matched)| **matched)
                .map(|(voter, _)| voter.0)
        };
        let Some(successor) = successor else { return };
        let mut leadership = self.leadership();
        if self.hand_over(successor).await.is_ok() {
            let handed =
                leadership.wait_for(|it| it.leader.is_some_and(|it| it != self.inner.node));
            if timeout(HAND_OVER_PATIENCE, handed).await.is_err() {
                tracing::debug!(%successor, "did not take over in time");
            }
        }
    }

    async fn agree<T>(
        &self,
        change: impl Future<Output = Result<T, RaftError<Types, ClientWriteError<Types>>>>,
    ) -> Result<(), VotersError> {
        match timeout(AGREE_PATIENCE, change).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(VotersError::NotLeader)
            }
            Ok(Err(error)) => Err(VotersError::NotAgreed { reason: error.to_string() }),
            Err(_) => Err(VotersError::NotAgreed { reason: "no quorum in time".to_owned() }),
        }
    }

    async fn await_catch_up(
        &self,
        running: &Running,
        newcomers: &BTreeSet<NodeId>,
    ) -> Result<(), VotersError> {
        let mut metrics = running.raft.metrics();
        let caught_up = metrics.wait_until(|metrics: &openraft::RaftMetrics<Types>| {
            let Some(replication) = &metrics.replication else { return true };
            let goal = metrics.last_log_index.unwrap_or(0).saturating_sub(CATCH_UP_ITEMS);
            newcomers.iter().all(|node| {
                let matched = replication.get(&Voter(*node)).copied().flatten();
                matched.is_some_and(|id| id.index >= goal)
            })
        });
        match timeout(CATCH_UP_PATIENCE, caught_up).await {
            Ok(Ok(metrics)) if metrics.replication.is_some() => Ok(()),
            Ok(_) => Err(VotersError::NotLeader),
            Err(_) => Err(VotersError::Lagging { nodes: newcomers.clone() }),
        }
    }

    /// Tells nodes that they are out. One that cannot be told learns it otherwise.
    fn dismiss(&self, running: &Running, nodes: BTreeSet<NodeId>) {
        let since = running
            .raft
            .metrics()
            .borrow_watched()
            .committed_membership_config
            .log_id()
            .map(Position::from);
        let Some(since) = since else { return };
        for node in nodes {
            let links = self.inner.links.clone();
            tokio::spawn(async move {
                let request = Request::Dismiss(Dismissal { since });
                let told = timeout(DISMISS_PATIENCE, links.ask(node, Lane::Control, request)).await;
                if !matches!(told, Ok(Ok(_))) {
                    tracing::debug!(%node, "could not be told that it is no manager any more");
                }
            });
        }
    }

    /// Notes what a leader has sent that `counts` this node's vote or not: all up to what is
    /// `committed`, at least.
    pub(super) fn fill(&self, running: &Running, counts: bool, committed: Option<Position>) {
        let mut filling = running.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(state) = filling.as_mut() else { return };
        state.floor = state.floor.or(committed);
        let last = running.log.ends().1.map(|it| it.index);
        if counts && committed.map(|it| it.index) <= last {
            self.end_filling(running, &mut filling);
        }
    }

    /// Whether the log counts as filled, or does now: a voter by what was agreed since it began to
    /// be is one, whether or not its leader lived to say so.
    fn look_whether_filled(&self, running: &Running) {
        let mut filling = running.filling.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Filling { floor: Some(floor) }) = *filling else { return };
        let is_voter = {
            let metrics = running.raft.metrics();
            let metrics = metrics.borrow_watched();
            let effective = &metrics.membership_config;
            let since = effective.log_id().map(Position::from);
            since > Some(floor) && effective.voter_ids().any(|it| it.0 == self.inner.node)
        };
        if is_voter {
            self.end_filling(running, &mut filling);
        }
    }

    fn end_filling(&self, running: &Running, filling: &mut Option<Filling>) {
        *filling = None;
        if let Err(error) = folder::end_filling(&self.inner.folder) {
            tracing::debug!(%error, "the log will count as incomplete at the next start");
        }
        running.raft.runtime_config().elect(true);
    }

    /// Closes the log and forgets it, but not the vote; the node is dormant from then on.
    async fn retire(&self) -> Result<(), StartError> {
        let _lifecycle = self.inner.lifecycle.lock().await;
        if !self.end(END_PATIENCE).await {
            let reason = "the log of a node that is no manager any more is still in use".to_owned();
            return Err(StartError::Restore { reason });
        }
        let (folder, node) = (self.inner.folder.clone(), self.inner.node);
        let forgotten = tokio::task::spawn_blocking(move || folder::forget_log(&folder, node));
        forgotten.await.map_err(|error| StartError::Restore { reason: error.to_string() })??;
        self.inner.standing.forget();
        self.inner.state.send_replace(Arc::default());
        self.inner.leadership.send_replace(Leadership::default());
        tracing::info!(%node, "is no manager any more");
        Ok(())
    }

    /// Whether the managers have agreed to go on without this node, as far as its log and
    /// `dismissal` say.
    fn is_out(&self, running: &Running, dismissal: Option<Dismissal>) -> bool {
        let metrics = running.raft.metrics();
        let metrics = metrics.borrow_watched();
        let me = Voter(self.inner.node);
        let effective = &metrics.membership_config;
        let followed = self.inner.standing.followed();
        let is_led = followed.is_some_and(|it| it.heard.elapsed() < SILENCE);
        let Some(known) = effective.log_id().map(Position::from) else {
            // It was woken by a leader that has thought better of it, and never got anything.
            return followed.is_some() && !is_led && running.log.is_empty();
        };
        let is_member = effective.get_node(&me).is_some();
        let is_settled = metrics.committed_membership_config.log_id() == effective.log_id()
            && effective.get_joint_config().len() == 1;
        match dismissal {
            _ if metrics.state.is_leader() => false,
            // News from later than what this node knows: it does not matter what it knows.
            Some(dismissal) if dismissal.since > known => true,
            Some(dismissal) if dismissal.since == known => !is_member,
            _ => is_settled && !is_member && !is_led,
        }
    }
}

/// Handles what peers report about the consensus as a whole, until it is dropped.
pub(crate) async fn handle_events(inner: Weak<Inner>, mut events: Events) {
    loop {
        let event = timeout(LOOK, events.recv()).await;
        let Some(inner) = inner.upgrade() else { return };
        let consensus = Consensus { inner };
        let Some(running) = consensus.running() else { continue };
        consensus.look_whether_filled(&running);
        let is_out = match event {
            Ok(None) => return,
            Ok(Some(Event::LogLost(node))) => {
                consensus.replace(&running, node);
                false
            }
            Ok(Some(Event::Dismissed(dismissal))) => consensus.is_out(&running, Some(dismissal)),
            Err(_) => consensus.is_out(&running, None),
        };
        drop(running);
        if is_out && let Err(error) = consensus.retire().await {
            consensus.inner.failure.send_replace(Some(error.to_string()));
        }
    }
}

impl Consensus {
    /// A voter has lost its log. What it had acknowledged is gone, so its vote must not count
    /// until it has received everything again: it ceases to be a voter here, and becomes one
    /// again as any other board does.
    fn replace(&self, running: &Running, node: NodeId) {
        let Ok((mut voters, _)) = members(running) else { return };
        if !voters.remove(&node) || voters.is_empty() {
            return;
        }
        tracing::warn!(%node, "a manager has lost its log and ceases to be one");
        let consensus = self.clone();
        tokio::spawn(async move {
            if let Err(error) = consensus.change_voters(voters).await {
                tracing::debug!(%error, "will be tried again");
            }
        });
    }
}

/// The voters and the learners, if this node leads.
fn members(running: &Running) -> Result<(BTreeSet<NodeId>, BTreeSet<NodeId>), VotersError> {
    let metrics = running.raft.metrics();
    let metrics = metrics.borrow_watched();
    if !metrics.state.is_leader() {
        return Err(VotersError::NotLeader);
    }
    let membership = metrics.membership_config.membership();
    let voters = membership.voter_ids().map(|voter| voter.0).collect();
    let learners = membership.learner_ids().map(|voter| voter.0).collect();
    Ok((voters, learners))
}

fn list(nodes: &BTreeSet<NodeId>) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
