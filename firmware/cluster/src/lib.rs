//! What is true: the nouns of a cluster, the commands that change them, and how a change applies.
//!
//! This crate owns the replicated state. It decides nothing (that is `planner`) and touches nothing
//! (no clock, randomness, I/O, threads): every manager applies the same entries in the same order
//! and must end with the same bytes.
//!
//! # Terms
//! - **board**: a machine. **node**: a board as a member of the cluster. Every node is one board.
//! - **manager**: a node that votes in the consensus and holds the log; **worker**: one that does not.
//! - **leader**: the manager that plans and dispatches. **founder**: the node that made the cluster.
//! - **service**: what a person wants to run; **task**: one run of a service's container on one
//!   node; **slot**: the place a task fills (a number for replicated services, a node for global
//!   ones). A task is replaced in its slot, never restarted.
//! - **entry**: what the log holds: commands and the instant they were proposed.
//!   **command**: one change. **outcome**: what applying it answered.
//! - **version**: the number of the entry that last changed an object; a command planned against an
//!   older version is rejected as stale.
//! - **assignment**: everything one node should run, whole, with its **generation**;
//!   **report**: what a node says of its tasks.
//! - **image**: named by the digest of its manifest; **holder**: a node that has all its blobs.
//!
//! # Invariants
//! - [`ClusterState::apply`] never panics and is a function of the state and the entry alone.
//! - A task's state only moves forward along [`TaskState`]'s order.
//! - Every collection that input can grow has a limit in [`limits`].
//! - Everything serialised has a versioned root (see [`snapshot`]); variants and fields are only
//!   ever appended.

#![forbid(unsafe_code)]

pub mod limits;
pub mod snapshot;
pub mod validate;

mod apply;
mod assignment;
mod cause;
mod cluster;
mod command;
mod digest;
mod ids;
mod image;
mod image_name;
mod node;
mod rejection;
#[cfg(test)]
mod sample;
mod service;
mod spec;
mod state;
mod task;
mod time;
mod vitals;

pub use assignment::{AssignedTask, Assignment, Generation, Peer, TaskReport};
pub use cause::chain;
pub use cluster::{CertificateAuthority, Cluster, ClusterSpec, JoinSecrets};
pub use command::{Command, Entry, NewTask, NodeAdmission};
pub use digest::{Digest, ParseDigestError};
pub use ids::{ClusterId, NodeId, ParseIdError, ServiceId, TaskId};
pub use image::{Image, ImageReference};
pub use image_name::{ImageName, ParseImageNameError};
pub use node::{
    Availability, Labels, Node, NodeDescription, NodeSpec, NodeState, NodeStatus, Platform,
    Resources, Role,
};
pub use rejection::{Applied, Kind, Outcome, Rejection};
pub use service::{
    EndpointMode, EndpointSpec, FailureAction, PortConfig, PortProtocol, PublishMode, Service,
    ServiceMode, ServiceSpec, UpdateConfig, UpdateOrder, UpdateState, UpdateStatus,
};
pub use spec::{
    Constraint, ConstraintOperator, ContainerSpec, Healthcheck, LogDriver, Mount, MountKind,
    NetworkAttachment, OnPartition, Placement, ResourceLimits, RestartCondition, RestartPolicy,
    SpreadPreference, TaskSpec, Ulimit,
};
pub use state::ClusterState;
pub use task::{DesiredState, Restarts, Slot, Task, TaskCause, TaskState, TaskStatus};
pub use time::{Timestamp, Version};
pub use vitals::Vitals;
