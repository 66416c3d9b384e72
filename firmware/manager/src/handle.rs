//! The manager's handle: what the other parts of a board use.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use bramble_cluster::{ClusterState, Command, NodeId, Outcome, Peer, Timestamp, Vitals};
use bramble_peering::{ConnectError, Founding, PeerStream, Peering, Protocol};
use bramble_planner::Heard;
use futures_util::future::BoxFuture;
use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
    task::{JoinError, JoinSet},
};

use crate::{
    Leadership, admission, belonging,
    consensus::{
        Consensus, ConsensusConfig, Duplex, FoundError, LogError, ProposeError, StartError,
        VotersError,
    },
    contacts::Contacts,
    dispatcher::{Caller, Directions, Dispatcher},
    introduction,
    leader::Leader,
    seat::Seat,
};

/// Conversations that may be under way at once: a few from each node, since workers propose too.
const CONVERSATIONS: usize = 1_024;

/// Sessions of this board's own agent that wait to be served. It opens one at a time.
const OWN_SESSIONS: usize = 4;

/// Bytes under way in a session of this board's own agent.
const OWN_SESSION_BYTES: usize = 256 * 1024;

/// What the manager needs to know.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// The folder for the consensus, below the board's data folder.
    pub folder: PathBuf,
}

/// Why this board cannot found a cluster.
#[derive(Debug, thiserror::Error)]
pub enum FoundingError {
    /// The consensus did not accept it.
    #[error("cannot begin the cluster's log")]
    Consensus(#[from] FoundError),
    /// The first command was rejected.
    #[error("the cluster's first command was rejected")]
    Rejected(#[source] bramble_cluster::Rejection),
}

/// The manager of this board. It runs on every board, and is dormant where there is no log.
/// Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Manager {
    consensus: Consensus,
    peering: Peering,
    contacts: Contacts,
    sessions: mpsc::Sender<Caller<DuplexStream>>,
    tasks: Arc<Mutex<JoinSet<()>>>,
}

/// What the leader hears of the nodes, in its memory only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hearing {
    /// Who was heard of, and when.
    pub heard: Heard,
    /// The latest sensor values of each node that sent some.
    pub vitals: BTreeMap<NodeId, Vitals>,
}

impl Manager {
    /// Starts: a board with a log rejoins the other managers, any other waits to be chosen.
    pub async fn start(config: ManagerConfig, peering: Peering) -> Result<Self, StartError> {
        let consensus = Consensus::start(consensus_config(config, &peering)).await?;
        belonging::settle(&consensus, &peering).await?;
        let mut tasks = JoinSet::new();
        if let Some(incoming) = peering.incoming(Protocol::Raft) {
            tasks.spawn(converse(consensus.clone(), incoming));
        }
        if let Some(admissions) = peering.admissions() {
            tasks.spawn(admission::run(consensus.clone(), peering.clone(), admissions));
        }
        tasks.spawn(introduction::run(consensus.clone(), peering.clone()));
        let contacts = Contacts::new();
        let leader = Leader::new(Seat::of(&consensus), contacts.clone());
        tasks.spawn(async { match leader.run().await {} });
        let (sessions, own) = mpsc::channel(OWN_SESSIONS);
        if let Some(incoming) = peering.incoming(Protocol::Session) {
            let directions = directions(peering.clone());
            let dispatcher = Dispatcher::new(Seat::of(&consensus), contacts.clone(), directions);
            tasks.spawn(async { match dispatcher.run(incoming, own).await {} });
        }
        let tasks = Arc::new(Mutex::new(tasks));
        Ok(Self { consensus, peering, contacts, sessions, tasks })
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.consensus.node()
    }

    /// The cluster's state as this board knows it. Empty on a board without a log; elsewhere as
    /// old as [`Leadership::state_age`] says.
    pub fn state(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.consensus.state()
    }

    /// Who leads, who votes, who is heard of. Empty on a board without a log: there
    /// [`Peering::directory`] knows whom to ask.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.consensus.leadership()
    }

    /// Who leads, as far as this board knows: by its log, or by what it was told.
    pub fn leader(&self) -> Option<NodeId> {
        if self.consensus.is_dormant() {
            return self.peering.directory().leader();
        }
        self.consensus.leadership().borrow().leader
    }

    /// The cluster's time.
    pub fn now(&self) -> Timestamp {
        self.consensus.now()
    }

    /// What this node hears of the others; `None` unless it leads.
    pub fn hearing(&self) -> Option<Hearing> {
        self.contacts.term()?;
        let voters = self.consensus.leadership().borrow().voters.clone();
        let heard = self.contacts.heard(self.consensus.node(), voters);
        Some(Hearing { heard, vitals: self.contacts.vitals() })
    }

    /// A connection for the session of this board's own agent, which needs no network. Whether
    /// this board leads the session itself will say.
    pub fn session(&self) -> io::Result<DuplexStream> {
        let (near, far) = tokio::io::duplex(OWN_SESSION_BYTES);
        let caller = Caller { node: self.consensus.node(), stream: far };
        match self.sessions.try_send(caller) {
            Ok(()) => Ok(near),
            Err(_) => Err(io::ErrorKind::ConnectionRefused.into()),
        }
    }

    /// Proposes commands, from whichever board. Each has an outcome of its own. Without a quorum
    /// this fails within about a second.
    pub async fn propose(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, ProposeError> {
        self.consensus.propose(commands).await
    }

    /// Makes these nodes the managers; only on the leader.
    pub async fn change_voters(&self, voters: BTreeSet<NodeId>) -> Result<(), VotersError> {
        self.consensus.change_voters(voters).await
    }

    /// Hands leadership over before this board goes down on purpose.
    pub async fn hand_over(&self, successor: NodeId) -> Result<(), VotersError> {
        self.consensus.hand_over(successor).await
    }

    /// Founds a cluster as drafted by [`Peering::draft_founding`], with this board as its only
    /// member. It is in the log when this returns; to become a member is the caller's next step.
    pub async fn found(&self, draft: Founding) -> Result<(), FoundingError> {
        let Founding { cluster, node } = draft;
        let command = Command::Found { cluster: Box::new(cluster), node: Box::new(node) };
        for outcome in self.consensus.found(vec![command]).await? {
            outcome.map_err(FoundingError::Rejected)?;
        }
        Ok(())
    }

    /// Forgets the log and the vote, because this board leaves its cluster or dissolves it.
    /// Peering's membership is left to the caller.
    pub async fn dissolve(&self) -> Result<(), LogError> {
        self.consensus.leave().await
    }

    /// Opens a conversation with another board.
    pub async fn open(&self, node: NodeId, protocol: Protocol) -> Result<PeerStream, ConnectError> {
        self.peering.connect_to(node, protocol).await
    }

    /// Waits until a part of the manager fails, which none should: its disk cannot be written, or
    /// a task ended. The daemon ends then too.
    pub async fn failed(&self) -> String {
        let mut failure = self.consensus.failure();
        let stopped = failure.wait_for(Option::is_some);
        tokio::select! {
            reason = stopped => match reason {
                Ok(reason) => reason.clone().unwrap_or_default(),
                Err(error) => error.to_string(),
            },
            ended = self.ended() => match ended {
                Err(error) => error.to_string(),
                Ok(()) => "a part of the manager ended".to_owned(),
            },
        }
    }

    /// Stops taking part. What was acknowledged is on the disk.
    pub async fn shutdown(&self) {
        self.consensus.shutdown().await;
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    async fn ended(&self) -> Result<(), JoinError> {
        std::future::poll_fn(|context| {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            match tasks.poll_join_next(context) {
                std::task::Poll::Ready(Some(ended)) => std::task::Poll::Ready(ended),
                _ => std::task::Poll::Pending,
            }
        })
        .await
    }
}

fn consensus_config(config: ManagerConfig, peering: &Peering) -> ConsensusConfig {
    let (dialling, managing, dating) = (peering.clone(), peering.clone(), peering.clone());
    ConsensusConfig {
        node: peering.node_id(),
        folder: config.folder,
        dial: Arc::new(move |node| {
            let peering = dialling.clone();
            let dialled: BoxFuture<'static, io::Result<Box<dyn Duplex>>> = Box::pin(async move {
                let stream = peering.connect_to(node, Protocol::Raft).await;
                Ok(Box::new(stream.map_err(io::Error::other)?) as Box<dyn Duplex>)
            });
            dialled
        }),
        // Only members have the certificate that a conversation needs, and removed ones are
        // refused. Which members manage is what the log says, and a board that is about to
        // receive it cannot know.
        trusts: Arc::new(|_| true),
        managers: Arc::new(move || managers(&managing)),
        wall_clock: Arc::new(move || dating.clock().now()),
    }
}

/// Whom a node without a session is sent to, as far as peering knows.
fn directions(peering: Peering) -> Directions {
    Arc::new(move || {
        let directory = peering.directory();
        let leader: Option<Peer> = directory.leader().map(|leader| directory.peer(leader));
        (leader, directory.managers())
    })
}

/// The managers that peering knows, the leader first.
fn managers(peering: &Peering) -> Vec<NodeId> {
    let directory = peering.directory();
    let leader = directory.leader();
    let mut managers: VecDeque<NodeId> =
        directory.managers().into_iter().map(|peer| peer.id).collect();
    managers.retain(|manager| Some(*manager) != leader);
    if let Some(leader) = leader {
        managers.push_front(leader);
    }
    managers.into()
}

/// Answers the other managers.
async fn converse(consensus: Consensus, mut incoming: mpsc::Receiver<PeerStream>) {
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            stream = incoming.recv(), if conversations.len() < CONVERSATIONS => {
                let Some(stream) = stream else { return };
                let (consensus, peer) = (consensus.clone(), stream.peer());
                conversations.spawn(async move {
                    if let Err(error) = consensus.serve(peer, Box::new(stream)).await {
                        tracing::debug!(%peer, %error, "a conversation broke");
                    }
                });
            }
            Some(ended) = conversations.join_next() => {
                if let Err(error) = ended {
                    tracing::error!(%error, "a conversation panicked");
                }
            }
        }
    }
}
