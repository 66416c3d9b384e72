//! What applying a command answers.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{NodeId, ServiceId, TaskId, Version};

/// What applying one command answered.
pub type Outcome = Result<Applied, Rejection>;

/// A command was applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// It changed something.
    Done,
    /// What it asked for is so already.
    Unchanged,
    /// It created this service.
    ServiceCreated(ServiceId),
}

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The cluster itself.
    Cluster,
    /// A node.
    Node,
    /// A service.
    Service,
    /// A task.
    Task,
    /// An image.
    Image,
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Cluster => "cluster",
            Self::Node => "node",
            Self::Service => "service",
            Self::Task => "task",
            Self::Image => "image",
        })
    }
}

/// Why a command was not applied, in the operator's words. It changed nothing.
///
/// Variants are only ever appended: a manager sends them to the board that proposed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejection {
    /// There is a cluster already.
    #[error("the cluster is founded already")]
    AlreadyFounded,
    /// The object does not exist.
    #[error("{kind} {id} not found")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// Which.
        id: String,
    },
    /// The object exists.
    #[error("{kind} {id} exists already")]
    Exists {
        /// What was to be created.
        kind: Kind,
        /// Which.
        id: String,
    },
    /// Another service has the name.
    #[error("the name {name} is taken by service {id}")]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: ServiceId,
    },
    /// Another service is published there.
    #[error("port {port} is taken by service {service}")]
    PortTaken {
        /// The port and its protocol, `8080/tcp`.
        port: String,
        /// The name of who has it.
        service: String,
    },
    /// The change was made for an older version of the object.
    #[error("update out of sequence: {kind} {id} is at version {current}, not {planned}")]
    Stale {
        /// What was to be changed.
        kind: Kind,
        /// Which.
        id: String,
        /// The version that the change was made for.
        planned: Version,
        /// The version that it has.
        current: Version,
    },
    /// There would be too many, or it would be too big.
    #[error("too many or too large: {what}, the limit is {limit}")]
    OverLimit {
        /// Of what.
        what: String,
        /// How much there may be.
        limit: u64,
    },
    /// A field's value makes no sense.
    #[error("invalid {field}: {reason}")]
    Invalid {
        /// Which, in the specification's words.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// Only a node that is down may be removed, unless forced.
    #[error("node {hostname} ({id}) is not down and can't be removed without force")]
    NodeNotDown {
        /// Which.
        id: NodeId,
        /// Its name.
        hostname: String,
    },
    /// The node was removed, and stays so.
    #[error("node {id} was removed from the cluster")]
    NodeRemoved {
        /// Which.
        id: NodeId,
    },
    /// Too few managers would remain.
    #[error(
        "removing manager {hostname} would lose the quorum: {remaining} of {managers} managers would be left"
    )]
    WouldLoseQuorum {
        /// The manager's name.
        hostname: String,
        /// How many of the managers are there without it.
        remaining: u32,
        /// How many managers there are.
        managers: u32,
    },
    /// There is nothing to roll back to.
    #[error("service {service} has no previous specification to roll back to")]
    NoPreviousSpec {
        /// Its name.
        service: String,
    },
    /// The node has not what the task reserves.
    #[error("no room on node {node}: {what}")]
    NoRoom {
        /// Which.
        node: NodeId,
        /// Of what there is too little.
        what: String,
    },
    /// A task's desired state only moves forward.
    #[error("task {id} can not go back")]
    Backwards {
        /// Which.
        id: TaskId,
    },
    /// Another board has the node's id.
    #[error("node {id} ({hostname}) is another board: two boards were given the same identity")]
    Impostor {
        /// The id that both claim.
        id: NodeId,
        /// The name of the board that had it first.
        hostname: String,
    },
    /// A task is forgotten only after it ended.
    #[error("task {id} has not ended")]
    NotEnded {
        /// Which.
        id: TaskId,
    },
}

impl Rejection {
    pub(crate) fn not_found(kind: Kind, id: impl fmt::Display) -> Self {
        Self::NotFound { kind, id: id.to_string() }
    }

    pub(crate) fn exists(kind: Kind, id: impl fmt::Display) -> Self {
        Self::Exists { kind, id: id.to_string() }
    }

    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn over(what: impl Into<String>, limit: usize) -> Self {
        Self::OverLimit { what: what.into(), limit: u64::try_from(limit).unwrap_or(u64::MAX) }
    }
}

/// Refuses a change made for another version than the `current` one; version 0 is "whichever".
pub(crate) fn check_version(
    kind: Kind,
    id: impl fmt::Display,
    planned: Version,
    current: Version,
) -> Result<(), Rejection> {
    if planned == Version(0) || planned == current {
        return Ok(());
    }
    Err(Rejection::Stale { kind, id: id.to_string(), planned, current })
}
