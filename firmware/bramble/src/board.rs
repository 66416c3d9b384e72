//! This board, as its API shows it: images, containers, logs, and the way out of the cluster.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use bramble_agent::Agent;
use bramble_api::{
    Archive, Board, BoardError, Container, Facts, Health, ImageRemoval, LogLine, LogQuery, Power,
    types::{
        image::LocalImage,
        os::{OsProgress, OsStatus},
    },
};
use bramble_cluster::{AssignedTask, Digest, Image, ImageName, Slot, TaskId, Timestamp, chain};
use bramble_containers::{
    ContainerState, ContainerStatus, Keeper, LogEntry, LogError, LogReader, LogStream,
    images::{
        ChangeImageError, ConfigError, ImageStore, LoadError, Progress, Removal, StoredImage,
    },
};
use bramble_host::{boot::Report, durable};
use bramble_manager::Manager;
use bramble_peering::{Membership, Peering, forget_identity};
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::Value;
use tokio::sync::{Notify, mpsc};

use crate::{problems::Problems, updating::Updating};

/// The file in the data folder that says: this board left its cluster and seeks no other.
pub(crate) const LEFT: &str = "left";
/// How long a container has to stop when its board leaves the cluster.
const STOP_GRACE: Duration = Duration::from_secs(10);

/// The agent, from when this board is a member on. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct CurrentAgent(Arc<OnceLock<Agent>>);

impl CurrentAgent {
    /// The agent, if there is one yet.
    pub(crate) fn get(&self) -> Option<&Agent> {
        self.0.get()
    }

    /// This board became a member. It does so once in the daemon's life.
    pub(crate) fn set(&self, agent: Agent) {
        let was_set = self.0.set(agent);
        debug_assert!(was_set.is_ok(), "a board becomes a member once in the daemon's life");
    }
}

/// Whether this board left its cluster on purpose.
pub(crate) fn has_left(data_dir: &Path) -> bool {
    data_dir.join(LEFT).exists()
}

/// Everything that the API may ask of this board.
pub(crate) struct ThisBoard {
    /// Where it keeps its data.
    pub(crate) data_dir: PathBuf,
    /// How it started; `None` where Bramble is not process 1.
    pub(crate) report: Option<Report>,
    /// What is wrong with it.
    pub(crate) problems: Problems,
    /// Its containers.
    pub(crate) keeper: Keeper,
    /// Its images.
    pub(crate) images: ImageStore,
    /// The other boards.
    pub(crate) peering: Peering,
    /// What the boards agree on.
    pub(crate) manager: Manager,
    /// What this board should run.
    pub(crate) agent: CurrentAgent,
    /// Fired when the daemon should start afresh.
    pub(crate) restart: Arc<Notify>,
    /// Its operating system.
    pub(crate) updating: Updating,
}

#[async_trait]
impl Board for ThisBoard {
    fn facts(&self) -> Facts {
        let kernel = nix::sys::utsname::uname();
        let text = |field: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            kernel
                .as_ref()
                .map_or_else(|_| String::new(), |name| field(name).to_string_lossy().into_owned())
        };
        let description = self.peering.description();
        let address = description.addresses.first().map(|address| address.ip().to_string());
        Facts {
            hostname: description.hostname,
            firmware_version: description.engine_version,
            kernel: text(nix::sys::utsname::UtsName::release),
            machine: text(nix::sys::utsname::UtsName::machine),
            cpus: description.resources.nano_cpus / 1_000_000_000,
            memory_bytes: description.resources.memory_bytes,
            data_dir: self.data_dir.clone(),
            address: address.unwrap_or_default(),
            cgroup_version: cgroup_version(),
            labels: description.engine_labels,
        }
    }

    fn health(&self) -> Health {
        let boot = serde_json::to_value(&self.report).unwrap_or_default();
        Health { problems: self.problems.texts(), boot }
    }

    fn is_member(&self) -> bool {
        matches!(*self.peering.membership().borrow(), Membership::Member(_))
    }

    fn images(&self) -> Vec<LocalImage> {
        self.images.list().iter().map(|image| local_image(image, Value::Null)).collect()
    }

    async fn image_config(&self, digest: Digest) -> Result<Value, BoardError> {
        let document = self.images.config_document(digest).await.map_err(|error| match error {
            ConfigError::Unknown { .. } => BoardError::NotFound(error.to_string()),
            _ => BoardError::Failed(chain(&error)),
        })?;
        serde_json::from_slice(&document).map_err(|error| BoardError::Failed(chain(&error)))
    }

    async fn load_images(
        &self,
        archive: Archive,
        progress: mpsc::Sender<String>,
    ) -> Result<Vec<Image>, BoardError> {
        let tell = move |step| {
            // Whoever listens slowly misses steps, not the outcome.
            let _ = progress.try_send(describe(step));
        };
        let loaded = self.images.load(archive, None, tell).await.map_err(load_error)?;
        // Whoever loads an image wants to use it, on whichever board.
        if let Some(agent) = self.agent.get() {
            agent.images_listed().await;
        }
        let is_loaded = |image: &Image| loaded.iter().any(|stored| stored.digest == image.digest);
        Ok(self.images.images().into_iter().filter(is_loaded).collect())
    }

    async fn tag_image(&self, digest: Digest, name: &str) -> Result<(), BoardError> {
        let name: ImageName = name.parse().map_err(|error| BoardError::Invalid(chain(&error)))?;
        self.images.tag(digest, name).await.map_err(change_error)
    }

    async fn remove_image(
        &self,
        name: &str,
        is_forced: bool,
    ) -> Result<Vec<ImageRemoval>, BoardError> {
        let removals = self.images.remove(name, is_forced).await.map_err(change_error)?;
        let translate = |removal| match removal {
            Removal::Untagged(name) => ImageRemoval::Untagged(name),
            Removal::Deleted(digest) => ImageRemoval::Deleted(digest),
        };
        Ok(removals.into_iter().map(translate).collect())
    }

    fn containers(&self) -> Vec<Container> {
        let containers = self.agent.get().map(Agent::containers).unwrap_or_default();
        containers.iter().map(|local| container(&local.status, local.task.as_ref())).collect()
    }

    async fn log(
        &self,
        task: TaskId,
        query: LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, BoardError>>, BoardError> {
        let query = bramble_containers::LogQuery {
            follow: query.is_followed,
            tail: query.tail,
            since_nanoseconds: query.since,
            until_nanoseconds: query.until,
        };
        let reader = self.keeper.logs(task, query).map_err(log_error)?;
        Ok(stream::unfold(reader, next_line).boxed())
    }

    async fn leave(&self) -> Result<(), BoardError> {
        fn failed(error: &(dyn std::error::Error + 'static)) -> BoardError {
            BoardError::Failed(chain(error))
        }
        durable::write(&self.data_dir.join(LEFT), b"").map_err(|error| failed(&error))?;
        if let Some(agent) = self.agent.get() {
            agent.shut_down();
        }
        let containers = self.keeper.list();
        let stops = containers.iter().map(|container| async {
            let stopped = self.keeper.stop(container.id, Some(STOP_GRACE)).await;
            stopped.and(self.keeper.remove(container.id).await)
        });
        for stopped in futures_util::future::join_all(stops).await {
            if let Err(error) = stopped {
                tracing::warn!(%error, "a container was left behind");
            }
        }
        self.manager.dissolve().await.map_err(|error| failed(&error))?;
        self.peering.leave().map_err(|error| failed(&error))?;
        // The cluster never lets this identity in again; a board that comes back is a new one.
        forget_identity(&self.data_dir.join("peering")).map_err(|error| failed(&error))?;
        self.restart.notify_one();
        Ok(())
    }

    async fn os_status(&self) -> OsStatus {
        self.updating.status().await
    }

    async fn os_install(
        &self,
        file: Archive,
        progress: mpsc::Sender<OsProgress>,
    ) -> Result<String, BoardError> {
        self.updating.install(file, progress).await
    }

    async fn os_try(&self) -> Result<(), BoardError> {
        self.updating.try_once().await
    }

    async fn os_commit(&self) -> Result<(), BoardError> {
        self.updating.commit().await
    }

    async fn end(&self, power: Power) -> Result<(), BoardError> {
        self.updating.end(power)
    }
}

async fn next_line(mut reader: LogReader) -> Option<(Result<LogLine, BoardError>, LogReader)> {
    match reader.next().await {
        Ok(entry) => entry.map(|entry| (Ok(log_line(entry)), reader)),
        Err(error) => Some((Err(log_error(error)), reader)),
    }
}

fn log_line(entry: LogEntry) -> LogLine {
    let mut text = entry.line;
    if !entry.is_partial {
        text.push(b'\n');
    }
    LogLine { at: entry.at_nanoseconds, is_error: entry.stream == LogStream::Error, text }
}

fn log_error(error: LogError) -> BoardError {
    match error {
        LogError::NotFound { .. } => BoardError::NotFound("the task has no log here".to_owned()),
        LogError::Read { .. } => BoardError::Failed(chain(&error)),
    }
}

fn load_error(error: LoadError) -> BoardError {
    // An archive comes from a person: whatever is wrong is wrong with it, unless the disk says so.
    BoardError::Invalid(chain(&error))
}

fn change_error(error: ChangeImageError) -> BoardError {
    match &error {
        ChangeImageError::Resolve(_) => BoardError::NotFound(chain(&error)),
        ChangeImageError::InUse { .. } => BoardError::InUse(chain(&error)),
        _ => BoardError::Failed(chain(&error)),
    }
}

fn describe(step: Progress) -> String {
    const MEBIBYTE: u64 = 1 << 20;
    match step {
        Progress::Reading { bytes, .. } => format!("read {} MiB", bytes / MEBIBYTE),
        Progress::Fetching { bytes, total } => {
            format!("fetched {} of {} MiB", bytes / MEBIBYTE, total / MEBIBYTE)
        }
        Progress::Unpacking { layer, layers } => format!("unpacking layer {layer} of {layers}"),
    }
}

fn local_image(image: &StoredImage, config: Value) -> LocalImage {
    let created = image.created.parse::<jiff::Timestamp>().ok();
    let created = created.and_then(|at| u64::try_from(at.as_millisecond()).ok());
    LocalImage {
        image: Image {
            digest: image.digest,
            names: image.names.clone(),
            size: image.size(),
            holders: Default::default(),
            named_at: image.named_at,
        },
        created: created.map(Timestamp::from_millis),
        config,
    }
}

fn container(status: &ContainerStatus, task: Option<&AssignedTask>) -> Container {
    let seconds = |at: Timestamp| i64::try_from(at.as_millis() / 1_000).unwrap_or(i64::MAX);
    let mut container = Container { task: status.id, ..Container::default() };
    match &status.state {
        ContainerState::Starting => {}
        ContainerState::Running { pid, since } => {
            container.pid = Some(*pid);
            container.since = seconds(*since);
        }
        ContainerState::Exited(exit) => {
            container.exit_code = Some(exit.code);
            container.since = seconds(exit.at);
        }
        ContainerState::NotStarted { at, .. } => {
            container.exit_code = Some(127);
            container.since = seconds(*at);
        }
    }
    container.created = container.since;
    if let Some(task) = task {
        let spec = &task.spec.container;
        let slot = match task.slot {
            Slot::Replica(number) => number.to_string(),
            Slot::Node(node) => node.to_string(),
        };
        container.name = format!("{}.{slot}.{}", task.service_name, task.id);
        container.image = spec.image.name.clone();
        container.image_digest = task.image;
        container.command = [spec.entrypoint.as_slice(), &spec.arguments].concat().join(" ");
        container.labels = spec.labels.clone();
        container.labels.extend([
            ("com.docker.swarm.service.id".to_owned(), task.service.to_string()),
            ("com.docker.swarm.service.name".to_owned(), task.service_name.clone()),
            ("com.docker.swarm.task.id".to_owned(), task.id.to_string()),
            ("com.docker.swarm.task.name".to_owned(), container.name.clone()),
        ]);
    }
    container
}

fn cgroup_version() -> &'static str {
    match std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        true => "2",
        false => "1",
    }
}
