use crate::{
    Applied, ClusterState, Command, Digest, NodeDescription, NodeSpec, NodeState, Outcome,
    Rejection, Role, TaskState, Version, limits,
    sample::{admission, apply_one, at, founded, image, new_task, node_id, task_id},
};

fn set_state(state: &mut ClusterState, number: u128, verdict: NodeState) -> Outcome {
    let command = Command::SetNodeState {
        id: node_id(number),
        version: Version(0),
        state: verdict,
        message: "because".to_owned(),
    };
    apply_one(state, 5_000, command)
}

fn remove(state: &mut ClusterState, number: u128, is_forced: bool) -> Outcome {
    apply_one(state, 6_000, Command::RemoveNode { id: node_id(number), is_forced })
}

#[test]
fn a_member_that_is_let_in_again_is_only_described_anew() {
    let mut state = founded();
    let mut again = admission(2);
    again.spec.role = Some(Role::Manager);
    "renamed".clone_into(&mut again.description.hostname);
    let admit = |admission| Command::AdmitNode(Box::new(admission));
    assert_eq!(apply_one(&mut state, 2_000, admit(again.clone())), Ok(Applied::Done));
    let node = state.node(node_id(2)).unwrap();
    assert_eq!(node.description.hostname, "renamed");
    assert_eq!(node.spec.role, None, "what people want is not the board's to say");
    assert_eq!(node.created_at, at(1_000));
    assert_eq!(apply_one(&mut state, 2_000, admit(again)), Ok(Applied::Unchanged));
}

#[test]
fn two_boards_with_the_same_identity_are_told_apart_by_their_keys() {
    let mut state = founded();
    let mut impostor = admission(2);
    impostor.key = Digest::from_bytes([99; 32]);
    let error = apply_one(&mut state, 2_000, Command::AdmitNode(Box::new(impostor))).unwrap_err();
    assert!(error.to_string().ends_with("two boards were given the same identity"), "{error}");
}

#[test]
fn a_cluster_has_only_so_many_nodes() {
    let mut state = founded();
    for number in 3..=limits::NODES as u128 {
        let admit = Command::AdmitNode(Box::new(admission(number)));
        assert_eq!(apply_one(&mut state, 2_000, admit), Ok(Applied::Done));
    }
    let error =
        apply_one(&mut state, 2_000, Command::AdmitNode(Box::new(admission(999)))).unwrap_err();
    assert_eq!(error.to_string(), "too many or too large: nodes, the limit is 256");
}

#[test]
fn a_change_made_for_an_older_version_is_refused() {
    let mut state = founded();
    let update = |version| Command::UpdateNode {
        id: node_id(2),
        version: Version(version),
        spec: NodeSpec { role: Some(Role::Worker), ..NodeSpec::default() },
    };
    assert_eq!(apply_one(&mut state, 2_000, update(1)), Ok(Applied::Done));
    let error = apply_one(&mut state, 2_000, update(1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("update out of sequence: node {} is at version 2, not 1", node_id(2))
    );
}

#[test]
fn a_verdict_has_a_time_and_a_reason() {
    let mut state = founded();
    assert_eq!(set_state(&mut state, 2, NodeState::Down), Ok(Applied::Done));
    let status = &state.node(node_id(2)).unwrap().status;
    assert_eq!((status.since, status.message.as_str()), (at(5_000), "because"));
    assert_eq!(set_state(&mut state, 2, NodeState::Down), Ok(Applied::Unchanged));
}

#[test]
fn a_node_that_is_there_is_only_removed_by_force() {
    let mut state = founded();
    set_state(&mut state, 2, NodeState::Ready).unwrap();
    let error = remove(&mut state, 2, false).unwrap_err();
    assert!(error.to_string().starts_with("node pi-2 ("), "{error}");
    assert!(error.to_string().ends_with("is not down and can't be removed without force"));
    assert_eq!(remove(&mut state, 2, true), Ok(Applied::Done));
}

#[test]
fn a_removed_node_is_gone_for_good_with_its_tasks_and_images() {
    let mut state = founded();
    apply_one(&mut state, 2_000, new_task(1, 7, 1, Some(2))).unwrap();
    let images = vec![image(1, "web", 1)];
    apply_one(&mut state, 2_000, Command::ReportImages { node: node_id(2), images }).unwrap();
    set_state(&mut state, 2, NodeState::Down).unwrap();
    remove(&mut state, 2, false).unwrap();
    assert!(state.node(node_id(2)).is_none() && state.images().is_empty());
    assert_eq!(state.task(task_id(1)).unwrap().status.state, TaskState::Orphaned);
    assert_eq!(state.removed_nodes().get(&node_id(2)), Some(&at(6_000)));
    for command in [
        Command::AdmitNode(Box::new(admission(2))),
        Command::DescribeNode { id: node_id(2), description: NodeDescription::default() },
        Command::ReportTasks { node: node_id(2), reports: vec![] },
    ] {
        let error = apply_one(&mut state, 7_000, command).unwrap_err();
        assert_eq!(error, Rejection::NodeRemoved { id: node_id(2) });
    }
}

#[test]
fn removed_nodes_are_remembered_up_to_a_limit_the_latest_ones() {
    let mut state = founded();
    for number in 10..10 + limits::REMOVED_NODES as u128 + 5 {
        apply_one(&mut state, 2_000, Command::AdmitNode(Box::new(admission(number)))).unwrap();
        let command = Command::RemoveNode { id: node_id(number), is_forced: true };
        apply_one(&mut state, u64::try_from(number).unwrap(), command).unwrap();
    }
    assert_eq!(state.removed_nodes().len(), limits::REMOVED_NODES);
    assert!(!state.removed_nodes().contains_key(&node_id(14)));
    assert!(state.removed_nodes().contains_key(&node_id(15)));
}

#[test]
fn a_manager_is_not_removed_if_the_quorum_goes_with_it() {
    let mut state = founded();
    apply_one(&mut state, 2_000, Command::AdmitNode(Box::new(admission(3)))).unwrap();
    let error = remove(&mut state, 1, true).unwrap_err();
    assert_eq!(
        error.to_string(),
        "removing manager pi-1 would lose the quorum: 0 of 1 managers would be left"
    );
    for number in [2, 3] {
        let id = node_id(number);
        apply_one(&mut state, 2_000, Command::SetNodeRole { id, role: Role::Manager }).unwrap();
    }
    set_state(&mut state, 3, NodeState::Down).unwrap();
    assert!(matches!(remove(&mut state, 2, true), Err(Rejection::WouldLoseQuorum { .. })));
    assert_eq!(remove(&mut state, 3, false), Ok(Applied::Done), "it did not count any more");
}
