//! Whether there is room on the disk.
//!
//! openraft ends for good when its storage fails, so a full disk must be noticed before the log
//! meets it: the leader takes no more proposals while there is still room for what keeps the
//! consensus alive (votes, and the log that is pre-allocated).

use std::{
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A leader with less than this takes no more proposals, and nobody makes a snapshot.
pub(crate) const LEADERS_ROOM: u64 = 16 * 1024 * 1024;
/// A follower with less than this takes no more items.
pub(crate) const FOLLOWERS_ROOM: u64 = 4 * 1024 * 1024;
/// How long an answer of the file system is good for.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The room on the disk that a folder is on.
#[derive(Debug)]
pub(crate) struct Space {
    folder: PathBuf,
    known: Mutex<Option<(Instant, u64)>>,
}

impl Space {
    /// Of a folder.
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, known: Mutex::new(None) }
    }

    /// Whether there are at least this many bytes. A file system that does not say has room.
    pub(crate) fn has(&self, bytes: u64) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let free = match *known {
            Some((at, free)) if at.elapsed() < ASK_AGAIN => free,
            _ => {
                let free = rustix::fs::statvfs(&self.folder)
                    .map_or(u64::MAX, |it| it.f_bavail.saturating_mul(it.f_frsize));
                *known = Some((Instant::now(), free));
                free
            }
        };
        free >= bytes
    }
}
