//! Many containers at once leave nothing behind.

use bramble_containers::ContainerState;

use crate::board::{Board, ended, exec};

const CYCLES: u128 = 200;
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_cycles_in_parallel_leave_nothing_behind() {
    let board = Board::start();
    let keeper = board.connect().await;
    let turns = std::sync::Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let mut cycles = Vec::new();
    for number in 1..=CYCLES {
        let (keeper, turns) = (keeper.clone(), turns.clone());
        let request = board.shell(number, "echo begun; sleep 1000 & sleep 1000");
        cycles.push(tokio::spawn(async move {
            let _turn = turns.acquire().await.unwrap();
            let id = request.task.id;
            keeper.create(request).await.unwrap();
            keeper.start(id).await.unwrap();
            let (code, text) = exec(&keeper, id, &format!("echo {number}; exit 9")).await;
            assert_eq!((code, text), (9, format!("{number}\n")));
            match number % 4 {
                0 => keeper.remove(id).await.unwrap(),
                1 => keeper.stop(id, Some(std::time::Duration::ZERO)).await.unwrap(),
                _ => keeper.signal(id, 9).await.unwrap(),
            }
            if number % 4 != 0 {
                let exit = ended(&keeper, id).await;
                assert!([137, 143].contains(&exit.code), "{exit:?}");
                keeper.remove(id).await.unwrap();
            }
        }));
    }
    for cycle in cycles {
        cycle.await.unwrap();
    }
    assert_eq!(keeper.list(), []);
    board.assert_clean().await;
    let files = std::fs::read_dir(format!("/proc/{}/fd", board.keeper.id())).unwrap().count();
    assert!(files < 20, "the keeper holds {files} files");
}

#[tokio::test]
async fn a_failed_start_says_why_and_leaves_nothing() {
    let board = Board::start();
    let keeper = board.connect().await;
    for (number, program, reason) in [
        (1, "/bin/missing", "no such file or directory"),
        (2, "missing", "executable file not found in $PATH"),
        (3, "/etc/passwd", "permission denied"),
        (4, "/etc", "is a directory"),
    ] {
        let mut request = board.shell(number, "");
        let id = request.task.id;
        let mut spec = (*request.task.spec).clone();
        spec.container.arguments = vec![program.to_owned()];
        request.task.spec = spec.into();
        keeper.create(request).await.unwrap();
        let error = keeper.start(id).await.unwrap_err().to_string();
        assert!(error.contains(reason), "{program}: {error}");
        assert!(matches!(keeper.list()[0].state, ContainerState::NotStarted { .. }));
        keeper.remove(id).await.unwrap();
    }
    board.assert_clean().await;
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let board = Board::start();
    let keeper = board.connect().await;
    let request = board.shell(1, "sleep 1000");
    let id = request.task.id;
    let text = |error: bramble_containers::CallError| error.to_string();
    assert!(text(keeper.start(id).await.unwrap_err()).starts_with("no container"));
    assert!(text(keeper.signal(id, 15).await.unwrap_err()).starts_with("no container"));
    keeper.remove(id).await.unwrap();
    keeper.create(request.clone()).await.unwrap();
    keeper.create(request.clone()).await.unwrap();
    keeper.start(id).await.unwrap();
    assert!(text(keeper.start(id).await.unwrap_err()).ends_with("was started before"));
    assert!(keeper.create(request).await.unwrap_err().to_string().ends_with("was started before"));
    assert!(text(keeper.signal(id, 99).await.unwrap_err()).contains("99 is no signal"));
    keeper.signal(id, 9).await.unwrap();
    ended(&keeper, id).await;
    assert!(text(keeper.signal(id, 9).await.unwrap_err()).ends_with("does not run"));
    keeper.remove(id).await.unwrap();
    board.assert_clean().await;
}
