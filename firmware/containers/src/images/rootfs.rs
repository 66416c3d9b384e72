//! The root file systems of containers: an image's layers, and what the container writes on top.
//!
//! `containers/<id>/`: `image` says what it stands on, `upper` takes what it writes, `work` is the
//! kernel's, `rootfs` is where it is mounted.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use bramble_cluster::Digest;
use rustix::{
    fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx},
    io::Errno,
    mount::{UnmountFlags, unmount},
};
use serde::{Deserialize, Serialize};

use super::{
    ConfigError, ImageStore, LoadError,
    blobs::digest_of,
    manifest::{self, Document},
    overlay,
    store::{Containers, Inner},
};

/// Bytes in a container's id.
const ID_BYTES: usize = 64;

/// A container's root file system could not be mounted or removed.
#[derive(Debug, thiserror::Error)]
pub enum RootfsError {
    /// The image is not here.
    #[error("image {digest} is not here")]
    UnknownImage {
        /// Which.
        digest: Digest,
    },
    /// The container's id cannot name a folder.
    #[error("`{id}` cannot be the id of a container")]
    BadId {
        /// What was given.
        id: String,
    },
    /// The image's documents cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A layer that was not unpacked yet cannot be.
    #[error("the image's layers cannot be unpacked")]
    Unpack(#[source] Box<LoadError>),
    /// The kernel refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// What is kept of a container on the disk. Variants are only ever appended.
#[derive(Serialize, Deserialize)]
enum ContainerFile {
    V1 { image: Digest, layers: Vec<Digest> },
}

impl ImageStore {
    /// Mounts a root file system for a container and returns where it is. Mounting it again is
    /// fine: it is the same one, with what the container wrote.
    pub async fn mount(&self, container: &str, image: Digest) -> Result<PathBuf, RootfsError> {
        let inner = Arc::clone(&self.inner);
        let container = container.to_owned();
        super::blocking(move || inner.mount(&container, image)).await
    }

    /// Unmounts a container's root file system and removes what it wrote. It is fine if there is
    /// none.
    pub async fn unmount(&self, container: &str) -> Result<(), RootfsError> {
        let inner = Arc::clone(&self.inner);
        let container = container.to_owned();
        super::blocking(move || inner.unmount(&container)).await
    }

    /// The containers that have a root file system here, mounted or left over.
    pub fn containers(&self) -> Vec<String> {
        self.inner.containers()
    }

    /// Removes the root file systems of all containers but these: what a power cut left.
    pub async fn retain(&self, containers: BTreeSet<String>) -> Result<(), RootfsError> {
        let inner = Arc::clone(&self.inner);
        super::blocking(move || {
            let gone = inner.containers().into_iter().filter(|id| !containers.contains(id));
            // One that cannot be removed does not keep the others.
            gone.map(|id| inner.unmount(&id)).fold(Ok(()), Result::and)
        })
        .await
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RootfsError {
    move |source| RootfsError::Io { action, path: path.to_owned(), source }
}

impl Inner {
    fn mount(&self, container: &str, digest: Digest) -> Result<PathBuf, RootfsError> {
        check_id(container)?;
        let lock = self.lock(digest_of(container.as_bytes()));
        let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let folder = self.folder.join("containers").join(container);
        let rootfs = folder.join("rootfs");
        if is_mount_point(&rootfs).map_err(failed("look at", &rootfs))? {
            return Ok(rootfs);
        }
        let image =
            self.use_image(container, digest).ok_or(RootfsError::UnknownImage { digest })?;
        let result = self.ensure_layers(image.manifest, &image.layers).and_then(|()| {
            self.make_folders(&folder, digest, &image.layers)?;
            // The topmost layer comes first in an overlay.
            let layers: Vec<_> = image.layers.iter().rev().map(|it| self.layer_path(*it)).collect();
            overlay::mount(&layers, &folder.join("upper"), &folder.join("work"), &rootfs)
                .map_err(failed("mount", &rootfs))
        });
        match result {
            Ok(()) => Ok(rootfs),
            Err(error) => {
                if let Err(left) = self.unmount_locked(container) {
                    tracing::warn!(container, error = &left as &dyn std::error::Error, "left over");
                }
                Err(error)
            }
        }
    }

    /// Unpacks layers that are missing: the folder was damaged, or the image was another board's.
    fn ensure_layers(&self, manifest: Digest, layers: &[Digest]) -> Result<(), RootfsError> {
        if layers.iter().all(|layer| self.layer_path(*layer).is_dir()) {
            return Ok(());
        }
        let bytes = self.blobs.read_document(manifest).map_err(ConfigError::from)?;
        let invalid = |source| ConfigError::Invalid { digest: manifest, source };
        let document = manifest::parse(&bytes, &self.limits).map_err(invalid)?;
        let Document::Manifest(manifest) = document else {
            return Err(RootfsError::UnknownImage { digest: manifest });
        };
        let mut budget = self.limits.unpacked_bytes;
        for (layer, blob) in layers.iter().zip(&manifest.layers) {
            budget = self
                .unpack_layer(*layer, blob.digest, budget)
                .map_err(|error| RootfsError::Unpack(Box::new(error)))?;
        }
        Ok(())
    }

    /// Makes a container's folder anew; what an earlier one by its id wrote goes.
    fn make_folders(
        &self,
        folder: &Path,
        image: Digest,
        layers: &[Digest],
    ) -> Result<(), RootfsError> {
        self.trash.discard(folder).map_err(failed("remove", folder))?;
        let mut builder = fs::DirBuilder::new();
        builder.mode(0o700);
        builder.create(folder).map_err(failed("create", folder))?;
        let file = folder.join("image");
        let content = ContainerFile::V1 { image, layers: layers.to_vec() };
        let bytes = postcard::to_stdvec(&content).map_err(io::Error::other);
        bytes.and_then(|bytes| fs::write(&file, bytes)).map_err(failed("write", &file))?;
        for name in ["upper", "work", "rootfs"] {
            let path = folder.join(name);
            fs::create_dir(&path).map_err(failed("create", &path))?;
            // The upper folder's mode is that of the container's `/`, whatever our umask is.
            let mode = fs::Permissions::from_mode(0o755);
            fs::set_permissions(&path, mode).map_err(failed("create", &path))?;
        }
        Ok(())
    }

    fn unmount(&self, container: &str) -> Result<(), RootfsError> {
        check_id(container)?;
        let lock = self.lock(digest_of(container.as_bytes()));
        let _alone = lock.lock().unwrap_or_else(PoisonError::into_inner);
        self.unmount_locked(container)
    }

    fn unmount_locked(&self, container: &str) -> Result<(), RootfsError> {
        let folder = self.folder.join("containers").join(container);
        let rootfs = folder.join("rootfs");
        let result = detach(&rootfs).map_err(failed("unmount", &rootfs));
        result.and_then(|()| self.trash.discard(&folder).map_err(failed("remove", &folder)))?;
        if self.release_image(container) {
            self.collect_garbage();
        }
        Ok(())
    }
}

/// Unmounts all that is mounted at `path`; nothing is fine.
fn detach(path: &Path) -> io::Result<()> {
    loop {
        match unmount(path, UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY) => {
                // Something still stands in it; it goes when that does.
                tracing::warn!(path = %path.display(), "still in use, detached");
                unmount(path, UnmountFlags::NOFOLLOW | UnmountFlags::DETACH)?;
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    match statx(CWD, path, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Err(Errno::NOENT) => Ok(false),
        result => Ok(result?.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
    }
}

fn check_id(id: &str) -> Result<(), RootfsError> {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if id.is_empty() || id.len() > ID_BYTES || id.starts_with('.') || !id.bytes().all(is_fine) {
        return Err(RootfsError::BadId { id: id.chars().take(ID_BYTES).collect() });
    }
    Ok(())
}

/// The containers of an earlier process, and what they stand on.
pub(super) fn read_containers(folder: &Path) -> io::Result<Containers> {
    let mut containers = Containers::new();
    for entry in fs::read_dir(folder.join("containers"))? {
        let entry = entry?;
        let file = match fs::read(entry.path().join("image")) {
            Ok(bytes) => postcard::from_bytes(&bytes).ok(),
            Err(_) => None,
        };
        // One that was cut short stands on nothing: it was never mounted.
        let (image, layers) = match file {
            Some(ContainerFile::V1 { image, layers }) => (image, layers),
            None => (Digest::default(), Vec::new()),
        };
        containers.insert(entry.file_name().to_string_lossy().into_owned(), (image, layers));
    }
    Ok(containers)
}

#[cfg(test)]
mod tests {
    use super::check_id;

    #[test]
    fn ids_that_are_paths_are_refused() {
        for id in ["", ".", "..", "a/b", "a\0", ".hidden", &"x".repeat(65), "é"] {
            assert!(check_id(id).is_err(), "{id}");
        }
        assert!(check_id("web.1-a_B").is_ok());
    }
}
