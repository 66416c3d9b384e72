//! Nodes: the boards that are members.

use std::{collections::BTreeMap, net::SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{Digest, NodeId, Timestamp, Version};

/// Names and values that people attach to things.
pub type Labels = BTreeMap<String, String>;

/// A board that is a member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Which node this is.
    pub id: NodeId,
    /// The entry that last changed it.
    pub version: Version,
    /// When it joined.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What people want of it.
    pub spec: NodeSpec,
    /// What it said of itself.
    pub description: NodeDescription,
    /// What it is in the consensus now.
    pub role: Role,
    /// Whether it is there.
    pub status: NodeStatus,
    /// The SHA-256 of its public key; see [`crate::NodeAdmission::key`].
    pub key: Digest,
}

/// What people want of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Labels for placement, `node.labels.*` in a constraint.
    pub labels: Labels,
    /// Whether it takes tasks.
    pub availability: Availability,
    /// The role that a person pinned; `None` leaves the choice to the planner.
    pub role: Option<Role>,
}

/// Whether a node takes tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Availability {
    /// Takes tasks.
    #[default]
    Active,
    /// Keeps its tasks and takes no more.
    Pause,
    /// Gives its tasks away.
    Drain,
}

/// What a node is in the consensus.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Runs tasks, holds no log.
    #[default]
    Worker,
    /// Votes, holds the log, may become leader.
    Manager,
}

/// What a node says of itself when it opens a session.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeDescription {
    /// Its host name.
    pub hostname: String,
    /// What it runs binaries for.
    pub platform: Platform,
    /// What it has.
    pub resources: Resources,
    /// The firmware's version.
    pub engine_version: String,
    /// Labels from its configuration file, `engine.labels.*` in a constraint.
    pub engine_labels: Labels,
    /// Where other boards reach it (port 7420), most useful first. Discovered, never identity.
    pub addresses: Vec<SocketAddr>,
}

/// An operating system and an architecture, by the names of the OCI image specification.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    pub os: String,
    /// `arm64`, `arm`, `amd64`.
    pub architecture: String,
}

/// An amount of what tasks consume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time, in billionths of a core.
    pub nano_cpus: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
}

/// Whether a node is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// The verdict.
    pub state: NodeState,
    /// Since when.
    pub since: Timestamp,
    /// Why, in a person's words; empty if there is nothing to say.
    pub message: String,
}

/// The leader's verdict on a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeState {
    /// It has joined and opened no session yet.
    #[default]
    Unknown,
    /// It has a session.
    Ready,
    /// It was not heard of for too long; its tasks run elsewhere.
    Down,
}
