//! Tasks from their order to their end, and over a restart of the daemon.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use bramble_agent::BoxedStream;
use bramble_cluster::{AssignedTask, DesiredState, Digest, NodeId, Peer, TaskState};
use bramble_containers::{LogQuery, images::FileContent, images::ImageBuilder};
use bramble_peering::session::LeaderMessage;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::{
    board::{Board, IMAGE, add_image, pid, session, store},
    leader::Leader,
};

fn kill_container(pid: u32) {
    kill(Pid::from_raw(pid.try_into().expect("a pid")), Signal::SIGKILL).expect("kills");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_tasks_run_soon_and_leave_nothing_behind() {
    let (board, mut door) = Board::start().await;
    let agent = board.agent().await;
    let mut leader = session(&mut door).await;
    let tasks: Vec<AssignedTask> = (1..=50).map(|number| board.sleeper(number)).collect();
    let begin = Instant::now();
    leader.assign(&tasks).await;
    leader.until(&tasks, TaskState::Running).await;
    let took = begin.elapsed();
    println!("50 tasks assigned -> all Running: {took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(agent.containers().len(), 50);
    assert!(agent.containers().iter().all(|container| container.task.is_some()));
    let begin = Instant::now();
    leader.assign(&[]).await;
    board.assert_clean().await;
    println!("50 tasks withdrawn -> nothing left: {:?}", begin.elapsed());
    assert!(agent.containers().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_container_is_reported_at_once() {
    let (board, mut door) = Board::start().await;
    let agent = board.agent().await;
    let mut leader = session(&mut door).await;
    let task = board.sleeper(1);
    leader.assign(std::slice::from_ref(&task)).await;
    leader.until(std::slice::from_ref(&task), TaskState::Running).await;
    assert_eq!(leader.status(&task).pid, pid(agent.keeper(), 1));
    let begin = Instant::now();
    kill_container(pid(agent.keeper(), 1).expect("it runs"));
    leader.until(std::slice::from_ref(&task), TaskState::Failed).await;
    let took = begin.elapsed();
    println!("container killed -> reported: {took:?}");
    assert!(took < Duration::from_millis(200), "{took:?}");
    let status = leader.status(&task);
    assert_eq!(status.exit_code, Some(137));
    // A task runs once: its replacement is another task.
    let begin = Instant::now();
    let replacement = board.sleeper(2);
    leader.assign(&[task, replacement.clone()]).await;
    leader.until(&[replacement], TaskState::Running).await;
    println!("replacement assigned -> Running: {:?}", begin.elapsed());
    assert_eq!(pid(agent.keeper(), 1), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_should_stop_stops_and_keeps_its_log() {
    let (board, mut door) = Board::start().await;
    let agent = board.agent().await;
    let mut leader = session(&mut door).await;
    let task = board.task(1, "trap 'exit 3' TERM; echo hello; while :; do sleep 0.02; done");
    leader.assign(std::slice::from_ref(&task)).await;
    leader.until(std::slice::from_ref(&task), TaskState::Running).await;
    let follow = LogQuery { follow: true, ..LogQuery::default() };
    let mut log = agent.logs(task.id, follow).expect("a log");
    log.next().await.expect("reads").expect("it listens to its signal");
    let stopped = AssignedTask { desired: DesiredState::Shutdown, ..task.clone() };
    leader.assign(std::slice::from_ref(&stopped)).await;
    leader.until(&[stopped], TaskState::Shutdown).await;
    assert_eq!(leader.status(&task).exit_code, Some(3));
    let mut log = agent.logs(task.id, LogQuery::default()).expect("a log");
    let entry = log.next().await.expect("reads").expect("a line");
    assert_eq!(entry.line, b"hello");
    // Its file system is given back, its log stays until the task is forgotten.
    let begin = Instant::now();
    while board.leftovers().iter().any(|left| left.contains("overlay")) {
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", board.leftovers());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    leader.assign(&[]).await;
    board.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_ends_by_itself_is_complete_or_failed() {
    let (board, mut door) = Board::start().await;
    let _agent = board.agent().await;
    let mut leader = session(&mut door).await;
    let good = board.task(1, "exit 0");
    let bad = board.task(2, "exit 7");
    leader.assign(&[good.clone(), bad.clone()]).await;
    leader.until(&[good], TaskState::Complete).await;
    leader.until(std::slice::from_ref(&bad), TaskState::Failed).await;
    assert_eq!(leader.status(&bad).exit_code, Some(7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_daemon_goes_on_with_the_same_containers() {
    let (board, mut door) = Board::start().await;
    let first = board.agent().await;
    let mut leader = session(&mut door).await;
    let tasks: Vec<AssignedTask> = (1..=5).map(|number| board.sleeper(number)).collect();
    leader.assign(&tasks).await;
    leader.until(&tasks, TaskState::Running).await;
    let pids: Vec<_> = (1..=5).map(|number| pid(first.keeper(), number)).collect();
    first.shut_down();
    drop((first, leader));

    // One of them ends while nobody looks.
    kill_container(pids[4].expect("it runs"));
    let second = board.agent().await;
    // Without a leader everything stays as it was ordered.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let containers = second.containers();
    assert_eq!(containers.len(), 5);
    assert!(containers.iter().all(|container| container.task.is_some()), "its orders are known");
    assert_eq!(pid(second.keeper(), 1), pids[0]);

    let mut leader = Leader::welcome_in(&mut door, 2).await;
    leader.assign(&tasks).await;
    leader.until(&tasks[..4], TaskState::Running).await;
    leader.until(&tasks[4..], TaskState::Failed).await;
    let now: Vec<_> = (1..=4).map(|number| pid(second.keeper(), number)).collect();
    assert_eq!(now, pids[..4], "nothing was started again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_of_a_deposed_leader_stops_nothing() {
    let (board, mut door) = Board::start().await;
    let agent = board.agent().await;
    let mut leader = Leader::welcome_in(&mut door, 5).await;
    let task = board.sleeper(1);
    leader.assign(std::slice::from_ref(&task)).await;
    leader.until(std::slice::from_ref(&task), TaskState::Running).await;
    let before = pid(agent.keeper(), 1);
    agent.shut_down();
    drop((agent, leader));
    let agent = board.agent().await;
    let mut deposed = Leader::welcome_in(&mut door, 4).await;
    deposed.assign_as(1_000, &[]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(pid(agent.keeper(), 1), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_that_nobody_has_is_a_clear_rejection() {
    let (board, mut door) = Board::start().await;
    let _agent = board.agent().await;
    let mut leader = session(&mut door).await;
    let nowhere = AssignedTask { image: Some(Digest::from_bytes([3; 32])), ..board.sleeper(1) };
    let mut unnamed = AssignedTask { image: None, ..board.sleeper(2) };
    let spec = Arc::make_mut(&mut unnamed.spec);
    "nosuch".clone_into(&mut spec.container.image.name);
    leader.assign(&[nowhere.clone(), unnamed.clone()]).await;
    leader.until(&[nowhere.clone(), unnamed.clone()], TaskState::Rejected).await;
    let error = leader.status(&nowhere).error;
    assert!(error.starts_with("no board has image sha256:0303"), "{error}");
    let error = leader.status(&unnamed).error;
    assert_eq!(error, "no such image: nosuch");
    leader.assign(&[]).await;
    board.assert_clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_image_is_fetched_from_a_board_that_holds_it() {
    let (mut board, mut door) = Board::start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let holder = store(folder.path().join("images"));
    let builder = ImageBuilder::new()
        .file("bin/busybox", FileContent::Copy("/usr/bin/busybox".into()), 0o755)
        .symlink("bin/sh", "busybox")
        .folder("proc", 0o755)
        .folder("dev", 0o755)
        .folder("sys", 0o755)
        .entrypoint(["/bin/busybox", "sleep", "1000"]);
    let name = "docker.io/library/other:1".parse().expect("a name");
    let other = holder.build(builder, name).await.expect("builds").digest;
    board.blobs = Arc::new(move |peer| {
        let holder = holder.clone();
        Box::pin(async move {
            assert_eq!(peer.id, NodeId::from_random(3));
            let (near, far) = tokio::io::duplex(64 * 1024);
            tokio::spawn(async move { holder.serve(far).await });
            Ok(Box::pin(near) as BoxedStream)
        })
    });
    let _agent = board.agent().await;
    let mut leader = session(&mut door).await;
    let mut task = board.sleeper(1);
    task.image = Some(other);
    task.image_holders = vec![Peer { id: NodeId::from_random(3), addresses: Vec::new() }];
    let container = &mut Arc::make_mut(&mut task.spec).container;
    "docker.io/library/other:1".clone_into(&mut container.image.name);
    container.arguments = Vec::new();
    leader.assign(std::slice::from_ref(&task)).await;
    leader.until(&[task], TaskState::Running).await;
    let listed = leader.images.borrow().iter().map(|image| image.digest).collect::<BTreeSet<_>>();
    assert!(listed.contains(&other), "the cluster was told that it is here now");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_loads_an_image_learns_when_the_cluster_knows_it() {
    let (board, mut door) = Board::start().await;
    let agent = board.agent().await;
    let leader = session(&mut door).await;
    assert!(agent.images_listed().await);
    assert!(leader.images.borrow().iter().any(|image| image.names.contains(IMAGE)));
    agent.images().remove(IMAGE, false).await.expect("removes");
    assert!(agent.images_listed().await);
    assert!(leader.images.borrow().is_empty());
    add_image(agent.images()).await;
    assert!(agent.images_listed().await);
    assert_eq!(leader.images.borrow().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_board_that_leaves_waits_until_it_may() {
    let (board, mut door) = Board::start().await;
    let agent = board.agent().await;
    let leader = session(&mut door).await;
    let leaving = tokio::spawn({
        let agent = agent.clone();
        async move { agent.leave(Duration::from_secs(10)).await }
    });
    let mut told = leader.is_leaving.clone();
    told.wait_for(|told| *told).await.expect("open");
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!leaving.is_finished());
    leader.say(LeaderMessage::MayLeave).await;
    assert!(leaving.await.expect("ends"));
    assert!(!board.agent().await.leave(Duration::from_millis(50)).await, "nobody said it may");
}
