//! The store itself: what there is, what is in use, and what may go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bramble_cluster::{Digest, Image, ImageName, Platform, Timestamp};
use tokio::sync::{Semaphore, watch};

use super::{
    BlobError, ImageConfig, IndexError, Limits, StoredImage,
    blobs::BlobStore,
    index,
    manifest::{DocumentError, native_platform},
    trash::Trash,
};

/// Archives that are loaded at the same time; more wait.
const LOADS: usize = 4;
/// Blobs that are handed to other boards at the same time; more wait.
const SERVED: usize = 8;
/// Hexadecimal digits that name an image by its id, at least.
const SHORT_ID_DIGITS: usize = 4;

/// What a store needs to know.
#[derive(Debug, Clone)]
pub struct ImageStoreOptions {
    /// The folder that is the store's alone.
    pub folder: PathBuf,
    /// What it refuses.
    pub limits: Limits,
    /// What its images run on.
    pub platform: Platform,
}

impl ImageStoreOptions {
    /// A store in `folder` with the default limits, for the machine that it runs on.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into(), limits: Limits::default(), platform: native_platform() }
    }
}

/// The images of this board. Cheap to clone; all clones are one store.
#[derive(Debug, Clone)]
pub struct ImageStore {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) folder: PathBuf,
    pub(super) limits: Arc<Limits>,
    pub(super) platform: Platform,
    pub(super) blobs: BlobStore,
    pub(super) trash: Trash,
    pub(super) loads: Arc<Semaphore>,
    pub(super) served: Semaphore,
    state: Mutex<State>,
    changes: watch::Sender<u64>,
    locks: Mutex<BTreeMap<Digest, Weak<Mutex<()>>>>,
    fetches: Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
}

#[derive(Debug, Default)]
struct State {
    images: BTreeMap<Digest, StoredImage>,
    /// Blobs and layers that are about to be an image's.
    pins: BTreeMap<Digest, usize>,
    /// The image and the layers that containers stand on.
    containers: BTreeMap<String, (Digest, Vec<Digest>)>,
}

/// The store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenStoreError {
    /// The index could not be read.
    #[error(transparent)]
    Index(#[from] IndexError),
    /// The blobs could not be read.
    #[error(transparent)]
    Blobs(#[from] BlobError),
    /// The file system refused.
    #[error("cannot open the images in {}", path.display())]
    Io {
        /// Which folder.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// An image could not be found.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// There is none of that name.
    #[error("no such image: {name}")]
    Unknown {
        /// The name, as it was given.
        name: String,
    },
    /// The beginning of an id fits several.
    #[error("{name} is the beginning of several images' ids")]
    Ambiguous {
        /// The beginning, as it was given.
        name: String,
    },
}

/// An image's configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no such image.
    #[error("image {digest} is not here")]
    Unknown {
        /// Which.
        digest: Digest,
    },
    /// Its blob could not be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// It is no configuration.
    #[error("the configuration {digest} is not valid")]
    Invalid {
        /// Which blob.
        digest: Digest,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
}

/// An image could not be removed, or given a name.
#[derive(Debug, thiserror::Error)]
pub enum ChangeImageError {
    /// There is none of that name.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A container stands on it.
    #[error("image {name} is used by container {container}")]
    InUse {
        /// The image, as it was given.
        name: String,
        /// A container that runs it.
        container: String,
    },
    /// An id was given, and the image has several names.
    #[error("image {id} has several names: remove them by name, or use force")]
    SeveralNames {
        /// The id, as it was given.
        id: String,
    },
    /// It has as many names as an image may have.
    #[error("image {digest} has {limit} names already")]
    TooManyNames {
        /// Which image.
        digest: Digest,
        /// How many names an image may have.
        limit: usize,
    },
    /// The index could not be written.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// What a removal did, in Docker's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A name went.
    Untagged(String),
    /// An image went; this was its id.
    Deleted(Digest),
}

impl ImageStore {
    /// Opens a store, and throws away what an earlier process left half-done. Blocks.
    pub fn open(options: ImageStoreOptions) -> Result<Self, OpenStoreError> {
        let ImageStoreOptions { folder, limits, platform } = options;
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenStoreError::Io { path, source }
        };
        fs::create_dir_all(&folder).map_err(failed(&folder))?;
        let limits = Arc::new(limits);
        let blobs = BlobStore::open(&folder, Arc::clone(&limits))?;
        let trash = folder.join("trash");
        let trash = Trash::open(&trash).map_err(failed(&trash))?;
        let unpacking = folder.join("unpacking");
        trash.discard(&unpacking).map_err(failed(&unpacking))?;
        for name in ["unpacking", "layers", "containers"] {
            use std::os::unix::fs::DirBuilderExt;
            let path = folder.join(name);
            // Closed to others: layers hold set-uid programs and devices of strangers.
            let mut builder = fs::DirBuilder::new();
            builder.recursive(true).mode(0o700).create(&path).map_err(failed(&path))?;
        }
        let containers = super::rootfs::read_containers(&folder).map_err(failed(&folder))?;
        let images = index::read(&folder.join("index"))?;
        let state = State { images, containers, pins: BTreeMap::new() };
        let inner = Inner {
            folder,
            limits,
            platform,
            blobs,
            trash,
            loads: Arc::new(Semaphore::new(LOADS)),
            served: Semaphore::new(SERVED),
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            locks: Mutex::default(),
            fetches: Mutex::default(),
        };
        inner.collect_garbage();
        Ok(Self { inner: Arc::new(inner) })
    }

    /// All images that are here, whole.
    pub fn list(&self) -> Vec<StoredImage> {
        self.inner.state().images.values().cloned().collect()
    }

    /// The same, as a node reports them to its cluster (holders are left to the cluster).
    pub fn images(&self) -> Vec<Image> {
        let to_image = |image: StoredImage| Image {
            digest: image.digest,
            size: image.size(),
            names: image.names,
            holders: BTreeSet::new(),
            named_at: image.named_at,
        };
        self.list().into_iter().map(to_image).collect()
    }

    /// Counts changes of the list; wakes whoever waits for one.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// The image of a digest.
    pub fn find(&self, digest: Digest) -> Option<StoredImage> {
        self.inner.state().images.get(&digest).cloned()
    }

    /// The image that a person means: by name, by `name@digest`, by digest, by (the beginning of)
    /// its id.
    pub fn resolve(&self, name: &str) -> Result<StoredImage, ResolveError> {
        resolve(&self.inner.state().images, name)
    }

    /// How a container of the image runs unless its service says otherwise.
    pub async fn config(&self, digest: Digest) -> Result<ImageConfig, ConfigError> {
        let inner = Arc::clone(&self.inner);
        super::blocking(move || inner.config(digest)).await
    }

    /// Gives an image one more name; an image that had it loses it.
    pub fn tag(&self, digest: Digest, name: &ImageName) -> Result<(), ChangeImageError> {
        const LIMIT: usize = bramble_cluster::limits::IMAGE_NAMES;
        let mut state = self.inner.state();
        let mut images = state.images.clone();
        take_names(&mut images, &BTreeSet::from([name.full()]));
        let unknown = || ResolveError::Unknown { name: digest.to_string() };
        let image = images.get_mut(&digest).ok_or_else(unknown)?;
        image.names.insert(name.full());
        image.named_at = now();
        if image.names.len() > LIMIT {
            return Err(ChangeImageError::TooManyNames { digest, limit: LIMIT });
        }
        Ok(self.inner.replace(&mut state, images)?)
    }

    /// Takes a name from an image, and removes the image with its last. Blobs and layers that no
    /// image and no container needs any more go. By id, the image goes with all of its names, if
    /// it has one at most or it `is_forced`. An image that a container stands on stays unless it
    /// `is_forced`; its layers stay as long as the container. Blocks.
    pub fn remove(&self, name: &str, is_forced: bool) -> Result<Vec<Removal>, ChangeImageError> {
        let removals = {
            let mut state = self.inner.state();
            let mut images = state.images.clone();
            let mut image = resolve(&images, name)?;
            let tag = name
                .parse::<ImageName>()
                .ok()
                .map(|name| name.full())
                .filter(|full| image.names.contains(full));
            if tag.is_none() && image.names.len() > 1 && !is_forced {
                return Err(ChangeImageError::SeveralNames { id: name.to_owned() });
            }
            let gone = tag.map_or_else(|| image.names.clone(), |tag| BTreeSet::from([tag]));
            image.names.retain(|name| !gone.contains(name));
            let mut removals: Vec<_> = gone.into_iter().map(Removal::Untagged).collect();
            if image.names.is_empty() {
                let user = state.containers.iter().find(|(_, (used, _))| *used == image.digest);
                if let (Some((container, _)), false) = (user, is_forced) {
                    let (name, container) = (name.to_owned(), container.clone());
                    return Err(ChangeImageError::InUse { name, container });
                }
                images.remove(&image.digest);
                removals.push(Removal::Deleted(image.id));
            } else {
                images.insert(image.digest, image);
            }
            self.inner.replace(&mut state, images)?;
            removals
        };
        self.inner.collect_garbage();
        Ok(removals)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made on a copy and put in place whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a changed list in place, on the disk first.
    fn replace(
        &self,
        state: &mut State,
        images: BTreeMap<Digest, StoredImage>,
    ) -> Result<(), IndexError> {
        index::write(&self.folder.join("index"), &images)?;
        state.images = images;
        self.changes.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Adds an image, all of whose blobs are here. Its names leave other images.
    pub(super) fn register(&self, mut image: StoredImage) -> Result<StoredImage, IndexError> {
        let mut state = self.state();
        let mut images = state.images.clone();
        take_names(&mut images, &image.names);
        if let Some(former) = images.get(&image.digest) {
            image.names.extend(former.names.iter().cloned());
            image.named_at = image.named_at.max(former.named_at);
        }
        images.insert(image.digest, image.clone());
        if images != state.images {
            self.replace(&mut state, images)?;
        }
        Ok(image)
    }

    /// The configuration of an image that is here. Blocks.
    pub(super) fn config(&self, digest: Digest) -> Result<ImageConfig, ConfigError> {
        let image = self.state().images.get(&digest).map(|image| image.id);
        let id = image.ok_or(ConfigError::Unknown { digest })?;
        let bytes = self.blobs.read_document(id)?;
        ImageConfig::parse(&bytes)
            .map_err(|source| ConfigError::Invalid { digest: id, source: source.into() })
    }

    /// The image of a digest.
    pub(super) fn image(&self, digest: Digest) -> Option<StoredImage> {
        self.state().images.get(&digest).cloned()
    }

    /// Notes that a container stands on an image; `None` if the image is not here.
    pub(super) fn use_image(&self, container: &str, digest: Digest) -> Option<StoredImage> {
        let mut state = self.state();
        let image = state.images.get(&digest)?.clone();
        state.containers.insert(container.to_owned(), (digest, image.layers.clone()));
        Some(image)
    }

    /// Notes that a container is gone; whether an image had gone before it.
    pub(super) fn release_image(&self, container: &str) -> bool {
        let mut state = self.state();
        let Some((digest, _)) = state.containers.remove(container) else { return false };
        !state.images.contains_key(&digest)
    }

    /// The containers that stand on images here.
    pub(super) fn containers(&self) -> Vec<String> {
        self.state().containers.keys().cloned().collect()
    }

    /// A lock for whoever makes the thing of this digest.
    pub(super) fn lock(&self, digest: Digest) -> Arc<Mutex<()>> {
        keyed(&self.locks, digest)
    }

    /// A lock for whoever fetches the image of this digest.
    pub(super) fn fetch_lock(&self, digest: Digest) -> Arc<tokio::sync::Mutex<()>> {
        keyed(&self.fetches, digest)
    }

    /// Removes blobs and layers that nothing needs. What cannot be removed now is tried again
    /// the next time.
    pub(super) fn collect_garbage(&self) {
        // Held throughout: nothing becomes needed while it is removed.
        let state = self.state();
        let mut needed: BTreeSet<Digest> = state.pins.keys().copied().collect();
        for image in state.images.values() {
            needed.extend(image.blobs.keys());
            needed.extend(&image.layers);
        }
        for (_, layers) in state.containers.values() {
            needed.extend(layers);
        }
        for digest in self.blobs.list().unwrap_or_default() {
            if !needed.contains(&digest) {
                if let Err(error) = self.blobs.remove(digest) {
                    tracing::warn!(%digest, error = &error as &dyn std::error::Error, "blob stays");
                }
            }
        }
        let layers = self.folder.join("layers");
        for entry in fs::read_dir(&layers).into_iter().flatten().flatten() {
            let text = format!("sha256:{}", entry.file_name().to_string_lossy());
            if text.parse().is_ok_and(|digest| needed.contains(&digest)) {
                continue;
            }
            if let Err(error) = self.trash.discard(&entry.path()) {
                tracing::warn!(layer = text, %error, "layer stays");
            }
        }
    }
}

/// Keeps blobs and layers from being collected until it is dropped.
#[derive(Debug)]
pub(super) struct Pins {
    store: Arc<Inner>,
    digests: Vec<Digest>,
}

impl Pins {
    pub(super) const fn new(store: Arc<Inner>) -> Self {
        Self { store, digests: Vec::new() }
    }

    pub(super) fn add(&mut self, digest: Digest) {
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

/// The time by this board's clock.
pub(super) fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::default() + since.unwrap_or_default()
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
fn take_names(images: &mut BTreeMap<Digest, StoredImage>, names: &BTreeSet<String>) {
    for image in images.values_mut() {
        image.names.retain(|name| !names.contains(name));
    }
}

fn resolve(
    images: &BTreeMap<Digest, StoredImage>,
    name: &str,
) -> Result<StoredImage, ResolveError> {
    let unknown = || ResolveError::Unknown { name: name.chars().take(256).collect() };
    if let Ok(parsed) = name.parse::<ImageName>() {
        let found = match parsed.digest() {
            Some(digest) => images.get(&digest),
            None => images.values().find(|image| image.names.contains(&parsed.full())),
        };
        if let Some(image) = found {
            return Ok(image.clone());
        }
    }
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    if hex.len() < SHORT_ID_DIGITS || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(unknown());
    }
    let mut fitting = images.values().filter(|image| {
        [image.digest, image.id, image.manifest].iter().any(|it| it.hex().starts_with(hex))
    });
    let first = fitting.next().ok_or_else(unknown)?;
    match fitting.next() {
        Some(_) => Err(ResolveError::Ambiguous { name: name.to_owned() }),
        None => Ok(first.clone()),
    }
}
