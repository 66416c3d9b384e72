//! Tasks.

use std::collections::BTreeMap;

use bramble_cluster::{Slot, Task as ClusterTask, TaskState};
use serde::{Deserialize, Serialize};

use super::{Version, is_default, nullable, rfc3339, task_spec::TaskSpec, word};

/// A task as `docker inspect` shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Task {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The change it is at.
    pub version: Version,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// `<service>.<slot>.<id>`, the name of its container.
    pub name: String,
    /// Labels; tasks have none of their own.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// What it runs.
    pub spec: TaskSpec,
    /// The service it is a part of.
    #[serde(rename = "ServiceID")]
    pub service_id: String,
    /// Its place in a replicated service.
    #[serde(skip_serializing_if = "is_default")]
    pub slot: u32,
    /// Where it runs.
    #[serde(rename = "NodeID", skip_serializing_if = "String::is_empty")]
    pub node_id: String,
    /// Where it is on its way.
    pub status: TaskStatus,
    /// Where it should end up.
    pub desired_state: String,
}

/// Where a task is on its way.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskStatus {
    /// Since when.
    pub timestamp: String,
    /// The state.
    pub state: String,
    /// What is going on.
    pub message: String,
    /// What went wrong, or why it waits.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub err: String,
    /// Its container, once there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_status: Option<ContainerStatus>,
    /// The ports it holds on its board.
    pub port_status: BTreeMap<String, serde_json::Value>,
}

/// A task's container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerStatus {
    /// Its id: the task's.
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    /// Its first process, while it runs.
    #[serde(rename = "PID")]
    pub pid: u32,
    /// How it ended.
    pub exit_code: i32,
}

impl Task {
    /// As Docker writes it.
    pub fn from_cluster(task: &ClusterTask) -> Self {
        let status = &task.status;
        let has_container = status.state == TaskState::Running
            || status.pid.is_some()
            || status.exit_code.is_some();
        Self {
            id: task.id.to_string(),
            version: task.version.into(),
            created_at: rfc3339(task.created_at),
            updated_at: rfc3339(task.updated_at),
            name: container_name(task),
            labels: BTreeMap::new(),
            spec: TaskSpec::from_cluster(&task.spec),
            service_id: task.service.to_string(),
            slot: match task.slot {
                Slot::Replica(number) => number,
                Slot::Node(_) => 0,
            },
            node_id: task.node.map(|node| node.to_string()).unwrap_or_default(),
            status: TaskStatus {
                timestamp: rfc3339(status.since),
                state: word(status.state).to_owned(),
                message: status.message.clone(),
                err: status.error.clone(),
                container_status: has_container.then(|| ContainerStatus {
                    container_id: task.id.to_string(),
                    pid: status.pid.unwrap_or(0),
                    exit_code: status.exit_code.unwrap_or(0),
                }),
                port_status: BTreeMap::new(),
            },
            desired_state: word(task.desired).to_owned(),
        }
    }
}

/// `<service>.<slot>.<id>`; a global service's slot is its node.
pub fn container_name(task: &ClusterTask) -> String {
    let ClusterTask { id, service_name, slot, .. } = task;
    match slot {
        Slot::Replica(number) => format!("{service_name}.{number}.{id}"),
        Slot::Node(node) => format!("{service_name}.{node}.{id}"),
    }
}
