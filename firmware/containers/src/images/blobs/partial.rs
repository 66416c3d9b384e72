//! Downloads that were cut: what there is of them waits in `partial/` to be resumed.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
    time::SystemTime,
};

use bramble_cluster::Digest;

use super::{BlobError, BlobStore, Hasher, failed, keep};
use crate::images::{compression::CHUNK_BYTES, space::SpaceWatch};

/// The beginning of a blob. Dropped, it stays on the disk; [`BlobStore::resume`] goes on with it.
pub(in crate::images) struct PartialBlob {
    digest: Digest,
    path: PathBuf,
    destination: PathBuf,
    file: File,
    hasher: Hasher,
    offset: u64,
    space: SpaceWatch,
}

impl BlobStore {
    /// Goes on with a download, or begins it. What is there already is read once, for the digest.
    pub(in crate::images) fn resume(&self, digest: Digest) -> Result<PartialBlob, BlobError> {
        let path = self.root.join("partial").join(digest.hex());
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed("open", &path))?;
        let mut hasher = Hasher::new();
        let mut offset = 0;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk).map_err(failed("read", &path))? {
                0 => break,
                count => {
                    hasher.update(&chunk[..count]);
                    offset += count as u64;
                }
            }
        }
        let space = SpaceWatch::new(&path, self.limits.reserve_bytes);
        Ok(PartialBlob {
            digest,
            destination: self.path(digest),
            path,
            file,
            hasher,
            offset,
            space,
        })
    }

    /// Forgets the oldest downloads if there are too many.
    pub(super) fn prune_partial(&self) -> Result<(), BlobError> {
        let folder = self.root.join("partial");
        let mut found: Vec<(SystemTime, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&folder).map_err(failed("list", &folder))? {
            let entry = entry.map_err(failed("list", &folder))?;
            let modified = entry.metadata().and_then(|metadata| metadata.modified());
            found.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), entry.path()));
        }
        found.sort();
        let excess = found.len().saturating_sub(self.limits.partial_downloads);
        for (_, path) in found.iter().take(excess) {
            fs::remove_file(path).map_err(failed("remove", path))?;
        }
        Ok(())
    }

    /// Forgets the beginning of a download.
    pub(in crate::images) fn forget_partial(&self, digest: Digest) -> Result<(), BlobError> {
        let path = self.root.join("partial").join(digest.hex());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

impl PartialBlob {
    /// How much there is of it.
    pub(in crate::images) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes the next bytes.
    pub(in crate::images) fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        self.space
            .before_write(&self.file, bytes.len())
            .and_then(|()| self.file.write_all(bytes))
            .map_err(failed("write", &self.path))?;
        self.hasher.update(bytes);
        self.offset += bytes.len() as u64;
        Ok(())
    }

    /// All bytes are here: it becomes a blob if they are what was asked for, else it is forgotten.
    pub(in crate::images) fn finish(self) -> Result<(), BlobError> {
        let Self { digest, path, destination, file, hasher, .. } = self;
        let found = hasher.finish();
        if found != digest {
            fs::remove_file(&path).map_err(failed("remove", &path))?;
            return Err(BlobError::WrongDigest { expected: digest, found });
        }
        keep(&file, &path, &destination)
    }
}
