//! The daemon's side of the conversation with the keeper.

mod exec;
mod wire;

use std::{
    collections::BTreeMap,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bramble_cluster::TaskId;
use tokio::{
    sync::{broadcast, mpsc, oneshot, watch},
    task::{AbortHandle, spawn_blocking},
};

pub use self::exec::{ExecIo, RunningExec, Terminal};
use self::wire::{Outgoing, Waiting};
use crate::{
    ContainerRequest, ContainerStatus, CreateError, ExecId, ExecRequest, KeeperEvent, Layout,
    LogError, LogQuery, LogReader, Refusal, bundle,
    protocol::{Answer, Request, VERSION},
    volumes,
};

/// Requests that wait to be sent.
const CALLS: usize = 64;
/// How often the daemon gives a sign of life.
const SIGN_EVERY: Duration = Duration::from_secs(5);
/// Events that a slow listener may be behind before it misses some.
const EVENTS: usize = 1_024;

/// All containers that the keeper knows, by id.
pub type Containers = Arc<BTreeMap<TaskId, ContainerStatus>>;

/// The keeper, as the daemon sees it. A cheap handle; the connection ends with the last of them.
///
/// It does not reconnect: a keeper that is gone takes its daemon with it.
#[derive(Debug, Clone)]
pub struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    layout: Layout,
    calls: mpsc::Sender<Outgoing>,
    number: AtomicU64,
    waiting: Arc<Mutex<Waiting>>,
    containers: watch::Receiver<Containers>,
    events: broadcast::Sender<KeeperEvent>,
    tasks: [AbortHandle; 2],
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

/// The keeper could not be reached.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody listens, or not for us.
    #[error("cannot connect to the keeper at {path}")]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It did not greet us.
    #[error("the keeper at {path} does not answer as a keeper")]
    Greeting {
        /// Its socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: CallError,
    },
}

/// The keeper did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The keeper is gone, and its containers with it.
    #[error("the keeper is gone")]
    Gone,
    /// It says why.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A file of the bundle could not be written or removed.
    #[error("cannot use {path}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A field of the request makes no sense.
    #[error(transparent)]
    Invalid(#[from] crate::SpecError),
}

impl Keeper {
    /// Connects to the keeper that listens at `socket`, and learns all that it has.
    pub async fn connect(socket: &Path) -> Result<Self, ConnectError> {
        let path = || socket.to_owned();
        let stream = wire::connect(socket)
            .map_err(|source| ConnectError::Connect { path: path(), source })?;
        let waiting = Arc::new(Mutex::new(Waiting::default()));
        let (calls, outgoing) = mpsc::channel(CALLS);
        let (containers_sender, containers) = watch::channel(Containers::default());
        let (events, _) = broadcast::channel(EVENTS);
        let writer = tokio::spawn(wire::write(Arc::clone(&stream), outgoing));
        let reader = wire::Reader {
            stream,
            waiting: Arc::clone(&waiting),
            containers: containers_sender,
            events: events.clone(),
        };
        let tasks = [writer.abort_handle(), tokio::spawn(reader.run()).abort_handle()];
        let mut shared = Shared {
            layout: Layout::new("", "", ""),
            calls,
            number: AtomicU64::new(1),
            waiting,
            containers,
            events,
            tasks,
        };
        let greeting = |source| ConnectError::Greeting { path: path(), source };
        match shared.call(Request::Hello { version: VERSION }, Vec::new()).await {
            Ok(Answer::Hello { run_dir, data_dir, cgroup, .. }) => {
                shared.layout = Layout::new(run_dir, data_dir, cgroup);
                let shared = Arc::new(shared);
                tokio::spawn(give_signs_of_life(Arc::downgrade(&shared)));
                Ok(Self { shared })
            }
            Ok(_) => Err(greeting(CallError::Gone)),
            Err(error) => Err(greeting(error)),
        }
    }

    /// Where the keeper has things.
    pub fn layout(&self) -> &Layout {
        &self.shared.layout
    }

    /// All containers that were started and not removed, as of now.
    pub fn list(&self) -> Vec<ContainerStatus> {
        self.shared.containers.borrow().values().cloned().collect()
    }

    /// All containers, always as they are. When the keeper is gone, `changed` fails.
    pub fn containers(&self) -> watch::Receiver<Containers> {
        self.shared.containers.clone()
    }

    /// What happens from now on. A listener that falls behind misses events and must look at
    /// [`Keeper::containers`], which never misses any.
    pub fn events(&self) -> broadcast::Receiver<KeeperEvent> {
        self.shared.events.subscribe()
    }

    /// Makes a container's files, and its volumes where they are new. Nothing runs yet; doing it
    /// again before the start begins anew.
    pub async fn create(&self, request: ContainerRequest) -> Result<(), CreateError> {
        if self.shared.containers.borrow().contains_key(&request.task.id) {
            return Err(CreateError::Exists { id: request.task.id });
        }
        let layout = self.layout().clone();
        spawn_blocking(move || bundle::create(&layout, &request))
            .await
            .unwrap_or(Err(CreateError::Interrupted))
    }

    /// Starts a created container; returns when it runs, with its first process.
    pub async fn start(&self, id: TaskId) -> Result<u32, CallError> {
        match self.shared.call(Request::Start { id }, Vec::new()).await? {
            Answer::Started { pid } => Ok(pid),
            _ => Err(CallError::Gone),
        }
    }

    /// Asks a container to end with its stop signal, and kills it after `grace`, or after its own
    /// grace period. Returns at once; the keeper sees it through even if this daemon dies.
    pub async fn stop(&self, id: TaskId, grace: Option<Duration>) -> Result<(), CallError> {
        let grace_milliseconds =
            grace.map(|grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
        self.shared.call(Request::Stop { id, grace_milliseconds }, Vec::new()).await.map(|_| ())
    }

    /// Sends a signal to a container's first process.
    pub async fn signal(&self, id: TaskId, signal: i32) -> Result<(), CallError> {
        self.shared.call(Request::Signal { id, signal }, Vec::new()).await.map(|_| ())
    }

    /// Runs a further process in a container.
    pub async fn exec(
        &self,
        id: TaskId,
        request: ExecRequest,
        io: ExecIo,
    ) -> Result<RunningExec, CallError> {
        exec::start(&self.shared, id, request, io).await
    }

    /// Sends a signal to an exec.
    pub async fn signal_exec(&self, exec: ExecId, signal: i32) -> Result<(), CallError> {
        self.shared.call(Request::SignalExec { exec, signal }, Vec::new()).await.map(|_| ())
    }

    /// Forgets a container with all its files, its log, and the volumes that were its own. Kills it
    /// if it runs. Returns when all is gone; a container that never was is gone already.
    pub async fn remove(&self, id: TaskId) -> Result<(), CallError> {
        match self.shared.call(Request::Remove { id }, Vec::new()).await {
            Ok(_) | Err(CallError::Refused(Refusal::NotFound { .. })) => {}
            Err(error) => return Err(error),
        }
        let layout = self.layout().clone();
        spawn_blocking(move || volumes::remove_anonymous(&layout.volumes(), id))
            .await
            .unwrap_or(Ok(()))
            .map_err(|(path, source)| CallError::File { path, source })
    }

    /// Reads what a container wrote.
    pub fn logs(&self, id: TaskId, query: LogQuery) -> Result<LogReader, LogError> {
        LogReader::open(&self.layout().log(id), query)
    }
}

/// Tells the keeper that this runtime makes progress, while the connection lasts. A daemon that
/// stops telling is killed and started again.
async fn give_signs_of_life(shared: Weak<Shared>) {
    while let Some(shared) = shared.upgrade() {
        if shared.call(Request::Alive, Vec::new()).await.is_err() {
            return;
        }
        drop(shared);
        tokio::time::sleep(SIGN_EVERY).await;
    }
}

impl Shared {
    async fn call(&self, request: Request, files: Vec<OwnedFd>) -> Result<Answer, CallError> {
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let mut is_closed = false;
        self.wait(|waiting| {
            is_closed = waiting.is_closed();
            waiting.answers.insert(number, answer);
        });
        if is_closed {
            return Err(CallError::Gone);
        }
        let outgoing = Outgoing { number, request, files };
        if self.calls.send(outgoing).await.is_err() {
            self.wait(|waiting| {
                waiting.answers.remove(&number);
            });
            return Err(CallError::Gone);
        }
        answered.await.map_err(|_| CallError::Gone)?.map_err(CallError::Refused)
    }

    fn wait(&self, change: impl FnOnce(&mut Waiting)) {
        change(&mut self.waiting.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}
