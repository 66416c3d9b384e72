//! What the agent asks for: a container, or a process in one.

use std::path::PathBuf;

use bramble_cluster::{AssignedTask, NodeId};
use oci_spec::image::Config as ImageConfig;

/// Everything that a container is made from.
#[derive(Debug, Clone)]
pub struct ContainerRequest {
    /// The task; its id names the container.
    pub task: AssignedTask,
    /// What the image says about how to run it (the `config` of its configuration).
    pub image: ImageConfig,
    /// The root file system, mounted and this container's own.
    pub rootfs: PathBuf,
    /// What templates may name.
    pub board: BoardFacts,
    /// Its network.
    pub network: NetworkMode,
}

/// What a container may learn of its board through templates and files.
#[derive(Debug, Clone, Default)]
pub struct BoardFacts {
    /// The node.
    pub id: NodeId,
    /// Its host name.
    pub hostname: String,
    /// Its operating system and architecture, `linux`, `arm64`.
    pub platform: bramble_cluster::Platform,
}

/// A container's network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// The board's own.
    #[default]
    Board,
    /// A network namespace that was made for it.
    Namespace(PathBuf),
}

/// A process to run in a container that runs.
#[derive(Debug, Clone, Default)]
pub struct ExecRequest {
    /// The program and its arguments.
    pub command: Vec<String>,
    /// `NAME=value` each, on top of the container's.
    pub environment: Vec<String>,
    /// The working directory; empty takes the container's.
    pub directory: String,
    /// `user[:group]`, names or numbers; empty takes the container's.
    pub user: String,
    /// Whether it has a terminal.
    pub has_terminal: bool,
    /// Whether it has all capabilities and no seccomp filter.
    pub is_privileged: bool,
}
