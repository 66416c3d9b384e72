//! Replicated services: so many slots, numbered from 1, wherever they fit.

use std::collections::{BTreeMap, BTreeSet};

use bramble_cluster::{DesiredState, NodeId, Restarts, Service, Slot, Task, TaskCause, TaskState};

use super::{is_vacant, request, slot};
use crate::{
    draft::Draft,
    scheduler::rank,
    view::{Group, View},
};

/// Sees to the slots of a replicated service.
pub(super) fn tend<'a>(
    view: &View<'a>,
    service: &'a Service,
    group: &Group<'a>,
    replicas: u32,
    draft: &mut Draft<'a>,
) {
    // A slot that was scaled away has nothing but tasks that should be forgotten.
    let mut slots: Vec<&[&Task]> = group.slots().filter(|tasks| is_kept(tasks)).collect();
    let wanted = usize::try_from(replicas).unwrap_or(usize::MAX);
    if slots.len() > wanted {
        for victim in surplus(view, service, &mut slots, wanted) {
            victim.iter().for_each(|task| draft.discard(task));
        }
    }
    for tasks in &slots {
        slot::tend(view, service, tasks, draft);
    }
    let missing = wanted.saturating_sub(slots.len());
    if missing == 0 {
        return;
    }
    let used: BTreeSet<Slot> = slots.iter().filter_map(|tasks| Some(tasks.first()?.slot)).collect();
    let leftovers: BTreeMap<Slot, &[&Task]> =
        group.slots().filter_map(|tasks| Some((tasks.first()?.slot, tasks))).collect();
    let free = (1..).map(Slot::Replica).filter(|slot| !used.contains(slot));
    for slot in free.take(missing) {
        let is_free = leftovers.get(&slot).is_none_or(|tasks| is_vacant(view, tasks, draft));
        if is_free {
            request(service, slot, TaskCause::Created, Restarts::default(), draft);
        }
    }
}

/// Whether a slot exists: any of its tasks is meant to be more than forgotten.
pub(super) fn is_kept(tasks: &[&Task]) -> bool {
    tasks.iter().any(|task| task.desired != DesiredState::Remove)
}

/// Takes the slots that go when the service is scaled down out of `slots`: first those that do not
/// run, then always one from where most of them are, the highest number first.
fn surplus<'t, 'a>(
    view: &View<'a>,
    service: &Service,
    slots: &mut Vec<&'t [&'a Task]>,
    wanted: usize,
) -> Vec<&'t [&'a Task]> {
    let mut victims = Vec::new();
    // The last of `slots` goes first.
    slots.sort_by_key(|tasks| (!is_running(tasks), tasks.first().map(|task| task.slot)));
    while slots.len() > wanted && slots.last().is_some_and(|tasks| !is_running(tasks)) {
        victims.extend(slots.pop());
    }
    if wanted == 0 {
        victims.append(slots);
        return victims;
    }
    let mut by_node: BTreeMap<Option<NodeId>, Vec<&[&Task]>> = BTreeMap::new();
    for tasks in slots.drain(..) {
        by_node.entry(claim_of(tasks).and_then(|task| task.node)).or_default().push(tasks);
    }
    let mut left: usize = by_node.values().map(Vec::len).sum();
    while left > wanted {
        let mut counts = vec![0; view.boards.len()];
        for (node, tasks) in &by_node {
            if let Some(index) = node.and_then(|node| crate::view::index_of(&view.boards, node)) {
                counts[index] = u32::try_from(tasks.len()).unwrap_or(u32::MAX);
            }
        }
        let spread = rank::spread(&view.boards, &service.spec.task.placement, &counts);
        let fullest =
            by_node.iter().filter(|(_, tasks)| !tasks.is_empty()).max_by_key(|(node, tasks)| {
                let index = node.and_then(|node| crate::view::index_of(&view.boards, node));
                let groups = index.map(|index| spread.groups(index));
                let total = index.map(|index| view.boards[index].tasks);
                (groups, tasks.len(), total, tasks.last().map(|tasks| tasks[0].slot))
            });
        let Some(node) = fullest.map(|(node, _)| *node) else { break };
        victims.extend(by_node.get_mut(&node).and_then(Vec::pop));
        left -= 1;
    }
    slots.extend(by_node.into_values().flatten());
    slots.sort_by_key(|tasks| tasks.first().map(|task| task.slot));
    victims
}

fn claim_of<'a>(tasks: &[&'a Task]) -> Option<&'a Task> {
    tasks.iter().rev().find(|task| task.desired == DesiredState::Running).copied()
}

fn is_running(tasks: &[&Task]) -> bool {
    claim_of(tasks).is_some_and(|task| task.status.state == TaskState::Running)
}
