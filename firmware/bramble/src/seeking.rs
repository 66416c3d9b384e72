//! How a board comes to be in a cluster: looks at its neighbours, asks the planner, and does it.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use bramble_cluster::{ClusterId, ClusterState, NodeId, chain};
use bramble_manager::{Leadership, Manager};
use bramble_peering::{JoinError, JoinToken, Membership, Neighbours, Peering};
use bramble_planner::founding::{self, ClusterFacts, FoundingStep, Neighbour, Standing};
use tokio::time::sleep;
use tracing::{info, warn};

/// How long to wait before a neighbour that did not let us in is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How often the manager at a token's address is asked.
const TOKEN_AGAIN: Duration = Duration::from_secs(5);
/// A member looks at its neighbours this often even if nothing changed: its leader may be gone.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The token of a configuration, and where to show it.
#[derive(Debug, Clone)]
pub(crate) struct Invitation {
    /// The token.
    pub(crate) token: JoinToken,
    /// Managers' addresses.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Keeps this board in a cluster.
#[derive(Debug)]
pub(crate) struct Seeker {
    peering: Peering,
    manager: Manager,
    invitation: Option<Invitation>,
    heard: BTreeMap<NodeId, Hearing>,
    rivals: Vec<ClusterId>,
}

/// What we remember of a neighbour besides what it announces.
#[derive(Debug, Clone, Copy)]
struct Hearing {
    since: Instant,
    refusals: u32,
}

impl Seeker {
    /// A seeker that has heard nothing yet.
    pub(crate) fn new(peering: Peering, manager: Manager, invitation: Option<Invitation>) -> Self {
        Self { peering, manager, invitation, heard: BTreeMap::new(), rivals: Vec::new() }
    }

    /// Seeks while there is no cluster, and afterwards watches for one that this one should
    /// dissolve into.
    ///
    /// # Errors
    /// If this board cannot keep what it needs to be a member.
    pub(crate) async fn run(mut self) -> Result<Infallible> {
        if let Some(invitation) = self.invitation.take()
            && *self.peering.membership().borrow() == Membership::Seeking
        {
            self.show(&invitation).await;
        }
        let mut neighbours = self.peering.neighbours();
        let mut leadership = self.manager.leadership();
        let began = Instant::now();
        let mut leaderless_since = Some(began);
        loop {
            let found = neighbours.borrow_and_update().clone();
            let led = leadership.borrow_and_update().leader.is_some();
            leaderless_since =
                if led { None } else { leaderless_since.or_else(|| Some(Instant::now())) };
            let standing = self.standing(leaderless_since);
            let considered = self.consider(&found, began);
            let me = self.peering.node_id();
            let step = founding::decide(me, &standing, began.elapsed(), &considered);
            let pause = self.take(step, &found, began).await?;
            tokio::select! {
                Ok(()) = neighbours.changed() => {}
                Ok(()) = leadership.changed() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Does one step and says how long to wait for something new.
    async fn take(
        &mut self,
        step: FoundingStep,
        found: &Neighbours,
        began: Instant,
    ) -> Result<Duration> {
        match step {
            FoundingStep::Wait { until } => Ok(until.saturating_sub(began.elapsed())),
            FoundingStep::Join { via, cluster } => self.join(via, cluster, found).await,
            FoundingStep::Found => {
                let draft = self.peering.draft_founding().context("cannot found a cluster")?;
                info!(cluster = %draft.cluster.id, "founding a cluster");
                let cluster = draft.cluster.clone();
                self.manager.found(draft).await.context("cannot found a cluster")?;
                self.peering.adopt(&cluster).context("cannot found a cluster")?;
                Ok(LOOK_AGAIN)
            }
            FoundingStep::Stay { rivals } => {
                if rivals != self.rivals {
                    for rival in &rivals {
                        warn!(%rival, "another cluster with our key is in use too; neither gives way: erase one of them");
                    }
                    self.rivals = rivals;
                }
                Ok(LOOK_AGAIN)
            }
            FoundingStep::Dissolve { via, into } => self.dissolve(via, into, found).await,
        }
    }

    async fn join(
        &mut self,
        via: NodeId,
        cluster: ClusterId,
        found: &Neighbours,
    ) -> Result<Duration> {
        let Some(neighbour) = found.get(&via) else { return Ok(ASK_AGAIN) };
        match self.peering.join(&neighbour.peer()).await {
            Ok(()) => {
                info!(%cluster, %via, "joined the cluster");
                Ok(LOOK_AGAIN)
            }
            Err(error) => {
                self.refused_by(via, cluster, &error);
                Ok(ASK_AGAIN)
            }
        }
    }

    /// Gives up a cluster in which nothing was ever created, once the other one has given us a
    /// place. The daemon starts afresh as soon as it sees the new membership.
    async fn dissolve(
        &mut self,
        via: NodeId,
        into: ClusterId,
        found: &Neighbours,
    ) -> Result<Duration> {
        let Some(neighbour) = found.get(&via) else { return Ok(ASK_AGAIN) };
        let place = match self.peering.ask_for_place(&neighbour.peer()).await {
            Ok(place) => place,
            Err(error) => {
                self.refused_by(via, into, &error);
                return Ok(ASK_AGAIN);
            }
        };
        info!(%into, %via, "our cluster was never used; it dissolves into the other");
        self.peering.take_place(place).context("cannot enter the other cluster")?;
        self.manager.dissolve().await.context("cannot give up the unused cluster")?;
        Ok(LOOK_AGAIN)
    }

    fn refused_by(&mut self, via: NodeId, cluster: ClusterId, error: &JoinError) {
        info!(%cluster, %via, error = %chain(error), "not let in yet");
        if let Some(hearing) = self.heard.get_mut(&via) {
            hearing.refusals = hearing.refusals.saturating_add(1);
        }
    }

    /// Shows the token until somebody lets us in.
    async fn show(&self, invitation: &Invitation) {
        loop {
            match self.peering.join_with_token(&invitation.token, &invitation.addresses).await {
                Ok(()) => return info!("joined the cluster by token"),
                Err(error) => warn!(error = %chain(&error), "the token was not accepted"),
            }
            sleep(TOKEN_AGAIN).await;
        }
    }

    fn standing(&self, leaderless_since: Option<Instant>) -> Standing {
        let membership = self.peering.membership();
        let membership = membership.borrow();
        let Some(member) = membership.member() else { return Standing::Seeking };
        let state = self.manager.state().borrow().clone();
        let leadership = self.manager.leadership().borrow().clone();
        Standing::Member {
            // What is announced of it, so that both sides of a meeting compare the same facts.
            cluster: ClusterFacts {
                id: member.cluster,
                founded_at: member.founded_at,
                is_used: is_used(&state),
            },
            is_leader: leadership.is_leader_here,
            leaderless_for: leaderless_since.map(|since| since.elapsed()),
        }
    }

    /// The neighbours as the planner sees them.
    fn consider(&mut self, found: &Neighbours, began: Instant) -> BTreeMap<NodeId, Neighbour> {
        self.heard.retain(|id, _| found.contains_key(id));
        let consider = |(id, neighbour): (&NodeId, &bramble_peering::Neighbour)| {
            let now = Hearing { since: Instant::now(), refusals: 0 };
            let hearing = *self.heard.entry(*id).or_insert(now);
            let cluster = neighbour.announcement.cluster;
            let considered = Neighbour {
                cluster: cluster.map(|cluster| ClusterFacts {
                    id: cluster.id,
                    founded_at: cluster.founded_at,
                    // Only a manager knows; a worker's word for "unused" is no reason to dissolve.
                    is_used: cluster.is_used,
                }),
                is_manager: cluster.is_some_and(|cluster| cluster.is_manager),
                first_heard: hearing.since.saturating_duration_since(began),
                refusals: hearing.refusals,
            };
            (*id, considered)
        };
        found.iter().map(consider).collect()
    }
}

/// Tells peering what to announce of this board's place in the cluster, whenever that changes.
///
/// # Errors
/// Only when the manager has ended.
pub(crate) async fn announce(peering: Peering, manager: Manager) -> Result<Infallible> {
    let mut state = manager.state();
    let mut leadership = manager.leadership();
    loop {
        let known = state.borrow_and_update().clone();
        let leading = leadership.borrow_and_update().clone();
        peering.set_situation(situation(&known, &leading, peering.node_id()));
        peering.set_join_secrets(known.cluster().map(|cluster| cluster.join_secrets.clone()));
        if known.cluster().is_some() {
            peering.set_refused(known.removed_nodes().keys().copied().collect());
        }
        tokio::select! {
            changed = state.changed() => changed.context("the manager has ended")?,
            changed = leadership.changed() => changed.context("the manager has ended")?,
        }
    }
}

fn situation(
    state: &Arc<ClusterState>,
    leadership: &Leadership,
    me: NodeId,
) -> bramble_peering::Situation {
    bramble_peering::Situation {
        is_manager: leadership.voters.contains(&me),
        is_leader: leadership.is_leader_here,
        is_used: is_used(state),
    }
}

/// Whether anything was ever created in the cluster that would be lost with it.
fn is_used(state: &ClusterState) -> bool {
    !state.services().is_empty() || !state.tasks().is_empty()
}
