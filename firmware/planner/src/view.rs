//! The state as a plan looks at it: boards with what they have left, tasks by service and slot.

use std::collections::{BTreeMap, BTreeSet};

use bramble_cluster::{
    Availability, ClusterState, DesiredState, Node, NodeId, NodeState, OnPartition, PortProtocol,
    PublishMode, ResourceLimits, Resources, Service, ServiceId, Slot, Task, Timestamp,
};

use crate::{cluster::Heard, draft::Draft, timing::DOWN_AFTER};

/// What a plan is made from.
#[derive(Debug)]
pub(crate) struct View<'a> {
    pub(crate) state: &'a ClusterState,
    pub(crate) heard: &'a Heard,
    pub(crate) now: Timestamp,
    /// By node id.
    pub(crate) boards: Vec<Board<'a>>,
    /// By service id.
    pub(crate) groups: Vec<Group<'a>>,
}

/// A node, and what of it is left.
#[derive(Debug)]
pub(crate) struct Board<'a> {
    pub(crate) node: &'a Node,
    /// The verdict of this plan, which the state may not know yet.
    pub(crate) state: NodeState,
    pub(crate) is_leaving: bool,
    /// What its tasks that have not ended reserve.
    pub(crate) used: Resources,
    /// How many tasks should run on it.
    pub(crate) tasks: u32,
    /// The host ports that its tasks have.
    pub(crate) ports: BTreeSet<(u16, PortProtocol)>,
}

/// The tasks of a service, by slot, oldest first.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    /// `None`: it was removed, its tasks are still there.
    pub(crate) service: Option<&'a Service>,
    pub(crate) tasks: Vec<&'a Task>,
}

impl<'a> View<'a> {
    pub(crate) fn new(
        state: &'a ClusterState,
        heard: &'a Heard,
        verdicts: &BTreeMap<NodeId, NodeState>,
        now: Timestamp,
    ) -> Self {
        let board = |node: &'a Node| Board {
            node,
            state: verdicts.get(&node.id).copied().unwrap_or(node.status.state),
            is_leaving: heard.contacts.get(&node.id).is_some_and(|contact| contact.is_leaving),
            used: state.reserved_on(node.id),
            tasks: 0,
            ports: BTreeSet::new(),
        };
        let mut view = Self {
            state,
            heard,
            now,
            boards: state.nodes().values().map(|node| board(node)).collect(),
            groups: groups(state),
        };
        view.count();
        view
    }

    /// Counts what the tasks use of their boards.
    fn count(&mut self) {
        for group in &self.groups {
            for task in group.tasks.iter().filter(|task| !task.status.state.is_terminal()) {
                let index = task.node.and_then(|node| index_of(&self.boards, node));
                let Some(board) = index.and_then(|index| self.boards.get_mut(index)) else {
                    continue;
                };
                board.tasks += u32::from(task.desired == DesiredState::Running);
                board.ports.extend(group.service.into_iter().flat_map(host_ports));
            }
        }
    }

    /// The board of a node.
    pub(crate) fn board(&self, node: NodeId) -> Option<&Board<'a>> {
        self.boards.get(index_of(&self.boards, node)?)
    }

    /// The board that a task has, if any.
    pub(crate) fn board_of(&self, task: &Task) -> Option<&Board<'a>> {
        self.board(task.node?)
    }

    /// Whether a task runs nowhere the leader could know of, so that another may take its place.
    ///
    /// What must not run twice waits for more than the verdict of this plan:
    /// - until the log says that the board is down. From then on [`crate::assignment()`] withholds such
    ///   tasks from it until it is ready again, so that none starts there that this plan replaces;
    /// - until [`DOWN_AFTER`] has passed since the election. A board without the quorum needs that long
    ///   to stop, and until the election another leader may have confirmed it, even one that said
    ///   before that it is down.
    pub(crate) fn is_lost(&self, task: &Task, draft: &mut Draft<'_>) -> bool {
        let Some(node) = task.node else { return false };
        let Some(board) = self.board(node) else { return true };
        if board.state != NodeState::Down {
            return false;
        }
        if task.spec.on_partition != OnPartition::Stop {
            return true;
        }
        let is_agreed = board.node.status.state == NodeState::Down;
        is_agreed && draft.is_due(self.heard.leading_since + DOWN_AFTER)
    }
}

impl Board<'_> {
    /// Whether it may be given tasks, its fitness for them aside.
    pub(crate) fn is_open(&self) -> bool {
        self.state == NodeState::Ready
            && !self.is_leaving
            && self.node.spec.availability == Availability::Active
    }

    /// Its name for people.
    pub(crate) fn name(&self) -> &str {
        &self.node.description.hostname
    }

    /// What no task reserved yet.
    pub(crate) fn free(&self) -> Resources {
        let has = self.node.description.resources;
        Resources {
            nano_cpus: has.nano_cpus.saturating_sub(self.used.nano_cpus),
            memory_bytes: has.memory_bytes.saturating_sub(self.used.memory_bytes),
        }
    }

    /// Gives it one more task.
    pub(crate) fn take(&mut self, service: &Service, needs: &ResourceLimits) {
        let used = &mut self.used;
        used.nano_cpus = used.nano_cpus.saturating_add(needs.reserved_nano_cpus);
        used.memory_bytes = used.memory_bytes.saturating_add(needs.reserved_memory_bytes);
        self.tasks += 1;
        self.ports.extend(host_ports(service));
    }
}

impl<'a> Group<'a> {
    /// The tasks of each slot, oldest first.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &[&'a Task]> {
        self.tasks.chunk_by(|one, other| one.slot == other.slot)
    }
}

/// The place of a node's board.
pub(crate) fn index_of(boards: &[Board<'_>], node: NodeId) -> Option<usize> {
    boards.binary_search_by_key(&node, |board| board.node.id).ok()
}

/// The ports that a task of the service takes on its board.
pub(crate) fn host_ports(service: &Service) -> impl Iterator<Item = (u16, PortProtocol)> {
    let ports = service.spec.endpoint.ports.iter();
    ports
        .filter(|port| port.mode == PublishMode::Host && port.published != 0)
        .map(|port| (port.published, port.protocol))
}

/// A slot's name for people: `web.3`, or `web on pi-2`.
pub(crate) fn slot_name(view: &View<'_>, service_name: &str, slot: Slot) -> String {
    match slot {
        Slot::Replica(number) => format!("{service_name}.{number}"),
        Slot::Node(node) => match view.board(node) {
            Some(board) => format!("{service_name} on {}", board.name()),
            None => format!("{service_name} on {node}"),
        },
    }
}

fn groups(state: &ClusterState) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<ServiceId, Group<'_>> = state
        .services()
        .values()
        .map(|service| (service.id, Group { service: Some(service), tasks: Vec::new() }))
        .collect();
    for task in state.tasks().values() {
        let group = groups
            .entry(task.service)
            .or_insert_with(|| Group { service: None, tasks: Vec::new() });
        group.tasks.push(task);
    }
    for group in groups.values_mut() {
        group.tasks.sort_unstable_by_key(|task| (task.slot, task.created, task.id));
    }
    groups.into_values().collect()
}

#[cfg(test)]
mod tests;
