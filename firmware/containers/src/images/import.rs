//! From blobs to an image: every part is there, fits the others, and unpacks; then it is listed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::{Arc, PoisonError},
};

use bramble_cluster::{Digest, ImageName, ParseImageNameError, Timestamp};

use super::{
    BlobError, DocumentError, ImageConfig, IndexError, OverLimit, Progress, StoredImage, TarError,
    UnpackError,
    manifest::{self, Descriptor, Document, Manifest},
    store::{Inner, Pins},
    unpack::Unpacker,
};

/// Indexes within indexes, at most.
const INDEX_DEPTH: usize = 3;

/// An image could not be loaded. Nothing of it stays.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The archive cannot be read.
    #[error("the archive cannot be loaded")]
    Archive(#[from] TarError),
    /// The archive is one of something else.
    #[error("there is no image in it: neither index.json nor manifest.json")]
    NoImage,
    /// Something is not in the archive.
    #[error("`{path}` is missing")]
    Missing {
        /// What the archive's manifest calls it.
        path: String,
    },
    /// Something in the archive is no file, or a link to none.
    #[error("`{path}` is not a file of an image")]
    NotAFile {
        /// What it is called.
        path: String,
    },
    /// A manifest, index or configuration is not valid.
    #[error("`{path}` is not valid")]
    Document {
        /// Which.
        path: String,
        /// What is wrong with it.
        #[source]
        source: DocumentError,
    },
    /// None of the index's images is whole.
    #[error("{digest} is for several platforms, and the blobs of none are complete")]
    NoPlatform {
        /// Which index.
        digest: Digest,
    },
    /// It has a name that cannot be.
    #[error(transparent)]
    Name(#[from] ParseImageNameError),
    /// A blob cannot be read or written, or is not what it should be.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A layer cannot be unpacked.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// There is too much of something.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The list of images cannot be written.
    #[error(transparent)]
    Index(#[from] IndexError),
}

/// One image for one platform, whole.
struct Parts {
    digest: Digest,
    manifest: Manifest,
    config: ImageConfig,
}

/// Makes one image of blobs.
pub(super) struct Import<'a> {
    store: &'a Arc<Inner>,
    pins: &'a mut Pins,
    /// Brings a blob into the store if it is not there, or says that it is missing.
    provide: &'a mut dyn FnMut(Digest) -> Result<(), LoadError>,
    progress: &'a mut dyn FnMut(Progress),
    blobs: BTreeMap<Digest, u64>,
    /// What an index leads to again is not looked at again: an index of indexes of the same
    /// manifests would never end.
    visited: BTreeSet<Digest>,
}

impl<'a> Import<'a> {
    pub(super) fn new(
        store: &'a Arc<Inner>,
        pins: &'a mut Pins,
        provide: &'a mut dyn FnMut(Digest) -> Result<(), LoadError>,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Self {
        Self { store, pins, provide, progress, blobs: BTreeMap::new(), visited: BTreeSet::new() }
    }

    /// Checks, unpacks and lists the image of `root`, by names that a person gave it at `named_at`.
    /// Blocks.
    pub(super) fn run(
        mut self,
        root: Digest,
        names: &BTreeSet<ImageName>,
        named_at: Timestamp,
    ) -> Result<StoredImage, LoadError> {
        let mut found = Vec::new();
        self.collect(root, None, 0, &mut found)?;
        let best = found
            .iter()
            .enumerate()
            .min_by_key(|(place, parts)| {
                let of = manifest::PlatformOf {
                    os: parts.config.platform.os.clone(),
                    architecture: parts.config.platform.architecture.clone(),
                    variant: None,
                };
                let fitness = manifest::fitness(&of, &self.store.platform);
                (fitness.unwrap_or(u32::MAX), *place)
            })
            .map(|(place, _)| place);
        let best = best.ok_or(LoadError::NoPlatform { digest: root })?;
        let layers = found.iter().map(|parts| parts.config.layers.len()).sum();
        let mut done = 0;
        for (place, parts) in found.iter().enumerate() {
            self.unpack(parts, place == best, &mut done, layers)?;
        }
        let parts = found.swap_remove(best);
        let names = names.iter().map(ImageName::full).collect();
        Ok(self.store.register(StoredImage {
            digest: root,
            id: parts.manifest.config.digest,
            manifest: parts.digest,
            platform: parts.config.platform,
            names,
            named_at,
            blobs: self.blobs,
            layers: parts.config.layers,
            created: parts.config.created,
        })?)
    }

    /// Brings a blob here and keeps it here.
    fn take(&mut self, digest: Digest, size: Option<u64>) -> Result<(), LoadError> {
        self.pins.add(digest);
        (self.provide)(digest)?;
        let found = self.store.blobs.size(digest).ok_or(BlobError::Missing { digest })?;
        match size {
            Some(expected) if expected != found => {
                return Err(BlobError::WrongSize { digest, expected, found }.into());
            }
            _ => self.blobs.insert(digest, found),
        };
        Ok(())
    }

    fn document(&mut self, digest: Digest, size: Option<u64>) -> Result<Vec<u8>, LoadError> {
        self.take(digest, size)?;
        Ok(self.store.blobs.read_document(digest)?)
    }

    /// Gathers the images under a digest: one, or those of an index that are here whole.
    fn collect(
        &mut self,
        digest: Digest,
        size: Option<u64>,
        depth: usize,
        found: &mut Vec<Parts>,
    ) -> Result<(), LoadError> {
        if !self.visited.insert(digest) {
            return Ok(());
        }
        let invalid = |source| LoadError::Document { path: digest.to_string(), source };
        let limits = Arc::clone(&self.store.limits);
        let bytes = self.document(digest, size)?;
        match manifest::parse(&bytes, &limits).map_err(invalid)? {
            Document::Manifest(manifest) => {
                found.push(self.parts(digest, manifest)?);
                Ok(())
            }
            Document::Index(_) if depth >= INDEX_DEPTH => {
                let what = "indexes within indexes";
                Err(OverLimit { what, limit: INDEX_DEPTH as u64 }.into())
            }
            Document::Index(manifests) => {
                let before = found.len();
                for child in manifest::images(&manifests) {
                    // What a platform lacks is dropped with it.
                    let blobs = self.blobs.clone();
                    match self.collect(child.digest, Some(child.size), depth + 1, found) {
                        Err(LoadError::Missing { .. } | LoadError::NoPlatform { .. }) => {
                            self.blobs = blobs;
                        }
                        result => result?,
                    }
                    if found.len() > limits.manifests {
                        let what = "manifests of an index";
                        return Err(OverLimit { what, limit: limits.manifests as u64 }.into());
                    }
                }
                if found.len() == before {
                    return Err(LoadError::NoPlatform { digest });
                }
                Ok(())
            }
        }
    }

    /// The parts of one manifest, all brought here.
    fn parts(&mut self, digest: Digest, manifest: Manifest) -> Result<Parts, LoadError> {
        let Descriptor { digest: id, size, .. } = manifest.config;
        let bytes = self.document(id, Some(size))?;
        let invalid = |source| LoadError::Document { path: id.to_string(), source };
        let config = ImageConfig::parse(&bytes).map_err(|error| invalid(error.into()))?;
        let (in_config, in_manifest) = (config.layers.len(), manifest.layers.len());
        if in_config != in_manifest {
            return Err(invalid(DocumentError::Layers { in_config, in_manifest }));
        }
        for layer in &manifest.layers {
            self.take(layer.digest, Some(layer.size))?;
        }
        Ok(Parts { digest, manifest, config })
    }

    /// Unpacks an image's layers, or looks through them if they are not for this board.
    fn unpack(
        &mut self,
        parts: &Parts,
        is_to_run: bool,
        done: &mut usize,
        layers: usize,
    ) -> Result<(), LoadError> {
        let mut budget = self.store.limits.unpacked_bytes;
        for (layer, blob) in parts.config.layers.iter().zip(&parts.manifest.layers) {
            *done += 1;
            (self.progress)(Progress::Unpacking { layer: *done, layers });
            if is_to_run {
                self.pins.add(*layer);
                budget = self.store.unpack_layer(*layer, blob.digest, budget)?;
            } else {
                budget = self.store.look_through_layer(*layer, blob.digest, budget)?;
            }
        }
        Ok(())
    }
}

impl Inner {
    /// Unpacks a layer unless it is here already. Returns what is left of the budget. Blocks.
    pub(super) fn unpack_layer(
        &self,
        layer: Digest,
        blob: Digest,
        budget: u64,
    ) -> Result<u64, LoadError> {
        let lock = self.lock(layer);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let path = self.layer_path(layer);
        if path.is_dir() {
            return Ok(budget);
        }
        let (file, _) = self.blobs.open_blob(blob, None)?;
        let workshop = self.folder.join("unpacking").join(layer.hex());
        let tree = workshop.join("tree");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| UnpackError::Io { layer, path, source }
        };
        self.trash.discard(&workshop).map_err(failed(&workshop))?;
        fs::create_dir_all(&tree).map_err(failed(&tree))?;
        let result = Unpacker::new(layer, Some(&tree), &self.limits, budget)
            .and_then(|unpacker| unpacker.unpack(file))
            .and_then(|budget| {
                fs::rename(&tree, &path)
                    .and_then(|()| fs::File::open(self.folder.join("layers"))?.sync_all())
                    .map_err(failed(&path))?;
                Ok(budget)
            });
        let discarded = self.trash.discard(&workshop).map_err(failed(&workshop));
        let budget = result?;
        discarded?;
        Ok(budget)
    }

    /// Checks a layer without unpacking it: its digest, its size, its entries' paths. Blocks.
    fn look_through_layer(
        &self,
        layer: Digest,
        blob: Digest,
        budget: u64,
    ) -> Result<u64, LoadError> {
        let (file, _) = self.blobs.open_blob(blob, None)?;
        Ok(Unpacker::new(layer, None, &self.limits, budget)?.unpack(file)?)
    }

    /// Where a layer is, or would be.
    pub(super) fn layer_path(&self, layer: Digest) -> std::path::PathBuf {
        self.folder.join("layers").join(layer.hex())
    }
}
