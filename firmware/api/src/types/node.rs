//! Nodes.

use std::{collections::BTreeMap, net::SocketAddr};

use bramble_cluster::{Node as ClusterNode, NodeSpec as ClusterNodeSpec, Role};
use serde::{Deserialize, Serialize};

use super::{InvalidField, Version, integer, nullable, parse_word, rfc3339, word};

/// A node as `docker node inspect` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Node {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The change it is at.
    pub version: Version,
    /// When it joined.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// What people want of it.
    pub spec: NodeSpec,
    /// What it says of itself.
    pub description: NodeDescription,
    /// Whether it is there.
    pub status: NodeStatus,
    /// What it is in the consensus, if it is a manager.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manager_status: Option<ManagerStatus>,
}

/// What people want of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeSpec {
    /// A name; Bramble's nodes go by their host name, so it must be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels for placement.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// `worker` or `manager`: what a person pinned, else what the node is.
    pub role: String,
    /// `active`, `pause` or `drain`.
    pub availability: String,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeDescription {
    /// Its host name.
    pub hostname: String,
    /// What it runs binaries for.
    pub platform: Platform,
    /// What it has.
    pub resources: NodeResources,
    /// What runs it.
    pub engine: Engine,
}

/// An operating system and an architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Platform {
    /// `arm64`, `arm`, `amd64`.
    pub architecture: String,
    /// `linux`.
    #[serde(rename = "OS")]
    pub os: String,
}

/// What a node has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeResources {
    /// Processor time, in billionths of a core.
    #[serde(rename = "NanoCPUs")]
    pub nano_cpus: i64,
    /// Memory.
    pub memory_bytes: i64,
}

/// What runs a node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Engine {
    /// The firmware's version.
    pub engine_version: String,
    /// Labels from its configuration file.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// Whether a node is there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NodeStatus {
    /// `unknown`, `ready` or `down`.
    pub state: String,
    /// Why.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its address.
    pub addr: String,
}

/// What a manager is in the consensus.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ManagerStatus {
    /// Whether it leads.
    #[serde(skip_serializing_if = "super::is_default")]
    pub leader: bool,
    /// `reachable`, `unreachable` or `unknown`.
    pub reachability: String,
    /// Where it listens.
    pub addr: String,
}

/// What the consensus knows of a manager, beyond the replicated state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether it answers; `None` if this board cannot tell.
    pub is_reachable: Option<bool>,
}

impl Node {
    /// As Docker writes it; `standing` is what it is in the consensus, if it is a manager.
    pub fn from_cluster(node: &ClusterNode, standing: Option<Standing>) -> Self {
        let ClusterNode { description, spec, status, .. } = node;
        let address = description.addresses.first();
        Self {
            id: node.id.to_string(),
            version: node.version.into(),
            created_at: rfc3339(node.created_at),
            updated_at: rfc3339(node.updated_at),
            spec: NodeSpec {
                name: String::new(),
                labels: spec.labels.clone(),
                role: word(shown_role(node)).to_owned(),
                availability: word(spec.availability).to_owned(),
            },
            description: NodeDescription {
                hostname: description.hostname.clone(),
                platform: Platform::from_cluster(&description.platform),
                resources: NodeResources {
                    nano_cpus: integer(description.resources.nano_cpus),
                    memory_bytes: integer(description.resources.memory_bytes),
                },
                engine: Engine {
                    engine_version: description.engine_version.clone(),
                    labels: description.engine_labels.clone(),
                },
            },
            status: NodeStatus {
                state: word(status.state).to_owned(),
                message: status.message.clone(),
                addr: address.map(|address| address.ip().to_string()).unwrap_or_default(),
            },
            manager_status: standing.map(|standing| ManagerStatus {
                leader: standing.is_leader,
                reachability: match standing.is_reachable {
                    Some(true) => "reachable",
                    Some(false) => "unreachable",
                    None => "unknown",
                }
                .to_owned(),
                addr: address.map(SocketAddr::to_string).unwrap_or_default(),
            }),
        }
    }
}

impl Platform {
    /// As Docker writes it.
    pub fn from_cluster(platform: &bramble_cluster::Platform) -> Self {
        Self { architecture: platform.architecture.clone(), os: platform.os.clone() }
    }

    /// As the cluster knows it.
    pub fn into_cluster(self) -> bramble_cluster::Platform {
        bramble_cluster::Platform { os: self.os, architecture: self.architecture }
    }
}

impl NodeSpec {
    /// What is wanted of `node` now.
    ///
    /// Docker's clients send a role with every change. The one they were shown pins nothing; another
    /// one does.
    pub fn into_cluster(self, node: &ClusterNode) -> Result<ClusterNodeSpec, InvalidField> {
        if !self.name.is_empty() {
            return Err(InvalidField::new("Name", "nodes go by their host name"));
        }
        let shown = shown_role(node);
        let role = if self.role.is_empty() { shown } else { parse_word("Role", &self.role)? };
        Ok(ClusterNodeSpec {
            labels: self.labels,
            availability: parse_word("Availability", &self.availability)?,
            role: if role == shown { node.spec.role } else { Some(role) },
        })
    }
}

/// The role that clients see: the pinned one, else the one the planner chose.
pub(crate) fn shown_role(node: &ClusterNode) -> Role {
    node.spec.role.unwrap_or(node.role)
}
