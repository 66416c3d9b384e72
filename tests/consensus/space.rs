//! Disks: a full one, and what a commit costs. Needs root: the board's folder is a file system of
//! its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use bramble_manager::consensus::ProposeError;

use crate::board::{Boards, creation, missing, node, wait_until};

/// A file system, mounted while this lives.
struct Disk(PathBuf);

impl Disk {
    /// A small one in memory.
    fn small(folder: &Path) -> Self {
        Self::mount(folder, &["-t", "tmpfs", "-o", "size=24m", "tmpfs"])
    }

    /// ext4 with 4 KiB blocks, as on a card, in a file.
    fn ext4(folder: &Path, file: &Path) -> Self {
        let empty = fs::File::create(file).expect("a file");
        empty.set_len(300 * 1024 * 1024).expect("a large one");
        let made = Command::new("mkfs.ext4").args(["-q", "-b", "4096"]).arg(file).status();
        assert!(made.is_ok_and(|made| made.success()), "this test needs mkfs.ext4");
        Self::mount(folder, &["-o", "loop,noatime", file.to_str().expect("a name")])
    }

    fn mount(folder: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(folder).expect("a folder to mount on");
        let mounted = Command::new("mount").args(arguments).arg(folder).status();
        let is_mounted = mounted.expect("there is a `mount` command").success();
        assert!(is_mounted, "this test mounts a file system, so run it as root");
        Self(folder.to_owned())
    }

    /// Bytes that its block device has written.
    fn written(&self) -> u64 {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
        let folder = self.0.to_str().expect("a name");
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(folder));
        let device = line.and_then(|line| line.split(' ').next()).expect("it is mounted");
        let name = Path::new(device).file_name().expect("a device").to_str().expect("a name");
        let counts = fs::read_to_string(format!("/sys/block/{name}/stat")).expect("its counts");
        let sectors = counts.split_whitespace().nth(6).and_then(|count| count.parse::<u64>().ok());
        sectors.expect("a number") * 512
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_is_refused_in_clear_words_and_goes_on_when_there_is_room() {
    let mut boards = Boards::started(1);
    let folder = boards.folder(0);
    let _disk = Disk::small(&folder);
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

#[test]
fn a_commit_writes_little_more_than_a_block() {
    const COMMITS: usize = 500;
    let mut boards = Boards::started(1);
    let folder = boards.folder(0);
    let disk = Disk::ext4(&folder, &folder.with_extension("image"));
    boards.found(0);
    let settle = || drop(Command::new("sync").arg("--file-system").arg(&folder).status());
    settle();
    let before = disk.written();
    for service in 0..COMMITS {
        boards.create(0, service);
    }
    settle();
    let each = (disk.written() - before) / COMMITS as u64;
    println!("{each} bytes a commit reach the disk");
    assert!(each < 8 * 1024, "{each} bytes");
    boards.kill(0);
}
