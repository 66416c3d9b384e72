//! The limits of everything that input can grow. A command over a limit is rejected and says so.

/// Nodes in a cluster.
pub const NODES: usize = 256;
/// Removed nodes that are remembered and refused; the longest removed are forgotten first (their
/// certificates have run out by then).
pub const REMOVED_NODES: usize = 1_024;
/// Addresses of one node.
pub const NODE_ADDRESSES: usize = 32;
/// Services in a cluster.
pub const SERVICES: usize = 1_000;
/// Replicas of one service.
pub const REPLICAS: u32 = 1_000;
/// Tasks in a cluster, history included.
pub const TASKS: usize = 20_000;
/// Images known to a cluster.
pub const IMAGES: usize = 2_000;
/// Names of one image.
pub const IMAGE_NAMES: usize = 100;
/// Bytes in a name (service, node, label key).
pub const NAME_BYTES: usize = 63;
/// Bytes in a label's key, and in its value.
pub const LABEL_BYTES: usize = 4_096;
/// Labels on one object.
pub const LABELS: usize = 256;
/// Entries of any list in a specification (environment, mounts, ports, constraints, arguments).
pub const LIST: usize = 1_024;
/// Bytes in any text of a specification.
pub const TEXT_BYTES: usize = 32_768;
/// Bytes in a serialised service specification.
pub const SPEC_BYTES: usize = 512 * 1_024;
/// Bytes in a message or error of a task; longer ones are cut.
pub const MESSAGE_BYTES: usize = 512;
/// Reports in one command.
pub const REPORTS: usize = 10_000;
/// The least memory that a container may be limited to (Docker's limit).
pub const MEMORY_BYTES_MIN: u64 = 4 * 1_024 * 1_024;
/// The least processor time that a container may be limited to, in billionths of a core.
pub const NANO_CPUS_MIN: u64 = 1_000_000;
/// The longest time in a specification, in seconds: a year.
pub const SECONDS: u64 = 366 * 24 * 3_600;
/// Commands in one entry.
pub const COMMANDS: usize = 10_000;
/// Ended tasks of a slot that are kept unless the cluster says otherwise.
pub const TASK_HISTORY_DEFAULT: u32 = 5;
/// Ended tasks of a slot that may be kept at most.
pub const TASK_HISTORY: u32 = 100;
