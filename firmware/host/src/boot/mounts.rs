//! The file systems that exist before any disk is looked at.

use std::{fs, path::Path};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sys::{
        stat::{Mode, umask},
        statfs::{self, statfs},
    },
    unistd::{chdir, chroot},
};

use super::Findings;

/// A file system of the kernel's: type, folder, flags, options.
type Mount = (&'static str, &'static str, MsFlags, &'static str);

const QUIET: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV).union(MsFlags::MS_NOEXEC);
const PLAIN: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NODEV);

/// In order: what later ones are mounted in comes first.
const MOUNTS: &[Mount] = &[
    ("proc", "/proc", QUIET, ""),
    ("sysfs", "/sys", QUIET, ""),
    // Not by the kernel's own doing: Debian's is built without DEVTMPFS_MOUNT.
    ("devtmpfs", "/dev", MsFlags::MS_NOSUID, "mode=0755"),
    ("devpts", "/dev/pts", MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC), "mode=0620,ptmxmode=0666"),
    ("tmpfs", "/dev/shm", PLAIN, "mode=1777"),
    ("tmpfs", "/run", PLAIN, "mode=0755"),
    ("tmpfs", "/tmp", PLAIN, "mode=1777"),
    ("cgroup2", "/sys/fs/cgroup", QUIET, "nsdelegate"),
];

/// Where the root is bound to for a moment.
const HINGE: &str = "/mnt";

/// Mounts what the kernel offers; what is there already stays.
pub(super) fn mount_all(findings: &mut Findings) {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    if let Err(error) = leave_the_first_root() {
        findings.problem(format!(
            "containers may not start: the first root file system could not be left: {error}"
        ));
    }
    for (kind, folder, flags, options) in MOUNTS {
        if let Err(error) = mount_one(kind, Path::new(folder), *flags, options) {
            findings.problem(format!("{folder} could not be mounted: {error}"));
        }
    }
}

/// Mounts one file system of the kernel's on a folder that is made if need be. It being there
/// already is no error.
pub(crate) fn mount_one(
    kind: &str,
    folder: &Path,
    flags: MsFlags,
    options: &str,
) -> Result<(), Errno> {
    // A folder that cannot be made makes the mount fail, which says more.
    let _ = fs::create_dir_all(folder);
    match mount(Some(kind), folder, Some(kind), flags, Some(options)) {
        Ok(()) | Err(Errno::EBUSY) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Puts a second mount of the initramfs over the first.
///
/// The first root has no parent, and the kernel refuses `pivot_root` from such a mount, with which
/// every container begins. A bind of it has one. Nothing is copied.
fn leave_the_first_root() -> Result<(), Errno> {
    let kind = statfs("/")?.filesystem_type();
    // Some other root: whoever mounted it did so over the first.
    if kind != statfs::TMPFS_MAGIC && kind != RAMFS_MAGIC {
        return Ok(());
    }
    let _ = fs::create_dir_all(HINGE);
    mount(Some("/"), HINGE, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    chdir(HINGE)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    chroot(".")?;
    chdir("/")
}

/// `RAMFS_MAGIC` of linux/magic.h, which libc has no name for.
const RAMFS_MAGIC: statfs::FsType = statfs::FsType(0x8584_58f6);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_are_mounted_in_comes_first() {
        for (index, (_, folder, _, _)) in MOUNTS.iter().enumerate() {
            let inside = MOUNTS[..index].iter().any(|(_, earlier, _, _)| {
                Path::new(earlier).starts_with(folder) && earlier != folder
            });
            assert!(!inside, "{folder} would hide what was mounted before");
        }
    }
}
