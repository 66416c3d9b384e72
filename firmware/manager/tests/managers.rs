//! Boards over real connections: found, join, are promoted by the planner, lose their leader.

#![expect(clippy::tests_outside_test_module, reason = "this whole program is tests")]

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    time::{Duration, Instant},
};

use bramble_cluster::{
    Command, NodeDescription, NodeId, Peer, Role, ServiceId, ServiceMode, ServiceSpec, TaskSpec,
    Timestamp,
};
use bramble_manager::{Leadership, Manager, ManagerConfig};
use bramble_peering::{
    ClusterKey, Discovery, Peering, PeeringConfig, Protocol, Situation,
    session::{Hello, LeaderMessage, NodeMessage, node_side},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::JoinHandle,
    time::{interval, sleep, timeout},
};

const PATIENCE: Duration = Duration::from_secs(30);
const BUILT_AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

/// A board: peering, the manager, and an agent that does nothing but be there.
struct Board {
    peering: Peering,
    manager: Manager,
    agent: JoinHandle<()>,
    situation: JoinHandle<()>,
}

impl Board {
    async fn start(folder: &Path) -> Self {
        let config = PeeringConfig {
            directory: folder.join("peering"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            cluster_key: Some(ClusterKey::from_bytes([1; 32])),
            discovery: Discovery::Off,
            description: NodeDescription { hostname: "board".to_owned(), ..Default::default() },
            built_at: BUILT_AT,
        };
        std::fs::create_dir_all(&config.directory).expect("a folder");
        let peering = Peering::start(config).await.expect("peering starts");
        let config = ManagerConfig { folder: folder.join("consensus") };
        let manager = Manager::start(config, peering.clone()).await.expect("the manager starts");
        let agent = tokio::spawn(be_there(manager.clone(), peering.clone()));
        let situation = tokio::spawn(announce(manager.clone(), peering.clone()));
        Self { peering, manager, agent, situation }
    }

    fn id(&self) -> NodeId {
        self.peering.node_id()
    }

    fn peer(&self) -> Peer {
        Peer { id: self.id(), addresses: vec![self.peering.listen_address()] }
    }

    /// As a pulled plug: no farewell, no hand-over.
    async fn die(self) {
        self.agent.abort();
        self.situation.abort();
        // Refusing everybody ends its connections; then it answers no more.
        self.peering
            .set_refused(self.peering.directory().managers().iter().map(|it| it.id).collect());
        self.peering.shut_down().await;
    }
}

async fn announce(manager: Manager, peering: Peering) {
    let (mut state, mut leadership) = (manager.state(), manager.leadership());
    loop {
        let (known, led) =
            (state.borrow_and_update().clone(), leadership.borrow_and_update().clone());
        let is_manager = led.is_voter(peering.node_id());
        peering.set_situation(Situation { is_manager, ..Situation::default() });
        peering.set_join_secrets(known.cluster().map(|cluster| cluster.join_secrets.clone()));
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

/// Opens a session with whoever leads, and keeps it.
async fn be_there(manager: Manager, peering: Peering) {
    loop {
        let stream = manager.session().expect("a session of its own");
        let mut directions = session(stream, &peering).await;
        for _ in 0..3 {
            let Some(peer) = directions.pop() else { break };
            if let Ok(stream) = peering.connect(&peer, Protocol::Session).await {
                directions.extend(session(stream, &peering).await);
            }
        }
        let known = peering.directory();
        for manager in known.managers().into_iter().filter(|it| it.id != peering.node_id()) {
            if let Ok(stream) = peering.connect(&manager, Protocol::Session).await {
                session(stream, &peering).await;
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// One session, until it ends; says whom else to ask.
async fn session<S>(stream: S, peering: &Peering) -> Vec<Peer>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (mut sender, mut receiver) = node_side(stream);
    let hello = Hello { instance: peering.instance().0, description: peering.description() };
    let mut beat = interval(Duration::from_millis(200));
    let mut number = 0;
    if sender.send(NodeMessage::Hello(hello)).await.is_err() {
        return Vec::new();
    }
    loop {
        tokio::select! {
            _ = beat.tick() => {
                number += 1;
                if sender.send(NodeMessage::Heartbeat { number, vitals: None }).await.is_err() {
                    return Vec::new();
                }
            }
            received = timeout(Duration::from_secs(1), receiver.receive()) => match received {
                Ok(Ok(Some(LeaderMessage::NotLeader { leader, .. }))) => {
                    return leader.into_iter().collect();
                }
                Ok(Ok(Some(_))) => {}
                _ => return Vec::new(),
            },
        }
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(5)).await;
    }
}

fn creation(number: u128) -> Command {
    let mut task = TaskSpec::default();
    task.container.image.name = "whoami".to_owned();
    let spec = ServiceSpec {
        name: format!("service-{number}"),
        labels: Default::default(),
        mode: ServiceMode::Replicated { replicas: 0 },
        task: task.into(),
        update: Default::default(),
        rollback: Default::default(),
        endpoint: Default::default(),
    };
    Command::CreateService { id: ServiceId::from_random(number), spec: Box::new(spec) }
}

async fn create(board: &Board, number: u128) {
    let outcomes = board.manager.propose(vec![creation(number)]).await.expect("agreed");
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
}

fn leadership(board: &Board) -> Leadership {
    board.manager.leadership().borrow().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_boards_find_their_managers_and_survive_the_leaders_loss() {
    let folder = TempDir::new().expect("a folder");
    let mut boards = Vec::new();
    for number in 0..3 {
        boards.push(Board::start(&folder.path().join(number.to_string())).await);
    }
    let draft = boards[0].peering.draft_founding().expect("a draft");
    let cluster = draft.cluster.clone();
    boards[0].manager.found(draft).await.expect("founded");
    boards[0].peering.adopt(&cluster).expect("a member");
    let founder = boards[0].peer();
    until("the founder lets others in", || leadership(&boards[0]).is_leader_here).await;
    for board in &boards[1..] {
        board.peering.join(&founder).await.expect("let in");
        board.peering.directory().set_managers(std::slice::from_ref(&founder));
    }
    // Loopback is no address that a board would tell others.
    for board in &boards {
        for other in &boards {
            board.peering.directory().hint(other.id(), &[other.peering.listen_address()]);
        }
    }
    let all: BTreeSet<NodeId> = boards.iter().map(Board::id).collect();
    until("the planner has promoted all three", || leadership(&boards[0]).voters == all).await;
    until("the state says so", || {
        let state = boards[0].manager.state().borrow().clone();
        state.nodes().values().filter(|node| node.role == Role::Manager).count() == 3
    })
    .await;
    for (number, board) in (1..).zip(&boards) {
        create(board, number).await;
    }

    let dead = boards.remove(0);
    let began = Instant::now();
    dead.die().await;
    until("another leads", || boards.iter().any(|board| leadership(board).is_leader_here)).await;
    println!("a lost leader was replaced after {:?}", began.elapsed());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    create(&boards[0], 10).await;
    create(&boards[1], 11).await;
    until("both hold everything", || {
        boards.iter().all(|board| board.manager.state().borrow().services().len() == 5)
    })
    .await;
}

/// On one thread, where nothing has looked at the log yet when it is asked about.
#[tokio::test]
async fn a_board_stopped_while_its_cluster_dissolves_forgets_it_at_its_next_start() {
    let folder = TempDir::new().expect("a folder");
    let (kept, given_up) = (folder.path().join("kept"), folder.path().join("given up"));
    let (kept, board) = (Board::start(&kept).await, Board::start(&given_up).await);
    for founder in [&kept, &board] {
        let draft = founder.peering.draft_founding().expect("a draft");
        let cluster = draft.cluster.clone();
        founder.manager.found(draft).await.expect("founded");
        founder.peering.adopt(&cluster).expect("a member");
    }
    until("the other lets boards in", || leadership(&kept).is_leader_here).await;
    let place = board.peering.ask_for_place(&kept.peer()).await.expect("a place");
    board.peering.take_place(place).expect("entered");
    // The daemon sees its new membership and starts afresh, before its log is forgotten.
    board.manager.shutdown().await;
    board.die().await;

    let board = Board::start(&given_up).await;
    let of = |board: &Board| board.peering.membership().borrow().member().map(|it| it.cluster);
    assert_eq!(of(&board), of(&kept), "a member of the other");
    assert!(!given_up.join("consensus").exists(), "its own cluster's log is forgotten");
    assert!(board.manager.state().borrow().cluster().is_none(), "its own cluster is forgotten");
    assert!(!leadership(&board).is_leader_here, "it leads nothing");
}
