//! Jobs: what the agent has begun and does not wait for. One at a time for each task, in the order
//! they were begun; many at a time for different ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt,
    sync::Arc,
    time::Duration,
};

use bramble_cluster::{AssignedTask, Digest, ImageName, NodeId, Peer, TaskId};
use bramble_containers::{
    BoardFacts, CallError, ContainerRequest, Keeper, NetworkMode, Refusal,
    images::{ImageConfig, ImageStore},
};
use oci_spec::image::Config;
use tokio::{
    sync::{Mutex, OwnedMutexGuard, Semaphore},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::session::Dial;

/// Containers whose files are made at the same time.
const PREPARING: usize = 4;

/// What a job came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) id: TaskId,
    pub(crate) outcome: Outcome,
}

/// What a job came to; errors in a person's words.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// It may start, or not.
    Prepared(Result<(), String>),
    /// The keeper has started it, or not.
    Started(Result<(), String>),
    /// It was asked to stop, or was given back: nothing follows from that.
    Nothing,
    /// It is gone.
    Removed,
}

/// Where jobs are done.
pub(crate) struct Jobs {
    tools: Tools,
    running: JoinSet<Done>,
    turns: BTreeMap<TaskId, Turn>,
}

/// What jobs are done with.
#[derive(Clone)]
pub(crate) struct Tools {
    pub(crate) keeper: Keeper,
    pub(crate) images: ImageStore,
    /// Opens a conversation about blobs.
    pub(crate) dial: Dial,
    pub(crate) board: BoardFacts,
    pub(crate) preparing: Arc<Semaphore>,
}

/// Keeps a task's jobs in order, and tells the one under way to give up.
#[derive(Debug, Clone, Default)]
struct Turn {
    lock: Arc<Mutex<()>>,
    give_up: CancellationToken,
}

impl Tools {
    pub(crate) fn new(keeper: Keeper, images: ImageStore, dial: Dial, board: BoardFacts) -> Self {
        Self { keeper, images, dial, board, preparing: Arc::new(Semaphore::new(PREPARING)) }
    }
}

impl fmt::Debug for Jobs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Jobs").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

impl Jobs {
    pub(crate) fn new(tools: Tools) -> Self {
        Self { tools, running: JoinSet::new(), turns: BTreeMap::new() }
    }

    /// Takes away what an earlier daemon had begun and nobody can go on with: files of containers
    /// that were never started, mounts of those that have ended.
    pub(crate) async fn clean(&self) {
        let Tools { keeper, images, .. } = &self.tools;
        let known = keeper.containers();
        let known = Arc::clone(&known.borrow());
        let live: BTreeSet<String> = known
            .iter()
            .filter(|(_, status)| {
                use bramble_containers::ContainerState::{Running, Starting};
                matches!(status.state, Starting | Running { .. })
            })
            .map(|(id, _)| id.to_string())
            .collect();
        if let Err(error) = images.retain(live).await {
            tracing::warn!(error = describe(&error), "old root file systems are left over");
        }
        let bundles = std::fs::read_dir(keeper.layout().bundles());
        let ids = bundles.into_iter().flatten().flatten();
        let ids = ids.filter_map(|entry| entry.file_name().to_str()?.parse::<TaskId>().ok());
        for id in ids.filter(|id| !known.contains_key(id)) {
            if let Err(error) = keeper.remove(id).await {
                tracing::warn!(%id, error = describe(&error), "a container's files are left over");
            }
        }
    }

    /// The next job that ends; waits for ever if there is none. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Done {
        loop {
            match self.running.join_next().await {
                Some(Ok(done)) => return done,
                Some(Err(error)) => tracing::error!(%error, "a job panicked"),
                None => std::future::pending().await,
            }
        }
    }

    /// A job that has ended already, if there is one.
    pub(crate) fn try_next(&mut self) -> Option<Done> {
        loop {
            match self.running.try_join_next()? {
                Ok(done) => return Some(done),
                Err(error) => tracing::error!(%error, "a job panicked"),
            }
        }
    }

    /// Makes a task's file system and bundle.
    pub(crate) fn prepare(&mut self, task: AssignedTask) {
        let (tools, turn, id) = (self.tools.clone(), self.turn(task.id), task.id);
        self.running.spawn(async move {
            let _turn = turn.take().await;
            let prepared = tools.prepare(task, &turn.give_up).await;
            Done { id, outcome: Outcome::Prepared(prepared) }
        });
    }

    /// Starts a prepared task.
    pub(crate) fn start(&mut self, id: TaskId) {
        let keeper = self.tools.keeper.clone();
        self.running.spawn(async move {
            let started = keeper.start(id).await.map(|_| ()).map_err(|error| describe(&error));
            Done { id, outcome: Outcome::Started(started) }
        });
    }

    /// Asks a task's container to stop; the keeper kills it after `grace`, or its own period.
    pub(crate) fn stop(&mut self, id: TaskId, grace: Option<Duration>) {
        let keeper = self.tools.keeper.clone();
        self.running.spawn(async move {
            match keeper.stop(id, grace).await {
                Ok(()) | Err(CallError::Refused(Refusal::NotFound { .. })) => {}
                Err(error) => tracing::warn!(%id, error = describe(&error), "not stopped"),
            }
            Done { id, outcome: Outcome::Nothing }
        });
    }

    /// Gives back the root file system of a container that has ended.
    pub(crate) fn release(&mut self, id: TaskId) {
        let (images, turn) = (self.tools.images.clone(), self.turn(id));
        self.running.spawn(async move {
            let _turn = turn.take().await;
            if let Err(error) = images.unmount(&id.to_string()).await {
                tracing::warn!(%id, error = describe(&error), "its file system is left over");
            }
            Done { id, outcome: Outcome::Nothing }
        });
    }

    /// Takes away everything of a task.
    pub(crate) fn remove(&mut self, id: TaskId) {
        let (tools, turn) = (self.tools.clone(), self.turn(id));
        turn.give_up.cancel();
        self.turns.remove(&id);
        self.running.spawn(async move {
            let _turn = turn.take().await;
            if let Err(error) = tools.keeper.remove(id).await {
                tracing::warn!(%id, error = describe(&error), "its container is left over");
            }
            if let Err(error) = tools.images.unmount(&id.to_string()).await {
                tracing::warn!(%id, error = describe(&error), "its file system is left over");
            }
            Done { id, outcome: Outcome::Removed }
        });
    }

    fn turn(&mut self, id: TaskId) -> Turn {
        self.turns.entry(id).or_default().clone()
    }
}

impl Turn {
    async fn take(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.lock).lock_owned().await
    }
}

impl Tools {
    async fn prepare(&self, task: AssignedTask, give_up: &CancellationToken) -> Result<(), String> {
        // Only the download is given up half-way; the rest is short, and is taken away as a whole.
        let image = tokio::select! {
            image = self.image(&task) => image?,
            () = give_up.cancelled() => return Err("given up".to_owned()),
        };
        // What is local is quick, and does not wait behind downloads.
        let _slot = self.preparing.acquire().await.map_err(|error| describe(&error))?;
        let config = self.images.config(image).await.map_err(|error| describe(&error))?;
        let mounted = self.images.mount(&task.id.to_string(), image).await;
        let rootfs = mounted.map_err(|error| describe(&error))?;
        let request = ContainerRequest {
            task,
            image: run_config(config),
            rootfs,
            board: self.board.clone(),
            network: NetworkMode::Board,
        };
        self.keeper.create(request).await.map_err(|error| describe(&error))
    }

    /// The task's image, fetched from another board if it is not here.
    async fn image(&self, task: &AssignedTask) -> Result<Digest, String> {
        let name = &task.spec.container.image.name;
        let Some(image) = task.image else {
            return match self.images.resolve(name) {
                Ok(image) => Ok(image.digest),
                Err(error) => Err(describe(&error)),
            };
        };
        if self.images.find(image).is_some() {
            return Ok(image);
        }
        let names: BTreeSet<ImageName> = name.parse().into_iter().collect();
        let holders: Vec<Holder> = task.image_holders.iter().cloned().map(Holder).collect();
        let connect = |holder: Holder| (self.dial)(holder.0);
        tracing::info!(name, %image, holders = holders.len(), "an image is fetched");
        match self.images.fetch(image, names, holders, connect, |_| {}).await {
            Ok(_) => Ok(image),
            Err(error) => Err(describe(&error)),
        }
    }
}

/// What an image says about how to run it, in the OCI's words.
fn run_config(image: ImageConfig) -> Config {
    let list = |list: Vec<String>| (!list.is_empty()).then_some(list);
    let text = |text: String| (!text.is_empty()).then_some(text);
    let mut config = Config::default();
    config
        .set_entrypoint(list(image.entrypoint))
        .set_cmd(list(image.command))
        .set_env(list(image.env))
        .set_user(text(image.user))
        .set_working_dir(text(image.working_dir))
        .set_stop_signal(image.stop_signal)
        .set_volumes(list(image.volumes.into_iter().collect()))
        .set_exposed_ports(list(image.exposed_ports.into_iter().collect()));
    config
}

/// A board that has an image.
#[derive(Debug, Clone)]
struct Holder(Peer);

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Peer { id, addresses }) = self;
        match addresses.first() {
            Some(address) => address.ip().fmt(formatter),
            None => NodeId::fmt(id, formatter),
        }
    }
}

/// An error and its causes, on one line.
fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
