use proptest::prelude::{
    Just, Strategy, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use crate::{
    Applied, ClusterSpec, ClusterState, Command, DesiredState, Entry, JoinSecrets, Kind, NodeSpec,
    NodeState, Rejection, Role, ServiceMode, TaskReport, TaskState, TaskStatus, Version, limits,
    sample::{
        MIB, admission, apply, apply_one, at, cluster, founded, image, new_task, node_id,
        service_id, spec, task_id,
    },
    snapshot,
};

fn status(state: u8, since: u64) -> TaskStatus {
    use TaskState::{
        Assigned, Complete, Failed, New, Orphaned, Pending, Preparing, Rejected, Running, Shutdown,
        Starting,
    };
    const STATES: [TaskState; 11] = [
        New, Pending, Assigned, Preparing, Starting, Running, Complete, Shutdown, Failed, Rejected,
        Orphaned,
    ];
    let state = STATES[usize::from(state) % STATES.len()];
    TaskStatus { state, since: at(since), ..TaskStatus::default() }
}

/// Commands about few objects, so that they meet.
fn command() -> impl Strategy<Value = Command> {
    prop_oneof![node_command(), service_command(), task_command(), report_command()]
}

const NODES: std::ops::Range<u128> = 1..5;
const SERVICES: std::ops::Range<u128> = 7..10;
const TASKS: std::ops::Range<u128> = 1..12;

fn node_command() -> impl Strategy<Value = Command> {
    let node = || NODES;
    prop_oneof![
        node().prop_map(|id| Command::AdmitNode(Box::new(admission(id)))),
        (node(), any::<bool>())
            .prop_map(|(id, is_forced)| Command::RemoveNode { id: node_id(id), is_forced }),
        (node(), 0u64..6, any::<bool>()).prop_map(|(id, version, is_down)| Command::SetNodeState {
            id: node_id(id),
            version: Version(version),
            state: if is_down { NodeState::Down } else { NodeState::Ready },
            message: String::new(),
        }),
        (node(), any::<bool>()).prop_map(|(id, is_manager)| Command::SetNodeRole {
            id: node_id(id),
            role: if is_manager { Role::Manager } else { Role::Worker },
        }),
        (node(), 0u64..6).prop_map(|(id, version)| Command::UpdateNode {
            id: node_id(id),
            version: Version(version),
            spec: NodeSpec::default(),
        }),
    ]
}

fn service_command() -> impl Strategy<Value = Command> {
    let service = || SERVICES;
    prop_oneof![
        (service(), 0u64..900, any::<bool>()).prop_map(|(id, memory, is_global)| {
            let mut spec = spec(&format!("s{}", id % 2));
            std::sync::Arc::make_mut(&mut spec.task).resources.reserved_memory_bytes = memory * MIB;
            if is_global {
                spec.mode = ServiceMode::Global;
            }
            Command::CreateService { id: service_id(id), spec: Box::new(spec) }
        }),
        (service(), 0u64..6, 0u64..4).prop_map(|(id, version, force)| {
            let mut spec = spec(&format!("s{}", id % 2));
            std::sync::Arc::make_mut(&mut spec.task).force_update = force;
            Command::UpdateService {
                id: service_id(id),
                version: Version(version),
                spec: Box::new(spec),
            }
        }),
        service().prop_map(|id| Command::RollbackService {
            id: service_id(id),
            version: Version(0),
            message: String::new(),
        }),
        service().prop_map(|id| Command::RemoveService { id: service_id(id) }),
    ]
}

fn task_command() -> impl Strategy<Value = Command> {
    let (node, service, task) = (|| NODES, || SERVICES, || TASKS);
    prop_oneof![
        (task(), service(), 0u32..4, prop::option::of(node()))
            .prop_map(|(id, service, slot, node)| new_task(id, service, slot, node)),
        (task(), 0u64..6, node()).prop_map(|(id, version, node)| Command::AssignTask {
            id: task_id(id),
            version: Version(version),
            node: node_id(node),
        }),
        (task(), 0u64..6, "[a-z]{0,4}").prop_map(|(id, version, error)| Command::ExplainTask {
            id: task_id(id),
            version: Version(version),
            error,
        }),
        (task(), 0u8..3).prop_map(|(id, desired)| Command::SetDesiredState {
            id: task_id(id),
            desired: match desired {
                0 => DesiredState::Running,
                1 => DesiredState::Shutdown,
                _ => DesiredState::Remove,
            },
        }),
        task().prop_map(|id| Command::RemoveTask { id: task_id(id) }),
        task().prop_map(|id| Command::OrphanTask { id: task_id(id), message: String::new() }),
    ]
}

fn report_command() -> impl Strategy<Value = Command> {
    let (node, task) = (|| NODES, || TASKS);
    prop_oneof![
        (node(), prop::collection::vec((task(), any::<u8>(), any::<u64>()), 0..4)).prop_map(
            |(node, reports)| Command::ReportTasks {
                node: node_id(node),
                reports: reports
                    .into_iter()
                    .map(|(id, state, since)| TaskReport {
                        id: task_id(id),
                        status: status(state, since),
                    })
                    .collect(),
            }
        ),
        (node(), prop::collection::vec((1u8..4, "[ab]", 0u64..9), 0..3)).prop_map(
            |(node, images)| Command::ReportImages {
                node: node_id(node),
                images: images
                    .iter()
                    .map(|(byte, name, named_at)| image(*byte, name, *named_at))
                    .collect(),
            }
        ),
        Just(Command::RotateJoinSecrets {
            secrets: JoinSecrets { worker: [1; 16], manager: [2; 16] }
        }),
    ]
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (0u64..100_000, prop::collection::vec(command(), 0..6))
        .prop_map(|(millis, commands)| Entry { at: at(millis), commands });
    prop::collection::vec(entry, 0..40)
}

proptest! {
    #[test]
    fn the_same_entries_make_the_same_bytes_and_snapshots_change_nothing(
        entries in entries(),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut one = founded();
        let mut other = founded();
        let cut = cut.index(entries.len() + 1);
        for (index, entry) in entries.iter().enumerate() {
            if index == cut {
                other = snapshot::decode(&snapshot::encode(&other)).unwrap();
            }
            prop_assert_eq!(one.apply(entry), other.apply(entry));
        }
        prop_assert_eq!(snapshot::encode(&one), snapshot::encode(&other));
        prop_assert_eq!(&one.index, &other.index);
    }

    #[test]
    fn whatever_is_applied_states_go_forward_and_boards_are_not_over_full(entries in entries()) {
        let mut state = founded();
        for entry in &entries {
            let before = state.clone();
            state.apply(entry);
            for (id, task) in state.tasks() {
                if let Some(old) = before.task(*id).filter(|old| old.created == task.created) {
                    prop_assert!(task.status.state >= old.status.state);
                    prop_assert!(task.desired >= old.desired);
                    prop_assert!(old.node.is_none() || old.node == task.node);
                    prop_assert!(!old.status.state.is_terminal() || old.status == task.status);
                }
                prop_assert!(task.status.since <= entry.at || before.tasks().contains_key(id));
            }
            for node in state.nodes().values() {
                let reserved = state.reserved_on(node.id);
                prop_assert!(reserved.memory_bytes <= node.description.resources.memory_bytes);
            }
        }
    }
}

#[test]
fn a_cluster_is_founded_once() {
    let mut state = founded();
    let founded = state.cluster().unwrap();
    assert_eq!((founded.founder, founded.created_at), (node_id(1), at(1_000)));
    assert_eq!(state.node(node_id(1)).unwrap().role, Role::Manager);
    let again = Command::Found { cluster: Box::new(cluster()), node: Box::new(admission(9)) };
    assert_eq!(apply_one(&mut state, 2_000, again), Err(Rejection::AlreadyFounded));
    assert!(state.node(node_id(9)).is_none());
}

#[test]
fn every_entry_counts_even_an_empty_or_rejected_one() {
    let mut state = founded();
    assert_eq!(state.version(), Version(1));
    apply(&mut state, 1_000, vec![]);
    apply(&mut state, 1_000, vec![Command::RemoveTask { id: task_id(1) }]);
    assert_eq!(state.version(), Version(3));
}

#[test]
fn a_rejected_command_does_not_undo_the_others() {
    let mut state = founded();
    let outcomes = apply(
        &mut state,
        2_000,
        vec![new_task(1, 7, 1, None), new_task(1, 7, 2, None), new_task(2, 7, 2, None)],
    );
    let exists = Rejection::Exists { kind: Kind::Task, id: task_id(1).to_string() };
    assert_eq!(outcomes, [Ok(Applied::Done), Err(exists), Ok(Applied::Done)]);
}

#[test]
fn an_entry_holds_only_so_many_commands() {
    let mut state = founded();
    let commands = vec![Command::RemoveTask { id: task_id(1) }; limits::COMMANDS + 1];
    let outcomes = apply(&mut state, 1_000, commands);
    assert!(matches!(outcomes[limits::COMMANDS - 1], Err(Rejection::NotFound { .. })));
    assert!(matches!(outcomes[limits::COMMANDS], Err(Rejection::OverLimit { .. })));
}

#[test]
fn the_clusters_settings_change_by_version_and_within_limits() {
    let mut state = founded();
    let update = |version, limit| Command::UpdateCluster {
        version: Version(version),
        spec: ClusterSpec { task_history_limit: limit },
    };
    assert!(matches!(apply_one(&mut state, 1, update(9, 1)), Err(Rejection::Stale { .. })));
    let over = apply_one(&mut state, 1, update(1, limits::TASK_HISTORY + 1));
    assert!(matches!(over, Err(Rejection::OverLimit { .. })));
    assert_eq!(apply_one(&mut state, 1, update(1, 7)), Ok(Applied::Done));
    assert_eq!(apply_one(&mut state, 1, update(0, 7)), Ok(Applied::Unchanged));
    let secrets = JoinSecrets { worker: [7; 16], manager: [8; 16] };
    let rotate = Command::RotateJoinSecrets { secrets: secrets.clone() };
    assert_eq!(apply_one(&mut state, 1, rotate), Ok(Applied::Done));
    assert_eq!(state.cluster().unwrap().join_secrets, secrets);
}

#[test]
fn a_state_without_a_cluster_has_no_settings_to_change() {
    let mut state = ClusterState::default();
    let update = Command::UpdateCluster { version: Version(0), spec: ClusterSpec::default() };
    let error = apply_one(&mut state, 1, update).unwrap_err();
    assert_eq!(error.to_string(), "cluster (none founded) not found");
}
