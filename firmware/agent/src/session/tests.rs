//! The node's end of the session, against leaders that the tests play by hand.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use bramble_cluster::{
    Assignment, ClusterId, Generation, TaskId, TaskReport, TaskState, TaskStatus, Timestamp,
    Version,
};
use bramble_peering::session::{
    LeaderMessage, NodeMessage, Receiver, Sender, Welcome, leader_side,
};
use tokio::{io::DuplexStream, sync::mpsc, task::JoinHandle, time::timeout};

use super::*;
use crate::clock::BoardClock;

/// Nothing here takes this long unless it is broken.
const SOON: Duration = Duration::from_secs(3);

/// A board that the test plays: the connections made to it.
struct Board {
    id: NodeId,
    incoming: mpsc::Receiver<DuplexStream>,
}

/// The leader's end of one session.
struct Leading {
    sender: Sender<LeaderMessage>,
    receiver: Receiver<NodeMessage>,
    hello: Hello,
}

/// The node under test, and the boards around it.
struct World {
    boards: Vec<Board>,
    outbox: Outbox,
    orders: Orders,
    managers: watch::Sender<Managers>,
    is_leaving: watch::Sender<bool>,
    images: watch::Sender<Listing>,
    listed: watch::Receiver<u64>,
    running: JoinHandle<Infallible>,
    _run: tempfile::TempDir,
    _vitals: watch::Sender<Vitals>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn peer(number: u128) -> Peer {
    Peer { id: NodeId::from_random(number), addresses: Vec::new() }
}

/// A node that knows managers 1 to `count`; those from `dead` on never answer.
fn world(count: u128, dead: u128) -> World {
    let mut boards = Vec::new();
    let mut doors = BTreeMap::new();
    for number in 1..=count {
        let (sender, incoming) = mpsc::channel(8);
        boards.push(Board { id: NodeId::from_random(number), incoming });
        doors.insert(NodeId::from_random(number), sender);
    }
    let dead = NodeId::from_random(dead);
    let dial: Dial = Arc::new(move |peer| {
        let door = doors.get(&peer.id).cloned();
        Box::pin(async move {
            if peer.id >= dead {
                std::future::pending::<()>().await;
            }
            let (near, far) = tokio::io::duplex(64 * 1024);
            let door = door.ok_or(io::ErrorKind::HostUnreachable)?;
            door.send(far).await.map_err(|_| io::ErrorKind::ConnectionRefused)?;
            Ok(Box::pin(near) as BoxedStream)
        })
    });
    let run = tempfile::tempdir().expect("a folder");
    let clock = BoardClock::load(run.path()).expect("a clock");
    let orders = Orders::load(run.path(), ClusterId::from_random(9), clock);
    let outbox = Outbox::default();
    let managers =
        watch::Sender::new(Managers { leader: None, peers: (1..=count).map(peer).collect() });
    let (vitals_sender, vitals) = watch::channel(Vitals::default());
    let (images, images_receiver) = watch::channel(Listing::default());
    let (listed_sender, listed) = watch::channel(0);
    let (leaving, is_leaving) = watch::channel(false);
    let session = Session {
        dial,
        instance: 77,
        managers: managers.clone(),
        outbox: outbox.clone(),
        orders: orders.clone(),
        describe: Arc::new(NodeDescription::default),
        described: NodeDescription::default(),
        images: images_receiver,
        listed: listed_sender,
        vitals,
        is_leaving,
    };
    World {
        boards,
        outbox,
        orders,
        managers,
        is_leaving: leaving,
        images,
        listed,
        running: tokio::spawn(session.run()),
        _run: run,
        _vitals: vitals_sender,
    }
}

impl World {
    /// The next connection to board `number`, with the hello it began with.
    async fn asked(&mut self, number: usize) -> Leading {
        let incoming = &mut self.boards[number - 1].incoming;
        let stream = timeout(SOON, incoming.recv()).await.expect("in time").expect("a connection");
        let (sender, mut receiver) = leader_side(stream);
        let hello = match receiver.receive().await {
            Ok(Some(NodeMessage::Hello(hello))) => hello,
            other => panic!("no hello but {other:?}"),
        };
        Leading { sender, receiver, hello }
    }

    /// Board `number` leads: opens the session that the node asks for.
    async fn welcomed(&mut self, number: usize, term: u64) -> Leading {
        let mut leading = self.asked(number).await;
        let leader = self.boards[number - 1].id;
        let now = Timestamp::from_millis(1_000_000);
        let welcome = Welcome { leader, term, now, managers: Vec::new() };
        leading.send(LeaderMessage::Welcome(welcome)).await;
        leading
    }

    async fn until_led_by(&self, number: usize) {
        let id = self.boards[number - 1].id;
        let mut current = self.orders.subscribe();
        let led = current.wait_for(|current| current.leader == Some(id));
        timeout(SOON, led).await.expect("in time").expect("open");
    }
}

impl Leading {
    async fn send(&mut self, message: LeaderMessage) {
        self.sender.send(message).await.expect("the node listens");
    }

    async fn receive(&mut self) -> NodeMessage {
        let message = timeout(SOON, self.receiver.receive()).await.expect("in time");
        message.expect("sound").expect("the session is open")
    }

    /// The next reports, answering heartbeats on the way.
    async fn reports(&mut self) -> (u64, Vec<TaskReport>) {
        loop {
            match self.receive().await {
                NodeMessage::Reports { sequence, reports } => return (sequence, reports),
                NodeMessage::Heartbeat { number, .. } => self.answer(number).await,
                _ => {}
            }
        }
    }

    async fn answer(&mut self, number: u64) {
        let now = Timestamp::from_millis(1_000_000);
        let quorum_age = Duration::ZERO;
        self.send(LeaderMessage::HeartbeatAnswer { number, now, quorum_age }).await;
    }

    async fn heartbeat(&mut self) -> u64 {
        loop {
            if let NodeMessage::Heartbeat { number, .. } = self.receive().await {
                return number;
            }
        }
    }
}

fn report(id: u128, state: TaskState) -> TaskReport {
    let status = TaskStatus { state, ..TaskStatus::default() };
    TaskReport { id: TaskId::from_random(id), status }
}

fn assignment(term: u64, version: u64) -> LeaderMessage {
    let generation = Generation { term, version: Version(version) };
    LeaderMessage::Assignment(Arc::new(Assignment { generation, tasks: Vec::new() }))
}

#[tokio::test]
async fn any_manager_shows_the_way_to_the_leader() {
    let mut world = world(3, 99);
    let mut lost = world.asked(1).await;
    assert_eq!(lost.hello.instance, 77);
    let to = LeaderMessage::NotLeader { leader: Some(peer(3)), managers: Vec::new() };
    lost.send(to).await;
    let _leading = world.welcomed(3, 1).await;
    world.until_led_by(3).await;
    assert_eq!(world.managers.borrow().leader, Some(NodeId::from_random(3)));
}

#[tokio::test]
async fn a_leader_that_nobody_had_named_is_found_through_a_hint() {
    let mut world = world(2, 99);
    world.managers.send_modify(|known| known.peers.truncate(1));
    let mut lost = world.asked(1).await;
    lost.send(LeaderMessage::NotLeader { leader: Some(peer(2)), managers: Vec::new() }).await;
    let _leading = world.welcomed(2, 1).await;
    world.until_led_by(2).await;
}

#[tokio::test]
async fn boards_that_do_not_answer_cost_little_time() {
    let mut world = world(3, 99);
    drop(std::mem::replace(&mut world.boards[0].incoming, mpsc::channel(1).1));
    let started = Instant::now();
    let _silent = world.asked(2).await;
    let _leading = world.welcomed(3, 1).await;
    world.until_led_by(3).await;
    assert!(started.elapsed() < Duration::from_millis(500), "{:?}", started.elapsed());
}

#[tokio::test]
async fn after_a_cut_the_session_opens_again_and_says_everything_again() {
    let mut world = world(1, 99);
    let mut leading = world.welcomed(1, 1).await;
    world.outbox.put(report(1, TaskState::Running), Instant::now());
    world.outbox.put(report(2, TaskState::Running), Instant::now());
    let (sequence, reports) = leading.reports().await;
    if reports.len() == 2 {
        leading.send(LeaderMessage::ReportsTaken { sequence: sequence + 5 }).await;
    }
    drop(leading);
    let mut leading = world.welcomed(1, 1).await;
    let (sequence, reports) = leading.reports().await;
    assert_eq!((sequence, reports.len()), (1, 2), "nothing was acknowledged");
    leading.send(LeaderMessage::ReportsTaken { sequence }).await;
    drop(leading);
    let mut leading = world.welcomed(1, 1).await;
    world.outbox.put(report(3, TaskState::Failed), Instant::now());
    let (_, reports) = leading.reports().await;
    assert_eq!(reports.len(), 1, "what was taken is not said again: {reports:?}");
}

#[tokio::test]
async fn reports_are_said_again_until_they_are_taken() {
    let mut world = world(1, 99);
    let mut leading = world.welcomed(1, 1).await;
    world.outbox.put(report(1, TaskState::Running), Instant::now());
    assert_eq!(leading.reports().await.0, 1);
    let (sequence, reports) = leading.reports().await;
    assert_eq!((sequence, reports.len()), (2, 1));
    leading.send(LeaderMessage::ReportsTaken { sequence }).await;
    leading.heartbeat().await;
    leading.heartbeat().await;
    assert!(world.outbox.is_empty());
}

#[tokio::test]
async fn a_deposed_leader_hands_the_node_over() {
    let mut world = world(2, 99);
    let mut first = world.asked(1).await;
    let mut second = world.asked(2).await;
    second.send(LeaderMessage::NotLeader { leader: Some(peer(1)), managers: Vec::new() }).await;
    let now = Timestamp::from_millis(1_000_000);
    let welcome = Welcome { leader: peer(1).id, term: 1, now, managers: Vec::new() };
    first.send(LeaderMessage::Welcome(welcome)).await;
    world.until_led_by(1).await;
    first.send(LeaderMessage::NotLeader { leader: Some(peer(2)), managers: Vec::new() }).await;
    let _leading = world.welcomed(2, 2).await;
    world.until_led_by(2).await;
}

#[tokio::test]
async fn a_silent_leader_is_replaced_as_soon_as_another_answers() {
    let mut world = world(2, 99);
    world.managers.send_modify(|known| known.leader = Some(peer(1).id));
    let mut first = world.welcomed(1, 1).await;
    world.until_led_by(1).await;
    let number = first.heartbeat().await;
    first.answer(number).await;
    let silent_since = Instant::now();
    // The board asks the old leader as well, which does not answer that either.
    let _again = world.asked(1).await;
    let _second = world.welcomed(2, 2).await;
    world.until_led_by(2).await;
    let took = silent_since.elapsed();
    assert!(took < Duration::from_millis(1_000), "{took:?}");
    assert!(took > Duration::from_millis(400), "too hasty: {took:?}");
}

#[tokio::test]
async fn a_leader_that_answers_again_is_kept() {
    let mut world = world(2, 99);
    world.managers.send_modify(|known| known.leader = Some(peer(1).id));
    let mut first = world.welcomed(1, 1).await;
    world.until_led_by(1).await;
    let _again = world.asked(1).await;
    let other = world.asked(2).await;
    // Catch up with every heartbeat: the search is dropped, and with it the other connections.
    for _ in 0..4 {
        let number = first.heartbeat().await;
        first.answer(number).await;
    }
    let Leading { mut receiver, .. } = other;
    let hung_up = timeout(SOON, receiver.receive()).await.expect("in time");
    assert!(matches!(hung_up, Ok(None)), "{hung_up:?}");
    assert_eq!(world.orders.subscribe().borrow().leader, Some(peer(1).id));
}

#[tokio::test]
async fn an_order_of_an_older_generation_is_refused_whoever_gives_it() {
    let mut world = world(1, 99);
    let mut leading = world.welcomed(1, 2).await;
    leading.send(assignment(2, 10)).await;
    let mut current = world.orders.subscribe();
    let is_second = |current: &crate::orders::Current| current.assignment.generation.term == 2;
    timeout(SOON, current.wait_for(is_second)).await.expect("in time").expect("open");
    drop(leading);
    let mut deposed = world.welcomed(1, 1).await;
    deposed.send(assignment(1, 99)).await;
    deposed.send(assignment(2, 11)).await;
    let is_eleventh = |current: &crate::orders::Current| {
        let generation = current.assignment.generation;
        assert_eq!(generation.term, 2, "the deposed leader's order was taken");
        generation.version == Version(11)
    };
    timeout(SOON, current.wait_for(is_eleventh)).await.expect("in time").expect("open");
}

#[tokio::test]
async fn an_answered_heartbeat_confirms_the_instant_it_was_sent() {
    let mut world = world(1, 99);
    let mut leading = world.welcomed(1, 1).await;
    let before = world.orders.now();
    let first = leading.heartbeat().await;
    let second = leading.heartbeat().await;
    assert_eq!((first, second), (1, 2));
    assert_eq!(world.orders.confirmed_at(), None);
    let now = Timestamp::from_millis(5_000_000);
    let quorum_age = Duration::from_millis(30);
    leading.send(LeaderMessage::HeartbeatAnswer { number: 2, now, quorum_age }).await;
    leading.heartbeat().await;
    let confirmed_at = world.orders.confirmed_at().expect("confirmed");
    let after = confirmed_at.since(before - quorum_age);
    assert!((150..400).contains(&after.as_millis()), "{after:?}");
    assert!(world.orders.cluster_time(world.orders.now()) >= now);
}

#[tokio::test]
async fn a_board_that_leaves_says_so_to_every_leader() {
    let mut world = world(1, 99);
    let mut leading = world.welcomed(1, 1).await;
    world.is_leaving.send_replace(true);
    while leading.receive().await != NodeMessage::Leaving {}
    drop(leading);
    let mut leading = world.welcomed(1, 1).await;
    while leading.receive().await != NodeMessage::Leaving {}
}

#[tokio::test]
async fn images_are_told_at_the_start_and_whenever_they_change() {
    let mut world = world(1, 99);
    let mut leading = world.welcomed(1, 1).await;
    while leading.receive().await != (NodeMessage::Images { sequence: 0, images: Vec::new() }) {}
    let image = Image {
        digest: bramble_cluster::Digest::from_bytes([1; 32]),
        names: ["whoami".to_owned()].into(),
        size: 10,
        named_at: Timestamp::default(),
        holders: [].into(),
    };
    let images = vec![image];
    world.images.send_replace(Listing { number: 3, images: Arc::new(images.clone()) });
    while leading.receive().await != (NodeMessage::Images { sequence: 3, images: images.clone() }) {
    }
    leading.send(LeaderMessage::ImagesTaken { sequence: 3 }).await;
    timeout(SOON, world.listed.wait_for(|listed| *listed == 3))
        .await
        .expect("in time")
        .expect("open");
}
