//! The dispatcher and its sessions, against nodes that the tests play by hand.

use std::{sync::atomic::Ordering, time::Duration};

use bramble_cluster::{
    Command, Image, NodeDescription, TaskId, TaskReport, TaskState, TaskStatus, Timestamp,
};
use bramble_peering::session::{
    Hello, LeaderMessage, NodeMessage, Receiver, Sender, Welcome, node_side,
};
use tokio::{io::DuplexStream, task::JoinHandle, time::timeout};

use super::{session::is_same_order, *};
use crate::{
    leader::Leader,
    seat::bench::{Bench, IMAGE, description, id, service},
};

/// Nothing here takes this long unless it is broken.
const SOON: Duration = Duration::from_secs(5);

/// A leader's board: its dispatcher and its loop.
struct Board {
    bench: Bench,
    contacts: Contacts,
    callers: mpsc::Sender<Caller<DuplexStream>>,
    _remote: mpsc::Sender<bramble_peering::PeerStream>,
    running: Vec<JoinHandle<()>>,
}

impl Drop for Board {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

/// A node's end of a session.
struct Node {
    sender: Sender<NodeMessage>,
    receiver: Receiver<LeaderMessage>,
}

fn board(nodes: u128) -> Board {
    let bench = Bench::new(nodes);
    let contacts = Contacts::new();
    let directions: Directions = Arc::new(|| {
        let leader = Peer { id: id(8), addresses: Vec::new() };
        (Some(leader.clone()), vec![leader])
    });
    let dispatcher = Dispatcher::new(bench.seat.clone(), contacts.clone(), directions);
    let (_remote, remote_receiver) = mpsc::channel(8);
    let (callers, local_receiver) = mpsc::channel(8);
    let leader = Leader::new(bench.seat.clone(), contacts.clone());
    let running = vec![
        tokio::spawn(async { match dispatcher.run(remote_receiver, local_receiver).await {} }),
        tokio::spawn(async { match leader.run().await {} }),
    ];
    Board { bench, contacts, callers, _remote, running }
}

impl Board {
    async fn call(&self, number: u128, instance: u128, description: NodeDescription) -> Node {
        let (near, far) = tokio::io::duplex(256 * 1024);
        let caller = Caller { node: id(number), stream: far };
        assert!(self.callers.send(caller).await.is_ok(), "the dispatcher runs");
        let (sender, receiver) = node_side(near);
        let mut node = Node { sender, receiver };
        node.send(NodeMessage::Hello(Hello { instance, description })).await;
        node
    }

    /// Node `number` opens a session; its first assignment was received.
    async fn session(&self, number: u128) -> Node {
        let mut node = self.call(number, number, description(number)).await;
        let welcome = node.receive().await;
        let LeaderMessage::Welcome(Welcome { leader, .. }) = welcome else {
            panic!("no welcome but {welcome:?}");
        };
        assert_eq!(leader, id(1));
        let first = node.receive().await;
        assert!(matches!(first, LeaderMessage::Assignment(_)), "{first:?}");
        node
    }
}

impl Node {
    async fn send(&mut self, message: NodeMessage) {
        self.sender.send(message).await.expect("the leader listens");
    }

    async fn receive(&mut self) -> LeaderMessage {
        self.receive_or_end().await.expect("the session is open")
    }

    async fn receive_or_end(&mut self) -> Option<LeaderMessage> {
        timeout(SOON, self.receiver.receive()).await.expect("in time").expect("sound")
    }

    /// The next assignment with at least so many tasks.
    async fn tasks(&mut self, count: usize) -> Vec<TaskId> {
        loop {
            if let LeaderMessage::Assignment(assignment) = self.receive().await
                && assignment.tasks.len() >= count
            {
                return assignment.tasks.iter().map(|task| task.id).collect();
            }
        }
    }

    async fn taken(&mut self) -> u64 {
        loop {
            if let LeaderMessage::ReportsTaken { sequence } = self.receive().await {
                return sequence;
            }
        }
    }
}

fn reports(ids: &[TaskId], state: TaskState) -> Vec<TaskReport> {
    let status = TaskStatus { state, ..TaskStatus::default() };
    ids.iter().map(|id| TaskReport { id: *id, status: status.clone() }).collect()
}

fn task_states(bench: &Bench) -> Vec<TaskState> {
    bench.state().tasks().values().map(|task| task.status.state).collect()
}

#[tokio::test]
async fn a_service_becomes_an_assignment_and_reports_become_its_state() {
    let board = board(1);
    let mut node = board.session(1).await;
    board.bench.apply(vec![service(1, 3)]);
    let ids = node.tasks(3).await;
    node.send(NodeMessage::Reports { sequence: 4, reports: reports(&ids, TaskState::Running) })
        .await;
    assert_eq!(node.taken().await, 4);
    assert_eq!(task_states(&board.bench), [TaskState::Running; 3]);
}

#[tokio::test]
async fn a_report_said_twice_counts_once() {
    let board = board(1);
    let mut node = board.session(1).await;
    board.bench.apply(vec![service(1, 1)]);
    let ids = node.tasks(1).await;
    for sequence in [1, 2] {
        let reports = reports(&ids, TaskState::Running);
        node.send(NodeMessage::Reports { sequence, reports }).await;
        assert_eq!(node.taken().await, sequence);
    }
    let changes = board.bench.state().tasks()[&ids[0]].version;
    node.send(NodeMessage::Reports { sequence: 3, reports: reports(&ids, TaskState::Starting) })
        .await;
    assert_eq!(node.taken().await, 3);
    let task = board.bench.state().tasks()[&ids[0]].clone();
    assert_eq!((task.status.state, task.version), (TaskState::Running, changes));
}

#[tokio::test]
async fn a_nodes_own_reports_do_not_come_back_as_orders() {
    let board = board(1);
    let mut node = board.session(1).await;
    board.bench.apply(vec![service(1, 2)]);
    let ids = node.tasks(2).await;
    node.send(NodeMessage::Reports { sequence: 1, reports: reports(&ids, TaskState::Running) })
        .await;
    assert_eq!(node.receive().await, LeaderMessage::ReportsTaken { sequence: 1 });
    node.send(NodeMessage::Heartbeat { number: 1, vitals: None }).await;
    let answer = node.receive().await;
    assert!(matches!(answer, LeaderMessage::HeartbeatAnswer { number: 1, .. }), "{answer:?}");
}

/// A node that counted as down is told nothing else when it is ready again, and would wait for ever.
#[tokio::test]
async fn a_node_is_told_when_a_task_is_withheld_no_longer() {
    let board = board(1);
    let mut node = board.session(1).await;
    board.bench.apply(vec![service(1, 1)]);
    let _ = node.tasks(1).await;
    let free = bramble_planner::assignment(&board.bench.state(), id(1), 1);
    let mut withheld = free.clone();
    withheld.tasks[0].is_withheld = true;
    assert!(is_same_order(&free, &free));
    assert!(!is_same_order(&free, &withheld) && !is_same_order(&withheld, &free));
}

#[tokio::test]
async fn reports_that_come_while_the_log_is_busy_share_an_entry() {
    let board = board(3);
    let mut nodes = [board.session(1).await, board.session(2).await, board.session(3).await];
    board
        .bench
        .until("ready", |state| {
            state
                .nodes()
                .values()
                .all(|node| node.status.state == bramble_cluster::NodeState::Ready)
        })
        .await;
    let before = board.bench.entries().len();
    for sequence in 1..=20 {
        for node in &mut nodes {
            node.send(NodeMessage::Reports { sequence, reports: Vec::new() }).await;
        }
    }
    for node in &mut nodes {
        for sequence in 1..=20 {
            assert_eq!(node.taken().await, sequence);
        }
    }
    let written = board.bench.entries().len() - before;
    assert!(written < 30, "60 messages became {written} entries");
}

#[tokio::test]
async fn a_board_that_does_not_lead_shows_the_way() {
    let board = board(2);
    board.bench.set_voters(&[1, 2]);
    board.bench.depose(Some(id(2)));
    let mut node = board.call(1, 1, description(1)).await;
    let LeaderMessage::NotLeader { leader, managers } = node.receive().await else {
        panic!("not sent away");
    };
    assert_eq!(leader.expect("known").id, id(2));
    assert_eq!(managers.len(), 2);
    assert_eq!(node.receive_or_end().await, None);
}

#[tokio::test]
async fn a_board_without_a_log_says_what_it_heard() {
    let board = board(1);
    board.bench.set_voters(&[]);
    board.bench.depose(None);
    let mut node = board.call(1, 1, description(1)).await;
    let LeaderMessage::NotLeader { leader, .. } = node.receive().await else {
        panic!("not sent away");
    };
    assert_eq!(leader.expect("known").id, id(8));
}

#[tokio::test]
async fn a_question_during_an_election_is_answered_by_its_outcome() {
    let board = board(1);
    board.bench.depose(None);
    let mut node = board.call(1, 1, description(1)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    board.bench.lead(2);
    let LeaderMessage::Welcome(welcome) = node.receive().await else { panic!("not welcomed") };
    assert_eq!(welcome.term, 2);
}

#[tokio::test]
async fn a_deposed_leader_sends_its_nodes_to_the_new_one() {
    let board = board(2);
    board.bench.set_voters(&[1, 2]);
    let mut node = board.session(2).await;
    board.bench.depose(Some(id(2)));
    loop {
        if let LeaderMessage::NotLeader { leader, .. } = node.receive().await {
            assert_eq!(leader.expect("known").id, id(2));
            break;
        }
    }
    assert_eq!(node.receive_or_end().await, None);
    let mut edges = board.contacts.edges();
    while board.contacts.term().is_some() {
        timeout(SOON, edges.changed()).await.expect("in time").expect("open");
    }
}

#[tokio::test]
async fn a_leader_without_a_quorum_neither_answers_nor_acknowledges() {
    let board = board(1);
    let mut node = board.session(1).await;
    board.bench.has_quorum.store(false, Ordering::SeqCst);
    board.bench.is_stuck.store(true, Ordering::SeqCst);
    node.send(NodeMessage::Heartbeat { number: 1, vitals: None }).await;
    node.send(NodeMessage::Reports { sequence: 1, reports: Vec::new() }).await;
    let answer = timeout(Duration::from_millis(300), node.receiver.receive()).await;
    assert!(answer.is_err(), "{answer:?}");
    let mut other = board.call(1, 1, description(1)).await;
    let answer = other.receive().await;
    assert!(matches!(answer, LeaderMessage::NotLeader { leader: None, .. }), "{answer:?}");
}

#[tokio::test]
async fn a_stranger_and_a_removed_node_are_refused() {
    let board = board(2);
    let mut node = board.session(2).await;
    let mut stranger = board.call(9, 9, description(9)).await;
    let LeaderMessage::Refused { reason } = stranger.receive().await else { panic!("let in") };
    assert!(reason.contains("no member"), "{reason}");
    board.bench.apply(vec![Command::RemoveNode { id: id(2), is_forced: true }]);
    loop {
        match node.receive_or_end().await {
            Some(LeaderMessage::Refused { reason }) => {
                assert!(reason.contains("removed"), "{reason}");
                break;
            }
            Some(_) => {}
            None => panic!("the session ended without a word"),
        }
    }
    let mut again = board.call(2, 2, description(2)).await;
    let LeaderMessage::Refused { reason } = again.receive().await else { panic!("let in") };
    assert!(reason.contains("was removed"), "{reason}");
}

#[tokio::test]
async fn two_boards_with_one_identity_are_told_apart() {
    let board = board(2);
    let _node = board.session(2).await;
    let mut copy = board.call(2, 77, description(2)).await;
    let LeaderMessage::Refused { reason } = copy.receive().await else { panic!("let in") };
    assert!(reason.contains("copied"), "{reason}");
}

#[tokio::test]
async fn what_a_node_says_of_itself_and_its_images_is_written_down_once() {
    let board = board(1);
    let mut node =
        board.call(1, 1, NodeDescription { hostname: "new".to_owned(), ..description(1) }).await;
    let renamed = |state: &Arc<ClusterState>| {
        state.node(id(1)).is_some_and(|node| node.description.hostname == "new")
    };
    board.bench.until("described", renamed).await;
    let image = Image {
        digest: IMAGE,
        names: ["docker.io/library/whoami:2".to_owned()].into(),
        size: 1,
        holders: [].into(),
        named_at: Timestamp::from_millis(5),
    };
    node.send(NodeMessage::Images { sequence: 7, images: vec![image.clone()] }).await;
    while node.receive().await != (LeaderMessage::ImagesTaken { sequence: 7 }) {}
    let is_named =
        |state: &Arc<ClusterState>| state.image_by_name("docker.io/library/whoami:2").is_some();
    board.bench.until("reported", is_named).await;
    let before = board.bench.entries().len();
    node.send(NodeMessage::Images { sequence: 8, images: vec![image] }).await;
    while node.receive().await != (LeaderMessage::ImagesTaken { sequence: 8 }) {}
    let same = NodeDescription { hostname: "new".to_owned(), ..description(1) };
    node.send(NodeMessage::Describe(same)).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(board.bench.entries().len(), before);
}

/// Plays a board on which everything runs at once; says when it may leave.
async fn run_everything(mut node: Node, mut leave: tokio::sync::oneshot::Receiver<()>) {
    let (mut sequence, mut is_asked) = (0, false);
    loop {
        tokio::select! {
            asked = &mut leave, if !is_asked => {
                is_asked = true;
                asked.expect("the test decides");
                node.send(NodeMessage::Leaving).await;
            }
            message = node.receiver.receive() => match message.expect("sound").expect("open") {
                LeaderMessage::MayLeave => return,
                LeaderMessage::Assignment(assignment) => {
                    let ids: Vec<TaskId> = assignment.tasks.iter().map(|task| task.id).collect();
                    sequence += 1;
                    let reports = reports(&ids, TaskState::Running);
                    node.send(NodeMessage::Reports { sequence, reports }).await;
                }
                _ => {}
            },
        }
    }
}

#[tokio::test]
async fn a_board_may_leave_once_its_tasks_run_elsewhere() {
    let board = board(2);
    let (_stay, staying) = tokio::sync::oneshot::channel();
    let (leave, leaving) = tokio::sync::oneshot::channel();
    let first = tokio::spawn(run_everything(board.session(1).await, staying));
    let second = tokio::spawn(run_everything(board.session(2).await, leaving));
    board.bench.apply(vec![service(1, 4)]);
    let run_on = |state: &ClusterState, number: u128| {
        let runs = |task: &&Arc<bramble_cluster::Task>| {
            task.status.state == TaskState::Running
                && task.desired == bramble_cluster::DesiredState::Running
        };
        state.tasks_on(id(number)).filter(runs).count()
    };
    let is_spread = |state: &Arc<ClusterState>| run_on(state, 1) == 2 && run_on(state, 2) == 2;
    board.bench.until("spread", is_spread).await;
    leave.send(()).expect("the board listens");
    timeout(SOON, second).await.expect("in time").expect("it may leave");
    assert_eq!(run_on(&board.bench.state(), 1), 4);
    first.abort();
}

#[tokio::test]
async fn a_board_that_nobody_could_replace_may_leave_at_once() {
    let board = board(1);
    let (leave, leaving) = tokio::sync::oneshot::channel();
    let only = tokio::spawn(run_everything(board.session(1).await, leaving));
    board.bench.apply(vec![service(1, 2)]);
    let is_running = |_: &Arc<ClusterState>| task_states(&board.bench) == [TaskState::Running; 2];
    board.bench.until("running", is_running).await;
    leave.send(()).expect("the board listens");
    timeout(SOON, only).await.expect("in time").expect("it may leave");
}

#[tokio::test]
async fn the_managers_are_told_when_they_change() {
    let board = board(2);
    let mut node = board.session(2).await;
    board.bench.set_voters(&[1, 2]);
    loop {
        if let LeaderMessage::Managers(managers) = node.receive().await {
            assert_eq!(managers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [id(1), id(2)]);
            break;
        }
    }
}

#[tokio::test]
async fn a_connection_that_says_nothing_sensible_is_dropped() {
    let board = board(1);
    let (near, far) = tokio::io::duplex(1024);
    assert!(board.callers.send(Caller { node: id(1), stream: far }).await.is_ok());
    let (mut sender, mut receiver) = node_side(near);
    sender.send(NodeMessage::Leaving).await.expect("sends");
    let ended = timeout(SOON, receiver.receive()).await.expect("in time");
    assert!(matches!(ended, Ok(None)), "{ended:?}");
}
