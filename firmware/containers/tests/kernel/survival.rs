//! What outlives whom: containers their daemon, nothing its keeper.

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use bramble_cluster::TaskId;
use bramble_containers::{ContainerState, ContainerStatus, Keeper, LogQuery};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::board::{Board, PATIENCE, children_of, ended, log};

const CONTAINERS: u128 = 120;
const LINES: u128 = 100;
const KILLS: u32 = 50;

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_killed_fifty_times_loses_no_container_line_or_exit_code() {
    let board = Board::start_as_daemon(CONTAINERS, LINES);
    let keeper = board.connect().await;
    let mut random = Random::from_clock();
    let mut followers = BTreeMap::new();
    for _ in 0..KILLS {
        follow_new(&keeper, &mut followers);
        tokio::time::sleep(Duration::from_millis(random.below(150))).await;
        let daemon = wait_for_daemon(&board).await;
        tokio::time::sleep(Duration::from_micros(random.below(60_000))).await;
        kill(daemon, Signal::SIGKILL).unwrap();
    }
    for number in 1..=CONTAINERS {
        let id = TaskId::from_random(number);
        let exit = ended(&keeper, id).await;
        assert_eq!(exit.code, i32::try_from(number % 100).unwrap(), "of {number}");
        let expected: String = (0..LINES).map(|line| format!("{number} line {line}\n")).collect();
        assert_eq!(log(&keeper, id).await, expected);
        follow_new(&keeper, &mut followers);
        let followed = followers.remove(&id).unwrap().await.unwrap();
        assert_eq!(followed, expected, "as followed");
    }
    // A daemon that comes back from its last death now would start them all again.
    kill(wait_for_daemon(&board).await, Signal::SIGSTOP).unwrap();
    for number in 1..=CONTAINERS {
        keeper.remove(TaskId::from_random(number)).await.unwrap();
    }
    let left = board.leftovers();
    assert!(left.iter().all(|left| left.contains("daemon")), "{left:?}");
}

#[tokio::test]
async fn a_daemon_that_hangs_is_replaced_and_its_containers_run_on() {
    let board = Board::start_as_watched_daemon(8);
    let keeper = board.connect().await;
    let id = TaskId::from_random(1);
    let is_running = |status: &ContainerStatus| {
        status.id == id && matches!(status.state, ContainerState::Running { .. })
    };
    let begin = Instant::now();
    while !keeper.list().iter().any(is_running) {
        assert!(begin.elapsed() < PATIENCE, "the container does not start");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = keeper.list();
    let hung = wait_for_daemon(&board).await;
    kill(hung, Signal::SIGSTOP).unwrap();
    while wait_for_daemon(&board).await == hung {
        assert!(begin.elapsed() < PATIENCE, "the daemon hangs for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(keeper.list(), before, "the container knows nothing of it");
    kill(wait_for_daemon(&board).await, Signal::SIGSTOP).unwrap();
    keeper.remove(id).await.unwrap();
}

/// Follows the log of every container that is not followed yet, to its end.
fn follow_new(keeper: &Keeper, followers: &mut BTreeMap<TaskId, tokio::task::JoinHandle<String>>) {
    for status in keeper.list() {
        followers.entry(status.id).or_insert_with(|| {
            let query = LogQuery { follow: true, ..LogQuery::default() };
            let mut reader = keeper.logs(status.id, query).unwrap();
            tokio::spawn(async move {
                let mut text = String::new();
                while let Some(entry) = reader.next().await.unwrap() {
                    text.push_str(&String::from_utf8_lossy(&entry.line));
                    text.push('\n');
                }
                text
            })
        });
    }
}

async fn wait_for_daemon(board: &Board) -> Pid {
    let begin = Instant::now();
    loop {
        for child in children_of(board.keeper.id()) {
            let line = fs::read_to_string(format!("/proc/{child}/cmdline")).unwrap_or_default();
            if line.split('\0').nth(1) == Some("daemon") {
                return Pid::from_raw(child.try_into().unwrap());
            }
        }
        assert!(begin.elapsed() < PATIENCE, "the keeper does not restart its daemon");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_keeper_that_was_killed_leaves_nothing_that_the_next_one_does_not_clean() {
    let mut board = Board::start();
    let keeper = board.connect().await;
    for (number, line) in [(1, "sleep 1000 & sleep 1000"), (2, "echo done; exit 7")] {
        let request = board.shell(number, line);
        let id = request.task.id;
        keeper.create(request).await.unwrap();
        keeper.start(id).await.unwrap();
    }
    let created = board.shell(3, "true");
    keeper.create(created).await.unwrap();
    ended(&keeper, TaskId::from_random(2)).await;
    // A mount below the run directory, as images make them.
    let mount = board.layout.run_dir().join("a mount");
    fs::create_dir(&mount).unwrap();
    let flags = nix::mount::MsFlags::empty();
    nix::mount::mount(Some("tmpfs"), &mount, Some("tmpfs"), flags, None::<&str>).unwrap();
    board.signal_keeper(Signal::SIGKILL);
    board.keeper.wait().unwrap();
    board.restart();
    let keeper = board.connect().await;
    let codes: Vec<i32> = keeper
        .list()
        .iter()
        .map(|status| match status.state {
            ContainerState::Exited(exit) => exit.code,
            ref state => panic!("{state:?}"),
        })
        .collect();
    assert_eq!(codes, [137, 7]);
    assert_eq!(log(&keeper, TaskId::from_random(2)).await, "done\n");
    for number in [1, 2] {
        keeper.remove(TaskId::from_random(number)).await.unwrap();
    }
    board.assert_clean().await;
}

#[tokio::test]
async fn an_orderly_end_lets_containers_end_by_their_stop_signal() {
    let mut board = Board::start();
    let keeper = board.connect().await;
    let proof = board.rootfs().join("tmp/stopped");
    let line = "trap 'echo bye > /tmp/stopped; exit 0' TERM; while true; do usleep 10000; done";
    for (number, line) in [(1, line), (2, "trap '' TERM; while true; do sleep 1; done")] {
        let request = board.shell(number, line);
        let id = request.task.id;
        keeper.create(request).await.unwrap();
        keeper.start(id).await.unwrap();
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begin = Instant::now();
    board.signal_keeper(Signal::SIGTERM);
    assert!(board.keeper.wait().unwrap().success());
    assert_eq!(fs::read_to_string(proof).unwrap(), "bye\n");
    let took = begin.elapsed();
    assert!((900..10_000).contains(&took.as_millis()), "the grace period is 1 s, not {took:?}");
    board.assert_clean().await;
    assert!(!board.layout.socket().exists());
}

#[tokio::test]
async fn a_daemon_ends_the_board_by_its_exit_code() {
    let mut board = Board::start_with(&["refuse"]);
    assert_eq!(board.keeper.wait().unwrap().code(), Some(78));
    let mut board = Board::start_with(&["end"]);
    assert_eq!(board.keeper.wait().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_keeper_is_refused() {
    let board = Board::start();
    drop(board.connect().await);
    let mut second = board.spawn_again();
    assert_eq!(second.wait().unwrap().code(), Some(1));
    drop(board.connect().await);
}

/// A small generator; the seed is printed so that a failure can be told apart from luck.
struct Random(u64);

impl Random {
    fn from_clock() -> Self {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let seed = u64::from(now.subsec_nanos());
        println!("seed {seed}");
        Self(seed)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) % bound
    }
}
