//! A cluster and boards in memory, for tests: commands apply at once, streams are pipes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use axum::{Router, body::Body, http::Request};
use bramble_cluster::{
    CertificateAuthority, Cluster as ClusterObject, ClusterId, ClusterSpec, ClusterState, Command,
    Digest, Entry, Image, JoinSecrets, NewTask, Node, NodeAdmission, NodeDescription, NodeId,
    NodeSpec, NodeState, Outcome, Platform, Resources, Restarts, Role, ServiceId, Slot, TaskCause,
    TaskId, TaskReport, TaskState, TaskStatus, Timestamp, Version, Vitals,
};
use bramble_manager::{Leadership, consensus::ProposeError};
use futures_util::{
    StreamExt,
    stream::{self, BoxStream},
};
use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, sync::mpsc, sync::watch};

use crate::{
    Archive, Board, BoardError, Cluster, Container, Duplex, Facts, Health, ImageRemoval, LogLine,
    LogQuery, Power, connection, router,
    types::{
        image::LocalImage,
        os::{OsProgress, OsStatus},
        swarm::JoinTokens,
    },
};

/// Bytes that a pipe between two boards holds.
const PIPE_BYTES: usize = 64 * 1_024;

/// The n-th board's node.
pub(crate) fn node_id(number: u8) -> NodeId {
    NodeId::from_random(u128::from(number))
}

/// The digest of the image that the first board holds.
pub(crate) fn whoami() -> Digest {
    Digest::from_bytes([0xaa; 32])
}

/// What all boards agree on, and who leads.
pub(crate) struct World {
    states: watch::Sender<Arc<ClusterState>>,
    leader: Mutex<Option<u8>>,
    boards: Mutex<BTreeMap<u8, Router>>,
    leaderships: Mutex<BTreeMap<u8, watch::Sender<Leadership>>>,
}

impl World {
    /// Boards 1 to `count`, all managers and ready, led by the first, which holds `whoami`.
    pub(crate) fn new(count: u8) -> Arc<Self> {
        let world = Arc::new(Self {
            states: watch::Sender::new(Arc::default()),
            leader: Mutex::new(None),
            boards: Mutex::default(),
            leaderships: Mutex::default(),
        });
        let node = Box::new(admission(1));
        world.apply(vec![Command::Found { cluster: Box::new(founded()), node }]);
        for number in 1..=count {
            world.apply(vec![
                Command::AdmitNode(Box::new(admission(number))),
                Command::SetNodeRole { id: node_id(number), role: Role::Manager },
                Command::SetNodeState {
                    id: node_id(number),
                    version: Version(0),
                    state: NodeState::Ready,
                    message: String::new(),
                },
            ]);
        }
        let images = vec![image()];
        world.apply(vec![Command::ReportImages { node: node_id(1), images }]);
        for number in 1..=count {
            world.add_board(number, FakeBoard::new(number));
        }
        world.lead(Some(1));
        world
    }

    /// Applies commands, all of which must be taken.
    pub(crate) fn apply(&self, commands: Vec<Command>) {
        for outcome in self.propose(commands) {
            outcome.expect("the command is taken");
        }
    }

    fn propose(&self, commands: Vec<Command>) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        self.states.send_modify(|state| {
            let at = Timestamp::from_millis(1_767_225_600_000 + state.version().0 * 1_000);
            outcomes = Arc::make_mut(state).apply(&Entry { at, commands });
        });
        outcomes
    }

    /// The state.
    pub(crate) fn state(&self) -> Arc<ClusterState> {
        Arc::clone(&self.states.borrow())
    }

    /// Puts a board into service, in place of the one with its number.
    pub(crate) fn add_board(self: &Arc<Self>, number: u8, board: FakeBoard) {
        let leadership = watch::Sender::new(Leadership::default());
        let router = router(self.cluster(number, leadership.subscribe()), Arc::new(board));
        self.boards.lock().expect("a lock").insert(number, router);
        self.leaderships.lock().expect("a lock").insert(number, leadership);
        let leader = *self.leader.lock().expect("a lock");
        self.lead(leader);
    }

    /// Makes a board the leader; `None` takes the quorum away.
    pub(crate) fn lead(&self, leader: Option<u8>) {
        *self.leader.lock().expect("a lock") = leader;
        let leaderships = self.leaderships.lock().expect("a lock");
        let voters: BTreeSet<NodeId> = leaderships.keys().map(|number| node_id(*number)).collect();
        for (number, sender) in leaderships.iter() {
            let alone = BTreeSet::from([node_id(*number)]);
            sender.send_replace(Leadership {
                leader: leader.map(node_id),
                is_leader_here: leader == Some(*number),
                term: 3,
                voters: voters.clone(),
                reachable: if leader.is_some() { voters.clone() } else { alone },
                former_leader: None,
                since: Timestamp::default(),
                quorum_lost: leader.is_none().then(std::time::Instant::now),
            });
        }
    }

    fn cluster(self: &Arc<Self>, number: u8, leadership: watch::Receiver<Leadership>) -> Cluster {
        let (proposing, dialling, leading) =
            (Arc::clone(self), Arc::clone(self), leadership.clone());
        Cluster {
            node: node_id(number),
            states: self.states.subscribe(),
            leadership,
            leader: Arc::new(move || leading.borrow().leader),
            propose: Arc::new(move |commands| {
                let world = Arc::clone(&proposing);
                Box::pin(async move {
                    let leader = *world.leader.lock().expect("a lock");
                    let lost =
                        ProposeError::NoQuorum { reachable: 1, managers: 3, may_apply: false };
                    leader.map(|_| world.propose(commands)).ok_or(lost)
                })
            }),
            dial: Arc::new(move |node| {
                let world = Arc::clone(&dialling);
                Box::pin(async move { world.dial(node) })
            }),
            vitals: Arc::new(|| {
                let vitals = Vitals { temperature_millicelsius: Some(48_300), ..Vitals::default() };
                BTreeMap::from([(node_id(1), vitals)])
            }),
            tokens: Arc::new(|cluster| JoinTokens {
                worker: format!("BRMTKN-1-{:?}", cluster.join_secrets.worker),
                manager: format!("BRMTKN-1-{:?}", cluster.join_secrets.manager),
            }),
        }
    }

    fn dial(&self, node: NodeId) -> io::Result<Box<dyn Duplex>> {
        let boards = self.boards.lock().expect("a lock");
        let found = boards.iter().find(|(number, _)| node_id(**number) == node);
        let (_, router) = found.ok_or_else(|| io::Error::from(io::ErrorKind::HostUnreachable))?;
        let (near, far) = tokio::io::duplex(PIPE_BYTES);
        tokio::spawn(connection(far, router.clone()));
        Ok(Box::new(near))
    }

    /// Takes a board off the network.
    pub(crate) fn cut(&self, number: u8) {
        self.boards.lock().expect("a lock").remove(&number);
    }

    /// A board's API.
    pub(crate) fn board(&self, number: u8) -> Client {
        Client(self.boards.lock().expect("a lock")[&number].clone())
    }

    /// Gives a service's slot a task that runs on a board.
    pub(crate) fn run_task(&self, service: ServiceId, slot: u32, number: u8) -> TaskId {
        let state = self.state();
        let id = TaskId::derive(service, u128::from(slot), state.version().0);
        let new = NewTask {
            id,
            service,
            service_version: state.service(service).expect("a service").version,
            slot: Slot::Replica(slot),
            node: Some(node_id(number)),
            cause: TaskCause::Created,
            restarts: Restarts::default(),
            planned_at: Version(0),
        };
        self.apply(vec![Command::CreateTask(Box::new(new))]);
        self.report(id, number, TaskState::Running);
        id
    }

    /// Says where a task is.
    pub(crate) fn report(&self, id: TaskId, number: u8, state: TaskState) {
        let status = TaskStatus { state, pid: Some(42), ..TaskStatus::default() };
        let reports = vec![TaskReport { id, status }];
        self.apply(vec![Command::ReportTasks { node: node_id(number), reports }]);
    }
}

fn founded() -> ClusterObject {
    ClusterObject {
        id: ClusterId::from_random(99),
        founder: node_id(1),
        version: Version(0),
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        spec: ClusterSpec::default(),
        authority: CertificateAuthority { certificate: vec![1], private_key: vec![2] },
        join_secrets: JoinSecrets { worker: [1; 16], manager: [2; 16] },
    }
}

fn admission(number: u8) -> NodeAdmission {
    let description = NodeDescription {
        hostname: format!("board{number}"),
        platform: Platform { os: "linux".to_owned(), architecture: "arm64".to_owned() },
        resources: Resources { nano_cpus: 4_000_000_000, memory_bytes: 4 << 30 },
        engine_version: "0.1.0".to_owned(),
        addresses: vec![format!("10.0.0.{number}:7420").parse().expect("an address")],
        ..NodeDescription::default()
    };
    let key = Digest::from_bytes([number; 32]);
    NodeAdmission { id: node_id(number), spec: NodeSpec::default(), description, key }
}

/// The image that the first board holds.
pub(crate) fn image() -> Image {
    Image {
        digest: whoami(),
        names: BTreeSet::from(["docker.io/library/whoami:latest".to_owned()]),
        size: 1_234_567,
        holders: BTreeSet::new(),
        named_at: Timestamp::from_millis(1),
    }
}

/// A board that is as the test says.
#[derive(Default)]
pub(crate) struct FakeBoard {
    pub(crate) number: u8,
    pub(crate) is_seeking: bool,
    pub(crate) logs: BTreeMap<TaskId, Vec<LogLine>>,
    pub(crate) containers: Vec<Container>,
}

impl FakeBoard {
    pub(crate) fn new(number: u8) -> Self {
        Self { number, ..Self::default() }
    }
}

#[async_trait]
impl Board for FakeBoard {
    fn facts(&self) -> Facts {
        Facts {
            hostname: format!("board{}", self.number),
            firmware_version: "0.1.0".to_owned(),
            kernel: "7.2.12".to_owned(),
            machine: "aarch64".to_owned(),
            cpus: 4,
            memory_bytes: 4 << 30,
            address: format!("10.0.0.{}", self.number),
            cgroup_version: "2",
            ..Facts::default()
        }
    }

    fn health(&self) -> Health {
        Health {
            problems: vec!["there is no network cable".to_owned()],
            boot: json!({"board": "rpi4", "kernel_ms": 900, "phases": []}),
        }
    }

    fn is_member(&self) -> bool {
        !self.is_seeking
    }

    fn images(&self) -> Vec<LocalImage> {
        let created = Some(Timestamp::from_millis(1_700_000_000_000));
        vec![LocalImage { image: image(), created, config: Value::Null }]
    }

    async fn image_config(&self, _: Digest) -> Result<Value, BoardError> {
        Ok(json!({"architecture": "arm64", "os": "linux", "config": {"Cmd": ["/whoami"]}}))
    }

    async fn load_images(
        &self,
        mut archive: Archive,
        progress: mpsc::Sender<String>,
    ) -> Result<Vec<Image>, BoardError> {
        let mut bytes = Vec::new();
        let read = archive.read_to_end(&mut bytes).await;
        read.map_err(|error| BoardError::Failed(error.to_string()))?;
        if bytes != b"an archive" {
            return Err(BoardError::Invalid("this is not an archive of images".to_owned()));
        }
        progress.send("unpacking".to_owned()).await.expect("the route listens");
        Ok(vec![image()])
    }

    async fn tag_image(&self, _: Digest, name: &str) -> Result<(), BoardError> {
        if name == "fine:1" { Ok(()) } else { Err(BoardError::Invalid(name.to_owned())) }
    }

    async fn remove_image(
        &self,
        name: &str,
        forced: bool,
    ) -> Result<Vec<ImageRemoval>, BoardError> {
        if !forced {
            return Err(BoardError::InUse(format!("image {name} is in use")));
        }
        Ok(vec![ImageRemoval::Untagged(name.to_owned()), ImageRemoval::Deleted(whoami())])
    }

    fn containers(&self) -> Vec<Container> {
        self.containers.clone()
    }

    async fn log(
        &self,
        task: TaskId,
        query: LogQuery,
    ) -> Result<BoxStream<'static, Result<LogLine, BoardError>>, BoardError> {
        let missing = || BoardError::NotFound(format!("no log of task {task}"));
        let lines = self.logs.get(&task).ok_or_else(missing)?;
        let first = lines.len().saturating_sub(query.tail.unwrap_or(usize::MAX));
        let lines: Vec<_> = lines[first..].iter().cloned().map(Ok).collect();
        Ok(stream::iter(lines).boxed())
    }

    async fn leave(&self) -> Result<(), BoardError> {
        Ok(())
    }

    async fn os_status(&self) -> OsStatus {
        OsStatus {
            is_appliance: self.number != 3,
            problem: (self.number == 3).then(|| "this board is not an appliance".to_owned()),
            version: format!("0.{}.0", self.number),
            ..OsStatus::default()
        }
    }

    async fn os_install(
        &self,
        mut file: Archive,
        progress: mpsc::Sender<OsProgress>,
    ) -> Result<String, BoardError> {
        let mut bytes = Vec::new();
        let read = file.read_to_end(&mut bytes).await;
        read.map_err(|error| BoardError::Failed(error.to_string()))?;
        let total = u64::try_from(bytes.len()).expect("a small file");
        let written = OsProgress::Written { bytes: total, total };
        progress.send(written).await.expect("the route listens");
        match bytes == b"an update" {
            true => Ok(format!("9.{}.0", self.number)),
            false => Err(BoardError::Invalid("this is not an update".to_owned())),
        }
    }

    async fn os_try(&self) -> Result<(), BoardError> {
        Err(BoardError::InUse("there is nothing to try".to_owned()))
    }

    async fn os_commit(&self) -> Result<(), BoardError> {
        Ok(())
    }

    async fn end(&self, power: Power) -> Result<(), BoardError> {
        match (self.number, power) {
            (3, _) => Err(BoardError::Unsupported("this board is not an appliance".to_owned())),
            _ => Ok(()),
        }
    }
}

/// What a board answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: axum::http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// The message of an error.
    pub(crate) fn message(&self) -> String {
        self.json()["message"].as_str().expect("a message").to_owned()
    }
}

/// Asks a board's API.
pub(crate) struct Client(Router);

impl Client {
    pub(crate) async fn send(&self, method: &str, path: &str, body: Vec<u8>) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = match path {
            "/images/load" => request,
            _ if path.starts_with("/bramble/os") => request,
            _ => request.header("Content-Type", "application/json"),
        };
        self.request(request.body(Body::from(body)).expect("a request")).await
    }

    pub(crate) async fn request(&self, request: Request<Body>) -> Answer {
        let response = crate::server::answer(self.0.clone(), request).await;
        let (parts, body) = response.expect("infallible").into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a whole body").to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, Vec::new()).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, Vec::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, serde_json::to_vec(body).expect("plain data")).await
    }
}

/// The state has the node.
pub(crate) fn node(state: &ClusterState, number: u8) -> &Node {
    state.node(node_id(number)).expect("the node is there")
}
