//! A layer's archive made a folder that overlayfs can stack.
//!
//! Every name is looked up by the kernel inside the layer's folder (`openat2`, `RESOLVE_IN_ROOT`):
//! there is no path in an archive that reaches out of it. Whiteouts become what overlayfs calls so:
//! a character device 0:0 hides one name, the attribute `trusted.overlay.opaque` all of a folder.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use bramble_cluster::Digest;

use super::{
    Limits,
    blobs::{Hasher, write_sparse},
    compression::{CHUNK_BYTES, Decoded},
    limits::OverLimit,
    space::{DiskFull, SpaceWatch, disk_full},
    tar_stream::{Entry, EntryKind, TarError, TarReader},
};

mod path;
mod tree;

pub(super) use tree::Tree;

use path::{Location, PathError};
use tree::Present;

/// What hides a name of the layers below.
const WHITEOUT_PREFIX: &[u8] = b".wh.";
/// What hides all that the layers below have in a folder.
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";
/// What aufs kept for itself, and some archives still carry.
const AUFS_PREFIX: &[u8] = b".wh..wh.";
/// What a file, folder, link or device takes on the disk beside its content, about.
const INODE_BYTES: usize = 4_096;

/// A layer could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// Its archive cannot be read.
    #[error("layer {layer} cannot be read")]
    Archive {
        /// Which.
        layer: Digest,
        /// Why not.
        #[source]
        source: TarError,
    },
    /// One of its entries is not acceptable.
    #[error("layer {layer}: `{path}` {reason}")]
    Entry {
        /// Which.
        layer: Digest,
        /// What the entry is called, shortened if need be.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is too large.
    #[error("layer {layer}")]
    OverLimit {
        /// Which.
        layer: Digest,
        /// In what.
        #[source]
        source: OverLimit,
    },
    /// There is no room for it.
    #[error("layer {layer} does not fit")]
    DiskFull {
        /// Which.
        layer: Digest,
        /// What there is.
        #[source]
        source: DiskFull,
    },
    /// It is not what the configuration names.
    #[error("layer {layer} does not match its digest: its archive has {found}")]
    WrongDigest {
        /// What the configuration says.
        layer: Digest,
        /// What it is.
        found: Digest,
    },
    /// The file system refused.
    #[error("layer {layer}: cannot write {}", path.display())]
    Io {
        /// Which.
        layer: Digest,
        /// What was written.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// Unpacks layers, within bounds.
pub(super) struct Unpacker<'a> {
    tree: Option<Tree>,
    limits: &'a Limits,
    /// What is being written, and where: for errors.
    layer: Digest,
    folder: PathBuf,
    space: SpaceWatch,
    /// How many bytes may still be unpacked.
    budget: u64,
    /// The folders' times, set when nothing is written into them any more.
    folder_times: Vec<(Location, i64, u32)>,
    folder_bytes: usize,
    chunk: Vec<u8>,
}

/// Bytes of folders' paths that are kept until the end of a layer.
const FOLDER_PATHS_BYTES: usize = 16 << 20;

impl<'a> Unpacker<'a> {
    /// Prepares to unpack `layer` (named by the digest of its uncompressed archive) into the empty
    /// folder `into`, which must exist; without one, the archive is only looked through.
    pub(super) fn new(
        layer: Digest,
        into: Option<&Path>,
        limits: &'a Limits,
        budget: u64,
    ) -> Result<Self, UnpackError> {
        let folder = into.map(Path::to_owned).unwrap_or_default();
        let tree = into.map(|into| Tree::open(into, limits.depth)).transpose();
        let tree =
            tree.map_err(|source| UnpackError::Io { layer, path: folder.clone(), source })?;
        Ok(Self {
            tree,
            limits,
            layer,
            space: SpaceWatch::new(&folder, limits.reserve_bytes),
            folder,
            budget: budget.min(limits.unpacked_bytes),
            folder_times: Vec::new(),
            folder_bytes: 0,
            chunk: vec![0; CHUNK_BYTES],
        })
    }

    /// Unpacks a layer's blob, compressed or not, and returns what is left of the budget.
    /// When it fails, what was written is the caller's to remove.
    pub(super) fn unpack(mut self, blob: impl Read) -> Result<u64, UnpackError> {
        let decoded = Decoded::new(blob, self.limits)
            .map_err(|error| self.unreadable(TarError::Read(error)))?;
        let hashing = Hashing { inner: decoded, hasher: Hasher::new() };
        let mut archive = TarReader::new(hashing, self.limits.layer_entries, self.limits);
        while let Some(entry) = archive.next_entry().map_err(|error| self.unreadable(error))? {
            self.apply(&entry, &mut archive)?;
        }
        let found = self.drain(archive.into_inner())?;
        if found != self.layer {
            return Err(UnpackError::WrongDigest { layer: self.layer, found });
        }
        if let Some(tree) = &mut self.tree {
            for (location, seconds, nanoseconds) in self.folder_times.drain(..).rev() {
                tree.set_folder_time(&location, seconds, nanoseconds).map_err(|source| {
                    UnpackError::Io { layer: self.layer, path: self.folder.clone(), source }
                })?;
            }
            tree.sync().map_err(|source| UnpackError::Io {
                layer: self.layer,
                path: self.folder.clone(),
                source,
            })?;
        }
        Ok(self.budget)
    }

    /// Reads what follows the archive's end, for the digest is over all of it.
    fn drain(&mut self, mut rest: Hashing<Decoded<'_>>) -> Result<Digest, UnpackError> {
        loop {
            match rest.read(&mut self.chunk) {
                Ok(0) => return Ok(rest.hasher.finish()),
                Ok(count) => self.spend(count)?,
                Err(error) => return Err(self.unreadable(TarError::Read(error))),
            }
        }
    }

    fn apply<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        let location = Location::parse(&entry.path, self.limits.depth)
            .map_err(|error| self.refused(entry, error))?;
        self.spend(INODE_BYTES)?;
        let Some(name) = location.name() else {
            // The layer's own folder.
            if entry.kind != EntryKind::Folder {
                return Err(self.refused(entry, "is not a folder but stands for the root"));
            }
            return self.finish_folder(entry, location);
        };
        if name == OPAQUE_MARKER {
            return self.write(entry, |tree| tree.hide_folder(&location.parent()));
        }
        if name.starts_with(AUFS_PREFIX) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            let hidden = location
                .sibling(hidden)
                .map_err(|_| self.refused(entry, "hides something that cannot be a name"))?;
            return self.write(entry, |tree| tree.hide(&hidden));
        }
        match entry.kind {
            EntryKind::File => self.write_file(entry, &location, archive),
            EntryKind::Folder => self.finish_folder(entry, location),
            EntryKind::HardLink => {
                let target = Location::parse(&entry.link, self.limits.depth)
                    .map_err(|error| self.refused(entry, format!("links to what {error}")))?;
                self.write(entry, |tree| tree.hard_link(&location, &target))
            }
            EntryKind::Symlink => self.write(entry, |tree| tree.symlink(&location, entry)),
            EntryKind::CharDevice | EntryKind::BlockDevice | EntryKind::Fifo => {
                self.write(entry, |tree| tree.node(&location, entry))
            }
        }
    }

    /// Makes a folder, or takes its attributes if it is there; its time comes at the end.
    fn finish_folder(&mut self, entry: &Entry, location: Location) -> Result<(), UnpackError> {
        self.write(entry, |tree| tree.folder(&location, entry))?;
        self.folder_bytes += location.bytes();
        if self.folder_bytes > FOLDER_PATHS_BYTES {
            let what = "bytes of folders' paths";
            let source = OverLimit { what, limit: FOLDER_PATHS_BYTES as u64 };
            return Err(UnpackError::OverLimit { layer: self.layer, source });
        }
        self.folder_times.push((location, entry.seconds, entry.nanoseconds));
        Ok(())
    }

    fn write_file<R: Read>(
        &mut self,
        entry: &Entry,
        location: &Location,
        archive: &mut TarReader<R>,
    ) -> Result<(), UnpackError> {
        if entry.size > self.budget {
            return Err(self.over_budget());
        }
        let mut file: Option<File> = None;
        self.write(entry, |tree| {
            file = Some(tree.file(location)?);
            Ok(())
        })?;
        let mut chunk = std::mem::take(&mut self.chunk);
        let result = self.copy(entry, archive, file.as_mut(), &mut chunk);
        self.chunk = chunk;
        result?;
        match file {
            Some(file) => self.write(entry, |tree| tree.finish_file(&file, entry)),
            None => Ok(()),
        }
    }

    fn copy<R: Read>(
        &mut self,
        entry: &Entry,
        archive: &mut TarReader<R>,
        mut file: Option<&mut File>,
        chunk: &mut [u8],
    ) -> Result<(), UnpackError> {
        loop {
            let count =
                fill(archive, chunk).map_err(|error| self.unreadable(TarError::Read(error)))?;
            if count == 0 {
                return Ok(());
            }
            self.spend(count)?;
            if let Some(file) = file.as_deref_mut() {
                write_sparse(file, &chunk[..count], &mut self.space)
                    .map_err(|source| self.failed(entry, source))?;
            }
        }
    }

    /// Does one thing to the tree, if there is one.
    fn write(
        &mut self,
        entry: &Entry,
        act: impl FnOnce(&mut Tree) -> Result<(), Present>,
    ) -> Result<(), UnpackError> {
        let Some(tree) = &mut self.tree else { return Ok(()) };
        let checked = self.space.before_write(&*tree, INODE_BYTES);
        match checked.map_err(Present::Io).and_then(|()| act(tree)) {
            Ok(()) => Ok(()),
            Err(Present::Refused(reason)) => Err(self.refused(entry, reason)),
            Err(Present::Io(source)) => Err(self.failed(entry, source)),
        }
    }

    fn spend(&mut self, count: usize) -> Result<(), UnpackError> {
        match self.budget.checked_sub(count as u64) {
            Some(rest) => {
                self.budget = rest;
                Ok(())
            }
            None => Err(self.over_budget()),
        }
    }

    const fn over_budget(&self) -> UnpackError {
        let what = "bytes of an image's unpacked layers";
        let source = OverLimit { what, limit: self.limits.unpacked_bytes };
        UnpackError::OverLimit { layer: self.layer, source }
    }

    fn refused(&self, entry: &Entry, reason: impl ToString) -> UnpackError {
        let path = readable(&entry.path);
        UnpackError::Entry { layer: self.layer, path, reason: reason.to_string() }
    }

    fn failed(&self, entry: &Entry, source: io::Error) -> UnpackError {
        let layer = self.layer;
        match disk_full(&source, &self.folder) {
            Some(source) => UnpackError::DiskFull { layer, source },
            None => {
                UnpackError::Io { layer, path: self.folder.join(readable(&entry.path)), source }
            }
        }
    }

    fn unreadable(&self, source: TarError) -> UnpackError {
        let layer = self.layer;
        let over = match &source {
            TarError::OverLimit(over) => Some(over.clone()),
            TarError::Read(error) => {
                error.get_ref().and_then(|inner| inner.downcast_ref::<OverLimit>()).cloned()
            }
            TarError::Malformed { .. } => None,
        };
        match over {
            Some(source) => UnpackError::OverLimit { layer, source },
            None => UnpackError::Archive { layer, source },
        }
    }
}

/// A path as a message shows it: no control characters, not too long.
fn readable(path: &[u8]) -> String {
    const SHOWN: usize = 200;
    String::from_utf8_lossy(path)
        .chars()
        .take(SHOWN)
        .map(|character| if character.is_control() { '?' } else { character })
        .collect()
}

/// Reads until `chunk` is full or the data ends: whole chunks of zeros make whole holes.
pub(super) fn fill(source: &mut impl Read, chunk: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < chunk.len() {
        match source.read(&mut chunk[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..count]);
        Ok(count)
    }
}

impl From<PathError> for Present {
    fn from(error: PathError) -> Self {
        Self::Refused(error.to_string())
    }
}

#[cfg(test)]
mod tests;
