//! The orderly end of a board.

use std::{
    fs,
    path::{Path, PathBuf},
    process, thread,
    time::{Duration, Instant},
};

use bramble_cluster::chain;
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::{
        reboot::{RebootMode, reboot as end},
        signal::{Signal, kill},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::{Pid, sync},
};

use crate::{Places, boot::say, clock, ioctl};

/// The file with words for the firmware, below `/run`.
const ARGUMENT: &str = "bramble/reboot-argument";
/// How long processes have to end by themselves. Containers and the daemon have had theirs.
const GRACE: Duration = Duration::from_secs(2);
/// How long those that were killed have to be gone: one may hang in a disk that does.
const KILLED_GRACE: Duration = Duration::from_secs(2);
/// The pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);
/// Mounts that are undone, at most.
const MOUNTS_MAX: usize = 4096;

/// Ends every other process and brings all that was written to the disk. Afterwards the power may
/// go. Does nothing unless called by process 1.
pub fn settle(places: &Places) {
    if process::id() != 1 {
        return;
    }
    end_all_processes();
    if let Err(error) = clock::save(&places.bramble()) {
        say(&chain(&error));
    }
    sync();
    let table = fs::read_to_string(places.sources.proc.join("self/mountinfo")).unwrap_or_default();
    for mount_point in mounts_below(&table, &[&places.data, &places.card]) {
        if umount2(&mount_point, MntFlags::empty()).is_err() {
            seal(&mount_point);
        }
    }
    sync();
}

/// Restarts the board. Call [`settle`] first.
///
/// With the words that stand in `reboot-argument` in Bramble's run folder, if there are any, for the
/// kernel to pass on to the firmware.
pub fn reboot() -> ! {
    let words = fs::read_to_string(Places::default().run.join(ARGUMENT)).unwrap_or_default();
    if !words.is_empty()
        && let Err(error) = ioctl::reboot_with(&words)
    {
        say(&format!("problem: the kernel does not pass on `{words}`: {error}"));
    }
    finish(RebootMode::RB_AUTOBOOT)
}

/// Switches the board off. Call [`settle`] first.
pub fn power_off() -> ! {
    finish(RebootMode::RB_POWER_OFF)
}

fn finish(mode: RebootMode) -> ! {
    loop {
        let Err(error) = end(mode);
        say(&format!("problem: the kernel does not end: {error}"));
        // A board without a way to switch off stays here; the watchdog may think otherwise.
        thread::sleep(Duration::from_secs(10));
    }
}

/// Asks, then kills. From process 1, -1 is everybody else.
fn end_all_processes() {
    for (signal, grace) in [(Signal::SIGTERM, GRACE), (Signal::SIGKILL, KILLED_GRACE)] {
        let everybody = Pid::from_raw(-1);
        if kill(everybody, signal) == Err(Errno::ESRCH) {
            return;
        }
        let asked = Instant::now();
        while asked.elapsed() < grace {
            match waitpid(everybody, Some(WaitPidFlag::WNOHANG)) {
                Err(Errno::ECHILD) => return,
                Ok(status) if status.pid().is_some() => {}
                _ => thread::sleep(PAUSE),
            }
        }
    }
}

/// A file system that is in use still, made read-only: nothing of it is lost.
fn seal(mount_point: &Path) {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    if let Err(error) = mount(None::<&str>, mount_point, None::<&str>, flags, None::<&str>) {
        say(&format!("problem: {} could not be sealed: {error}", mount_point.display()));
    }
}

/// The mount points at and below some folders, in the order they can be unmounted in.
fn mounts_below(mountinfo: &str, folders: &[&Path]) -> Vec<PathBuf> {
    let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4));
    let mut points: Vec<PathBuf> = points
        .map(|point| PathBuf::from(unescape(point)))
        .filter(|point| folders.iter().any(|folder| point.starts_with(folder)))
        .take(MOUNTS_MAX)
        .collect();
    // What was mounted last is on top.
    points.reverse();
    points
}

/// `mountinfo` writes blanks in octal.
fn unescape(point: &str) -> String {
    point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_mount_is_undone_first() {
        let table = "\
22 1 254:4 / /data rw,noatime - ext4 /dev/vda4 rw
23 1 254:1 / /card ro - vfat /dev/vda1 ro
24 22 0:40 / /data/bramble/a\\040b rw - overlay overlay rw
25 1 0:41 / /database rw - tmpfs tmpfs rw
26 1 0:42 / /run rw - tmpfs tmpfs rw
";
        let order = mounts_below(table, &[Path::new("/data"), Path::new("/card")]);
        let expected = ["/data/bramble/a b", "/card", "/data"].map(PathBuf::from);
        assert_eq!(order, expected);
    }

    #[test]
    fn a_process_that_is_not_the_first_settles_nothing() {
        settle(&Places::default());
    }
}
