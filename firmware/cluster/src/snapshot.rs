//! The state as bytes: what a manager writes to disk and sends to a new member.
//!
//! The root is versioned; a version's shape never changes (its golden bytes are frozen by a test), a
//! new shape is a new variant. Tasks share their specifications in a table, since most tasks of a
//! service run the same.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    Cluster, ClusterState, DesiredState, Image, Node, NodeId, Restarts, Service, ServiceId, Slot,
    Task, TaskCause, TaskId, TaskSpec, TaskStatus, Timestamp, Version,
};

/// The bytes are not a snapshot that this firmware reads.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// They are cut off, damaged, or of a newer firmware.
    #[error("the snapshot is damaged or of a newer firmware")]
    Malformed(#[source] postcard::Error),
    /// There are more bytes than the snapshot.
    #[error("the snapshot is followed by {count} bytes that do not belong to it")]
    Trailing {
        /// How many.
        count: usize,
    },
    /// A task names a specification that is not there.
    #[error("the snapshot lacks the specification of task {id}")]
    MissingSpec {
        /// Which task.
        id: TaskId,
    },
}

/// The versioned root. Variants are only ever appended.
#[derive(Serialize, Deserialize)]
enum Snapshot {
    V1(StateV1),
}

#[derive(Serialize, Deserialize)]
struct StateV1 {
    version: Version,
    cluster: Option<Arc<Cluster>>,
    nodes: Vec<Arc<Node>>,
    services: Vec<Arc<Service>>,
    specs: Vec<Arc<TaskSpec>>,
    tasks: Vec<TaskV1>,
    images: Vec<Arc<Image>>,
    removed_nodes: Vec<(NodeId, Timestamp)>,
}

/// A task with its specification by its place in the table.
#[derive(Serialize, Deserialize)]
struct TaskV1 {
    id: TaskId,
    version: Version,
    created_at: Timestamp,
    updated_at: Timestamp,
    service: ServiceId,
    service_name: String,
    slot: Slot,
    node: Option<NodeId>,
    spec: usize,
    spec_version: Version,
    desired: DesiredState,
    status: TaskStatus,
    created: Version,
    started_at: Option<Timestamp>,
    cause: TaskCause,
    restarts: Restarts,
}

/// The state as bytes.
pub fn encode(state: &ClusterState) -> Vec<u8> {
    let mut table = SpecTable::default();
    let tasks = state.tasks.values().map(|task| TaskV1::from_task(task, &mut table)).collect();
    let snapshot = Snapshot::V1(StateV1 {
        version: state.version,
        cluster: state.cluster.clone(),
        nodes: state.nodes.values().cloned().collect(),
        services: state.services.values().cloned().collect(),
        specs: table.specs,
        tasks,
        images: state.images.values().cloned().collect(),
        removed_nodes: state.removed_nodes.iter().map(|(id, at)| (*id, *at)).collect(),
    });
    // Writing plain data to a growing vector has nothing that could fail.
    postcard::to_stdvec(&snapshot).expect("plain data serialises")
}

/// The state that the bytes hold.
pub fn decode(bytes: &[u8]) -> Result<ClusterState, DecodeError> {
    let (snapshot, rest) =
        postcard::take_from_bytes::<Snapshot>(bytes).map_err(DecodeError::Malformed)?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing { count: rest.len() });
    }
    let Snapshot::V1(held) = snapshot;
    let mut state = ClusterState {
        version: held.version,
        cluster: held.cluster,
        nodes: held.nodes.into_iter().map(|node| (node.id, node)).collect(),
        images: held.images.into_iter().map(|image| (image.digest, image)).collect(),
        removed_nodes: held.removed_nodes.into_iter().collect(),
        ..ClusterState::default()
    };
    let mut specs = held.specs;
    for service in held.services {
        let mut service = Arc::unwrap_or_clone(service);
        // The tasks share what they run with their service again.
        match specs.iter().find(|spec| **spec == service.spec.task) {
            Some(spec) => service.spec.task = Arc::clone(spec),
            None => specs.push(Arc::clone(&service.spec.task)),
        }
        state.put_service(service);
    }
    for task in held.tasks {
        let spec = specs.get(task.spec).cloned();
        let spec = spec.ok_or(DecodeError::MissingSpec { id: task.id })?;
        state.put_task(task.into_task(spec));
    }
    Ok(state)
}

/// The specifications met so far. One is found by its service and version first: comparing them is
/// the slow way.
#[derive(Default)]
struct SpecTable {
    specs: Vec<Arc<TaskSpec>>,
    known: BTreeMap<(ServiceId, Version), usize>,
}

impl SpecTable {
    fn place(&mut self, task: &Task) -> usize {
        let specs = &mut self.specs;
        *self.known.entry((task.service, task.spec_version)).or_insert_with(|| {
            let known = specs.iter().position(|spec| *spec == task.spec);
            known.unwrap_or_else(|| {
                specs.push(Arc::clone(&task.spec));
                specs.len() - 1
            })
        })
    }
}

impl TaskV1 {
    fn from_task(task: &Task, table: &mut SpecTable) -> Self {
        Self {
            id: task.id,
            version: task.version,
            created_at: task.created_at,
            updated_at: task.updated_at,
            service: task.service,
            service_name: task.service_name.clone(),
            slot: task.slot,
            node: task.node,
            spec: table.place(task),
            spec_version: task.spec_version,
            desired: task.desired,
            status: task.status.clone(),
            created: task.created,
            started_at: task.started_at,
            cause: task.cause,
            restarts: task.restarts,
        }
    }

    fn into_task(self, spec: Arc<TaskSpec>) -> Task {
        Task {
            id: self.id,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
            service: self.service,
            service_name: self.service_name,
            slot: self.slot,
            node: self.node,
            spec,
            spec_version: self.spec_version,
            desired: self.desired,
            status: self.status,
            created: self.created,
            started_at: self.started_at,
            cause: self.cause,
            restarts: self.restarts,
        }
    }
}

#[cfg(test)]
mod tests;
