//! Services: what people want to run.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{Labels, ServiceId, TaskSpec, Timestamp, Version};

/// What a person wants to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Which service this is.
    pub id: ServiceId,
    /// The entry that last changed it.
    pub version: Version,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What is wanted now.
    pub spec: ServiceSpec,
    /// The entry that last changed what its tasks run.
    pub spec_version: Version,
    /// What was wanted before, to roll back to.
    pub previous_spec: Option<Box<ServiceSpec>>,
    /// How the last roll-out went or goes; `None` if there was none.
    pub update_status: Option<UpdateStatus>,
}

/// What a person wants of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// Its name, unique in the cluster.
    pub name: String,
    /// Labels on the service itself.
    pub labels: Labels,
    /// How many tasks, and where.
    pub mode: ServiceMode,
    /// What each task runs.
    pub task: Arc<TaskSpec>,
    /// How a change reaches the running tasks.
    pub update: UpdateConfig,
    /// How a change is taken back.
    pub rollback: UpdateConfig,
    /// How the service is reached.
    pub endpoint: EndpointSpec,
}

/// How many tasks a service has, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceMode {
    /// This many, wherever they fit.
    Replicated {
        /// How many.
        replicas: u32,
    },
    /// One on every node that its constraints allow.
    Global,
}

/// How a changed specification reaches the running tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateConfig {
    /// How many slots are changed at a time; 0 means all at once.
    pub parallelism: u32,
    /// How long to wait between one batch and the next.
    pub delay: Duration,
    /// What to do when too many new tasks fail.
    pub failure_action: FailureAction,
    /// For how long after it started a new task's failure counts against the change.
    pub monitor: Duration,
    /// How many of the changed slots may fail, in millionths.
    pub max_failure_millionths: u32,
    /// Whether the new task starts before the old one stops.
    pub order: UpdateOrder,
}

impl Default for UpdateConfig {
    /// Swarm's defaults (swarmkit `api/defaults`), monitor 5 s among them.
    fn default() -> Self {
        Self {
            parallelism: 1,
            delay: Duration::ZERO,
            failure_action: FailureAction::Pause,
            monitor: Duration::from_secs(5),
            max_failure_millionths: 0,
            order: UpdateOrder::StopFirst,
        }
    }
}

/// What a roll-out does when too many new tasks fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    /// Stops and waits for a person.
    #[default]
    Pause,
    /// Goes on.
    Continue,
    /// Goes back to the previous specification.
    Rollback,
}

/// Which of a slot's two tasks moves first in a roll-out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateOrder {
    /// The old task stops, then the new one starts.
    #[default]
    StopFirst,
    /// The new task runs before the old one stops.
    StartFirst,
}

/// How a roll-out goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateStatus {
    /// How far it is.
    pub state: UpdateState,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Why it is where it is.
    pub message: String,
}

/// How far a roll-out is (the Docker API's `UpdateStatus.State`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UpdateState {
    /// Going forward.
    Updating,
    /// Stopped by failures; waits for a person.
    Paused,
    /// Every slot runs what is wanted.
    Completed,
    /// Going back.
    RollbackStarted,
    /// Stopped by failures on the way back.
    RollbackPaused,
    /// Back at the previous specification.
    RollbackCompleted,
}

/// How a service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointSpec {
    /// What its name resolves to.
    pub mode: EndpointMode,
    /// The ports it is reached at from outside.
    pub ports: Vec<PortConfig>,
}

/// What a service's name resolves to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum EndpointMode {
    /// One virtual address.
    #[default]
    Vip,
    /// The address of every task.
    Dnsrr,
}

/// A published port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortConfig {
    /// A name for people.
    pub name: String,
    /// Transport protocol.
    pub protocol: PortProtocol,
    /// The port in the container.
    pub target: u16,
    /// The port on the boards; 0 lets the allocator choose.
    pub published: u16,
    /// On which boards.
    pub mode: PublishMode,
}

/// The transport protocol of a published port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PortProtocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for PortProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// On which boards a published port answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PublishMode {
    /// On every board.
    #[default]
    Ingress,
    /// On the boards that run a task of the service.
    Host,
}
