//! A cluster in which nothing happens.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use crate::board::Boards;

/// Every file below a folder, with its bytes and the time of its last write.
fn files(folder: &Path) -> BTreeMap<PathBuf, (Vec<u8>, SystemTime)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            let written = fs::metadata(&path).and_then(|it| it.modified()).expect("a time");
            found.insert(path.clone(), (fs::read(&path).expect("its bytes"), written));
        }
    }
    found
}

#[test]
fn an_idle_cluster_writes_nothing() {
    let boards = Boards::managing(3);
    let leader = boards.await_leader();
    boards.create(leader, 1);
    boards.await_agreement(0..3);
    let before: Vec<_> = (0..3).map(|board| files(&boards.folder(board))).collect();
    std::thread::sleep(Duration::from_secs(5));
    for (board, before) in before.into_iter().enumerate() {
        assert!(files(&boards.folder(board)) == before, "board {board} wrote");
    }
    assert_eq!(boards.leader(), Some(leader), "and nobody else came to lead");
}
