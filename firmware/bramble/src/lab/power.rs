//! How a virtual board gets power: the namespaces it lives in, then the daemon as its process 1.
//!
//! Both steps run single-threaded and before any runtime, as new namespaces demand.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{sethostname, setsid},
};

use super::{board::Board, folder::LabFolder};

/// The first step, already on the board's network: enters the board's other namespaces and starts
/// its process 1. Leaves that process's id, as the host counts, in the board's folder.
pub(crate) fn power_on(folder: &LabFolder, number: u8) -> Result<()> {
    let board = Board::new(folder.clone(), number);
    setsid().context("cannot leave the terminal")?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    unshare(namespaces).context("cannot make a board's namespaces")?;
    sethostname(board.hostname()).context("cannot set a board's host name")?;
    let log = File::options().create(true).append(true).open(board.log())?;
    let child = Command::new(current_exe()?)
        .args(["lab", "boot", &number.to_string(), "--dir"])
        .arg(folder.path())
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start a board's first process")?;
    fs::write(board.pid_file(), child.id().to_string())?;
    Ok(())
}

/// The second step, as process 1 of the board: its own `/proc`, then the daemon, for good.
pub(crate) fn boot(folder: &LabFolder, number: u8) -> Result<()> {
    let board = Board::new(folder.clone(), number);
    let nothing: Option<&str> = None;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).context("cannot part from the host's mounts")?;
    let proc_flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), proc_flags, nothing)
        .context("cannot mount /proc")?;
    Err(become_daemon(&board)?.into())
}

fn become_daemon(board: &Board) -> Result<std::io::Error> {
    Ok(Command::new(current_exe()?)
        .arg("daemon")
        .arg("--config")
        .arg(board.folder().join("bramble.toml"))
        .arg("--data-dir")
        .arg(board.folder().join("data"))
        .arg("--run-dir")
        .arg(board.folder())
        .arg("--cgroup")
        .arg(board.cgroup())
        .exec())
}

/// This very binary, by its path: `/proc` is not the board's own yet when the board boots.
fn current_exe() -> Result<std::path::PathBuf> {
    std::env::current_exe().context("cannot find this program's own file")
}
