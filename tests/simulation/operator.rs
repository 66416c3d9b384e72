//! What people ask of the cluster, at random: services come, change, go; boards drain and return.

use std::{sync::Arc, time::Duration};

use bramble_cluster::{
    Availability, Cluster, ClusterId, ClusterSpec, ClusterState, Command, Constraint,
    ConstraintOperator, ContainerSpec, EndpointSpec, FailureAction, ImageReference, JoinSecrets,
    Labels, NodeState, OnPartition, Placement, ResourceLimits, RestartCondition, RestartPolicy,
    Service, ServiceId, ServiceMode, ServiceSpec, SpreadPreference, TaskSpec, Timestamp,
    UpdateConfig, UpdateOrder, Version,
};

use super::{
    consensus::Origin,
    random::Random,
    temper::Temper,
    world::{Event, World},
};

/// Services at the same time, at most.
const SERVICES: usize = 5;

/// A person, who numbers the services and their revisions.
#[derive(Debug, Default)]
pub(super) struct Operator {
    drawn: u64,
}

impl World {
    pub(super) fn operate(&mut self) {
        if self.is_healing {
            return;
        }
        let delay = self.random.wait(self.climate.operation);
        self.schedule_in(delay, Event::Operate);
        let Some((term, ..)) = self.leader() else { return };
        if let Some(command) = self.wish() {
            self.propose(term, vec![command], Origin::Operator);
        }
    }

    fn wish(&mut self) -> Option<Command> {
        self.operator.drawn += 1;
        let number = self.operator.drawn;
        // Without giving up the borrow of the leader's state, chance is drawn from a copy.
        let mut random = Random::new(self.random.draw());
        let (_, _, state) = self.leader()?;
        let services: Vec<&Service> = state.services().values().map(AsRef::as_ref).collect();
        if services.is_empty() || (services.len() < SERVICES && random.percent(20)) {
            let id = ServiceId::from_random(random.id());
            let (spec, temper) = service(&mut random, number);
            self.tempers.insert(id, temper);
            return Some(Command::CreateService { id, spec: Box::new(spec) });
        }
        let service = *random.pick(&services.iter().collect::<Vec<_>>());
        let version = if random.percent(70) { service.version } else { Version(0) };
        let id = service.id;
        let update = |spec| Some(Command::UpdateService { id, version, spec: Box::new(spec) });
        match random.between(0, 99) {
            0..25 => update(scaled(service, &mut random)),
            25..55 => update(changed(service, &mut random, number)),
            55..63 => Some(Command::RollbackService { id, version, message: String::new() }),
            63..70 => Some(Command::RemoveService { id }),
            70..95 => node_wish(state, &mut random),
            _ => {
                let limit = u32::try_from(random.between(0, 3)).unwrap_or(0);
                let spec = ClusterSpec { task_history_limit: limit };
                Some(Command::UpdateCluster { version: Version(0), spec })
            }
        }
    }

    /// Founds the cluster on the first board.
    pub(super) fn founding(&mut self) -> Command {
        let cluster = Cluster {
            id: ClusterId::from_random(self.random.id()),
            founder: self.boards[0].id,
            version: Version(0),
            created_at: Timestamp::default(),
            updated_at: Timestamp::default(),
            spec: ClusterSpec { task_history_limit: 2 },
            authority: bramble_cluster::CertificateAuthority {
                certificate: vec![1],
                private_key: vec![2],
            },
            join_secrets: JoinSecrets { worker: [1; 16], manager: [2; 16] },
        };
        let node = super::sessions::admission(&self.boards[0], 0);
        Command::Found { cluster: Box::new(cluster), node: Box::new(node) }
    }

    /// A person tidies up: nodes whose boards are no more are removed.
    pub(super) fn tidy_up(&mut self) {
        let Some((term, _, state)) = self.leader() else { return };
        let is_gone = |id| self.boards.iter().all(|board| board.id != id);
        let gone: Vec<Command> = state
            .nodes()
            .keys()
            .filter(|id| is_gone(**id))
            .map(|id| Command::RemoveNode { id: *id, is_forced: true })
            .collect();
        if !gone.is_empty() {
            self.propose(term, gone, Origin::Operator);
        }
    }
}

fn node_wish(state: &ClusterState, random: &mut Random) -> Option<Command> {
    let nodes: Vec<_> = state.nodes().values().collect();
    let node = *random.pick(&nodes.iter().collect::<Vec<_>>());
    let version = if random.percent(70) { node.version } else { Version(0) };
    let mut spec = node.spec.clone();
    match random.between(0, 9) {
        0..3 => spec.availability = Availability::Drain,
        3..4 => spec.availability = Availability::Pause,
        4..7 => spec.availability = Availability::Active,
        7..9 => {
            let room = random.pick(&["kitchen", "attic"]);
            spec.labels.insert("room".to_owned(), room.to_owned());
        }
        _ => {
            let is_down = node.status.state == NodeState::Down;
            // A removed board comes back with a fresh card, as another node.
            return is_down.then_some(Command::RemoveNode { id: node.id, is_forced: false });
        }
    }
    Some(Command::UpdateNode { id: node.id, version, spec })
}

fn scaled(service: &Service, random: &mut Random) -> ServiceSpec {
    let mut spec = service.spec.clone();
    if let ServiceMode::Replicated { replicas } = &mut spec.mode {
        *replicas = u32::try_from(random.between(0, 8)).unwrap_or(0);
    }
    spec
}

fn changed(service: &Service, random: &mut Random, number: u64) -> ServiceSpec {
    let mut spec = service.spec.clone();
    let mut task = TaskSpec::clone(&spec.task);
    task.container.environment = vec![format!("REVISION={number}")];
    if random.percent(20) {
        task.placement = placement(random);
    }
    if random.percent(20) {
        task.resources = resources(random);
    }
    if random.percent(20) {
        let order = spec.update.order;
        spec.update = UpdateConfig { order, ..update(random, OnPartition::Keep) };
    }
    spec.task = Arc::new(task);
    spec
}

fn service(random: &mut Random, number: u64) -> (ServiceSpec, Temper) {
    let on_partition = random.pick(&[OnPartition::Keep, OnPartition::Keep, OnPartition::Stop]);
    let mode = match random.percent(20) {
        true => ServiceMode::Global,
        false => {
            let replicas = u32::try_from(random.between(1, 6)).unwrap_or(1);
            ServiceMode::Replicated { replicas }
        }
    };
    let mut temper = Temper::drawn(random);
    let restart = restart(random);
    if restart.condition != RestartCondition::Any && random.percent(30) {
        temper.finishes_after = Some(20_000);
    }
    let grace = random.pick(&[None, Some(Duration::from_millis(300))]);
    let task = TaskSpec {
        container: ContainerSpec {
            image: ImageReference { name: "docker.io/library/whoami:latest".into(), digest: None },
            environment: vec![format!("REVISION={number}")],
            stop_grace_period: grace,
            ..ContainerSpec::default()
        },
        resources: resources(random),
        restart,
        placement: placement(random),
        on_partition,
        ..TaskSpec::default()
    };
    let spec = ServiceSpec {
        name: format!("service-{number}"),
        labels: Labels::new(),
        mode,
        task: Arc::new(task),
        update: update(random, on_partition),
        rollback: update(random, on_partition),
        endpoint: EndpointSpec::default(),
    };
    (spec, temper)
}

fn restart(random: &mut Random) -> RestartPolicy {
    RestartPolicy {
        condition: random.pick(&[
            RestartCondition::Any,
            RestartCondition::Any,
            RestartCondition::Any,
            RestartCondition::OnFailure,
            RestartCondition::None,
        ]),
        delay: random.pick(&[None, None, Some(Duration::ZERO), Some(Duration::from_secs(2))]),
        max_attempts: random.pick(&[0, 0, 0, 3]),
        window: random.pick(&[None, Some(Duration::from_secs(20))]),
    }
}

fn resources(random: &mut Random) -> ResourceLimits {
    ResourceLimits {
        reserved_memory_bytes: random.pick(&[0, 0, 300 << 20, 1_500 << 20]),
        reserved_nano_cpus: random.pick(&[0, 0, 500_000_000, 1_500_000_000]),
        ..ResourceLimits::default()
    }
}

fn placement(random: &mut Random) -> Placement {
    let mut placement = Placement::default();
    if random.percent(15) {
        placement.constraints.push(Constraint {
            attribute: "node.labels.room".to_owned(),
            operator: random.pick(&[ConstraintOperator::Equal, ConstraintOperator::NotEqual]),
            value: "kitchen".to_owned(),
        });
    }
    if random.percent(15) {
        placement.max_replicas_per_node = u32::try_from(random.between(1, 3)).unwrap_or(1);
    }
    if random.percent(15) {
        let attribute = "node.labels.room".to_owned();
        placement.preferences.push(SpreadPreference { attribute });
    }
    placement
}

fn update(random: &mut Random, on_partition: OnPartition) -> UpdateConfig {
    UpdateConfig {
        parallelism: u32::try_from(random.between(0, 3)).unwrap_or(1),
        delay: random.pick(&[Duration::ZERO, Duration::ZERO, Duration::from_secs(2)]),
        failure_action: random.pick(&[
            FailureAction::Pause,
            FailureAction::Continue,
            FailureAction::Rollback,
        ]),
        monitor: random.pick(&[Duration::ZERO, Duration::from_secs(5)]),
        max_failure_millionths: random.pick(&[0, 0, 300_000]),
        // What must not run twice can not start before it stops.
        order: match (on_partition, random.percent(40)) {
            (OnPartition::Keep, true) => UpdateOrder::StartFirst,
            _ => UpdateOrder::StopFirst,
        },
    }
}
