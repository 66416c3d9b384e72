//! What a task runs: the container, its limits, where it may go, what happens when it ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{ImageReference, Labels, Platform};

/// What a task runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskSpec {
    /// The container.
    pub container: ContainerSpec,
    /// What it may use at most, and what is kept free for it.
    pub resources: ResourceLimits,
    /// What happens when it ends.
    pub restart: RestartPolicy,
    /// Where it may go.
    pub placement: Placement,
    /// The networks it is attached to. `host` means the board's own.
    pub networks: Vec<NetworkAttachment>,
    /// What its log goes to; `None` is Bramble's bounded ring.
    pub log_driver: Option<LogDriver>,
    /// What its node does with it when cut off from the quorum.
    pub on_partition: OnPartition,
    /// Raised by `service update --force`, so that an equal specification rolls out again.
    pub force_update: u64,
}

/// A container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// The image.
    pub image: ImageReference,
    /// Labels on the container.
    pub labels: Labels,
    /// Replaces the image's entrypoint (Docker's `ContainerSpec.Command`).
    pub entrypoint: Vec<String>,
    /// Replaces the image's command (Docker's `ContainerSpec.Args`).
    pub arguments: Vec<String>,
    /// The host name; may hold templates (`{{.Task.Slot}}`).
    pub hostname: String,
    /// `NAME=value` each, on top of the image's; values may hold templates.
    pub environment: Vec<String>,
    /// The working directory; empty takes the image's.
    pub directory: String,
    /// `user[:group]`, names or numbers; empty takes the image's.
    pub user: String,
    /// Further groups.
    pub groups: Vec<String>,
    /// Whether it has a terminal.
    pub has_terminal: bool,
    /// Whether its standard input stays open.
    pub has_open_stdin: bool,
    /// Whether its root file system is read-only.
    pub is_read_only: bool,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// The signal that asks it to stop, `SIGTERM` or a number; empty takes the image's.
    pub stop_signal: String,
    /// How long it has to stop before it is killed; `None` is 10 s.
    pub stop_grace_period: Option<Duration>,
    /// How to tell that it works; `None` takes the image's.
    pub healthcheck: Option<Healthcheck>,
    /// Lines for `/etc/hosts`, `address name...`.
    pub hosts: Vec<String>,
    /// Name servers instead of the board's.
    pub dns_servers: Vec<String>,
    /// Search domains.
    pub dns_search: Vec<String>,
    /// Resolver options.
    pub dns_options: Vec<String>,
    /// Whether a tiny init runs as its first process; `None` takes the default (no).
    pub has_init: Option<bool>,
    /// Kernel parameters of its namespaces.
    pub sysctls: Labels,
    /// Capabilities on top of the default set, `CAP_NET_ADMIN`; `ALL` is all.
    pub capabilities_added: Vec<String>,
    /// Capabilities taken from the default set; `ALL` is all.
    pub capabilities_dropped: Vec<String>,
    /// Resource limits of its processes.
    pub ulimits: Vec<Ulimit>,
    /// How willing the kernel is to kill it for memory, -1000 to 1000.
    pub oom_score_adjustment: i32,
}

/// Something mounted into a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// What kind, with what only that kind has.
    pub kind: MountKind,
    /// Where in the container, absolute.
    pub target: String,
    /// Whether it is read-only.
    pub is_read_only: bool,
}

/// What kind of mount.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountKind {
    /// A path of the board.
    Bind {
        /// The path, absolute; it must exist.
        source: String,
    },
    /// A volume of the board.
    Volume {
        /// Its name; empty makes one for this task alone.
        name: String,
        /// Labels on it if it is made.
        labels: Labels,
        /// Whether the image's files at the target are left out of a new volume.
        is_not_filled: bool,
    },
    /// Memory.
    Tmpfs {
        /// At most this many bytes; 0 is half the board's memory.
        size_bytes: u64,
        /// Permission bits; 0 is 1777 (octal).
        mode: u32,
    },
}

/// How to tell that a container works.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Between two tests.
    pub interval: Option<Duration>,
    /// For one test.
    pub timeout: Option<Duration>,
    /// How many failures in a row mean it does not work.
    pub retries: u32,
    /// After the start, failures do not count for this long.
    pub start_period: Option<Duration>,
    /// Between two tests in the start period.
    pub start_interval: Option<Duration>,
}

/// A resource limit of processes (`setrlimit`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// Its name without `RLIMIT_`, lower case (`nofile`).
    pub name: String,
    /// What a process has.
    pub soft: i64,
    /// What it may raise that to; -1 is without limit.
    pub hard: i64,
}

/// What a task may use at most, and what is kept free for it. Zero means nothing said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimits {
    /// Processor time at most, in billionths of a core.
    pub limit_nano_cpus: u64,
    /// Memory at most, in bytes.
    pub limit_memory_bytes: u64,
    /// Processes and threads at most.
    pub limit_pids: u64,
    /// Processor time that a node must have free.
    pub reserved_nano_cpus: u64,
    /// Memory that a node must have free.
    pub reserved_memory_bytes: u64,
}

/// What happens when a task ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartPolicy {
    /// After which endings a new task takes the slot.
    pub condition: RestartCondition,
    /// How long to wait before. `None`: 0.1 s, then doubling while the tasks of the slot die young.
    pub delay: Option<Duration>,
    /// How many times within the window; 0 is without limit.
    pub max_attempts: u64,
    /// Endings longer ago than this do not count; `None` or zero counts all.
    pub window: Option<Duration>,
}

/// After which endings a new task takes the slot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RestartCondition {
    /// After any.
    #[default]
    Any,
    /// After an exit code other than 0.
    OnFailure,
    /// After none.
    None,
}

/// Where a task may go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Placement {
    /// All of these must hold of the node.
    pub constraints: Vec<Constraint>,
    /// Spread evenly over the values of these, the first first.
    pub preferences: Vec<SpreadPreference>,
    /// At most this many tasks of the service on one node; 0 is without limit.
    pub max_replicas_per_node: u32,
    /// The node must be one of these; none is any. An empty field of a platform is any, too.
    pub platforms: Vec<Platform>,
}

/// Something that must hold of a node, `node.labels.room==kitchen`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Constraint {
    /// What is compared: `node.id`, `node.hostname`, `node.role`, `node.platform.os`,
    /// `node.platform.arch`, `node.labels.<name>` or `engine.labels.<name>`.
    pub attribute: String,
    /// How.
    pub operator: ConstraintOperator,
    /// With what.
    pub value: String,
}

/// How a constraint compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConstraintOperator {
    /// `==`
    Equal,
    /// `!=`
    NotEqual,
}

/// Spread tasks evenly over the values of a label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpreadPreference {
    /// `node.labels.<name>` or `engine.labels.<name>`.
    pub attribute: String,
}

/// A network that a task is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkAttachment {
    /// The network's name or id.
    pub target: String,
    /// Further names of the task there.
    pub aliases: Vec<String>,
}

/// What a container's log goes to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogDriver {
    /// Its name.
    pub name: String,
    /// Its options.
    pub options: Labels,
}

/// What a node does with a task when it is cut off from the quorum.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnPartition {
    /// Lets it run; it may run twice until the cut heals.
    #[default]
    Keep,
    /// Stops it before the leader may start it elsewhere.
    Stop,
}
