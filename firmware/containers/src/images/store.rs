//! The store itself: what there is, what is in use, and what may go.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, Weak},
};

use bramble_cluster::{Digest, Image, ImageName, Platform};
use tokio::sync::{Semaphore, watch};

use super::{
    BlobError, ImageConfig, IndexError, Limits, StoredImage,
    blobs::BlobStore,
    index,
    manifest::{DocumentError, native_platform},
    trash::Trash,
};

mod state;

pub(super) use state::{Containers, Pins, now};

use state::{State, take_names};

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
    /// Held by whoever writes the index.
    changing: Mutex<()>,
    changes: watch::Sender<u64>,
    locks: Mutex<BTreeMap<Digest, Weak<Mutex<()>>>>,
    fetches: Mutex<BTreeMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
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

impl OpenStoreError {
    /// Whether the store is there and is no longer what it was: trying again fails the same way.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Index(IndexError::Damaged { .. }))
    }
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
        let inner = Inner {
            folder,
            limits,
            platform,
            blobs,
            trash,
            loads: Arc::new(Semaphore::new(LOADS)),
            served: Semaphore::new(SERVED),
            state: Mutex::new(State::new(images, containers)),
            changing: Mutex::default(),
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
        super::blocking(move || {
            let (id, bytes) = inner.config_document(digest)?;
            ImageConfig::parse(&bytes)
                .map_err(|source| ConfigError::Invalid { digest: id, source: source.into() })
        })
        .await
    }

    /// The same as the image has it: JSON of the OCI image specification.
    pub async fn config_document(&self, digest: Digest) -> Result<Vec<u8>, ConfigError> {
        let inner = Arc::clone(&self.inner);
        super::blocking(move || Ok(inner.config_document(digest)?.1)).await
    }

    /// Gives an image one more name; an image that had it loses it.
    pub async fn tag(&self, digest: Digest, name: ImageName) -> Result<(), ChangeImageError> {
        let inner = Arc::clone(&self.inner);
        super::blocking(move || inner.change(|images, _| tag(images, digest, &name))).await
    }

    /// Takes a name from an image, and removes the image with its last. Blobs and layers that no
    /// image and no container needs any more go. By id, the image goes with all of its names, if
    /// it has one at most or it `is_forced`. An image that a container stands on stays unless it
    /// `is_forced`; its layers stay as long as the container.
    pub async fn remove(
        &self,
        name: &str,
        is_forced: bool,
    ) -> Result<Vec<Removal>, ChangeImageError> {
        let inner = Arc::clone(&self.inner);
        let name = name.to_owned();
        super::blocking(move || {
            let removals =
                inner.change(|images, containers| remove(images, containers, &name, is_forced))?;
            inner.collect_garbage();
            Ok(removals)
        })
        .await
    }
}

fn tag(
    images: &mut BTreeMap<Digest, StoredImage>,
    digest: Digest,
    name: &ImageName,
) -> Result<(), ChangeImageError> {
    const LIMIT: usize = bramble_cluster::limits::IMAGE_NAMES;
    take_names(images, &BTreeSet::from([name.full()]));
    let unknown = || ResolveError::Unknown { name: digest.to_string() };
    let image = images.get_mut(&digest).ok_or_else(unknown)?;
    image.names.insert(name.full());
    image.named_at = now();
    if image.names.len() > LIMIT {
        return Err(ChangeImageError::TooManyNames { digest, limit: LIMIT });
    }
    Ok(())
}

fn remove(
    images: &mut BTreeMap<Digest, StoredImage>,
    containers: &Containers,
    name: &str,
    is_forced: bool,
) -> Result<Vec<Removal>, ChangeImageError> {
    let mut image = resolve(images, name)?;
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
    if !image.names.is_empty() {
        images.insert(image.digest, image);
        return Ok(removals);
    }
    let user = containers.iter().find(|(_, (used, _))| *used == image.digest);
    if let (Some((container, _)), false) = (user, is_forced) {
        let (name, container) = (name.to_owned(), container.clone());
        return Err(ChangeImageError::InUse { name, container });
    }
    images.remove(&image.digest);
    removals.push(Removal::Deleted(image.id));
    Ok(removals)
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
