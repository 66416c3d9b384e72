//! The blobs: `blobs/sha256/<hex>`, each named by what it holds.
//!
//! A blob appears whole or not at all: it is written to `incoming/`, hashed on the way, fsynced and
//! renamed. A download that was cut stays in `partial/` and is resumed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bramble_cluster::Digest;

use super::{
    Limits,
    limits::OverLimit,
    space::{DiskFull, SpaceWatch, disk_full},
};

mod partial;

pub(super) use partial::PartialBlob;

/// A blob could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// It is not here.
    #[error("blob {digest} is not here")]
    Missing {
        /// Which.
        digest: Digest,
    },
    /// It does not have the size that its image says.
    #[error("blob {digest} has {found} bytes instead of {expected}")]
    WrongSize {
        /// Which.
        digest: Digest,
        /// What the image says.
        expected: u64,
        /// What there is.
        found: u64,
    },
    /// What it holds does not have its digest.
    #[error("blob {expected} does not match its digest: its bytes have {found}")]
    WrongDigest {
        /// What it is called.
        expected: Digest,
        /// What its bytes are called.
        found: Digest,
    },
    /// It is too large.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// There is no room for it.
    #[error(transparent)]
    DiskFull(#[from] DiskFull),
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Makes an [`BlobError`] of what went wrong with `path`.
fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BlobError {
    move |source| match disk_full(&source, path) {
        Some(full) => BlobError::DiskFull(full),
        None => BlobError::Io { action, path: path.to_owned(), source },
    }
}

/// SHA-256, step by step.
pub(super) struct Hasher(ring::digest::Context);

impl Hasher {
    pub(super) fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    pub(super) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Digest {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.finish().as_ref());
        Digest::from_bytes(bytes)
    }
}

/// The digest of bytes in memory.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    let mut hasher = Hasher::new();
    hasher.update(bytes);
    hasher.finish()
}

/// The folder of blobs. All functions block; callers are on blocking threads.
#[derive(Debug, Clone)]
pub(super) struct BlobStore {
    root: PathBuf,
    limits: Arc<Limits>,
    sequence: Arc<AtomicU64>,
}

impl BlobStore {
    /// Opens the folder, and throws away what an earlier process was about to write.
    pub(super) fn open(root: &Path, limits: Arc<Limits>) -> Result<Self, BlobError> {
        let incoming = root.join("incoming");
        if incoming.exists() {
            fs::remove_dir_all(&incoming).map_err(failed("empty", &incoming))?;
        }
        for folder in ["blobs/sha256", "partial", "incoming"] {
            let path = root.join(folder);
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&path)
                .map_err(failed("create", &path))?;
        }
        let store = Self { root: root.to_owned(), limits, sequence: Arc::default() };
        store.prune_partial()?;
        Ok(store)
    }

    /// Where a blob is, or would be.
    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        self.folder().join(digest.hex())
    }

    fn folder(&self) -> PathBuf {
        self.root.join("blobs/sha256")
    }

    /// A blob's size, if it is here.
    pub(super) fn size(&self, digest: Digest) -> Option<u64> {
        let metadata = fs::symlink_metadata(self.path(digest)).ok()?;
        metadata.is_file().then_some(metadata.len())
    }

    /// Opens a blob, and checks the little that can be checked without reading it.
    pub(super) fn open_blob(
        &self,
        digest: Digest,
        expected: Option<u64>,
    ) -> Result<(File, u64), BlobError> {
        let path = self.path(digest);
        let file = File::open(&path).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => BlobError::Missing { digest },
            _ => failed("open", &path)(source),
        })?;
        let found = file.metadata().map_err(failed("look at", &path))?.len();
        match expected {
            Some(expected) if expected != found => {
                Err(BlobError::WrongSize { digest, expected, found })
            }
            _ => Ok((file, found)),
        }
    }

    /// Reads a manifest, index or configuration: small, so its digest is checked again.
    pub(super) fn read_document(&self, digest: Digest) -> Result<Vec<u8>, BlobError> {
        let (file, size) = self.open_blob(digest, None)?;
        let limit = self.limits.document_bytes;
        if size > limit {
            let what = "bytes of a manifest, index or configuration";
            return Err(OverLimit { what, limit }.into());
        }
        let mut bytes = Vec::new();
        file.take(limit).read_to_end(&mut bytes).map_err(failed("read", &self.path(digest)))?;
        match digest_of(&bytes) {
            found if found == digest => Ok(bytes),
            found => Err(BlobError::WrongDigest { expected: digest, found }),
        }
    }

    /// Begins a blob whose digest is not known yet.
    pub(super) fn writer(&self) -> Result<BlobWriter, BlobError> {
        let number = self.sequence.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("incoming").join(number.to_string());
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("create", &path))?;
        let space = SpaceWatch::new(&path, self.limits.reserve_bytes);
        let spool = Spool { path, folder: self.folder() };
        Ok(BlobWriter { spool, file, hasher: Hasher::new(), size: 0, space })
    }

    /// Writes a blob that is in memory.
    pub(super) fn write(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        let digest = digest_of(bytes);
        if self.size(digest) == Some(bytes.len() as u64) {
            return Ok(digest);
        }
        let mut writer = self.writer()?;
        writer.append(bytes)?;
        writer.finish()?.keep()?;
        Ok(digest)
    }

    /// All blobs that are here.
    pub(super) fn list(&self) -> Result<Vec<Digest>, BlobError> {
        let folder = self.folder();
        let entries = fs::read_dir(&folder).map_err(failed("list", &folder))?;
        let mut digests = Vec::new();
        for entry in entries {
            let name = entry.map_err(failed("list", &folder))?.file_name();
            let text = format!("sha256:{}", name.to_string_lossy());
            digests.extend(text.parse::<Digest>());
        }
        Ok(digests)
    }

    /// Removes a blob; it is fine if it is gone already.
    pub(super) fn remove(&self, digest: Digest) -> Result<(), BlobError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// A file in `incoming/` that is removed unless it becomes a blob.
#[derive(Debug)]
struct Spool {
    path: PathBuf,
    folder: PathBuf,
}

impl Drop for Spool {
    fn drop(&mut self) {
        // Renamed already if it was kept; else what cannot be removed now is at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

/// A blob on its way in.
pub(super) struct BlobWriter {
    spool: Spool,
    file: File,
    hasher: Hasher,
    size: u64,
    space: SpaceWatch,
}

impl BlobWriter {
    /// Takes the next bytes.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        write_sparse(&mut self.file, bytes, &mut self.space)
            .map_err(failed("write", &self.spool.path))?;
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        Ok(())
    }

    /// All is written; what it is called is now known.
    pub(super) fn finish(self) -> Result<SpooledBlob, BlobError> {
        let Self { spool, file, hasher, size, .. } = self;
        file.set_len(size).map_err(failed("write", &spool.path))?;
        Ok(SpooledBlob { spool, digest: hasher.finish(), size })
    }
}

/// Writes `bytes`, but leaves a hole for zeros: a bomb of zeros takes no room on the card.
/// The caller sets the file's length at the end.
pub(super) fn write_sparse(
    file: &mut File,
    bytes: &[u8],
    space: &mut SpaceWatch,
) -> io::Result<()> {
    const HOLE_BYTES: usize = 4_096;
    if bytes.len() >= HOLE_BYTES && bytes.iter().all(|byte| *byte == 0) {
        let length = i64::try_from(bytes.len()).map_err(io::Error::other)?;
        file.seek(SeekFrom::Current(length))?;
        return Ok(());
    }
    space.before_write(&*file, bytes.len())?;
    file.write_all(bytes)
}

/// A whole file of which only the name is missing.
#[derive(Debug)]
pub(super) struct SpooledBlob {
    spool: Spool,
    digest: Digest,
    size: u64,
}

impl SpooledBlob {
    /// What its bytes are called.
    pub(super) const fn digest(&self) -> Digest {
        self.digest
    }

    /// How many they are.
    pub(super) const fn size(&self) -> u64 {
        self.size
    }

    /// Reads it as a document of at most `limit` bytes.
    pub(super) fn read(&self, limit: u64) -> Result<Vec<u8>, BlobError> {
        if self.size > limit {
            let what = "bytes of a manifest, index or configuration";
            return Err(OverLimit { what, limit }.into());
        }
        fs::read(&self.spool.path).map_err(failed("read", &self.spool.path))
    }

    /// Its first bytes.
    pub(super) fn first_bytes(&self, count: u64) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        File::open(&self.spool.path)
            .and_then(|file| file.take(count).read_to_end(&mut bytes))
            .map_err(failed("read", &self.spool.path))?;
        Ok(bytes)
    }

    /// Makes it a blob, for good.
    pub(super) fn keep(self) -> Result<Digest, BlobError> {
        let Self { spool, digest, .. } = self;
        let file = File::open(&spool.path).map_err(failed("open", &spool.path))?;
        keep(&file, &spool.path, &spool.folder.join(digest.hex()))?;
        Ok(digest)
    }
}

/// Writes `file` through to the disk and gives it its final name.
fn keep(file: &File, from: &Path, to: &Path) -> Result<(), BlobError> {
    file.sync_all().map_err(failed("write", from))?;
    fs::rename(from, to).map_err(failed("rename", from))?;
    let folder = to.parent().unwrap_or(to);
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write", folder))
}

#[cfg(test)]
mod tests;
