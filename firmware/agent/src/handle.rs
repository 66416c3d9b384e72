//! The agent's handle: what the other parts of a board use.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::Duration,
};

use bramble_cluster::{AssignedTask, ClusterId, NodeDescription, NodeId, TaskId, Vitals};
use bramble_containers::{
    BoardFacts, ContainerStatus, Keeper, LogError, LogQuery, LogReader, images::ImageStore,
};
use bramble_host::{Sensors, Sources};
use bramble_peering::{Peering, Protocol};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{MissedTickBehavior, interval, timeout},
};

use crate::{
    blobs,
    clock::{BoardClock, LoadClockError},
    introduction,
    jobs::{Jobs, Tools},
    orders::{Current, Orders},
    outbox::Outbox,
    reconcile::Reconciler,
    session::{BoxedStream, Describe, Dial, Listing, Managers, Session},
};

/// Between two looks at the sensors.
const VITALS: Duration = Duration::from_secs(10);

/// Bytes that the leader may take to hear of a new image before the loader is told that it is here.
const LISTED: Duration = Duration::from_secs(2);

/// Opens a session with this board's own leader, without a network.
pub type OwnSession = Arc<dyn Fn() -> std::io::Result<BoxedStream> + Send + Sync>;

/// What the agent needs to know.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The run folder (memory): the standing orders are kept here.
    pub run_dir: PathBuf,
    /// The data folder: its file system is the one whose fill level is told.
    pub data_dir: PathBuf,
    /// The cluster that this board is a member of. Orders of another one are forgotten.
    pub cluster: ClusterId,
    /// This node.
    pub node: NodeId,
    /// Drawn at this start of the daemon.
    pub instance: u128,
    /// Where the machine is looked at.
    pub sources: Sources,
}

/// What the agent reaches other boards through.
#[derive(Clone)]
pub struct Surroundings {
    /// Opens a connection for a session.
    pub sessions: Dial,
    /// Opens a connection for blobs.
    pub blobs: Dial,
    /// Says what this board is now.
    pub describe: Describe,
    /// Whom to ask for the leader, to begin with.
    pub managers: Managers,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Surroundings")
            .field("managers", &self.managers)
            .finish_non_exhaustive()
    }
}

/// The agent could not begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The board clock.
    #[error("the board's clock cannot be set up")]
    Clock(#[from] LoadClockError),
}

/// The agent cannot go on. The daemon ends then too.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The keeper is gone, and the containers with it.
    #[error("the keeper is gone")]
    KeeperGone,
    /// A part of the agent has ended, which none should.
    #[error("a part of the agent has ended")]
    Ended,
    /// A part of the agent has panicked.
    #[error("a part of the agent has failed")]
    Failed(#[from] tokio::task::JoinError),
}

/// A container on this board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalContainer {
    /// Where it is.
    pub status: ContainerStatus,
    /// Its task, if the board is still ordered to have it.
    pub task: Option<AssignedTask>,
}

/// The agent of this board. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Agent(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: NodeId,
    keeper: Keeper,
    images: ImageStore,
    surroundings: Surroundings,
    orders: Orders,
    outbox: Outbox,
    managers: watch::Sender<Managers>,
    vitals: watch::Receiver<Vitals>,
    listed: watch::Receiver<u64>,
    is_leaving: watch::Sender<bool>,
    tasks: Mutex<JoinSet<Result<Infallible, AgentError>>>,
}

impl Agent {
    /// Starts on a board that is a member of a cluster: re-attaches to the keeper's containers,
    /// opens a session with whoever leads, and serves images to other boards.
    ///
    /// `own_session` is for when this board itself leads.
    pub fn start(
        config: AgentConfig,
        peering: &Peering,
        own_session: OwnSession,
        keeper: Keeper,
        images: ImageStore,
    ) -> Result<Self, StartError> {
        let surroundings = introduction::surroundings(peering, own_session);
        let agent = Self::start_in(config, surroundings, keeper, images)?;
        if let Some(incoming) = peering.incoming(Protocol::Blob) {
            let images = agent.images().clone();
            agent.spawn(async {
                blobs::serve(images, incoming).await.map_err(|_| AgentError::Ended)
            });
        }
        let introducing = introduction::run(peering.clone(), agent.0.managers.clone());
        agent.spawn(async { match introducing.await {} });
        Ok(agent)
    }

    /// The same, with what reaches other boards given from outside.
    pub fn start_in(
        config: AgentConfig,
        surroundings: Surroundings,
        keeper: Keeper,
        images: ImageStore,
    ) -> Result<Self, StartError> {
        let clock = BoardClock::load(&config.run_dir)?;
        let orders = Orders::load(&config.run_dir, config.cluster, clock);
        let outbox = Outbox::default();
        let described = (surroundings.describe)();
        let board = BoardFacts {
            id: config.node,
            hostname: described.hostname.clone(),
            platform: described.platform.clone(),
        };
        let blobs = Arc::clone(&surroundings.blobs);
        let jobs = Jobs::new(Tools::new(keeper.clone(), images.clone(), blobs, board));
        let containers = keeper.containers();
        let reconciler = Reconciler::new(orders.clone(), containers, outbox.clone(), jobs);
        let mut sensors = Sensors::new(config.sources, config.data_dir);
        let (vitals_sender, vitals) = watch::channel(sensors.read());
        let (listing_sender, listing) = watch::channel(listing(&images));
        let (listed_sender, listed) = watch::channel(0);
        let (is_leaving, leaving) = watch::channel(false);
        let managers = watch::Sender::new(surroundings.managers.clone());
        let session = Session {
            dial: Arc::clone(&surroundings.sessions),
            instance: config.instance,
            managers: managers.clone(),
            outbox: outbox.clone(),
            orders: orders.clone(),
            describe: Arc::clone(&surroundings.describe),
            described,
            images: listing,
            listed: listed_sender,
            vitals: vitals.clone(),
            is_leaving: leaving,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(reconciler.run());
        tasks.spawn(async { match session.run().await {} });
        tasks.spawn(watch_sensors(sensors, vitals_sender));
        tasks.spawn(watch_images(images.clone(), listing_sender));
        Ok(Self(Arc::new(Inner {
            node: config.node,
            keeper,
            images,
            surroundings,
            orders,
            outbox,
            managers,
            vitals,
            listed,
            is_leaving,
            tasks: Mutex::new(tasks),
        })))
    }

    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.0.node
    }

    /// Who leads, while there is a session.
    pub fn leader(&self) -> Option<NodeId> {
        self.0.orders.subscribe().borrow().leader
    }

    /// Whom this board asks for the leader.
    pub fn managers(&self) -> Managers {
        self.0.managers.borrow().clone()
    }

    /// What the sensors said last.
    pub fn vitals(&self) -> Vitals {
        self.0.vitals.borrow().clone()
    }

    /// What this board says of itself.
    pub fn description(&self) -> NodeDescription {
        (self.0.surroundings.describe)()
    }

    /// The containers of this board, ended ones included.
    pub fn containers(&self) -> Vec<LocalContainer> {
        let assignment = Arc::clone(&self.0.orders.subscribe().borrow().assignment);
        let tasks: BTreeMap<TaskId, &AssignedTask> =
            assignment.tasks.iter().map(|task| (task.id, task)).collect();
        let statuses = self.0.keeper.list().into_iter();
        let local = |status: ContainerStatus| LocalContainer {
            task: tasks.get(&status.id).map(|task| AssignedTask::clone(task)),
            status,
        };
        statuses.map(local).collect()
    }

    /// Reads what a task of this board wrote.
    pub fn logs(&self, task: TaskId, query: LogQuery) -> Result<LogReader, LogError> {
        self.0.keeper.logs(task, query)
    }

    /// The keeper, to run further processes in containers.
    pub fn keeper(&self) -> &Keeper {
        &self.0.keeper
    }

    /// The images of this board. The cluster hears of each change by itself; see
    /// [`Self::images_listed`].
    pub fn images(&self) -> &ImageStore {
        &self.0.images
    }

    /// Waits until a quorum knows of all images that are here now; at most two seconds, and whether
    /// it does. For whoever has just loaded one and wants to use it.
    pub async fn images_listed(&self) -> bool {
        let number = *self.0.images.changes().borrow();
        let mut listed = self.0.listed.clone();
        let known = listed.wait_for(|listed| *listed >= number);
        matches!(timeout(LISTED, known).await, Ok(Ok(_)))
    }

    /// Says goodbye before this board goes: waits until what runs here runs elsewhere, or cannot,
    /// and the last reports have arrived; at most for `patience`. Whether it came to that.
    pub async fn leave(&self, patience: Duration) -> bool {
        self.0.is_leaving.send_replace(true);
        let mut current = self.0.orders.subscribe();
        let may_leave = current.wait_for(|current: &Current| current.may_leave);
        let left = matches!(timeout(patience, may_leave).await, Ok(Ok(_)));
        tracing::info!(left, reports_left = !self.0.outbox.is_empty(), "this board leaves");
        left
    }

    /// Waits until a part of the agent fails, which none should: the daemon ends then too.
    pub async fn failed(&self) -> AgentError {
        std::future::poll_fn(|context| {
            let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            match tasks.poll_join_next(context) {
                Poll::Ready(Some(Ok(Ok(never)))) => match never {},
                Poll::Ready(Some(Ok(Err(error)))) => Poll::Ready(error),
                Poll::Ready(Some(Err(error))) => Poll::Ready(error.into()),
                Poll::Ready(None) => Poll::Ready(AgentError::Ended),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Ends everything of the agent. Containers are the keeper's and run on.
    pub fn shut_down(&self) {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }

    fn spawn<F>(&self, task: F)
    where
        F: Future<Output = Result<Infallible, AgentError>> + Send + 'static,
    {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }
}

async fn watch_sensors(
    mut sensors: Sensors,
    vitals: watch::Sender<Vitals>,
) -> Result<Infallible, AgentError> {
    let mut ticks = interval(VITALS);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        vitals.send_replace(sensors.read());
    }
}

async fn watch_images(
    images: ImageStore,
    listings: watch::Sender<Listing>,
) -> Result<Infallible, AgentError> {
    let mut changes = images.changes();
    changes.mark_unchanged();
    loop {
        listings.send_replace(listing(&images));
        changes.changed().await.map_err(|_| AgentError::Ended)?;
    }
}

/// The images, as of a change that they contain at least.
fn listing(images: &ImageStore) -> Listing {
    let number = *images.changes().borrow();
    Listing { number, images: Arc::new(images.images()) }
}
