//! The replicated state: every object of the cluster, and the look-ups that follow from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    Cluster, Digest, Image, ImageName, ImageReference, Node, NodeId, Resources, Service, ServiceId,
    Slot, Task, TaskId, Timestamp, Version,
};

/// Everything that the managers agree on.
///
/// A clone shares the objects: it costs a pointer each. Only [`ClusterState::apply`] changes it, so
/// that the indexes always follow the objects.
#[derive(Debug, Clone, Default)]
pub struct ClusterState {
    pub(crate) version: Version,
    pub(crate) cluster: Option<Arc<Cluster>>,
    pub(crate) nodes: BTreeMap<NodeId, Arc<Node>>,
    pub(crate) services: BTreeMap<ServiceId, Arc<Service>>,
    pub(crate) tasks: BTreeMap<TaskId, Arc<Task>>,
    pub(crate) images: BTreeMap<Digest, Arc<Image>>,
    pub(crate) removed_nodes: BTreeMap<NodeId, Timestamp>,
    pub(crate) index: Index,
}

/// Two states are equal if they hold the same; the indexes follow from that.
impl PartialEq for ClusterState {
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
            && self.cluster == other.cluster
            && self.nodes == other.nodes
            && self.services == other.services
            && self.tasks == other.tasks
            && self.images == other.images
            && self.removed_nodes == other.removed_nodes
    }
}

impl Eq for ClusterState {}

/// What follows from the objects, kept because looking it up would cost a walk over all tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Index {
    by_name: BTreeMap<String, ServiceId>,
    by_slot: BTreeSet<(ServiceId, Slot, TaskId)>,
    by_node: BTreeSet<(NodeId, TaskId)>,
    reserved: BTreeMap<NodeId, Resources>,
}

impl ClusterState {
    /// The number of the last entry applied.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The cluster itself; `None` before it is founded.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_deref()
    }

    /// The nodes, by id.
    pub const fn nodes(&self) -> &BTreeMap<NodeId, Arc<Node>> {
        &self.nodes
    }

    /// The services, by id.
    pub const fn services(&self) -> &BTreeMap<ServiceId, Arc<Service>> {
        &self.services
    }

    /// The tasks, by id; history included.
    pub const fn tasks(&self) -> &BTreeMap<TaskId, Arc<Task>> {
        &self.tasks
    }

    /// The images that at least one node holds, by digest.
    pub const fn images(&self) -> &BTreeMap<Digest, Arc<Image>> {
        &self.images
    }

    /// The nodes that were removed, and when; they are refused.
    pub const fn removed_nodes(&self) -> &BTreeMap<NodeId, Timestamp> {
        &self.removed_nodes
    }

    /// A node by id.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id).map(Arc::as_ref)
    }

    /// A service by id.
    pub fn service(&self, id: ServiceId) -> Option<&Service> {
        self.services.get(&id).map(Arc::as_ref)
    }

    /// A task by id.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(&id).map(Arc::as_ref)
    }

    /// A service by its name.
    pub fn service_by_name(&self, name: &str) -> Option<&Service> {
        self.service(*self.index.by_name.get(name)?)
    }

    /// The tasks of a service, by slot; history included, also after the service was removed.
    pub fn tasks_of(&self, service: ServiceId) -> impl Iterator<Item = &Arc<Task>> {
        let first = (service, Slot::Replica(0), TaskId::from_random(0));
        let last_slot = Slot::Node(NodeId::from_random(u128::MAX));
        self.in_slots(first, (service, last_slot, TaskId::from_random(u128::MAX)))
    }

    /// The tasks of one slot of a service, by id; history included.
    pub fn tasks_in(&self, service: ServiceId, slot: Slot) -> impl Iterator<Item = &Arc<Task>> {
        let last = (service, slot, TaskId::from_random(u128::MAX));
        self.in_slots((service, slot, TaskId::from_random(0)), last)
    }

    fn in_slots(
        &self,
        first: (ServiceId, Slot, TaskId),
        last: (ServiceId, Slot, TaskId),
    ) -> impl Iterator<Item = &Arc<Task>> {
        let places = self.index.by_slot.range(first..=last);
        places.filter_map(|(_, _, task)| self.tasks.get(task))
    }

    /// The tasks on a node, by id; history included.
    pub fn tasks_on(&self, node: NodeId) -> impl Iterator<Item = &Arc<Task>> {
        let range = (node, TaskId::from_random(0))..=(node, TaskId::from_random(u128::MAX));
        self.index.by_node.range(range).filter_map(|(_, task)| self.tasks.get(task))
    }

    /// What the tasks on a node that have not ended reserve of it.
    pub fn reserved_on(&self, node: NodeId) -> Resources {
        self.index.reserved.get(&node).copied().unwrap_or_default()
    }

    /// The image that a name means, as people write it or in full: the one of its digest, or else
    /// of those with the name, the one that was named last.
    pub fn image_by_name(&self, name: &str) -> Option<&Image> {
        let name: ImageName = name.parse().ok()?;
        if let Some(digest) = name.digest() {
            return self.images.get(&digest).map(Arc::as_ref);
        }
        let name = name.full();
        let named = self.images.values().filter(|image| image.names.contains(&name));
        named.max_by_key(|image| (image.named_at, image.digest)).map(Arc::as_ref)
    }

    /// The image that a specification means.
    pub fn image(&self, reference: &ImageReference) -> Option<&Image> {
        match reference.digest {
            Some(digest) => self.images.get(&digest).map(Arc::as_ref),
            None => self.image_by_name(&reference.name),
        }
    }

    /// Puts a task in, or in place of the one with its id.
    pub(crate) fn put_task(&mut self, task: Task) {
        self.take_task(task.id);
        self.index.enter(&task);
        self.tasks.insert(task.id, Arc::new(task));
    }

    /// Takes a task out.
    pub(crate) fn take_task(&mut self, id: TaskId) -> Option<Arc<Task>> {
        let task = self.tasks.remove(&id)?;
        self.index.leave(&task);
        Some(task)
    }

    /// Puts a service in, or in place of the one with its id.
    pub(crate) fn put_service(&mut self, service: Service) {
        self.take_service(service.id);
        self.index.by_name.insert(service.spec.name.clone(), service.id);
        self.services.insert(service.id, Arc::new(service));
    }

    /// Takes a service out.
    pub(crate) fn take_service(&mut self, id: ServiceId) -> Option<Arc<Service>> {
        let service = self.services.remove(&id)?;
        self.index.by_name.remove(&service.spec.name);
        Some(service)
    }
}

impl Index {
    fn enter(&mut self, task: &Task) {
        self.by_slot.insert((task.service, task.slot, task.id));
        let Some(node) = task.node else { return };
        self.by_node.insert((node, task.id));
        let resources = &task.spec.resources;
        let is_reserving =
            resources.reserved_nano_cpus != 0 || resources.reserved_memory_bytes != 0;
        if is_reserving && !task.status.state.is_terminal() {
            let reserved = self.reserved.entry(node).or_default();
            reserved.nano_cpus = reserved.nano_cpus.saturating_add(resources.reserved_nano_cpus);
            reserved.memory_bytes =
                reserved.memory_bytes.saturating_add(resources.reserved_memory_bytes);
        }
    }

    fn leave(&mut self, task: &Task) {
        self.by_slot.remove(&(task.service, task.slot, task.id));
        let Some(node) = task.node else { return };
        self.by_node.remove(&(node, task.id));
        if !task.status.state.is_terminal()
            && let Some(reserved) = self.reserved.get_mut(&node)
        {
            let resources = &task.spec.resources;
            reserved.nano_cpus = reserved.nano_cpus.saturating_sub(resources.reserved_nano_cpus);
            reserved.memory_bytes =
                reserved.memory_bytes.saturating_sub(resources.reserved_memory_bytes);
            if *reserved == Resources::default() {
                self.reserved.remove(&node);
            }
        }
    }
}
