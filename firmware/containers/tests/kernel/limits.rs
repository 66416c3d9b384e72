//! Memory, processes and processor time have limits that hold.

use bramble_cluster::{LogDriver, ResourceLimits, TaskSpec};
use bramble_containers::ContainerRequest;

use crate::board::{Board, ended, log, output, run};

const MIB: u64 = 1024 * 1024;

fn limited(board: &Board, number: u128, line: &str, resources: ResourceLimits) -> ContainerRequest {
    let container = board.shell(number, line).task.spec.container.clone();
    board.container(number, TaskSpec { container, resources, ..TaskSpec::default() })
}

#[tokio::test]
async fn a_container_without_memory_is_killed_and_it_is_said_why() {
    let board = Board::start();
    let keeper = board.connect().await;
    let resources = ResourceLimits { limit_memory_bytes: 16 * MIB, ..ResourceLimits::default() };
    // `tail` keeps what it reads until a line ends, which it never does.
    let request = limited(&board, 1, "exec tail /dev/zero", resources);
    let exit = run(&keeper, request).await;
    assert_eq!((exit.code, exit.is_out_of_memory), (137, true));
    let request = limited(&board, 2, "sleep 1000", resources);
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    keeper.start(id).await.unwrap();
    keeper.signal(id, 9).await.unwrap();
    let exit = ended(&keeper, id).await;
    assert_eq!((exit.code, exit.is_out_of_memory), (137, false));
}

#[tokio::test]
async fn a_container_cannot_have_more_processes_than_its_limit() {
    let board = Board::start();
    let keeper = board.connect().await;
    let resources = ResourceLimits { limit_pids: 5, ..ResourceLimits::default() };
    let line = "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo all";
    let (_, log) = output(&keeper, limited(&board, 1, line, resources)).await;
    assert!(log.contains("can't fork") && !log.contains("all"), "{log}");
}

#[tokio::test]
async fn a_container_cannot_have_more_processor_time_than_its_limit() {
    let board = Board::start();
    let keeper = board.connect().await;
    let resources = ResourceLimits { limit_nano_cpus: 200_000_000, ..ResourceLimits::default() };
    // A second of the wall clock, counted in hundredths of processor time.
    let line = "busy() { while true; do :; done; }; busy & sleep 1; kill $!; wait; times";
    let begin = std::time::Instant::now();
    let (_, log) = output(&keeper, limited(&board, 1, line, resources)).await;
    let seconds: f64 = log
        .split_whitespace()
        .filter_map(|word| word.split_once('m')?.1.trim_end_matches('s').parse::<f64>().ok())
        .sum();
    let share = seconds / begin.elapsed().as_secs_f64();
    assert!((0.02..0.4).contains(&share), "{share} of a core: {log}");
}

#[tokio::test]
async fn a_limit_that_makes_no_sense_is_refused_by_field() {
    let board = Board::start();
    let keeper = board.connect().await;
    let resources = ResourceLimits { limit_memory_bytes: 4_096, ..ResourceLimits::default() };
    let error = keeper.create(limited(&board, 1, "true", resources)).await.unwrap_err();
    assert_eq!(error.to_string(), "resources.limit_memory_bytes: 4096 is below 6 MiB");
}

#[tokio::test]
async fn a_container_that_writes_without_end_is_not_held_up_and_keeps_its_youngest_lines() {
    let board = Board::start();
    let keeper = board.connect().await;
    let line = "i=0; while [ $i -lt 40000 ]; do echo \"$i a line that says nothing\"; \
        i=$((i+1)); done; head -c 100000 /dev/zero | tr '\\0' x; echo; echo last";
    let mut request = board.shell(1, line);
    let mut spec = (*request.task.spec).clone();
    let options = [("max-size", "256k"), ("max-file", "1")];
    let options = options.map(|(name, value)| (name.to_owned(), value.to_owned()));
    spec.log_driver = Some(LogDriver { name: "json-file".to_owned(), options: options.into() });
    request.task.spec = spec.into();
    let id = request.task.id;
    keeper.create(request).await.unwrap();
    keeper.start(id).await.unwrap();
    assert_eq!(ended(&keeper, id).await.code, 0);
    let folder = board.layout.log(id);
    let bytes: u64 = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert!((128 * 1024..512 * 1024).contains(&bytes), "{bytes} bytes");
    let text = log(&keeper, id).await;
    assert!(text.ends_with("\nlast\n") && !text.starts_with("0 a line"));
    assert!(text.contains("39999 a line"), "{}", &text[..200]);
}
