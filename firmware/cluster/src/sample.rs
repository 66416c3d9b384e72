//! Samples for the unit tests: a small cluster, and one of everything.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use crate::{
    Applied, Availability, CertificateAuthority, Cluster, ClusterId, ClusterSpec, ClusterState,
    Command, Constraint, ConstraintOperator, ContainerSpec, DesiredState, Digest, EndpointMode,
    EndpointSpec, Entry, FailureAction, Healthcheck, Image, ImageReference, JoinSecrets, Labels,
    LogDriver, Mount, MountKind, NetworkAttachment, NewTask, NodeAdmission, NodeDescription,
    NodeId, NodeSpec, NodeState, OnPartition, Outcome, Placement, Platform, PortConfig,
    PortProtocol, PublishMode, ResourceLimits, Resources, RestartCondition, RestartPolicy,
    Restarts, Role, ServiceId, ServiceMode, ServiceSpec, Slot, SpreadPreference, TaskCause, TaskId,
    TaskReport, TaskSpec, TaskState, TaskStatus, Timestamp, Ulimit, UpdateConfig, UpdateOrder,
    UpdateState, UpdateStatus, Version,
};

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) fn node_id(number: u128) -> NodeId {
    NodeId::from_random(number)
}

pub(crate) fn service_id(number: u128) -> ServiceId {
    ServiceId::from_random(number)
}

pub(crate) fn task_id(number: u128) -> TaskId {
    TaskId::from_random(number)
}

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

pub(crate) fn admission(number: u128) -> NodeAdmission {
    NodeAdmission {
        id: node_id(number),
        spec: NodeSpec::default(),
        description: NodeDescription {
            hostname: format!("pi-{number}"),
            platform: Platform { os: "linux".to_owned(), architecture: "arm64".to_owned() },
            resources: Resources { nano_cpus: 4_000_000_000, memory_bytes: 1024 * MIB },
            ..NodeDescription::default()
        },
        key: Digest::from_bytes([u8::try_from(number).unwrap_or(0); 32]),
    }
}

pub(crate) fn cluster() -> Cluster {
    Cluster {
        id: ClusterId::from_random(42),
        founder: node_id(1),
        version: Version(0),
        created_at: at(0),
        updated_at: at(0),
        spec: ClusterSpec::default(),
        authority: CertificateAuthority { certificate: vec![1, 2], private_key: vec![3, 4] },
        join_secrets: JoinSecrets { worker: [5; 16], manager: [6; 16] },
    }
}

pub(crate) fn spec(name: &str) -> ServiceSpec {
    let mut task = TaskSpec::default();
    "whoami".clone_into(&mut task.container.image.name);
    ServiceSpec {
        name: name.to_owned(),
        labels: Labels::new(),
        mode: ServiceMode::Replicated { replicas: 3 },
        task: Arc::new(task),
        update: UpdateConfig::default(),
        rollback: UpdateConfig::default(),
        endpoint: EndpointSpec::default(),
    }
}

pub(crate) fn new_task(number: u128, service: u128, slot: u32, node: Option<u128>) -> Command {
    Command::CreateTask(Box::new(NewTask {
        id: task_id(number),
        service: service_id(service),
        service_version: Version(0),
        slot: Slot::Replica(slot),
        node: node.map(node_id),
        cause: TaskCause::Created,
        restarts: Restarts::default(),
        planned_at: Version(0),
    }))
}

/// Applies commands as one entry.
pub(crate) fn apply(state: &mut ClusterState, millis: u64, commands: Vec<Command>) -> Vec<Outcome> {
    state.apply(&Entry { at: at(millis), commands })
}

/// Applies one command.
pub(crate) fn apply_one(state: &mut ClusterState, millis: u64, command: Command) -> Outcome {
    apply(state, millis, vec![command]).remove(0)
}

/// A cluster of two nodes with the service 7, `web`.
pub(crate) fn founded() -> ClusterState {
    let mut state = ClusterState::default();
    let outcomes = apply(
        &mut state,
        1_000,
        vec![
            Command::Found { cluster: Box::new(cluster()), node: Box::new(admission(1)) },
            Command::AdmitNode(Box::new(admission(2))),
            Command::CreateService { id: service_id(7), spec: Box::new(spec("web")) },
        ],
    );
    assert_eq!(
        outcomes,
        [Ok(Applied::Done), Ok(Applied::Done), Ok(Applied::ServiceCreated(service_id(7)))]
    );
    state
}

/// A service specification in which every field is set to something.
pub(crate) fn full_spec() -> ServiceSpec {
    ServiceSpec {
        name: "everything".to_owned(),
        labels: labels(&[("team", "home")]),
        mode: ServiceMode::Replicated { replicas: 2 },
        task: Arc::new(full_task()),
        update: UpdateConfig {
            parallelism: 2,
            delay: Duration::from_millis(1_500),
            failure_action: FailureAction::Rollback,
            monitor: Duration::from_secs(7),
            max_failure_millionths: 250_000,
            order: UpdateOrder::StartFirst,
        },
        rollback: UpdateConfig::default(),
        endpoint: EndpointSpec {
            mode: EndpointMode::Dnsrr,
            ports: vec![PortConfig {
                name: "http".to_owned(),
                protocol: PortProtocol::Udp,
                target: 80,
                published: 8_080,
                mode: PublishMode::Host,
            }],
        },
    }
}

fn full_task() -> TaskSpec {
    TaskSpec {
        container: full_container(),
        resources: ResourceLimits {
            limit_nano_cpus: 2_000_000_000,
            limit_memory_bytes: 128 * MIB,
            limit_pids: 100,
            reserved_nano_cpus: 500_000_000,
            reserved_memory_bytes: 64 * MIB,
        },
        restart: RestartPolicy {
            condition: RestartCondition::OnFailure,
            delay: Some(Duration::from_secs(1)),
            max_attempts: 3,
            window: Some(Duration::from_secs(60)),
        },
        placement: Placement {
            constraints: vec![Constraint {
                attribute: "node.labels.room".to_owned(),
                operator: ConstraintOperator::NotEqual,
                value: "attic".to_owned(),
            }],
            preferences: vec![SpreadPreference { attribute: "engine.labels.rack".to_owned() }],
            max_replicas_per_node: 1,
            platforms: vec![Platform { os: "linux".to_owned(), architecture: "arm64".to_owned() }],
        },
        networks: vec![NetworkAttachment { target: "host".to_owned(), aliases: texts(&["alias"]) }],
        log_driver: Some(LogDriver { name: "ring".to_owned(), options: labels(&[("size", "1m")]) }),
        on_partition: OnPartition::Stop,
        force_update: 4,
    }
}

fn full_container() -> ContainerSpec {
    let mount = |kind, target: &str| Mount { kind, target: target.to_owned(), is_read_only: true };
    ContainerSpec {
        image: ImageReference {
            name: "whoami:1".to_owned(),
            digest: Some(Digest::from_bytes([9; 32])),
        },
        labels: labels(&[("a", "b")]),
        entrypoint: texts(&["/bin/sh"]),
        arguments: texts(&["-c", "true"]),
        hostname: "{{.Task.Slot}}".to_owned(),
        environment: texts(&["A=1", "B="]),
        directory: "/srv".to_owned(),
        user: "1000:1000".to_owned(),
        groups: texts(&["audio"]),
        has_terminal: true,
        has_open_stdin: true,
        is_read_only: true,
        mounts: vec![
            mount(MountKind::Bind { source: "/dev/shm".to_owned() }, "/bind"),
            mount(
                MountKind::Volume {
                    name: "data".to_owned(),
                    labels: labels(&[("v", "w")]),
                    is_not_filled: true,
                },
                "/volume",
            ),
            mount(MountKind::Tmpfs { size_bytes: MIB, mode: 0o1777 }, "/tmp"),
        ],
        stop_signal: "SIGINT".to_owned(),
        stop_grace_period: Some(Duration::from_secs(5)),
        healthcheck: Some(Healthcheck {
            test: texts(&["CMD", "true"]),
            interval: Some(Duration::from_secs(1)),
            timeout: Some(Duration::from_secs(2)),
            retries: 3,
            start_period: Some(Duration::from_secs(4)),
            start_interval: Some(Duration::from_secs(5)),
        }),
        hosts: texts(&["10.0.0.1 one"]),
        dns_servers: texts(&["10.0.0.2"]),
        dns_search: texts(&["example.org"]),
        dns_options: texts(&["ndots:1"]),
        has_init: Some(true),
        sysctls: labels(&[("net.core.somaxconn", "128")]),
        capabilities_added: texts(&["CAP_NET_ADMIN"]),
        capabilities_dropped: texts(&["ALL"]),
        ulimits: vec![Ulimit { name: "nofile".to_owned(), soft: 100, hard: -1 }],
        oom_score_adjustment: -500,
    }
}

/// An image, named and held as told.
pub(crate) fn image(byte: u8, name: &str, named_at: u64) -> Image {
    Image {
        digest: Digest::from_bytes([byte; 32]),
        names: BTreeSet::from([format!("docker.io/library/{name}:latest")]),
        size: 1_000,
        holders: BTreeSet::new(),
        named_at: at(named_at),
    }
}

/// A state with something in every place, made by hand: its bytes are frozen.
pub(crate) fn full_state() -> ClusterState {
    let mut state = founded();
    let mut pinned = admission(3);
    pinned.spec = NodeSpec {
        labels: labels(&[("room", "kitchen")]),
        availability: Availability::Pause,
        role: Some(Role::Manager),
    };
    pinned.description.engine_version = "0.1.0".to_owned();
    pinned.description.engine_labels = labels(&[("disk", "ssd")]);
    pinned.description.addresses = vec!["192.0.2.3:7420".parse().unwrap()];
    let outcomes = apply(
        &mut state,
        2_000,
        vec![
            Command::AdmitNode(Box::new(pinned)),
            Command::CreateService { id: service_id(8), spec: Box::new(full_spec()) },
            new_task(1, 8, 1, Some(3)),
            new_task(2, 7, 1, None),
            new_task(3, 7, 2, Some(2)),
            Command::ReportImages { node: node_id(2), images: vec![image(9, "whoami", 1_500)] },
            Command::SetDesiredState { id: task_id(3), desired: DesiredState::Shutdown },
        ],
    );
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    let mut changed = full_spec();
    Arc::make_mut(&mut changed.task).force_update = 5;
    let outcomes = apply(
        &mut state,
        3_000,
        vec![
            Command::UpdateService {
                id: service_id(8),
                version: Version(2),
                spec: Box::new(changed),
            },
            Command::ReportImages { node: node_id(3), images: vec![image(8, "web", 2_500)] },
            Command::RemoveNode { id: node_id(2), is_forced: true },
        ],
    );
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    state
}

/// One of each command, in the order of their variants, and each with something in every field.
pub(crate) fn every_command() -> Vec<Command> {
    let (node, service, task) = (node_id(3), service_id(8), task_id(1));
    let version = Version(300);
    let text = || "why".to_owned();
    let status = TaskStatus {
        state: TaskState::Failed,
        since: at(5),
        message: text(),
        error: text(),
        exit_code: Some(-1),
        is_out_of_memory: true,
        pid: Some(77),
    };
    let update = UpdateStatus {
        state: UpdateState::Paused,
        started_at: at(6),
        completed_at: Some(at(7)),
        message: text(),
    };
    let secrets = JoinSecrets { worker: [1; 16], manager: [2; 16] };
    vec![
        Command::Found { cluster: Box::new(cluster()), node: Box::new(admission(1)) },
        Command::AdmitNode(Box::new(admission(3))),
        Command::UpdateNode { id: node, version, spec: NodeSpec::default() },
        Command::RemoveNode { id: node, is_forced: true },
        Command::DescribeNode { id: node, description: admission(3).description },
        Command::SetNodeState { id: node, version, state: NodeState::Down, message: text() },
        Command::SetNodeRole { id: node, role: Role::Manager },
        Command::CreateService { id: service, spec: Box::new(full_spec()) },
        Command::UpdateService { id: service, version, spec: Box::new(spec("web")) },
        Command::RollbackService { id: service, version, message: text() },
        Command::RemoveService { id: service },
        Command::SetUpdateStatus { id: service, version, status: update },
        new_task(1, 8, 1, Some(3)),
        Command::AssignTask { id: task, version, node },
        Command::ExplainTask { id: task, version, error: text() },
        Command::SetDesiredState { id: task, desired: DesiredState::Remove },
        Command::RemoveTask { id: task },
        Command::ReportTasks { node, reports: vec![TaskReport { id: task, status }] },
        Command::OrphanTask { id: task, message: text() },
        Command::ReportImages { node, images: vec![image(9, "whoami", 1_500)] },
        Command::UpdateCluster { version, spec: ClusterSpec { task_history_limit: 9 } },
        Command::RotateJoinSecrets { secrets },
    ]
}
