//! A store in a folder of its own, and a neighbourhood that must not change.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use bramble_cluster::Digest;
use bramble_containers::images::{ImageStore, ImageStoreOptions, Limits, LoadError, StoredImage};

/// A store, and beside it a folder that nothing may touch.
pub(crate) struct Scene {
    folder: tempfile::TempDir,
    pub(crate) store: ImageStore,
}

/// Everything that can be seen of a tree without reading another: kinds, modes, owners, times,
/// sizes, contents.
pub(crate) type Fingerprint = BTreeMap<PathBuf, (u32, u32, u32, u64, i64, i64, Vec<u8>)>;

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(Limits::default())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "owners, devices and mounts need root: run these tests as root"
        );
        let folder = tempfile::tempdir().expect("a folder");
        let outside = folder.path().join("outside");
        fs::create_dir_all(outside.join("folder")).expect("a neighbourhood");
        fs::write(outside.join("secret"), "secret").expect("a neighbour");
        fs::write(outside.join("folder/file"), "file").expect("a neighbour");
        let store = open(&folder.path().join("images"), limits);
        Self { folder, store }
    }

    /// The folder that nothing may touch.
    pub(crate) fn outside(&self) -> PathBuf {
        self.folder.path().join("outside")
    }

    /// The store's folder.
    pub(crate) fn images(&self) -> PathBuf {
        self.folder.path().join("images")
    }

    /// Opens the store again, as another process would.
    pub(crate) fn reopen(&mut self) {
        self.store = open(&self.images(), Limits::default());
    }

    pub(crate) fn load(&self, archive: &[u8]) -> Result<Vec<StoredImage>, LoadError> {
        self.store.load_from(archive, None, |_| {})
    }

    /// The folder of an unpacked layer.
    pub(crate) fn layer(&self, digest: Digest) -> PathBuf {
        self.images().join("layers").join(digest.hex())
    }

    /// What a failed load must not change: everything outside, and all that the store keeps.
    pub(crate) fn fingerprint(&self) -> Fingerprint {
        fingerprint(self.folder.path())
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        // Whatever a test mounted goes with it, also when it fails.
        for entry in fs::read_dir(self.images().join("containers")).into_iter().flatten().flatten()
        {
            let rootfs = entry.path().join("rootfs");
            let _ = rustix::mount::unmount(rootfs, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

pub(crate) fn open(folder: &Path, limits: Limits) -> ImageStore {
    let options = ImageStoreOptions { limits, ..ImageStoreOptions::new(folder) };
    ImageStore::open(options).expect("the store opens")
}

/// A tree's fingerprint. The times of the store's own working folders change, their content not.
pub(crate) fn fingerprint(folder: &Path) -> Fingerprint {
    let mut found = Fingerprint::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let metadata = fs::symlink_metadata(&path).expect("an entry");
            let content = if metadata.is_file() {
                fs::read(&path).expect("a file")
            } else if metadata.is_symlink() {
                fs::read_link(&path).expect("a link").into_os_string().into_encoded_bytes()
            } else {
                Vec::new()
            };
            let is_working =
                metadata.is_dir() && path.components().any(|it| it.as_os_str() == "images");
            let (seconds, nanoseconds) =
                if is_working { (0, 0) } else { (metadata.mtime(), metadata.mtime_nsec()) };
            let size = if metadata.is_dir() { 0 } else { metadata.size() };
            let (mode, owner, group) = (metadata.mode(), metadata.uid(), metadata.gid());
            if metadata.is_dir() {
                folders.push(path.clone());
            }
            found.insert(path, (mode, owner, group, size, seconds, nanoseconds, content));
        }
    }
    found
}
