use std::sync::Arc;

use crate::{
    Applied, ClusterState, Command, Outcome, PortConfig, PortProtocol, PublishMode, Rejection,
    ServiceMode, ServiceSpec, UpdateState, UpdateStatus, Version, limits,
    sample::{apply_one, at, founded, service_id, spec},
};

fn create(state: &mut ClusterState, number: u128, spec: ServiceSpec) -> Outcome {
    let command = Command::CreateService { id: service_id(number), spec: Box::new(spec) };
    apply_one(state, 2_000, command)
}

fn update(state: &mut ClusterState, version: u64, spec: ServiceSpec) -> Outcome {
    let (id, version) = (service_id(7), Version(version));
    apply_one(state, 3_000, Command::UpdateService { id, version, spec: Box::new(spec) })
}

fn rollback(state: &mut ClusterState) -> Outcome {
    let (id, version) = (service_id(7), Version(0));
    apply_one(state, 4_000, Command::RollbackService { id, version, message: "why".to_owned() })
}

fn forced(force: u64) -> ServiceSpec {
    let mut spec = spec("web");
    Arc::make_mut(&mut spec.task).force_update = force;
    spec
}

fn scaled(replicas: u32) -> ServiceSpec {
    ServiceSpec { mode: ServiceMode::Replicated { replicas }, ..spec("web") }
}

fn published(name: &str, port: u16, mode: PublishMode) -> ServiceSpec {
    let mut spec = spec(name);
    let (name, protocol) = (String::new(), PortProtocol::Tcp);
    spec.endpoint.ports.push(PortConfig { name, protocol, target: 80, published: port, mode });
    spec
}

fn status(state: &ClusterState) -> Option<UpdateState> {
    state.service(service_id(7)).unwrap().update_status.as_ref().map(|status| status.state)
}

fn set_status(state: &mut ClusterState, to: UpdateState) {
    let status = UpdateStatus {
        state: to,
        started_at: at(1),
        completed_at: None,
        message: "x".repeat(limits::MESSAGE_BYTES * 2),
    };
    let (id, version) = (service_id(7), Version(0));
    apply_one(state, 3_500, Command::SetUpdateStatus { id, version, status }).unwrap();
}

#[test]
fn a_name_belongs_to_one_service() {
    let mut state = founded();
    let error = create(&mut state, 8, spec("web")).unwrap_err();
    assert_eq!(error.to_string(), format!("the name web is taken by service {}", service_id(7)));
    apply_one(&mut state, 2_000, Command::RemoveService { id: service_id(7) }).unwrap();
    assert_eq!(create(&mut state, 8, spec("web")), Ok(Applied::ServiceCreated(service_id(8))));
    assert_eq!(state.service_by_name("web").unwrap().id, service_id(8));
}

#[test]
fn a_cluster_has_only_so_many_services() {
    let mut state = founded();
    for number in 1..limits::SERVICES as u128 {
        create(&mut state, number + 100, spec(&format!("s{number}"))).unwrap();
    }
    let error = create(&mut state, 99, spec("more")).unwrap_err();
    assert!(matches!(error, Rejection::OverLimit { .. }), "{error}");
}

#[test]
fn a_port_on_every_board_belongs_to_one_service() {
    let mut state = founded();
    create(&mut state, 8, published("a", 80, PublishMode::Ingress)).unwrap();
    let error = create(&mut state, 9, published("b", 80, PublishMode::Host)).unwrap_err();
    assert_eq!(error.to_string(), "port 80/tcp is taken by service a");
    assert!(create(&mut state, 9, published("b", 81, PublishMode::Host)).is_ok());
    assert!(create(&mut state, 10, published("c", 81, PublishMode::Host)).is_ok());
    assert!(create(&mut state, 11, published("d", 0, PublishMode::Ingress)).is_ok());
    assert!(create(&mut state, 12, published("e", 0, PublishMode::Ingress)).is_ok());
}

#[test]
fn changing_what_tasks_run_starts_a_roll_out_and_scaling_does_not() {
    let mut state = founded();
    assert_eq!(update(&mut state, 1, scaled(5)), Ok(Applied::Done));
    let service = state.service(service_id(7)).unwrap();
    assert_eq!((service.spec_version, service.version), (Version(1), Version(2)));
    assert_eq!(status(&state), None);
    assert_eq!(update(&mut state, 2, forced(1)), Ok(Applied::Done));
    let service = state.service(service_id(7)).unwrap();
    assert_eq!((service.spec_version, service.version), (Version(3), Version(3)));
    assert_eq!(service.previous_spec.as_deref(), Some(&scaled(5)));
    assert_eq!(status(&state), Some(UpdateState::Updating));
}

#[test]
fn an_update_that_changes_nothing_leaves_everything_as_it_is() {
    let mut state = founded();
    let before = state.service(service_id(7)).unwrap().clone();
    assert_eq!(update(&mut state, 1, spec("web")), Ok(Applied::Unchanged));
    assert_eq!(state.service(service_id(7)).unwrap(), &before);
}

#[test]
fn a_paused_roll_out_goes_on_when_updated_again_but_not_when_scaled() {
    let mut state = founded();
    update(&mut state, 0, forced(1)).unwrap();
    set_status(&mut state, UpdateState::Paused);
    let mut more = forced(1);
    more.mode = ServiceMode::Replicated { replicas: 9 };
    update(&mut state, 0, more.clone()).unwrap();
    assert_eq!(status(&state), Some(UpdateState::Paused));
    update(&mut state, 0, more).unwrap();
    assert_eq!(status(&state), Some(UpdateState::Updating));
}

#[test]
fn a_stale_update_a_new_name_and_a_new_mode_are_refused() {
    let mut state = founded();
    assert!(matches!(update(&mut state, 9, forced(1)), Err(Rejection::Stale { .. })));
    let error = update(&mut state, 1, spec("other")).unwrap_err();
    assert_eq!(error.to_string(), "invalid name: renaming services is not supported");
    let global = ServiceSpec { mode: ServiceMode::Global, ..spec("web") };
    let error = update(&mut state, 1, global).unwrap_err();
    assert_eq!(error.to_string(), "invalid mode: service mode change is not allowed");
}

#[test]
fn rolling_back_swaps_what_is_wanted_with_what_was() {
    let mut state = founded();
    let error = rollback(&mut state).unwrap_err();
    assert_eq!(error.to_string(), "service web has no previous specification to roll back to");
    update(&mut state, 0, forced(1)).unwrap();
    rollback(&mut state).unwrap();
    let service = state.service(service_id(7)).unwrap();
    assert_eq!(service.spec, spec("web"));
    assert_eq!(service.spec_version, service.version);
    assert_eq!(status(&state), Some(UpdateState::RollbackStarted));
    rollback(&mut state).unwrap();
    assert_eq!(state.service(service_id(7)).unwrap().spec, forced(1));
}

#[test]
fn taking_back_a_mere_scaling_is_done_at_once() {
    let mut state = founded();
    update(&mut state, 0, scaled(9)).unwrap();
    rollback(&mut state).unwrap();
    assert_eq!(status(&state), Some(UpdateState::RollbackCompleted));
    assert_eq!(state.service(service_id(7)).unwrap().spec, scaled(3));
}

#[test]
fn long_messages_are_cut_between_characters() {
    let mut state = founded();
    let message = "é".repeat(limits::MESSAGE_BYTES);
    update(&mut state, 0, forced(1)).unwrap();
    let (id, version) = (service_id(7), Version(0));
    apply_one(&mut state, 4_000, Command::RollbackService { id, version, message }).unwrap();
    let status = state.service(id).unwrap().update_status.clone().unwrap();
    assert_eq!(status.message.len(), limits::MESSAGE_BYTES);
}
