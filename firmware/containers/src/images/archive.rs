//! Loading: what `docker save`, `skopeo` and `buildctl` write, as a stream or a folder.
//!
//! An archive may name its parts before or after them, so every file is first set aside, hashed;
//! then the archive's own table of contents says which of them are images.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
    sync::Arc,
};

use bramble_cluster::{Digest, ImageName};
use serde::Deserialize;
use tokio::io::AsyncRead;
use tokio_util::io::SyncIoBridge;

use super::{
    BlobError, DocumentError, ImageStore, LoadError, OverLimit, Progress, StoredImage, TarError,
    blobs::SpooledBlob,
    compression::{CHUNK_BYTES, Decoded},
    import::Import,
    manifest::{self, Descriptor, Document, Manifest, media},
    store::{Inner, Pins, now},
    tar_stream::{EntryKind, TarReader},
};

/// How often progress is told.
const TELL_EVERY_BYTES: u64 = 1 << 20;
/// Links from one name to the next, at most.
const LINK_HOPS: usize = 8;
/// Where both OCI layouts and newer `docker save` archives keep their blobs.
const BLOBS_FOLDER: &str = "blobs/sha256/";

impl ImageStore {
    /// Loads all images of an archive: what `docker save` writes (its old and its OCI layout) or
    /// an OCI archive, plain or compressed. `total` is the stream's length, if it is known.
    pub async fn load(
        &self,
        archive: impl AsyncRead + Send + Unpin + 'static,
        total: Option<u64>,
        progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Vec<StoredImage>, LoadError> {
        let store = self.clone();
        // The semaphore is never closed.
        let permit = Arc::clone(&self.inner.loads).acquire_owned().await.ok();
        let archive = SyncIoBridge::new(archive);
        super::blocking(move || {
            let _permit = permit;
            store.load_from(archive, total, progress)
        })
        .await
    }

    /// The same, of a stream that blocks. Blocks.
    pub fn load_from(
        &self,
        archive: impl Read,
        total: Option<u64>,
        mut progress: impl FnMut(Progress),
    ) -> Result<Vec<StoredImage>, LoadError> {
        self.collect_after(|pins| {
            let mut files = Files::new(&self.inner);
            files.read_archive(archive, total, &mut progress)?;
            files.import(pins, &mut progress)
        })
    }

    /// Loads all images of an OCI layout folder (one with `index.json` and `blobs/`). Blocks.
    pub fn load_folder(
        &self,
        folder: &Path,
        mut progress: impl FnMut(Progress),
    ) -> Result<Vec<StoredImage>, LoadError> {
        self.collect_after(|pins| {
            let mut files = Files::new(&self.inner);
            files.read_folder(folder, &mut progress)?;
            files.import(pins, &mut progress)
        })
    }

    /// Does something that brings blobs; those of a failure go again.
    pub(super) fn collect_after<T, E>(
        &self,
        act: impl FnOnce(&mut Pins) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut pins = Pins::new(Arc::clone(&self.inner));
        let result = act(&mut pins);
        drop(pins);
        if result.is_err() {
            self.inner.collect_garbage();
        }
        result
    }
}

/// Writes an OCI layout folder as an archive that can be sent to be loaded. Blocks.
pub fn archive_folder(folder: &Path, archive: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(archive);
    builder.mode(tar::HeaderMode::Deterministic);
    for name in ["oci-layout", "index.json", "manifest.json"] {
        let path = folder.join(name);
        if path.is_file() {
            builder.append_path_with_name(path, name)?;
        }
    }
    let blobs = folder.join("blobs/sha256");
    let mut names = fs::read_dir(&blobs)?.collect::<io::Result<Vec<_>>>()?;
    names.sort_by_key(fs::DirEntry::file_name);
    for entry in names {
        let name = Path::new(BLOBS_FOLDER).join(entry.file_name());
        builder.append_path_with_name(entry.path(), name)?;
    }
    builder.finish()
}

/// One file of an archive.
enum Part {
    /// Set aside.
    Spooled(SpooledBlob),
    /// Another name of a file.
    Link(String),
}

/// The files of an archive, by their paths in it.
struct Files<'a> {
    store: &'a Arc<Inner>,
    parts: BTreeMap<String, Part>,
    by_digest: BTreeMap<Digest, String>,
    total: u64,
}

/// `manifest.json` of `docker save`: one image of several.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SavedImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Option<Vec<String>>,
}

impl<'a> Files<'a> {
    const fn new(store: &'a Arc<Inner>) -> Self {
        Self { store, parts: BTreeMap::new(), by_digest: BTreeMap::new(), total: 0 }
    }

    fn read_archive(
        &mut self,
        archive: impl Read,
        total: Option<u64>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), LoadError> {
        let limits = Arc::clone(&self.store.limits);
        let telling = Telling { inner: archive, bytes: 0, told: 0, total, progress };
        let decoded = Decoded::new(telling, &limits).map_err(TarError::Read)?;
        let mut archive = TarReader::new(decoded, limits.archive_entries, &limits);
        while let Some(entry) = archive.next_entry().map_err(unbomb)? {
            let shown = String::from_utf8_lossy(&entry.path).into_owned();
            let path =
                plain(&entry.path).ok_or_else(|| LoadError::NotAFile { path: shown.clone() })?;
            match entry.kind {
                EntryKind::Folder => {}
                EntryKind::File => self.spool(path, entry.size, &mut archive)?,
                EntryKind::Symlink | EntryKind::HardLink => {
                    let folder = match entry.kind {
                        EntryKind::Symlink => {
                            path.rsplit_once('/').map_or("", |(folder, _)| folder)
                        }
                        _ => "",
                    };
                    let target = [folder.as_bytes(), b"/", &entry.link].concat();
                    let target = plain(&target).ok_or(LoadError::NotAFile { path: shown })?;
                    self.parts.insert(path, Part::Link(target));
                }
                _ => return Err(LoadError::NotAFile { path: shown }),
            }
        }
        // What follows the end is read, so that the sender is not cut off while it writes.
        let rest = limits.archive_bytes.saturating_sub(self.total);
        io::copy(&mut archive.into_inner().take(rest), &mut io::sink())
            .map_err(|error| unbomb(TarError::Read(error)))?;
        Ok(())
    }

    fn read_folder(
        &mut self,
        folder: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), LoadError> {
        let mut names: Vec<String> =
            ["index.json", "manifest.json"].map(str::to_owned).into_iter().collect();
        for entry in fs::read_dir(folder.join("blobs/sha256")).map_err(TarError::Read)? {
            let name = entry.map_err(TarError::Read)?.file_name();
            names.push(format!("{BLOBS_FOLDER}{}", name.to_string_lossy()));
            self.check_entries(names.len())?;
        }
        for name in names {
            let file = match File::open(folder.join(&name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                result => result.map_err(TarError::Read)?,
            };
            let metadata = file.metadata().map_err(TarError::Read)?;
            if !metadata.is_file() {
                return Err(LoadError::NotAFile { path: name });
            }
            let size = metadata.len();
            self.spool(name, size, &mut file.take(size))?;
            progress(Progress::Reading { bytes: self.total, total: None });
        }
        Ok(())
    }

    fn check_entries(&self, count: usize) -> Result<(), OverLimit> {
        let limit = self.store.limits.archive_entries;
        if count as u64 > limit {
            return Err(OverLimit { what: "entries of an archive", limit });
        }
        Ok(())
    }

    /// Sets a file aside. A later one of the same path replaces it.
    fn spool(&mut self, path: String, size: u64, data: &mut impl Read) -> Result<(), LoadError> {
        let limit = self.store.limits.archive_bytes;
        self.total = self.total.saturating_add(size);
        if self.total > limit {
            return Err(OverLimit { what: "bytes of an archive", limit }.into());
        }
        let mut writer = self.store.blobs.writer()?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let count = super::unpack::fill(data, &mut chunk)
                .map_err(|error| unbomb(TarError::Read(error)))?;
            if count == 0 {
                break;
            }
            writer.append(&chunk[..count])?;
        }
        let blob = writer.finish()?;
        self.by_digest.insert(blob.digest(), path.clone());
        self.parts.insert(path, Part::Spooled(blob));
        Ok(())
    }

    /// Where a file's links lead.
    fn find(&self, path: &str) -> Result<(String, &SpooledBlob), LoadError> {
        let missing = || LoadError::Missing { path: path.to_owned() };
        let mut at = plain(path.as_bytes()).ok_or_else(missing)?;
        for _ in 0..LINK_HOPS {
            match self.parts.get(&at).ok_or_else(missing)? {
                Part::Spooled(blob) => return Ok((at, blob)),
                Part::Link(target) => at.clone_from(target),
            }
        }
        Err(missing())
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, LoadError> {
        Ok(self.find(path)?.1.read(self.store.limits.document_bytes)?)
    }

    /// Makes images of the files.
    fn import(
        mut self,
        pins: &mut Pins,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<StoredImage>, LoadError> {
        let saved = match self.parts.contains_key("manifest.json") {
            true => self.saved_images()?,
            false => Vec::new(),
        };
        let roots = if self.parts.contains_key("index.json") {
            self.roots_of_index(&saved)?
        } else if saved.is_empty() {
            return Err(LoadError::NoImage);
        } else {
            self.roots_of_saved(&saved, pins)?
        };
        let mut images = Vec::new();
        for (root, names) in roots {
            let store = Arc::clone(self.store);
            let mut provide = |digest| self.provide(digest);
            images.push(Import::new(&store, pins, &mut provide, progress).run(
                root,
                &names,
                now(),
            )?);
        }
        Ok(images)
    }

    /// Moves a blob into the store unless it is there.
    fn provide(&mut self, digest: Digest) -> Result<(), LoadError> {
        if self.store.blobs.size(digest).is_some() {
            return Ok(());
        }
        let path = self.by_digest.get(&digest).cloned();
        let is_it = |part: &Part| matches!(part, Part::Spooled(blob) if blob.digest() == digest);
        let path = path.filter(|path| self.parts.get(path).is_some_and(is_it));
        let spooled = match path.and_then(|path| self.parts.remove(&path)) {
            Some(Part::Spooled(blob)) => blob,
            _ => {
                // A file that is called like it but is not it is no gap but a lie.
                let path = format!("{BLOBS_FOLDER}{}", digest.hex());
                return match self.find(&path) {
                    Ok((_, blob)) => {
                        let found = blob.digest();
                        Err(BlobError::WrongDigest { expected: digest, found }.into())
                    }
                    Err(_) => Err(LoadError::Missing { path }),
                };
            }
        };
        spooled.keep()?;
        Ok(())
    }

    fn saved_images(&self) -> Result<Vec<SavedImage>, LoadError> {
        let path = "manifest.json";
        let bytes = self.read(path)?;
        let invalid = |source| LoadError::Document { path: path.to_owned(), source };
        let saved: Vec<SavedImage> =
            serde_json::from_slice(&bytes).map_err(|error| invalid(error.into()))?;
        let limit = self.store.limits.manifests;
        manifest::check_count("images of an archive", saved.len(), limit).map_err(invalid)?;
        Ok(saved)
    }

    /// The images of an OCI layout. Their names are in its index, or in `docker save`'s table.
    fn roots_of_index(
        &self,
        saved: &[SavedImage],
    ) -> Result<BTreeMap<Digest, BTreeSet<ImageName>>, LoadError> {
        let path = "index.json";
        let bytes = self.read(path)?;
        let invalid = |source| LoadError::Document { path: path.to_owned(), source };
        let document = manifest::parse(&bytes, &self.store.limits).map_err(invalid)?;
        let Document::Index(manifests) = document else {
            return Err(invalid(DocumentError::Shapeless));
        };
        let mut roots: BTreeMap<Digest, BTreeSet<ImageName>> = BTreeMap::new();
        for descriptor in manifest::images(&manifests) {
            let names = roots.entry(descriptor.digest).or_default();
            names.extend(name_of(descriptor)?);
            names.extend(self.saved_names(descriptor.digest, saved)?);
        }
        if roots.is_empty() {
            return Err(LoadError::NoImage);
        }
        Ok(roots)
    }

    /// The names that `docker save`'s table gives the image of a manifest.
    fn saved_names(
        &self,
        digest: Digest,
        saved: &[SavedImage],
    ) -> Result<Vec<ImageName>, LoadError> {
        let Some(bytes) = self.by_digest.get(&digest).and_then(|path| self.read(path).ok()) else {
            return Ok(Vec::new());
        };
        let Ok(Document::Manifest(manifest)) = manifest::parse(&bytes, &self.store.limits) else {
            return Ok(Vec::new());
        };
        let mut names = Vec::new();
        for image in saved {
            let is_same =
                self.find(&image.config).is_ok_and(|(_, it)| it.digest() == manifest.config.digest);
            if is_same {
                names.extend(parse_names(image)?);
            }
        }
        Ok(names)
    }

    /// Makes manifests for the images of `docker save`'s old layout, which has none.
    fn roots_of_saved(
        &self,
        saved: &[SavedImage],
        pins: &mut Pins,
    ) -> Result<BTreeMap<Digest, BTreeSet<ImageName>>, LoadError> {
        let mut roots: BTreeMap<Digest, BTreeSet<ImageName>> = BTreeMap::new();
        for image in saved {
            let invalid = |source| LoadError::Document { path: image.config.clone(), source };
            let layers = image.layers.as_deref().unwrap_or_default();
            manifest::check_count("layers of an image", layers.len(), self.store.limits.layers)
                .map_err(invalid)?;
            let config = self.find(&image.config)?.1;
            let config = descriptor(media::CONFIG, config);
            let mut descriptors = Vec::with_capacity(layers.len());
            for layer in layers {
                let blob = self.find(layer)?.1;
                descriptors.push(descriptor(layer_media_type(&blob.first_bytes(4)?), blob));
            }
            let manifest = serde_json::to_vec(&Manifest::of(config, descriptors))
                .map_err(|error| invalid(error.into()))?;
            pins.add(super::blobs::digest_of(&manifest));
            let root = self.store.blobs.write(&manifest)?;
            roots.entry(root).or_default().extend(parse_names(image)?);
        }
        Ok(roots)
    }
}

fn descriptor(media_type: &str, blob: &SpooledBlob) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest: blob.digest(),
        size: blob.size(),
        platform: None,
        annotations: None,
    }
}

/// What a layer that begins so is.
const fn layer_media_type(magic: &[u8]) -> &'static str {
    match magic {
        [0x1f, 0x8b, ..] => media::LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd] => media::LAYER_ZSTD,
        _ => media::LAYER,
    }
}

fn parse_names(image: &SavedImage) -> Result<Vec<ImageName>, LoadError> {
    let tags = image.repo_tags.as_deref().unwrap_or_default();
    check_names(tags.len())?;
    Ok(tags.iter().map(|tag| tag.parse()).collect::<Result<_, _>>()?)
}

fn check_names(count: usize) -> Result<(), OverLimit> {
    const LIMIT: usize = bramble_cluster::limits::IMAGE_NAMES;
    if count > LIMIT {
        return Err(OverLimit { what: "names of an image", limit: LIMIT as u64 });
    }
    Ok(())
}

/// The name that an OCI layout gives an image: containerd's annotation, or the specification's
/// own where that is more than a tag.
fn name_of(descriptor: &Descriptor) -> Result<Option<ImageName>, LoadError> {
    let Some(annotations) = &descriptor.annotations else { return Ok(None) };
    let name = annotations.get("io.containerd.image.name").or_else(|| {
        annotations
            .get("org.opencontainers.image.ref.name")
            .filter(|name| name.contains([':', '/']))
    });
    Ok(name.map(|name| name.parse()).transpose()?)
}

/// A path in an archive made plain; `None` if it leaves the archive or is no text.
fn plain(path: &[u8]) -> Option<String> {
    let mut names = Vec::new();
    for name in std::str::from_utf8(path).ok()?.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()?),
            _ => names.push(name),
        }
    }
    Some(names.join("/"))
}

/// Says that a bomb is a bomb, rather than that the archive could not be read.
fn unbomb(error: TarError) -> LoadError {
    let over = match &error {
        TarError::OverLimit(over) => Some(over),
        TarError::Read(source) => source.get_ref().and_then(|inner| inner.downcast_ref()),
        TarError::Malformed { .. } => None,
    };
    over.cloned().map_or(LoadError::Archive(error), LoadError::OverLimit)
}

/// Tells how much of a stream was read.
struct Telling<'a, R> {
    inner: R,
    bytes: u64,
    told: u64,
    total: Option<u64>,
    progress: &'a mut dyn FnMut(Progress),
}

impl<R: Read> Read for Telling<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        if self.bytes - self.told >= TELL_EVERY_BYTES || (count == 0 && self.bytes != self.told) {
            self.told = self.bytes;
            (self.progress)(Progress::Reading { bytes: self.bytes, total: self.total });
        }
        Ok(count)
    }
}
