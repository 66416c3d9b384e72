//! Snapshots: the whole state in one file, which replaces the log before it.
//!
//! ```text
//! file = "BRSNAP", version: u16 (1), checksum: u32, body      (little endian)
//! body = Snapshot                                             (postcard)
//! ```
//! There is one file, replaced by renaming a finished and flushed one over it.

use std::{
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bramble_cluster::{ClusterState, Timestamp};
use serde::{Deserialize, Serialize};

use crate::consensus::types::{
    AppliedMembership, LogId, Position, RaftMembership, SnapshotMeta, VoterSets,
};

/// Most bytes in a snapshot. The limits of the state keep it far smaller.
pub(crate) const SNAPSHOT_BYTES: u64 = 256 * 1024 * 1024;

const MAGIC: [u8; 8] = *b"BRSNAP\x01\x00";
const HEAD_BYTES: usize = MAGIC.len() + 4;
const NAME: &str = "snapshot";

/// Everything that applying the log up to a position has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Image {
    /// What of the log it contains, and who voted then.
    pub(crate) head: Head,
    /// The cluster's state.
    pub(crate) state: Arc<ClusterState>,
}

/// What a snapshot says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Head {
    /// The last item in it.
    pub(crate) applied: Option<Position>,
    /// The item that made `voters` the voters.
    pub(crate) voters_since: Option<Position>,
    /// Who votes.
    pub(crate) voters: VoterSets,
    /// The instant of the last entry in it.
    pub(crate) at: Timestamp,
}

/// The body of the file.
#[derive(Serialize, Deserialize)]
struct Body {
    head: Head,
    /// As `cluster` encodes it, with a version of its own.
    state: Vec<u8>,
}

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The bytes are not those of a snapshot.
    #[error("the snapshot is damaged: {reason}")]
    Damaged {
        /// What is wrong.
        reason: String,
    },
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        Self::other(error)
    }
}

/// A snapshot's file, open: it can be read even after a newer one replaced it.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotFile {
    file: Arc<File>,
    bytes: u64,
}

impl SnapshotFile {
    /// An open file with a snapshot's bytes.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        Ok(Self { file: Arc::new(file), bytes })
    }

    /// How long it is.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// Some of its bytes, from an offset; fewer than `most` only at the end.
    pub(crate) fn chunk(&self, offset: u64, most: usize) -> io::Result<Vec<u8>> {
        let rest = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut chunk = vec![0; rest.min(most)];
        self.file.read_exact_at(&mut chunk, offset)?;
        Ok(chunk)
    }

    /// What it holds.
    pub(crate) fn read(&self) -> Result<Image, SnapshotError> {
        let unreadable = |error: io::Error| SnapshotError::Damaged { reason: error.to_string() };
        if self.bytes > SNAPSHOT_BYTES {
            let reason = format!("{} bytes are too many", self.bytes);
            return Err(SnapshotError::Damaged { reason });
        }
        decode(&self.chunk(0, usize::MAX).map_err(unreadable)?)
    }
}

/// The snapshot of a node, on its disk.
#[derive(Debug)]
pub(crate) struct SnapshotFolder {
    folder: PathBuf,
    current: Mutex<Option<(Head, SnapshotFile)>>,
}

impl SnapshotFolder {
    /// Opens the folder and reads the snapshot in it, if there is one. What was being written or
    /// received when the node stopped is removed.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Option<Image>), SnapshotError> {
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |source| SnapshotError::File { action, path, source }
        };
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        for found in fs::read_dir(folder).map_err(failed("list", folder))? {
            let path = found.map_err(failed("list", folder))?.path();
            if path.file_name().is_some_and(|name| name != NAME) && path.is_file() {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        let path = folder.join(NAME);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((Self { folder: folder.to_owned(), current: Mutex::new(None) }, None));
            }
            Err(source) => return Err(failed("open", &path)(source)),
        };
        let file = SnapshotFile::new(file).map_err(failed("read", &path))?;
        let image = file.read()?;
        let current = Mutex::new(Some((image.head.clone(), file)));
        Ok((Self { folder: folder.to_owned(), current }, Some(image)))
    }

    /// The snapshot, if there is one.
    pub(crate) fn current(&self) -> Option<(Head, SnapshotFile)> {
        self.lock().clone()
    }

    /// Makes an image the snapshot, unless there is a newer one. Returns once it is durable.
    pub(crate) fn save(&self, image: &Image) -> Result<(Head, SnapshotFile), SnapshotError> {
        let bytes = encode(image)?;
        let unfinished = self.folder.join(format!("{NAME}.new"));
        let path = self.folder.join(NAME);
        let failed = |action| {
            let path = unfinished.clone();
            move |source| SnapshotError::File { action, path, source }
        };
        let mut current = self.lock();
        if let Some((head, file)) =
            current.as_ref().filter(|(it, _)| it.applied >= image.head.applied)
        {
            return Ok((head.clone(), file.clone()));
        }
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&unfinished)
            .map_err(failed("create"))?;
        file.write_all(&bytes).map_err(failed("write"))?;
        file.sync_all().map_err(failed("flush"))?;
        fs::rename(&unfinished, &path).map_err(failed("rename"))?;
        File::open(&self.folder).and_then(|it| it.sync_all()).map_err(failed("flush"))?;
        let file = SnapshotFile::new(file).map_err(failed("read"))?;
        Ok(current.insert((image.head.clone(), file)).clone())
    }

    /// A nameless file for a snapshot that is being received; it is gone when it is closed.
    pub(crate) fn receiving(&self) -> Result<File, SnapshotError> {
        static RECEIVED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = RECEIVED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = self.folder.join(format!("{NAME}.received-{number}"));
        let failed = |source| SnapshotError::File { action: "create", path: path.clone(), source };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .map_err(failed)?;
        fs::remove_file(&path).map_err(failed)?;
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, Option<(Head, SnapshotFile)>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Head {
    /// As openraft puts it.
    pub(crate) fn meta(&self) -> io::Result<SnapshotMeta> {
        let membership = RaftMembership::try_from(self.voters.clone())?;
        Ok(SnapshotMeta {
            last_log_id: self.applied.map(LogId::from),
            last_membership: AppliedMembership::new(self.voters_since.map(LogId::from), membership),
        })
    }
}

fn encode(image: &Image) -> Result<Vec<u8>, SnapshotError> {
    let state = bramble_cluster::snapshot::encode(&image.state);
    frame(&Body { head: image.head.clone(), state })
}

fn frame(body: &Body) -> Result<Vec<u8>, SnapshotError> {
    let body = postcard::to_allocvec(body)
        .map_err(|error| SnapshotError::Damaged { reason: error.to_string() })?;
    Ok([&MAGIC, crc32fast::hash(&body).to_le_bytes().as_slice(), &body].concat())
}

fn decode(bytes: &[u8]) -> Result<Image, SnapshotError> {
    let damaged = |reason: &str| SnapshotError::Damaged { reason: reason.to_owned() };
    let (head, body) =
        bytes.split_at_checked(HEAD_BYTES).ok_or_else(|| damaged("it is too short"))?;
    let (magic, checksum) = head.split_at(MAGIC.len());
    if magic != MAGIC {
        return Err(damaged("it is of another kind or version"));
    }
    if checksum != crc32fast::hash(body).to_le_bytes() {
        return Err(damaged("its checksum does not fit"));
    }
    let body: Body = postcard::from_bytes(body).map_err(|error| damaged(&error.to_string()))?;
    let state = bramble_cluster::snapshot::decode(&body.state)
        .map_err(|error| damaged(&error.to_string()))?;
    body.head.meta().map_err(|error| damaged(&error.to_string()))?;
    Ok(Image { head: body.head, state: Arc::new(state) })
}

#[cfg(test)]
mod tests;
