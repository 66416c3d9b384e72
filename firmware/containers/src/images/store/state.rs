//! What is in memory of a store, and how it changes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bramble_cluster::{Digest, Timestamp};

use super::{ConfigError, Inner};
use crate::images::{IndexError, StoredImage, index};

/// The image and the layers that each container stands on.
pub(in crate::images) type Containers = BTreeMap<String, (Digest, Vec<Digest>)>;

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) images: BTreeMap<Digest, StoredImage>,
    /// Blobs and layers that are about to be an image's.
    pins: BTreeMap<Digest, usize>,
    /// The image and the layers that containers stand on.
    containers: Containers,
}

impl Inner {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Whatever panicked left it whole: it is only changed by single steps.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the list of images: on the disk first, then for all to see. Only other changes wait
    /// for the disk. Blocks.
    pub(in crate::images) fn change<T, E: From<IndexError>>(
        &self,
        act: impl FnOnce(&mut BTreeMap<Digest, StoredImage>, &Containers) -> Result<T, E>,
    ) -> Result<T, E> {
        let _alone = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, containers) = {
            let state = self.state();
            (state.images.clone(), state.containers.clone())
        };
        let mut images = before.clone();
        let result = act(&mut images, &containers)?;
        if images != before {
            index::write(&self.folder.join("index"), &images)?;
            self.state().images = images;
            self.changes.send_modify(|count| *count += 1);
        }
        Ok(result)
    }

    /// Adds an image, all of whose blobs are here. The names that a person gave it leave other
    /// images; those that it was fetched by do not: it may be an older one, for a task that
    /// still runs it. Blocks.
    pub(in crate::images) fn register(
        &self,
        mut image: StoredImage,
    ) -> Result<StoredImage, IndexError> {
        self.change(|images, _| {
            if image.named_at == Timestamp::default() {
                let others = images.values().filter(|other| other.digest != image.digest);
                let taken: BTreeSet<_> = others.flat_map(|other| &other.names).collect();
                image.names.retain(|name| !taken.contains(name));
            } else {
                take_names(images, &image.names);
            }
            if let Some(former) = images.get(&image.digest) {
                image.names.extend(former.names.iter().cloned());
                image.named_at = image.named_at.max(former.named_at);
            }
            images.insert(image.digest, image.clone());
            Ok(image)
        })
    }

    /// The configuration of an image that is here, as it is written, and its digest. Blocks.
    pub(super) fn config_document(&self, digest: Digest) -> Result<(Digest, Vec<u8>), ConfigError> {
        let image = self.state().images.get(&digest).map(|image| image.id);
        let id = image.ok_or(ConfigError::Unknown { digest })?;
        Ok((id, self.blobs.read_document(id)?))
    }

    /// The image of a digest.
    pub(in crate::images) fn image(&self, digest: Digest) -> Option<StoredImage> {
        self.state().images.get(&digest).cloned()
    }

    /// Notes that a container stands on an image; `None` if the image is not here.
    pub(in crate::images) fn use_image(
        &self,
        container: &str,
        digest: Digest,
    ) -> Option<StoredImage> {
        let mut state = self.state();
        let image = state.images.get(&digest)?.clone();
        state.containers.insert(container.to_owned(), (digest, image.layers.clone()));
        Some(image)
    }

    /// Notes that a container is gone; whether an image had gone before it.
    pub(in crate::images) fn release_image(&self, container: &str) -> bool {
        let mut state = self.state();
        let Some((digest, _)) = state.containers.remove(container) else { return false };
        !state.images.contains_key(&digest)
    }

    /// The containers that stand on images here.
    pub(in crate::images) fn containers(&self) -> Vec<String> {
        self.state().containers.keys().cloned().collect()
    }

    /// A lock for whoever makes the thing of this digest.
    pub(in crate::images) fn lock(&self, digest: Digest) -> Arc<Mutex<()>> {
        keyed(&self.locks, digest)
    }

    /// A lock for whoever fetches the image of this digest.
    pub(in crate::images) fn fetch_lock(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        keyed(&self.fetches, digest)
    }

    /// Removes blobs and layers that nothing needs. What cannot be removed now is tried again
    /// the next time. Blocks.
    pub(in crate::images) fn collect_garbage(&self) {
        let mut discarded = Vec::new();
        {
            // Held until all is out of its place: nothing becomes needed while it goes.
            let state = self.state();
            let needed = state.needed();
            for digest in self.blobs.list().unwrap_or_default() {
                if needed.contains(&digest) {
                    continue;
                }
                if let Err(error) = self.blobs.remove(digest) {
                    tracing::warn!(%digest, error = &error as &dyn std::error::Error, "blob stays");
                }
            }
            let layers = self.folder.join("layers");
            for entry in fs::read_dir(&layers).into_iter().flatten().flatten() {
                let text = format!("sha256:{}", entry.file_name().to_string_lossy());
                if text.parse().is_ok_and(|digest| needed.contains(&digest)) {
                    continue;
                }
                match self.trash.take(&entry.path()) {
                    Ok(tree) => discarded.extend(tree),
                    Err(error) => tracing::warn!(layer = text, %error, "layer stays"),
                }
            }
        }
        // A layer is many files, and nobody has to wait for them.
        for tree in discarded {
            if let Err(error) = tree.remove() {
                tracing::warn!(%error, "what was discarded stays until the next start");
            }
        }
    }
}

impl State {
    pub(super) fn new(images: BTreeMap<Digest, StoredImage>, containers: Containers) -> Self {
        Self { images, containers, pins: BTreeMap::new() }
    }

    /// The blobs and layers that something needs.
    fn needed(&self) -> BTreeSet<Digest> {
        let mut needed: BTreeSet<Digest> = self.pins.keys().copied().collect();
        for image in self.images.values() {
            needed.extend(image.blobs.keys());
            needed.extend(&image.layers);
        }
        for (_, layers) in self.containers.values() {
            needed.extend(layers);
        }
        needed
    }
}

/// Keeps blobs and layers from being collected until it is dropped.
#[derive(Debug)]
pub(in crate::images) struct Pins {
    store: Arc<Inner>,
    digests: Vec<Digest>,
}

impl Pins {
    pub(in crate::images) const fn new(store: Arc<Inner>) -> Self {
        Self { store, digests: Vec::new() }
    }

    pub(in crate::images) fn add(&mut self, digest: Digest) {
        self.digests.push(digest);
        *self.store.state().pins.entry(digest).or_default() += 1;
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let mut state = self.store.state();
        for digest in &self.digests {
            if let Some(count) = state.pins.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    state.pins.remove(digest);
                }
            }
        }
    }
}

/// The lock of a digest; the map forgets those that nobody holds.
fn keyed<T: Default>(map: &Mutex<BTreeMap<Digest, Weak<T>>>, digest: Digest) -> Arc<T> {
    let mut map = map.lock().unwrap_or_else(PoisonError::into_inner);
    map.retain(|_, lock| lock.strong_count() > 0);
    if let Some(lock) = map.get(&digest).and_then(Weak::upgrade) {
        return lock;
    }
    let lock = Arc::new(T::default());
    map.insert(digest, Arc::downgrade(&lock));
    lock
}

/// Takes names from the images that have them: a name means one image.
pub(super) fn take_names(images: &mut BTreeMap<Digest, StoredImage>, names: &BTreeSet<String>) {
    for image in images.values_mut() {
        image.names.retain(|name| !names.contains(name));
    }
}

/// The time by this board's clock.
pub(in crate::images) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::default() + since.unwrap_or_default()
}
