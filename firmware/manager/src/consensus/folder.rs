//! The consensus's folder on the disk: the log, the snapshot before it, and a mark while a leader
//! fills the log.

use std::{
    fs::{self, File},
    io,
    path::Path,
    sync::Arc,
};

use bramble_cluster::NodeId;

use super::{
    StartError,
    log::{Log, LogError, segment::sync_folder},
    snapshot::{self, SnapshotFolder},
    types::Position,
};

const LOG_FOLDER: &str = "log";
const SNAPSHOT_FOLDER: &str = "snapshot";
/// A file that is there while a leader fills the log of this node from its beginning.
const FILLING_FILE: &str = "filling";

/// What was there.
pub(super) struct Opened {
    pub(super) log: Arc<Log>,
    pub(super) snapshots: Arc<SnapshotFolder>,
    pub(super) image: Option<snapshot::Image>,
    /// Whether a leader still fills the log; see [`membership`](super::membership).
    pub(super) is_filling: bool,
}

/// Opens log and snapshot.
pub(super) fn open(folder: &Path, node: NodeId) -> Result<Opened, StartError> {
    let log = Log::open(&folder.join(LOG_FOLDER), node)?;
    let (snapshots, image) = SnapshotFolder::open(&folder.join(SNAPSHOT_FOLDER))?;
    let (purged, last) = log.ends();
    if !fit(purged, last, image.as_ref().and_then(|image| image.head.applied)) {
        return Err(StartError::Apart);
    }
    let is_filling = folder.join(FILLING_FILE).exists();
    Ok(Opened { log: Arc::new(log), snapshots: Arc::new(snapshots), image, is_filling })
}

/// Whether a log of the items after `purged` up to `last` goes on where a snapshot of all items up
/// to `applied` ends, or replaces it. Openraft refuses the same pairs, in words that cannot be told
/// from a fault of the disk (`StorageHelper::get_initial_state`).
fn fit(purged: Option<Position>, last: Option<Position>, applied: Option<Position>) -> bool {
    let index = |position: Option<Position>| position.map(|position| position.index);
    let is_behind = last < applied;
    purged <= applied && !(is_behind && index(last) >= index(applied))
}

/// Whether there is more than a vote in a folder.
pub(super) fn holds_log(folder: &Path, node: NodeId) -> Result<bool, StartError> {
    let folder = folder.join(LOG_FOLDER);
    Ok(folder.exists() && !Log::open(&folder, node)?.is_empty())
}

/// Removes a folder with all that is in it, if it is there.
pub(super) fn remove(folder: &Path) -> Result<(), LogError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(LogError::File { action: "remove", path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Forgets log and snapshot, but not the vote.
pub(super) fn forget_log(folder: &Path, node: NodeId) -> Result<(), LogError> {
    // The log first: a log that begins after a snapshot that is gone could not be opened.
    Log::forget_items(&folder.join(LOG_FOLDER), node)?;
    remove(&folder.join(SNAPSHOT_FOLDER))
}

/// Notes, for good, that a leader begins to fill the log.
pub(super) fn begin_filling(folder: &Path) -> Result<(), LogError> {
    let path = folder.join(FILLING_FILE);
    let refused = |source| LogError::File { action: "make", path: path.clone(), source };
    fs::create_dir_all(folder).map_err(refused)?;
    File::create(&path).and_then(|file| file.sync_all()).map_err(refused)?;
    sync_folder(folder)
}

/// Notes that the log is filled. If the note is lost it is made again.
pub(super) fn end_filling(folder: &Path) -> io::Result<()> {
    fs::remove_file(folder.join(FILLING_FILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(term: u64, index: u64) -> Option<Position> {
        Some(Position { term, index })
    }

    #[test]
    fn a_log_goes_on_where_its_snapshot_ends() {
        assert!(fit(None, None, None), "a new board's");
        assert!(fit(None, at(1, 9), None), "nothing was replaced yet");
        assert!(fit(at(1, 5), at(1, 9), at(1, 5)));
        assert!(fit(at(1, 3), at(1, 9), at(1, 5)), "the snapshot came first, then the plug");
        assert!(fit(None, at(1, 9), at(2, 20)), "it came from a leader, then the plug");
    }

    #[test]
    fn a_log_that_begins_after_its_snapshot_or_contradicts_it_does_not_fit() {
        assert!(!fit(at(1, 5), at(1, 9), None), "the snapshot is gone");
        assert!(!fit(at(1, 5), at(1, 9), at(1, 4)), "the snapshot is an old one");
        assert!(!fit(None, at(1, 20), at(2, 20)), "two items in one place");
        assert!(!fit(None, at(1, 30), at(2, 20)), "a tail that no quorum agreed to");
    }
}
