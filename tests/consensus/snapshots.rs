//! The log's beginning is replaced by a snapshot, which is also what a newcomer gets.

use bramble_cluster::{Command, JoinSecrets};

use crate::board::{Boards, missing, wait_until};

fn rotation(number: u16) -> Command {
    let mut worker = [0; 16];
    worker[..2].copy_from_slice(&number.to_le_bytes());
    Command::RotateJoinSecrets { secrets: JoinSecrets { worker, manager: [1; 16] } }
}

/// Enough entries for a snapshot and a purge, many at a time.
fn write_much(boards: &Boards, through: usize) {
    for batch in 0..60_u16 {
        let consensus = boards.consensus(through);
        let proposals =
            (0..50).map(|number| consensus.propose(vec![rotation(batch * 50 + number)]));
        let all = futures_util::future::join_all(proposals);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        for outcomes in runtime.expect("a runtime").block_on(all) {
            outcomes.expect("it is agreed").pop().expect("an outcome").expect("it is applied");
        }
    }
    let path = boards.folder(through).join("snapshot/snapshot");
    wait_until("there is a snapshot", || path.exists());
}

#[test]
fn a_newcomer_gets_the_snapshot_and_the_rest_of_the_log() {
    let mut boards = Boards::started(2);
    boards.found(0);
    for service in 0..300 {
        boards.create(0, service);
    }
    write_much(&boards, 0);
    boards.create(0, 300);
    boards.change_voters(0, 0..2).expect("the voters changed");
    let state = boards.await_agreement(0..2);
    assert!(missing(&state, 0..301).is_empty());
    assert!(boards.folder(1).join("snapshot/snapshot").exists(), "it came as a snapshot");
    // And it is as good as any: both come back from what they have.
    boards.create(1, 301);
    for board in 0..2 {
        boards.kill(board);
    }
    for board in 0..2 {
        boards.start(board);
    }
    boards.await_leader();
    assert!(missing(&boards.await_agreement(0..2), 0..302).is_empty());
}

#[test]
fn a_damaged_snapshot_stops_the_node() {
    let mut boards = Boards::started(1);
    boards.found(0);
    write_much(&boards, 0);
    boards.kill(0);
    let path = boards.folder(0).join("snapshot/snapshot");
    let mut bytes = std::fs::read(&path).expect("the snapshot");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).expect("written");
    let refused = boards.try_start(0).expect_err("it does not guess");
    assert_eq!(refused.to_string(), "cannot open the snapshot");
}

#[test]
fn a_log_whose_snapshot_is_gone_is_damage_and_no_passing_fault() {
    let mut boards = Boards::started(1);
    boards.found(0);
    write_much(&boards, 0);
    boards.shut_down(0);
    std::fs::remove_dir_all(boards.folder(0).join("snapshot")).expect("removed");
    let refused = boards.try_start(0).expect_err("what the snapshot held is nowhere else");
    assert!(refused.is_damage(), "{refused}");
}
