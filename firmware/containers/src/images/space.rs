//! Room on the disk, looked at before it runs out.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
};

use rustix::fs::fstatvfs;

/// How much is written between two looks.
const LOOK_EVERY_BYTES: u64 = 8 << 20;

/// There is no room for images.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the disk is full: {}", self.describe())]
pub struct DiskFull {
    /// Where it was to be written.
    pub path: PathBuf,
    /// What is free there, if that was looked at before the disk itself refused.
    pub free_bytes: Option<u64>,
    /// What images leave free.
    pub reserve_bytes: u64,
}

impl DiskFull {
    fn describe(&self) -> String {
        let Self { path, free_bytes, reserve_bytes } = self;
        let path = path.display();
        match free_bytes {
            Some(free) => {
                format!("{path} has {free} bytes free, of which {reserve_bytes} stay reserved")
            }
            None => format!("there is no room for {path}"),
        }
    }
}

/// Watches the free room of the disk that something is written to.
#[derive(Debug)]
pub(super) struct SpaceWatch {
    path: PathBuf,
    reserve_bytes: u64,
    until_look: u64,
}

impl SpaceWatch {
    /// Watches over what is written under `path`; the first write looks.
    pub(super) fn new(path: &Path, reserve_bytes: u64) -> Self {
        Self { path: path.to_owned(), reserve_bytes, until_look: 0 }
    }

    /// To be called before `count` bytes are written to the disk of `fd`.
    pub(super) fn before_write(&mut self, fd: impl AsFd, count: usize) -> io::Result<()> {
        let count = count as u64;
        if self.until_look >= count {
            self.until_look -= count;
            return Ok(());
        }
        let free_bytes = free_bytes(fd.as_fd())?;
        if free_bytes < self.reserve_bytes.saturating_add(count) {
            return Err(io::Error::new(io::ErrorKind::StorageFull, self.full(free_bytes)));
        }
        // The closer the end, the more often.
        let spare = (free_bytes - self.reserve_bytes - count) / 2;
        self.until_look = spare.min(LOOK_EVERY_BYTES);
        Ok(())
    }

    fn full(&self, free_bytes: u64) -> DiskFull {
        let (path, reserve_bytes) = (self.path.clone(), self.reserve_bytes);
        DiskFull { path, free_bytes: Some(free_bytes), reserve_bytes }
    }
}

fn free_bytes(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let stat = fstatvfs(fd)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What `error` says about the disk, if it says that the disk is full.
pub(super) fn disk_full(error: &io::Error, path: &Path) -> Option<DiskFull> {
    if let Some(full) = error.get_ref().and_then(|inner| inner.downcast_ref::<DiskFull>()) {
        return Some(full.clone());
    }
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
        .then(|| DiskFull { path: path.to_owned(), free_bytes: None, reserve_bytes: 0 })
}
