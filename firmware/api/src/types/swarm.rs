//! The swarm object: the cluster as Docker sees it.

use std::collections::BTreeMap;

use bramble_cluster::{Cluster, ClusterSpec, limits};
use serde::{Deserialize, Serialize};

use super::{InvalidField, Version, nullable, rfc3339};

/// The name that Docker's clients expect of the one swarm there is.
const NAME: &str = "default";

/// The cluster as `docker swarm inspect` would show it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Swarm {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The change it is at.
    pub version: Version,
    /// When it was founded.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// What people want of it.
    pub spec: SwarmSpec,
    /// Whether its certificate authority is being replaced.
    pub root_rotation_in_progress: bool,
    /// Where overlay networks take their subnets from.
    pub default_addr_pool: Vec<String>,
    /// How large those are.
    pub subnet_size: u32,
    /// Where their packets go.
    pub data_path_port: u32,
    /// What a machine shows to join; absent in `/info`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub join_tokens: Option<JoinTokens>,
}

/// What a machine shows to join.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct JoinTokens {
    /// For boards that only run tasks.
    pub worker: String,
    /// For boards that may manage.
    pub manager: String,
}

/// What people want of the cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmSpec {
    /// Always `default`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Labels; the cluster has none.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// How tasks are kept.
    #[serde(deserialize_with = "nullable")]
    pub orchestration: Orchestration,
}

/// How tasks are kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Orchestration {
    /// How many ended tasks of a slot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_history_retention_limit: Option<i64>,
}

impl Swarm {
    /// As Docker writes it, without the join tokens.
    pub fn from_cluster(cluster: &Cluster) -> Self {
        Self {
            id: cluster.id.to_string(),
            version: cluster.version.into(),
            created_at: rfc3339(cluster.created_at),
            updated_at: rfc3339(cluster.updated_at),
            spec: SwarmSpec::from_cluster(&cluster.spec),
            root_rotation_in_progress: false,
            default_addr_pool: vec!["10.0.0.0/8".to_owned()],
            subnet_size: 24,
            data_path_port: 4789,
            join_tokens: None,
        }
    }
}

impl SwarmSpec {
    /// As Docker writes it.
    pub fn from_cluster(spec: &ClusterSpec) -> Self {
        let limit = Some(i64::from(spec.task_history_limit));
        Self {
            name: NAME.to_owned(),
            labels: BTreeMap::new(),
            orchestration: Orchestration { task_history_retention_limit: limit },
        }
    }

    /// As the cluster knows it.
    pub fn into_cluster(self) -> Result<ClusterSpec, InvalidField> {
        if !matches!(self.name.as_str(), "" | NAME) {
            return Err(InvalidField::new("Name", "the swarm is called `default`"));
        }
        let asked = self.orchestration.task_history_retention_limit;
        let asked = asked.unwrap_or_else(|| i64::from(limits::TASK_HISTORY_DEFAULT));
        let limit = u32::try_from(asked).ok().filter(|limit| *limit <= limits::TASK_HISTORY);
        limit.map(|task_history_limit| ClusterSpec { task_history_limit }).ok_or_else(|| {
            let reason = format!("{asked} is not from 0 to {}", limits::TASK_HISTORY);
            InvalidField::new("Orchestration.TaskHistoryRetentionLimit", reason)
        })
    }
}

/// The settings of Docker's own machinery, that Bramble chooses by itself: shown as they are.
pub fn fixed_settings() -> serde_json::Value {
    serde_json::json!({
        "Raft": {
            "SnapshotInterval": 10_000, "KeepOldSnapshots": 0, "LogEntriesForSlowFollowers": 500,
            "ElectionTick": 4, "HeartbeatTick": 1,
        },
        "Dispatcher": {"HeartbeatPeriod": 200_000_000},
        "CAConfig": {"NodeCertExpiry": 2_592_000_000_000_000_u64},
        "TaskDefaults": {},
        "EncryptionConfig": {"AutoLockManagers": false},
    })
}
