//! **A healed cluster converges.** Once nothing goes wrong any more it comes to rest, and then
//! - every board is Ready, the right number of them votes, and their roles say so;
//! - every slot has what its service wants: a task that runs, or one that has ended and is not to be
//!   replaced, or one that waits, says why, and in fact fits nowhere;
//! - the boards run exactly what the state says that they run, and nothing is left of other tasks.

use std::collections::BTreeMap;

use bramble_cluster::{
    Availability, ClusterState, DesiredState, Node, NodeState, RestartCondition, Role, Service,
    ServiceMode, Slot, Task, TaskState, UpdateState,
};

use super::{Verdict, broken, meets};
use crate::simulation::{
    board::{Board, Process},
    world::{World, newest},
};

const NAME: &str = "healed_cluster_converges";

pub(in super::super) fn check(world: &World) -> Verdict {
    if world.leader().is_none() {
        return broken(NAME, "nobody leads".to_owned());
    }
    let state = newest(&world.boards);
    check_nodes(world, state)?;
    for service in state.services().values() {
        check_service(state, service)?;
    }
    for (place, board) in world.boards.iter().enumerate() {
        check_board(state, board).map_err(|breach| super::Breach {
            text: format!("board {place}: {}", breach.text),
            ..breach
        })?;
    }
    let is_over = |task: &&std::sync::Arc<Task>| state.service(task.service).is_none();
    if let Some(task) = state.tasks().values().find(is_over) {
        return broken(NAME, format!("{} outlives its service: {task:?}", task.id));
    }
    Ok(())
}

/// The run did not come to rest.
pub(in super::super) fn restless(minutes: u64) -> Verdict {
    broken(NAME, format!("the state still changes {minutes} minutes after everything was good"))
}

fn check_nodes(world: &World, state: &ClusterState) -> Verdict {
    for board in &world.boards {
        let node = state.node(board.id);
        if node.is_none_or(|node| node.status.state != NodeState::Ready) {
            return broken(NAME, format!("{:?} is not ready: {node:?}", board.id));
        }
    }
    if state.nodes().len() != world.boards.len() {
        let (nodes, boards) = (state.nodes().len(), world.boards.len());
        return broken(NAME, format!("there are {nodes} nodes and {boards} boards"));
    }
    let wanted = match world.boards.len() {
        0..=2 => 1,
        3..=6 => 3,
        _ => 5,
    };
    let voters = &world.consensus.voters;
    if voters.len() != wanted {
        return broken(NAME, format!("{} vote, {wanted} should", voters.len()));
    }
    for node in state.nodes().values() {
        if (node.role == Role::Manager) != voters.contains(&node.id) {
            return broken(
                NAME,
                format!("{} is {:?} and the voters are {voters:?}", node.id, node.role),
            );
        }
    }
    Ok(())
}

fn check_service(state: &ClusterState, service: &Service) -> Verdict {
    let mut claims: BTreeMap<Slot, Vec<&Task>> = BTreeMap::new();
    for task in state.tasks_of(service.id) {
        if task.desired == DesiredState::Running {
            claims.entry(task.slot).or_default().push(task);
        }
    }
    let name = &service.spec.name;
    if let ServiceMode::Replicated { replicas } = service.spec.mode
        && claims.len() != replicas as usize
    {
        let slots: Vec<_> = claims.keys().collect();
        return broken(NAME, format!("{name} wants {replicas} replicas and has {slots:?}"));
    }
    if service.spec.mode == ServiceMode::Global {
        for node in state.nodes().values() {
            let is_wanted = node.spec.availability == Availability::Active
                && meets(node, &service.spec.task.placement);
            if is_wanted && !claims.contains_key(&Slot::Node(node.id)) {
                return broken(NAME, format!("{name} is missing on {}", node.id));
            }
        }
    }
    let state_of_update = service.update_status.as_ref().map(|status| status.state);
    let is_rolling =
        matches!(state_of_update, Some(UpdateState::Updating | UpdateState::RollbackStarted));
    let mut waiting = 0;
    for (slot, tasks) in &claims {
        for task in tasks {
            waiting += usize::from(task.status.state <= TaskState::Pending);
            check_claim(state, service, task)?;
        }
        let running = tasks.iter().filter(|task| task.status.state == TaskState::Running).count();
        if tasks.len() > 1 && (running > 1 || tasks.len() > 2) {
            return broken(NAME, format!("{name} {slot:?} is filled more than once: {tasks:?}"));
        }
    }
    if is_rolling && waiting == 0 {
        return broken(NAME, format!("{name} is still {state_of_update:?} at rest: {service:?}"));
    }
    Ok(())
}

/// A task that should run does, or there is a reason why not.
fn check_claim(state: &ClusterState, service: &Service, task: &Task) -> Verdict {
    let policy = &task.spec.restart;
    let is_used_up = policy.max_attempts != 0 && task.restarts.in_window >= policy.max_attempts;
    let is_done = match task.status.state {
        TaskState::Running => true,
        TaskState::Complete => is_used_up || policy.condition != RestartCondition::Any,
        TaskState::Failed | TaskState::Rejected => {
            is_used_up || policy.condition == RestartCondition::None
        }
        TaskState::Shutdown => is_used_up,
        TaskState::Pending => {
            let fit = state.nodes().values().find(|node| fits(state, service, task, node));
            if let Some(node) = fit {
                let text = format!("{} waits though {} would do: {task:?}", task.id, node.id);
                return broken(NAME, text);
            }
            !task.status.error.is_empty()
        }
        _ => false,
    };
    if is_done {
        return Ok(());
    }
    broken(NAME, format!("a task of {} should run: {task:?}", service.spec.name))
}

/// A second opinion on the scheduler's filters.
fn fits(state: &ClusterState, service: &Service, task: &Task, node: &Node) -> bool {
    if let Slot::Node(slot) = task.slot
        && slot != node.id
    {
        return false;
    }
    let reserved = state.reserved_on(node.id);
    let needs = &task.spec.resources;
    let has = node.description.resources;
    let alive = state
        .tasks_on(node.id)
        .filter(|other| other.service == service.id && !other.status.state.is_terminal());
    let most = task.spec.placement.max_replicas_per_node as usize;
    node.status.state == NodeState::Ready
        && node.spec.availability == Availability::Active
        && meets(node, &service.spec.task.placement)
        && reserved.memory_bytes + needs.reserved_memory_bytes <= has.memory_bytes
        && reserved.nano_cpus + needs.reserved_nano_cpus <= has.nano_cpus
        && (most == 0 || alive.count() < most)
}

fn check_board(state: &ClusterState, board: &Board) -> Verdict {
    for (id, container) in &board.containers {
        let Some(task) = state.task(*id).filter(|task| task.node == Some(board.id)) else {
            return broken(NAME, format!("a container of {id} is left: {container:?}"));
        };
        let is_live = matches!(container.process, Process::Live { .. });
        let should_live =
            task.desired == DesiredState::Running && task.status.state == TaskState::Running;
        if is_live != should_live {
            return broken(NAME, format!("{:?} for {task:?}", container.process));
        }
    }
    for task in state.tasks_on(board.id).filter(|task| !task.status.state.is_terminal()) {
        if !board.is_live(task.id) {
            return broken(NAME, format!("nothing runs for {task:?}"));
        }
    }
    Ok(())
}
