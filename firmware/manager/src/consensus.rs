//! The consensus of the managers: one log, agreed by a quorum, applied everywhere in the same
//! order. The only place that names openraft.
//!
//! A board takes part only while it votes, or is about to. Until then it is *dormant*: no log, no
//! timers, nothing on the disk. It wakes when a leader first sends it something ([`server`]), or
//! when it founds a cluster; it goes back to sleep when the managers agreed to go on without it
//! ([`membership`]), and then forgets its log but never its vote.
//!
//! - [`folder`]: what is on the disk: [`log`], the write-ahead log, and [`snapshot`], what replaces its
//!   beginning; [`store`] and [`state_machine`] are the same two as openraft sees them.
//! - [`wire`]: the messages; [`link`] and [`transport`]: asking; [`server`]: answering.
//! - [`propose`], [`membership`], [`observe`]: what the rest of the manager uses.

mod folder;
mod link;
mod log;
mod membership;
mod observe;
mod propose;
mod reach;
mod server;
mod snapshot;
mod space;
mod standing;
mod state_machine;
mod store;
mod transport;
mod types;
mod wire;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::Duration,
};

use bramble_cluster::{ClusterState, Command, NodeId, Outcome, Timestamp};
use openraft::{Config, RaftState, SnapshotPolicy, StepDownPolicy, errors::Fatal};
use tokio::sync::{mpsc, watch};

use self::{
    link::Links,
    log::Log,
    membership::Filling,
    reach::Reach,
    server::AbortOnDrop,
    snapshot::SnapshotFolder,
    space::Space,
    standing::{Event, Standing},
    state_machine::{LastInstant, StateMachine},
    store::LogStore,
    transport::Transport,
    types::{Types, Voter},
};
pub use self::{
    link::{Dial, Duplex},
    log::LogError,
    membership::VotersError,
    propose::{PROPOSAL_BYTES, ProposeError},
    snapshot::SnapshotError,
};
use crate::{Leadership, clock::ClusterClock};

/// A leader shows itself this often.
pub const HEARTBEAT: Duration = Duration::from_millis(100);
/// A follower that does not hear of the leader waits between these before it campaigns, after the
/// leader's lease (the longer of the two) has passed.
pub const ELECTION: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(450));
/// Items between snapshots.
const SNAPSHOT_ITEMS: u64 = 2_000;
/// Items kept behind a snapshot, for followers that are a little late.
const KEPT_ITEMS: u64 = 500;
/// A follower that lags more items than this gets a snapshot.
const LAGGING_ITEMS: u64 = 5_000;
/// How long founding may take: two flushes and an election of one.
const FOUND_PATIENCE: Duration = Duration::from_secs(10);

/// How long requests that are under way may hold the log after the consensus ended. Longer than any
/// of them takes.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// The same when the process is about to end anyway.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(1);

type Raft = openraft::Raft<Types, StateMachine>;

/// What the consensus needs of its surroundings.
pub struct ConsensusConfig {
    /// This node.
    pub node: NodeId,
    /// Where the log and the snapshot are. Made when there is something to store.
    pub folder: PathBuf,
    /// How to reach another node.
    pub dial: Dial,
    /// Whether a node that authenticated itself may act as a manager towards this one.
    pub trusts: Arc<dyn Fn(NodeId) -> bool + Send + Sync>,
    /// The managers that a node without a log knows of, the likeliest leader first.
    pub managers: Arc<dyn Fn() -> Vec<NodeId> + Send + Sync>,
    /// What this board believes the time to be.
    pub wall_clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl fmt::Debug for ConsensusConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConsensusConfig")
            .field("node", &self.node)
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

/// Why the consensus cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The log is unusable.
    #[error("cannot open the log")]
    Log(#[from] LogError),
    /// The snapshot is unusable.
    #[error("cannot open the snapshot")]
    Snapshot(#[from] SnapshotError),
    /// Log and snapshot do not fit together.
    #[error(
        "the log and the snapshot before it do not fit together: one of them was lost or is of \
         another time; remove this board from the cluster and let it join again"
    )]
    Apart,
    /// openraft does not start. Log and snapshot were read and are sound, so it may the next time.
    #[error("cannot restore the state: {reason}")]
    Restore {
        /// What openraft says.
        reason: String,
    },
    /// There is no log, and nobody else could have one.
    #[error(
        "this board was its cluster's only manager, and the cluster's log is gone; remove `peering` \
         from the data folder to make it a new board"
    )]
    Lost,
    /// The node is being shut down.
    #[error("the node shuts down")]
    Closing,
}

impl StartError {
    /// Whether what this board kept is no longer what it wrote: trying again fails the same way.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Log(error) => !matches!(error, LogError::File { .. }),
            Self::Snapshot(error) => matches!(error, SnapshotError::Damaged { .. }),
            Self::Apart | Self::Lost => true,
            Self::Restore { .. } | Self::Closing => false,
        }
    }
}

/// Why a cluster cannot be founded here.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// The consensus cannot begin.
    #[error("cannot begin the consensus")]
    Start(#[from] StartError),
    /// This node is in a cluster.
    #[error("this node is a member of a cluster already")]
    AlreadyMember,
    /// The founder could not make itself leader.
    #[error("the founder did not become leader: {reason}")]
    Leaderless {
        /// Why.
        reason: String,
    },
    /// The first entry was not accepted.
    #[error("the first entry was not accepted")]
    Propose(#[from] ProposeError),
}

/// A node's part in the consensus. Clones are handles to the same.
#[derive(Debug, Clone)]
pub struct Consensus {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    folder: PathBuf,
    trusts: Arc<dyn Fn(NodeId) -> bool + Send + Sync>,
    managers: Arc<dyn Fn() -> Vec<NodeId> + Send + Sync>,
    links: Links,
    reach: Reach,
    standing: Standing,
    clock: ClusterClock,
    last_instant: LastInstant,
    state: watch::Sender<Arc<ClusterState>>,
    leadership: watch::Sender<Leadership>,
    failure: watch::Sender<Option<String>>,
    running: RwLock<Option<Arc<Running>>>,
    /// Held while the consensus begins or ends; `false` once it must not begin again.
    lifecycle: tokio::sync::Mutex<bool>,
    /// Held while the voters change.
    voting: tokio::sync::Mutex<()>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Consensus").field("node", &self.node).finish_non_exhaustive()
    }
}

/// The consensus of a node that takes part.
struct Running {
    raft: Raft,
    log: Arc<Log>,
    snapshots: Arc<SnapshotFolder>,
    space: Arc<Space>,
    /// While a leader still fills the log.
    filling: Mutex<Option<Filling>>,
    _observer: AbortOnDrop<()>,
}

impl Consensus {
    /// Begins where the node stopped: dormant if it holds no log, rejoining the others if it does.
    pub async fn start(config: ConsensusConfig) -> Result<Self, StartError> {
        let reach = Reach::default();
        let (standing, events) = Standing::new();
        let consensus = Self {
            inner: Arc::new(Inner {
                node: config.node,
                folder: config.folder,
                trusts: config.trusts,
                managers: config.managers,
                links: Links::new(config.dial, reach.clone()),
                reach,
                standing,
                clock: ClusterClock::new(config.wall_clock),
                last_instant: LastInstant::default(),
                state: watch::Sender::new(Arc::default()),
                leadership: watch::Sender::new(Leadership::default()),
                failure: watch::Sender::new(None),
                running: RwLock::new(None),
                lifecycle: tokio::sync::Mutex::new(true),
                voting: tokio::sync::Mutex::new(()),
            }),
        };
        tokio::spawn(membership::handle_events(Arc::downgrade(&consensus.inner), events));
        if folder::holds_log(&consensus.inner.folder, config.node)? {
            consensus.begin(false).await?;
        }
        Ok(consensus)
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The cluster's state as this node knows it: empty while it is dormant, otherwise as new as
    /// [`Leadership::state_age`] says.
    pub fn state(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.inner.state.subscribe()
    }

    /// Who leads.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.subscribe()
    }

    /// Becomes `Some` when the consensus on this node has failed for good: its disk cannot be
    /// written, or is damaged. Whoever started it should end the process.
    pub fn failure(&self) -> watch::Receiver<Option<String>> {
        self.inner.failure.subscribe()
    }

    /// The cluster's time. Only the leader's is ever written down.
    pub fn now(&self) -> Timestamp {
        let leadership = self.inner.leadership.borrow();
        let last_entry = self.inner.last_instant.get();
        if leadership.is_leader_here {
            self.inner.clock.now(leadership.term, last_entry)
        } else {
            self.inner.clock.wall().max(last_entry)
        }
    }

    /// How long ago a quorum last answered this node as leader; `None` if it does not lead.
    pub fn quorum_age(&self) -> Option<Duration> {
        self.inner.standing.quorum_age()
    }

    /// Whether this node holds no log.
    pub fn is_dormant(&self) -> bool {
        self.running().is_none()
    }

    /// Whether this node's log says that nobody else votes.
    pub(crate) async fn is_sole_voter(&self) -> bool {
        let Some(running) = self.running() else { return false };
        is_sole_voter(&running.raft, self.node()).await.unwrap_or(false)
    }

    /// Founds a cluster with this node as its only manager. `first` is the first entry's commands.
    /// Can be repeated if it was interrupted.
    pub async fn found(&self, first: Vec<Command>) -> Result<Vec<Outcome>, FoundError> {
        if self.inner.state.borrow().cluster().is_some() {
            return Err(FoundError::AlreadyMember);
        }
        let running = self.begin(false).await?;
        if running.log.is_empty() {
            let members = BTreeMap::from([(Voter(self.inner.node), ())]);
            running
                .raft
                .initialize(members)
                .await
                .map_err(|error| FoundError::Leaderless { reason: error.to_string() })?;
        }
        let mut leadership = self.leadership();
        let is_leading = leadership.wait_for(|leadership| leadership.is_leader_here);
        match tokio::time::timeout(FOUND_PATIENCE, is_leading).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(FoundError::Leaderless { reason: error.to_string() }),
            Err(error) => return Err(FoundError::Leaderless { reason: error.to_string() }),
        }
        if self.inner.state.borrow().cluster().is_some() {
            return Err(FoundError::AlreadyMember);
        }
        Ok(self.propose(first).await?)
    }

    /// Stops taking part until the process starts again. A leader hands over first, if somebody is
    /// there to take over. What was acknowledged is on the disk.
    pub async fn shutdown(&self) {
        self.hand_over_to_anybody().await;
        *self.inner.lifecycle.lock().await = false;
        if !self.end(SHUTDOWN_PATIENCE).await {
            tracing::debug!("somebody still holds the log");
        }
        self.inner.links.close();
    }

    /// Stops taking part and forgets everything, the vote included: for a board that leaves its
    /// cluster, never to return as the same node.
    pub async fn leave(&self) -> Result<(), LogError> {
        let _lifecycle = self.inner.lifecycle.lock().await;
        self.end(END_PATIENCE).await;
        folder::remove(&self.inner.folder)?;
        self.inner.standing.forget();
        self.inner.state.send_replace(Arc::default());
        self.inner.leadership.send_replace(Leadership::default());
        Ok(())
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.inner.running.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_running(&self, running: Option<Arc<Running>>) -> Option<Arc<Running>> {
        let mut slot = self.inner.running.write().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *slot, running)
    }

    /// Opens log and snapshot and starts openraft, unless it runs; as one whose log is filled by a
    /// leader, if one has woken it.
    async fn begin(&self, is_woken: bool) -> Result<Arc<Running>, StartError> {
        let may_begin = self.inner.lifecycle.lock().await;
        if let Some(running) = self.running() {
            return Ok(running);
        }
        if !*may_begin {
            return Err(StartError::Closing);
        }
        let (folder, node) = (self.inner.folder.clone(), self.inner.node);
        let opened = tokio::task::spawn_blocking(move || {
            if is_woken {
                folder::begin_filling(&folder)?;
            }
            folder::open(&folder, node)
        })
        .await;
        let restore = |reason: String| StartError::Restore { reason };
        let folder::Opened { log, snapshots, image, is_filling } =
            opened.map_err(|error| restore(error.to_string()))??;
        let space = Arc::new(Space::new(self.inner.folder.clone()));
        let machine = StateMachine::new(
            Arc::clone(&snapshots),
            Arc::clone(&space),
            image,
            self.inner.state.clone(),
            self.inner.last_instant.clone(),
        )
        .map_err(|error| restore(error.to_string()))?;
        let transport = Transport::new(self.inner.links.clone(), self.inner.standing.clone());
        let store = LogStore::new(Arc::clone(&log));
        let config = config(is_filling).map_err(|error| restore(error.to_string()))?;
        let raft = Raft::new(Voter(node), config, transport, store, machine)
            .await
            .map_err(|error| restore(error.to_string()))?;
        let is_alone = is_sole_voter(&raft, node).await;
        if is_alone.map_err(|error| restore(error.to_string()))? && !is_filling {
            // Nobody else could lead: there is nothing to wait for.
            let elected = raft.trigger().elect(false).await;
            elected.map_err(|error| restore(error.to_string()))?;
        }
        let observer = observe::run(Arc::downgrade(&self.inner), raft.clone(), Arc::clone(&log));
        let observer = AbortOnDrop(tokio::spawn(observer));
        let filling = Mutex::new(is_filling.then(Filling::default));
        let running =
            Arc::new(Running { raft, log, snapshots, space, filling, _observer: observer });
        self.set_running(Some(Arc::clone(&running)));
        tracing::info!(node = %node, "takes part in the consensus");
        Ok(running)
    }

    /// Stops openraft, if it runs, and waits until its log is closed; says whether it is.
    async fn end(&self, patience: Duration) -> bool {
        let Some(running) = self.set_running(None) else { return true };
        if let Err(error) = running.raft.shutdown().await {
            tracing::warn!(%error, "openraft did not stop in good order");
        }
        let log = Arc::downgrade(&running.log);
        drop(running);
        // Requests that are still being answered hold the log a little longer.
        let closed = async {
            while log.strong_count() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(patience, closed).await.is_ok()
    }
}

/// Openraft itself is asked: its metrics name nobody until it has looked at its log for the first
/// time, which a busy board may come to late.
async fn is_sole_voter(raft: &Raft, node: NodeId) -> Result<bool, Fatal<Types>> {
    let is_alone = move |state: &RaftState<Types>| {
        state.membership_state.effective().voter_ids().eq([Voter(node)])
    };
    raft.with_raft_state(is_alone).await
}

fn config(is_filling: bool) -> Result<Arc<Config>, openraft::ConfigError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let config = Config {
        cluster_name: "bramble".to_owned(),
        heartbeat_interval: millis(HEARTBEAT),
        election_timeout_min: millis(ELECTION.0),
        election_timeout_max: millis(ELECTION.1),
        enable_elect: !is_filling,
        enable_pre_vote: Some(true),
        // The state is rebuilt from the log: a leader that comes back must win its quorum again
        // before it knows what is committed.
        enable_leader_restore: Some(false),
        // A follower that lost its log is told from one that lags, and taken in again; see
        // `membership`. Without this a leader would panic over it.
        allow_log_reversion: Some(true),
        removed_leader_step_down: StepDownPolicy::After(150),
        quorum_loss_probe_interval: Some(millis(ELECTION.1) * 2 + millis(HEARTBEAT)),
        broadcast_submitted_on_append: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ITEMS),
        max_in_snapshot_log_to_keep: KEPT_ITEMS,
        purge_batch_size: KEPT_ITEMS / 2,
        replication_lag_threshold: LAGGING_ITEMS,
        ..Config::default()
    };
    config.validate().map(Arc::new)
}

/// Receives [`Event`]s.
type Events = mpsc::Receiver<Event>;
