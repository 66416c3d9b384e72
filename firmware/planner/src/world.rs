//! A cluster in miniature for the unit tests: a state, what the leader hears, and boards that do at
//! once what they are told.

use std::{sync::Arc, time::Duration};

use bramble_cluster::{
    Availability, Cluster, ClusterId, ClusterSpec, ClusterState, Command, DesiredState, Digest,
    Entry, JoinSecrets, NodeAdmission, NodeDescription, NodeId, NodeSpec, NodeState, Platform,
    Resources, ServiceId, ServiceMode, ServiceSpec, Slot, Task, TaskReport, TaskSpec, TaskState,
    TaskStatus, Timestamp, UpdateConfig, Version,
};

use crate::{Contact, Heard, Plan, plan_cluster};

/// How many plans may follow each other at one instant before it counts as endless.
const ROUNDS: usize = 40;

pub(crate) const MIB: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) state: ClusterState,
    pub(crate) heard: Heard,
    pub(crate) now: Timestamp,
}

pub(crate) fn id(number: u128) -> NodeId {
    NodeId::from_random(number)
}

pub(crate) fn spec(name: &str, replicas: u32) -> ServiceSpec {
    let mut task = TaskSpec::default();
    "whoami".clone_into(&mut task.container.image.name);
    ServiceSpec {
        name: name.to_owned(),
        labels: std::collections::BTreeMap::new(),
        mode: ServiceMode::Replicated { replicas },
        task: Arc::new(task),
        update: UpdateConfig { monitor: Duration::ZERO, ..UpdateConfig::default() },
        rollback: UpdateConfig { monitor: Duration::ZERO, ..UpdateConfig::default() },
        endpoint: bramble_cluster::EndpointSpec::default(),
    }
}

pub(crate) fn status(state: TaskState, since: Timestamp) -> TaskStatus {
    TaskStatus { state, since, ..TaskStatus::default() }
}

impl World {
    /// Boards `pi-1` to `pi-<count>`, ready and settled; the first leads.
    pub(crate) fn new(count: u128) -> Self {
        let now = Timestamp::from_millis(1_000_000);
        let mut world = Self { state: ClusterState::default(), heard: Heard::default(), now };
        world.heard.leader = id(1);
        world.heard.leading_since = now;
        world.heard.voters = [id(1)].into();
        let cluster = Cluster {
            id: ClusterId::from_random(1),
            founder: id(1),
            version: Version(0),
            created_at: now,
            updated_at: now,
            spec: ClusterSpec::default(),
            authority: bramble_cluster::CertificateAuthority {
                certificate: Vec::new(),
                private_key: Vec::new(),
            },
            join_secrets: JoinSecrets { worker: [0; 16], manager: [0; 16] },
        };
        let node = Box::new(admission(1));
        world.apply(vec![Command::Found { cluster: Box::new(cluster), node }]);
        for number in 2..=count {
            world.apply(vec![Command::AdmitNode(Box::new(admission(number)))]);
        }
        for number in 1..=count {
            world.hear(number);
        }
        world.settle();
        // Long enough that nothing is new.
        world.pass(Duration::from_secs(60));
        world.live();
        world
    }

    pub(crate) fn apply(&mut self, commands: Vec<Command>) {
        for outcome in self.state.apply(&Entry { at: self.now, commands }) {
            assert!(outcome.is_ok(), "{outcome:?}");
        }
    }

    pub(crate) fn plan(&self) -> Plan {
        plan_cluster(&self.state, &self.heard, self.now)
    }

    /// Plans and applies once.
    pub(crate) fn step(&mut self) -> Plan {
        let plan = self.plan();
        self.apply(plan.commands.clone());
        if let Some(voters) = &plan.voters {
            self.heard.voters.clone_from(voters);
        }
        plan
    }

    /// Plans and applies until nothing is to be done at this instant.
    pub(crate) fn settle(&mut self) {
        for _ in 0..ROUNDS {
            if self.step().is_empty() {
                return;
            }
        }
        panic!("the plan does not converge: {:?}", self.plan());
    }

    /// The boards that are heard of do what they are told; whether they did anything.
    pub(crate) fn work(&mut self) -> bool {
        let mut did = false;
        for node in self.present() {
            let reports: Vec<TaskReport> = self
                .state
                .tasks_on(node)
                .filter(|task| !task.status.state.is_terminal())
                .filter_map(|task| match task.desired {
                    DesiredState::Running if task.status.state == TaskState::Running => None,
                    DesiredState::Running => Some((task.id, TaskState::Running)),
                    _ => Some((task.id, TaskState::Shutdown)),
                })
                .map(|(id, state)| TaskReport { id, status: status(state, self.now) })
                .collect();
            if !reports.is_empty() {
                did = true;
                self.apply(vec![Command::ReportTasks { node, reports }]);
            }
        }
        did
    }

    /// Plans and works until nothing is left to do at this instant.
    pub(crate) fn live(&mut self) {
        for _ in 0..1_000 {
            self.settle();
            if !self.work() {
                return;
            }
        }
        panic!("the cluster does not settle");
    }

    /// Lets time pass; the boards that were heard of go on being heard of.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let present = self.present();
        self.now = self.now + duration;
        for node in present {
            if let Some(contact) = self.heard.contacts.get_mut(&node) {
                contact.last_heard = self.now;
            }
        }
    }

    /// Lets time pass in small steps, living in between.
    pub(crate) fn live_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.pass(Duration::from_millis(500));
            self.live();
        }
    }

    pub(crate) fn hear(&mut self, number: u128) {
        let contact = Contact { last_heard: self.now, is_connected: true, is_leaving: false };
        self.heard.contacts.insert(id(number), contact);
    }

    /// Cuts a board off and waits until it is down.
    pub(crate) fn lose(&mut self, number: u128) {
        if let Some(contact) = self.heard.contacts.get_mut(&id(number)) {
            contact.is_connected = false;
        }
        self.pass(crate::timing::DOWN_AFTER);
        if let Some(contact) = self.heard.contacts.get_mut(&id(number)) {
            contact.last_heard = self.heard.leading_since;
        }
    }

    pub(crate) fn leave(&mut self, number: u128) {
        if let Some(contact) = self.heard.contacts.get_mut(&id(number)) {
            contact.is_leaving = true;
        }
    }

    fn present(&self) -> Vec<NodeId> {
        let contacts = self.heard.contacts.iter().filter(|(_, contact)| contact.is_connected);
        contacts.map(|(node, _)| *node).collect()
    }

    pub(crate) fn change_node(&mut self, number: u128, change: impl FnOnce(&mut NodeSpec)) {
        let mut spec = self.state.node(id(number)).expect("a node").spec.clone();
        change(&mut spec);
        self.apply(vec![Command::UpdateNode { id: id(number), version: Version(0), spec }]);
    }

    pub(crate) fn label(&mut self, number: u128, name: &str, value: &str) {
        self.change_node(number, |spec| {
            spec.labels.insert(name.to_owned(), value.to_owned());
        });
    }

    pub(crate) fn drain(&mut self, number: u128) {
        self.change_node(number, |spec| spec.availability = Availability::Drain);
    }

    pub(crate) fn create(&mut self, spec: ServiceSpec) -> ServiceId {
        let id = ServiceId::from_random(u128::from(self.state.version().0) + 1_000);
        self.apply(vec![Command::CreateService { id, spec: Box::new(spec) }]);
        id
    }

    pub(crate) fn change(&mut self, id: ServiceId, change: impl FnOnce(&mut ServiceSpec)) {
        let mut spec = self.state.service(id).expect("a service").spec.clone();
        change(&mut spec);
        let spec = Box::new(spec);
        self.apply(vec![Command::UpdateService { id, version: Version(0), spec }]);
    }

    pub(crate) fn change_task(&mut self, id: ServiceId, change: impl FnOnce(&mut TaskSpec)) {
        self.change(id, |spec| change(Arc::make_mut(&mut spec.task)));
    }

    pub(crate) fn scale(&mut self, id: ServiceId, replicas: u32) {
        self.change(id, |spec| spec.mode = ServiceMode::Replicated { replicas });
    }

    pub(crate) fn report(&mut self, task: &Task, state: TaskState) {
        let reports = vec![TaskReport { id: task.id, status: status(state, self.now) }];
        let node = task.node.expect("a task with a node");
        self.apply(vec![Command::ReportTasks { node, reports }]);
    }

    /// The tasks that claim a slot of the service, by slot.
    pub(crate) fn claims(&self, id: ServiceId) -> Vec<Arc<Task>> {
        let claims = self.state.tasks_of(id).filter(|task| task.desired == DesiredState::Running);
        let mut claims: Vec<_> = claims.cloned().collect();
        claims.sort_by_key(|task| (task.slot, task.created));
        claims
    }

    /// The tasks of the service that have not ended, as the boards see it.
    pub(crate) fn alive(&self, id: ServiceId) -> Vec<Arc<Task>> {
        let tasks = self.state.tasks_of(id);
        let alive = tasks.filter(|task| task.node.is_some() && !task.status.state.is_terminal());
        alive.cloned().collect()
    }

    /// How many running claims of the service each board has, from `pi-1` on.
    pub(crate) fn spread(&self, id: ServiceId) -> Vec<usize> {
        let claims = self.claims(id);
        let running = |node: NodeId| {
            claims
                .iter()
                .filter(|task| task.node == Some(node) && task.status.state == TaskState::Running)
                .count()
        };
        self.state.nodes().keys().map(|node| running(*node)).collect()
    }

    pub(crate) fn slots(&self, id: ServiceId) -> Vec<u32> {
        let number = |slot| match slot {
            Slot::Replica(number) => number,
            Slot::Node(_) => 0,
        };
        self.claims(id).iter().map(|task| number(task.slot)).collect()
    }

    pub(crate) fn node_state(&self, number: u128) -> NodeState {
        self.state.node(id(number)).expect("a node").status.state
    }
}

/// Board `pi-<number>`: 4 cores, 1 GiB.
pub(crate) fn admission(number: u128) -> NodeAdmission {
    NodeAdmission {
        id: id(number),
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
