//! Proposals: here if this node leads, through the leader if it does not.

use std::{sync::Arc, time::Duration};

use bramble_cluster::{Command, Entry, NodeId, Outcome, limits};
use openraft::{
    errors::{ClientWriteError, Fatal, RaftError},
    rt::WatchReceiver as _,
};
use tokio::time::{Instant, sleep, timeout};

use crate::consensus::{
    Consensus,
    link::{Lane, LinkError},
    space::LEADERS_ROOM,
    types::{Proposal, Types},
    wire::{Refusal, Reply, Request},
};

/// How long a proposal waits for a leader, or for a quorum: an election takes less.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a proposal waits for disks while there is a quorum.
const SLOW_PATIENCE: Duration = Duration::from_secs(10);
/// How long it waits for the leader's answer; the leader gives up before.
const FORWARD_PATIENCE: Duration = Duration::from_secs(12);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(25);
/// Most bytes in a proposal.
pub const PROPOSAL_BYTES: usize = 8 * 1024 * 1024;

/// Why commands were not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Too few managers answer. (`may_apply` says whether the commands reached the log of one, and
    /// may take effect once there is a quorum again.)
    #[error("no quorum: {reachable} of {managers} managers reachable")]
    NoQuorum {
        /// Managers that answer.
        reachable: u32,
        /// Managers there are.
        managers: u32,
        /// Whether the commands may still take effect.
        may_apply: bool,
    },
    /// This board belongs to no cluster, or does not know its managers yet.
    #[error("no manager is known")]
    NoManager,
    /// The answer was lost with the leader.
    #[error("the leader was lost before it answered; the change may or may not have been made")]
    Uncertain,
    /// There are too many commands.
    #[error("{commands} commands are too many at once, the limit is {}", limits::COMMANDS)]
    TooMany {
        /// How many.
        commands: usize,
    },
    /// They are too large.
    #[error("a change of {bytes} bytes is too large, the limit is {PROPOSAL_BYTES}")]
    TooLarge {
        /// How large.
        bytes: usize,
    },
    /// The leader has no room for more.
    #[error("the disk of board {node}, which leads, is full: make room, or hand leadership over")]
    DiskFull {
        /// The leader.
        node: NodeId,
    },
    /// The consensus on the leader, or here, has failed.
    #[error("the consensus has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

impl From<Refusal> for ProposeError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::NotLeader(_) => Self::NoManager,
            Refusal::NoQuorum { reachable, managers, may_apply } => {
                Self::NoQuorum { reachable, managers, may_apply }
            }
            Refusal::Uncertain => Self::Uncertain,
            Refusal::Stopped(reason) => Self::Stopped { reason },
            Refusal::DiskFull(node) => Self::DiskFull { node },
        }
    }
}

/// Why one attempt failed.
enum Setback {
    /// Nothing was proposed; another attempt may succeed.
    Retry(ProposeError),
    /// There is nothing more to try.
    Final(ProposeError),
}

impl Consensus {
    /// Proposes commands, from whichever node, and returns what applying each answered. They are
    /// on the disks of a quorum and applied here or on the leader when this returns.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, ProposeError> {
        check(&commands)?;
        let deadline = Instant::now() + PATIENCE;
        let mut leadership = self.leadership();
        loop {
            leadership.borrow_and_update();
            let setback = match self.attempt(&commands).await {
                Ok(outcomes) => return Ok(outcomes),
                Err(Setback::Final(error)) => return Err(error),
                Err(Setback::Retry(error)) => error,
            };
            if Instant::now() >= deadline || self.has_long_lost_its_quorum() {
                return Err(setback);
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return Err(setback) },
                () = sleep(PAUSE) => {}
            }
        }
    }

    /// One attempt with whoever seems to lead.
    async fn attempt(&self, commands: &[Command]) -> Result<Vec<Outcome>, Setback> {
        if self.running().is_none() {
            return self.attempt_as_worker(commands).await;
        }
        let leader = self.inner.leadership.borrow().leader;
        match leader {
            Some(leader) if leader != self.inner.node => {
                self.forward(leader, commands).await.map_err(|(_, setback)| setback)
            }
            _ => self.propose_here(commands.to_vec()).await.map_err(|refusal| match refusal {
                Refusal::NotLeader(_) => Setback::Retry(self.no_quorum(false).into()),
                refusal => Setback::Final(refusal.into()),
            }),
        }
    }

    /// A node without a log asks one manager after the other, and whom they name.
    async fn attempt_as_worker(&self, commands: &[Command]) -> Result<Vec<Outcome>, Setback> {
        let mut targets = (self.inner.managers)();
        targets.retain(|target| *target != self.inner.node);
        let managers = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        if targets.is_empty() {
            return Err(Setback::Retry(ProposeError::NoManager));
        }
        targets.reverse();
        let mut asked = Vec::new();
        let mut worst = ProposeError::NoQuorum { reachable: 0, managers, may_apply: false };
        while let Some(target) = targets.pop() {
            if asked.contains(&target) {
                continue;
            }
            asked.push(target);
            match self.forward(target, commands).await {
                Ok(outcomes) => return Ok(outcomes),
                Err((hint, Setback::Retry(error))) => {
                    targets.extend(hint);
                    if !matches!(error, ProposeError::NoQuorum { reachable: 0, .. }) {
                        worst = error;
                    }
                }
                Err((_, setback)) => return Err(setback),
            }
        }
        Err(Setback::Retry(worst))
    }

    /// Asks another node; on failure also says whom that one believes to lead.
    async fn forward(
        &self,
        target: NodeId,
        commands: &[Command],
    ) -> Result<Vec<Outcome>, (Option<NodeId>, Setback)> {
        let request = Request::Propose(commands.to_vec());
        let asked = self.inner.links.ask(target, Lane::Items, request);
        let nobody = || Setback::Retry(self.no_quorum(false).into());
        match timeout(FORWARD_PATIENCE, asked).await {
            Ok(Ok(Reply::Proposed(Ok(outcomes)))) => Ok(outcomes),
            Ok(Ok(Reply::Proposed(Err(Refusal::NotLeader(hint))))) => Err((hint, nobody())),
            Ok(Ok(Reply::Proposed(Err(refusal)))) => {
                let is_final = !matches!(refusal, Refusal::NoQuorum { may_apply: false, .. });
                let error = refusal.into();
                Err((None, if is_final { Setback::Final(error) } else { Setback::Retry(error) }))
            }
            Ok(Err(LinkError::Unreachable { .. }) | Ok(_)) => Err((None, nobody())),
            Ok(Err(LinkError::Broken { .. })) | Err(_) => {
                Err((None, Setback::Final(ProposeError::Uncertain)))
            }
        }
    }

    /// Proposes commands if this node leads.
    pub(crate) async fn propose_here(
        &self,
        commands: Vec<Command>,
    ) -> Result<Vec<Outcome>, Refusal> {
        let Some(running) = self.running() else { return Err(Refusal::NotLeader(None)) };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (is_leader, term) = {
                let metrics = running.raft.metrics();
                let metrics = metrics.borrow_watched();
                (metrics.state.is_leader(), metrics.current_term)
            };
            if !is_leader {
                return Err(Refusal::NotLeader(self.inner.leadership.borrow().leader));
            }
            if !running.space.has(LEADERS_ROOM) {
                return Err(Refusal::DiskFull(self.inner.node));
            }
            let at = self.inner.clock.now(term, self.inner.last_instant.get());
            let proposal = Proposal(Arc::new(Entry { at, commands: commands.clone() }));
            let written = running.raft.client_write(proposal);
            tokio::pin!(written);
            let result = match timeout(PATIENCE, &mut written).await {
                Ok(result) => result,
                Err(_) if self.has_lost_its_quorum() => return Err(self.no_quorum(true)),
                Err(_) => timeout(SLOW_PATIENCE, written).await.map_err(|_| {
                    if self.has_lost_its_quorum() {
                        self.no_quorum(true)
                    } else {
                        Refusal::Uncertain
                    }
                })?,
            };
            let error = match result {
                Ok(response) => return Ok(response.data),
                Err(error) => error,
            };
            match refusal(error) {
                Some(refusal) => return Err(refusal),
                None if Instant::now() >= deadline || self.has_long_lost_its_quorum() => {
                    return Err(self.no_quorum(false));
                }
                None => sleep(PAUSE).await,
            }
        }
    }

    fn has_lost_its_quorum(&self) -> bool {
        self.inner.leadership.borrow().quorum_lost.is_some()
    }

    fn has_long_lost_its_quorum(&self) -> bool {
        self.inner.leadership.borrow().quorum_lost.is_some_and(|at| at.elapsed() > PATIENCE)
    }

    fn no_quorum(&self, may_apply: bool) -> Refusal {
        let leadership = self.inner.leadership.borrow();
        let count = |nodes: usize| u32::try_from(nodes).unwrap_or(u32::MAX);
        Refusal::NoQuorum {
            reachable: count(leadership.reachable.len()),
            managers: count(leadership.voters.len()),
            may_apply,
        }
    }
}

/// What an error of openraft means; `None` if it is worth another attempt.
fn refusal(error: RaftError<Types, ClientWriteError<Types>>) -> Option<Refusal> {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            forward.leader_id.map(|leader| Refusal::NotLeader(Some(leader.0)))
        }
        RaftError::APIError(ClientWriteError::LogEntryDiscarded(_)) => Some(Refusal::Uncertain),
        RaftError::APIError(error) => Some(Refusal::Stopped(error.to_string())),
        // What was written before the stop is on this disk, perhaps on others.
        RaftError::Fatal(Fatal::Stopped) => Some(Refusal::Uncertain),
        RaftError::Fatal(error) => Some(Refusal::Stopped(error.to_string())),
    }
}

fn check(commands: &[Command]) -> Result<(), ProposeError> {
    if commands.len() > limits::COMMANDS {
        return Err(ProposeError::TooMany { commands: commands.len() });
    }
    let bytes = postcard::experimental::serialized_size(commands).unwrap_or(usize::MAX);
    if bytes > PROPOSAL_BYTES {
        return Err(ProposeError::TooLarge { bytes });
    }
    Ok(())
}
