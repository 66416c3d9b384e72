//! What the API needs of the board it is on.

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use bramble_cluster::{Digest, Image, TaskId};
use futures_util::stream::BoxStream;
use serde_json::Value;
use tokio::{io::AsyncRead, sync::mpsc};

use crate::{
    error::ApiError,
    types::{
        image::LocalImage,
        os::{OsProgress, OsStatus},
    },
};

/// An archive on its way in.
pub type Archive = Box<dyn AsyncRead + Send + Unpin + 'static>;

/// The board that the API runs on: its images, its containers, their logs.
#[async_trait]
pub trait Board: Send + Sync + 'static {
    /// What the board is.
    fn facts(&self) -> Facts;

    /// What is wrong with it, and how it started.
    fn health(&self) -> Health;

    /// Whether it is a member of a cluster; it seeks one otherwise.
    fn is_member(&self) -> bool;

    /// The images that it holds; their configurations are left out (`null`).
    fn images(&self) -> Vec<LocalImage>;

    /// An image's configuration, as in the OCI image specification.
    async fn image_config(&self, digest: Digest) -> Result<Value, BoardError>;

    /// Loads the images of an archive, and tells how it goes.
    async fn load_images(
        &self,
        archive: Archive,
        progress: mpsc::Sender<String>,
    ) -> Result<Vec<Image>, BoardError>;

    /// Gives an image a further name.
    async fn tag_image(&self, digest: Digest, name: &str) -> Result<(), BoardError>;

    /// Takes a name from an image, and removes it with its last one.
    async fn remove_image(
        &self,
        name: &str,
        is_forced: bool,
    ) -> Result<Vec<ImageRemoval>, BoardError>;

    /// The containers that are on it, ended ones included.
    fn containers(&self) -> Vec<Container>;

    /// The log of a task's container.
    async fn log(
        &self,
        task: TaskId,
        query: LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, BoardError>>, BoardError>;

    /// Takes the board out of its cluster: its tasks stop, and it forgets what it was told. The
    /// cluster knows already.
    async fn leave(&self) -> Result<(), BoardError>;

    /// What operating system the board runs, tries, and holds ready.
    async fn os_status(&self) -> OsStatus;

    /// Writes an update of the operating system into the slot that does not run, and tells how it
    /// goes. Returns its version.
    async fn os_install(
        &self,
        file: Archive,
        progress: mpsc::Sender<OsProgress>,
    ) -> Result<String, BoardError>;

    /// Reboots into the slot that an update was written to, once.
    async fn os_try(&self) -> Result<(), BoardError>;

    /// Keeps what runs on trial.
    async fn os_commit(&self) -> Result<(), BoardError>;

    /// Ends the board in order, once this has been answered: replacements elsewhere first, then its
    /// containers, then itself.
    async fn end(&self, power: Power) -> Result<(), BoardError>;
}

/// What becomes of a board that ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// It starts again.
    Reboot,
    /// It stays off.
    Off,
}

/// The board cannot do what the API asked of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BoardError {
    /// It is not there.
    #[error("{0}")]
    NotFound(String),
    /// What was given is wrong.
    #[error("{0}")]
    Invalid(String),
    /// It is in use.
    #[error("{0}")]
    InUse(String),
    /// This kind of board cannot.
    #[error("{0}")]
    Unsupported(String),
    /// The board failed.
    #[error("{0}")]
    Failed(String),
}

impl From<BoardError> for ApiError {
    fn from(error: BoardError) -> Self {
        match error {
            BoardError::NotFound(message) => Self::Missing(message),
            BoardError::Invalid(message) => Self::BadRequest(message),
            BoardError::InUse(message) => Self::Conflict(message),
            BoardError::Unsupported(message) => Self::Unsupported(message),
            BoardError::Failed(message) => Self::Internal(message),
        }
    }
}

/// How a board is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong, each in words. It works nevertheless.
    pub problems: Vec<String>,
    /// What it wrote down of its start: `phases`, `kernel_ms`, `slot`, `disk`, `board`. `null` where
    /// Bramble is not the operating system.
    pub boot: Value,
}

/// What a board is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its host name.
    pub hostname: String,
    /// The firmware's version.
    pub firmware_version: String,
    /// The kernel's release.
    pub kernel: String,
    /// The machine as the kernel names it (`aarch64`).
    pub machine: String,
    /// Processors.
    pub cpus: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Where it keeps its data.
    pub data_dir: PathBuf,
    /// Its address as the others see it.
    pub address: String,
    /// `1` or `2`.
    pub cgroup_version: &'static str,
    /// Labels from its configuration file.
    pub labels: BTreeMap<String, String>,
}

/// What removing an image did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageRemoval {
    /// A name was taken from it.
    Untagged(String),
    /// It is gone.
    Deleted(Digest),
}

/// A container on a board.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Container {
    /// The task that it runs.
    pub task: TaskId,
    /// Its name.
    pub name: String,
    /// Its image, as people name it.
    pub image: String,
    /// The digest of its image.
    pub image_digest: Option<Digest>,
    /// What it runs.
    pub command: String,
    /// When it was created, seconds since 1970.
    pub created: i64,
    /// Since when it runs or has ended, seconds since 1970.
    pub since: i64,
    /// How it ended; `None` while it runs.
    pub exit_code: Option<i32>,
    /// Its first process, while it runs.
    pub pid: Option<u32>,
    /// Labels, among them those that Docker gives a service's containers.
    pub labels: BTreeMap<String, String>,
}

/// Which part of a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Whether to wait for more until the container ends.
    pub is_followed: bool,
    /// Only the last so many lines of what is there.
    pub tail: Option<usize>,
    /// Only lines of this time or later, in nanoseconds since 1970.
    pub since: Option<u64>,
    /// Only lines before this time.
    pub until: Option<u64>,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When, in nanoseconds since 1970, by the board's clock.
    pub at: u64,
    /// Whether it is from the standard error.
    pub is_error: bool,
    /// The line, its end included unless it goes on in the next one.
    pub text: Vec<u8>,
}
