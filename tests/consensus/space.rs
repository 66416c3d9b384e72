//! The disk is full. Needs root: the board's folder is a small file system of its own.

use std::{fs, path::Path, process::Command};

use bramble_manager::consensus::ProposeError;

use crate::board::{Boards, creation, missing, node, wait_until};

/// A small file system in memory, mounted while this lives.
struct SmallDisk<'folder>(&'folder Path);

impl<'folder> SmallDisk<'folder> {
    fn mount(folder: &'folder Path) -> Self {
        fs::create_dir_all(folder).expect("a folder to mount on");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
            .arg(folder)
            .status()
            .expect("there is a `mount` command");
        assert!(mounted.success(), "this test mounts a small file system, so run it as root");
        Self(folder)
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_refused_in_clear_words_and_goes_on_when_there_is_room() {
    let mut boards = Boards::started(1);
    let folder = boards.folder(0);
    let _disk = SmallDisk::mount(&folder);
    boards.found(0);
    boards.create(0, 1);
    let filler = folder.join("filler");
    fs::write(&filler, vec![7; 10 * 1024 * 1024]).expect("some room is taken");
    // What the file system says is believed for a second.
    let full = ProposeError::DiskFull { node: node(0) };
    wait_until("it is noticed", || boards.propose(0, creation(0)) == Err(full.clone()));
    let text = full.to_string();
    assert!(text.starts_with("the disk of board 0000000000000000000000000, which leads, is full"));
    assert!(boards.leadership(0).is_leader_here, "it goes on leading");
    // Not even a restart needs room.
    fs::write(folder.join("rest"), vec![7; 64 * 1024 * 1024]).expect_err("the disk is full");
    boards.kill(0);
    boards.start(0);
    wait_until("it leads again", || boards.leadership(0).is_leader_here);
    assert!(missing(&boards.state(0), [1]).is_empty());
    fs::remove_file(&filler).expect("there is room again");
    fs::remove_file(folder.join("rest")).expect("there is room again");
    wait_until("it is noticed", || boards.propose(0, creation(2)).is_ok());
    boards.kill(0);
}
