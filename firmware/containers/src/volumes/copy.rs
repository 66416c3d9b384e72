//! Copies a directory of an image into a new volume, following no link.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{
        AtFlags, Dir, FileType, Mode, OFlags, Timestamps, chownat, copy_file_range, fchmod, fchown,
        fstat, futimens, mkdirat, openat, readlinkat, statat, symlinkat,
    },
    process::{Gid, Uid},
};

/// Directories inside each other; an image with more is refused.
const DEPTH: usize = 256;
/// Bytes that one call may copy.
const CHUNK: usize = 1 << 30;

/// Copies owner, mode, times and contents of directories, files and links; sockets, pipes and
/// devices are left out.
pub(super) fn tree(source: &OwnedFd, target: &OwnedFd) -> io::Result<()> {
    directory(source.as_fd(), target.as_fd(), DEPTH)
}

fn directory(source: BorrowedFd<'_>, target: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("directories lie too deep inside each other"));
    }
    for entry in Dir::read_from(source)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let stat = statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let read = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                mkdirat(target, name, Mode::RWXU)?;
                let flags = read | OFlags::DIRECTORY;
                let inner = openat(source, name, flags, Mode::empty())?;
                let copy = openat(target, name, flags, Mode::empty())?;
                directory(inner.as_fd(), copy.as_fd(), depth - 1)?;
            }
            FileType::RegularFile => {
                let inner = openat(source, name, read | OFlags::NONBLOCK, Mode::empty())?;
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let copy = openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
                while copy_file_range(&inner, None, &copy, None, CHUNK)? > 0 {}
                attributes(inner.as_fd(), copy.as_fd())?;
            }
            FileType::Symlink => {
                let link = readlinkat(source, name, Vec::new())?;
                symlinkat(link.as_c_str(), target, name)?;
                let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
                chownat(target, name, Some(owner), Some(group), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            _ => {}
        }
    }
    attributes(source, target)
}

fn attributes(source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let stat = fstat(source)?;
    // The owner first: changing it takes set-user-id bits away.
    fchown(target, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    fchmod(target, Mode::from_raw_mode(stat.st_mode))?;
    let time = |seconds, nanoseconds: u64| rustix::fs::Timespec {
        tv_sec: seconds,
        tv_nsec: i64::try_from(nanoseconds).unwrap_or(0),
    };
    let times = Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    };
    futimens(target, &times)?;
    Ok(())
}
