//! Images made here, of files: the built-in `whoami` is this firmware's own binary.
//!
//! The same files and settings make the same bytes, so every board that builds an image builds the
//! same one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read, Write},
    path::PathBuf,
    sync::Arc,
};

use bramble_cluster::{Digest, ImageName, Platform};
use serde::Serialize;

use super::{
    BlobError, ImageStore, LoadError, StoredImage,
    blobs::{BlobWriter, Hasher, digest_of},
    import::Import,
    manifest::{Descriptor, Manifest, media, native_platform},
    store::{Pins, now},
};

/// What a file of a new image holds.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// What that file of this board holds.
    Copy(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// An image could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A file could not be read, or the archive not written.
    #[error("cannot write the image")]
    Write(#[source] io::Error),
    /// A file changed while it was read.
    #[error("a file of the image changed while it was read")]
    Changed,
    /// Its documents could not be written.
    #[error("cannot describe the image")]
    Describe(#[source] serde_json::Error),
    /// A blob could not be written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The store refused the image.
    #[error("the image was refused")]
    Refused(#[source] Box<LoadError>),
}

/// An image to be: files in one layer, and how it runs.
#[derive(Debug, Clone)]
pub struct ImageBuilder {
    platform: Platform,
    entries: BTreeMap<String, Node>,
    run: RunConfig,
}

#[derive(Debug, Clone)]
enum Node {
    Folder { mode: u32 },
    File { content: FileContent, mode: u32 },
    Symlink { target: String },
}

#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
struct RunConfig {
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    exposed_ports: BTreeMap<String, BTreeMap<(), ()>>,
    env: Vec<String>,
    entrypoint: Vec<String>,
    cmd: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    working_dir: String,
    labels: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stop_signal: Option<String>,
}

#[derive(Serialize)]
struct Config<'a> {
    architecture: &'a str,
    os: &'a str,
    created: &'static str,
    config: &'a RunConfig,
    rootfs: RootFs,
}

#[derive(Serialize)]
struct RootFs {
    r#type: &'static str,
    diff_ids: [String; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    manifests: [Descriptor; 1],
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// An image of nothing, for machines like this one.
    pub fn new() -> Self {
        Self { platform: native_platform(), entries: BTreeMap::new(), run: RunConfig::default() }
    }

    /// For other machines.
    pub fn platform(mut self, platform: Platform) -> Self {
        self.platform = platform;
        self
    }

    /// Adds a file; the folders above it come with it.
    pub fn file(mut self, path: &str, content: FileContent, mode: u32) -> Self {
        self.add(path, Node::File { content, mode });
        self
    }

    /// Adds a folder.
    pub fn folder(mut self, path: &str, mode: u32) -> Self {
        self.add(path, Node::Folder { mode });
        self
    }

    /// Adds a symbolic link.
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.add(path, Node::Symlink { target: target.to_owned() });
        self
    }

    /// The program and its first arguments.
    pub fn entrypoint<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.run.entrypoint = words.into_iter().map(Into::into).collect();
        self
    }

    /// The arguments after them.
    pub fn command<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.run.cmd = words.into_iter().map(Into::into).collect();
        self
    }

    /// Adds to the environment, `NAME=value`.
    pub fn env(mut self, variable: &str) -> Self {
        self.run.env.push(variable.to_owned());
        self
    }

    /// Names a port that it listens on (`80/tcp`).
    pub fn expose(mut self, port: &str) -> Self {
        self.run.exposed_ports.insert(port.to_owned(), BTreeMap::new());
        self
    }

    /// Adds a label.
    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.run.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Who the program runs as, `user[:group]`.
    pub fn user(mut self, user: &str) -> Self {
        user.clone_into(&mut self.run.user);
        self
    }

    /// Where the program starts.
    pub fn working_dir(mut self, path: &str) -> Self {
        path.clone_into(&mut self.run.working_dir);
        self
    }

    /// What asks the program to end.
    pub fn stop_signal(mut self, signal: &str) -> Self {
        self.run.stop_signal = Some(signal.to_owned());
        self
    }

    /// Writes the image as an OCI archive that any loader takes. Returns its digest. Blocks.
    pub fn write_archive(
        &self,
        name: &ImageName,
        archive: impl Write,
    ) -> Result<Digest, BuildError> {
        let (layer, layer_size) = self.hash_layer(io::sink())?;
        let (config, manifest) = self.documents(layer, layer_size)?;
        let digest = digest_of(&manifest);
        let full = name.full();
        let annotations = [
            ("io.containerd.image.name", full.as_str()),
            ("org.opencontainers.image.ref.name", name.tag().unwrap_or(&full)),
        ];
        let annotations = annotations.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let mut root = descriptor(media::MANIFEST, digest, manifest.len());
        root.annotations = Some(annotations.into());
        let index = Index { schema_version: 2, manifests: [root] };
        let index = serde_json::to_vec(&index).map_err(BuildError::Describe)?;
        let mut tar = tar::Builder::new(archive);
        let blob = |digest: Digest| format!("blobs/sha256/{}", digest.hex());
        for (path, bytes) in [
            ("oci-layout".to_owned(), &br#"{"imageLayoutVersion":"1.0.0"}"#[..]),
            ("index.json".to_owned(), &index),
            (blob(digest), &manifest),
            (blob(digest_of(&config)), &config),
        ] {
            append(&mut tar, &path, bytes.len() as u64, 0o644, bytes)?;
        }
        let header = &mut header(tar::EntryType::Regular, layer_size, 0o644);
        let out = &mut tar;
        header.set_path(blob(layer)).map_err(BuildError::Write)?;
        header.set_cksum();
        let writer = out.get_mut();
        writer.write_all(header.as_bytes()).map_err(BuildError::Write)?;
        if self.hash_layer(&mut *writer)? != (layer, layer_size) {
            return Err(BuildError::Changed);
        }
        // A tar archive, and so the layer, is whole blocks: no padding.
        tar.into_inner().and_then(|mut archive| archive.flush()).map_err(BuildError::Write)?;
        Ok(digest)
    }

    fn add(&mut self, path: &str, node: Node) {
        let path = path.trim_matches('/');
        for (end, _) in path.match_indices('/') {
            let folder = path[..end].to_owned();
            self.entries.entry(folder).or_insert(Node::Folder { mode: 0o755 });
        }
        self.entries.insert(path.to_owned(), node);
    }

    /// Writes the layer's archive.
    fn write_layer(&self, archive: impl Write) -> Result<(), BuildError> {
        let mut tar = tar::Builder::new(archive);
        for (path, node) in &self.entries {
            match node {
                Node::Folder { mode } => {
                    let mut header = header(tar::EntryType::Directory, 0, *mode);
                    tar.append_data(&mut header, path, io::empty()).map_err(BuildError::Write)?;
                }
                Node::Symlink { target } => {
                    let mut header = header(tar::EntryType::Symlink, 0, 0o777);
                    tar.append_link(&mut header, path, target).map_err(BuildError::Write)?;
                }
                Node::File { content: FileContent::Bytes(bytes), mode } => {
                    append(&mut tar, path, bytes.len() as u64, *mode, bytes.as_slice())?;
                }
                Node::File { content: FileContent::Copy(from), mode } => {
                    let file = File::open(from).map_err(BuildError::Write)?;
                    let size = file.metadata().map_err(BuildError::Write)?.len();
                    append(&mut tar, path, size, *mode, file.take(size))?;
                }
            }
        }
        tar.into_inner().and_then(|mut archive| archive.flush()).map_err(BuildError::Write)
    }

    /// Writes the layer's archive and says what it is called and how long it is.
    fn hash_layer(&self, archive: impl Write) -> Result<(Digest, u64), BuildError> {
        let mut hashing = HashingWriter { inner: archive, hasher: Hasher::new(), size: 0 };
        self.write_layer(&mut hashing)?;
        Ok((hashing.hasher.finish(), hashing.size))
    }

    /// The configuration and the manifest.
    fn documents(&self, layer: Digest, size: u64) -> Result<(Vec<u8>, Vec<u8>), BuildError> {
        let config = Config {
            architecture: &self.platform.architecture,
            os: &self.platform.os,
            created: "1970-01-01T00:00:00Z",
            config: &self.run,
            rootfs: RootFs { r#type: "layers", diff_ids: [layer.to_string()] },
        };
        let config = serde_json::to_vec(&config).map_err(BuildError::Describe)?;
        let mut of_layer = descriptor(media::LAYER, layer, 0);
        of_layer.size = size;
        let of_config = descriptor(media::CONFIG, digest_of(&config), config.len());
        let manifest = Manifest::of(of_config, vec![of_layer]);
        let manifest = serde_json::to_vec(&manifest).map_err(BuildError::Describe)?;
        Ok((config, manifest))
    }
}

impl ImageStore {
    /// Builds an image right into the store, by this name.
    pub async fn build(
        &self,
        builder: ImageBuilder,
        name: ImageName,
    ) -> Result<StoredImage, BuildError> {
        let store = self.clone();
        super::blocking(move || {
            store.collect_after(|pins| store.build_pinned(&builder, name, pins))
        })
        .await
    }

    fn build_pinned(
        &self,
        builder: &ImageBuilder,
        name: ImageName,
        pins: &mut Pins,
    ) -> Result<StoredImage, BuildError> {
        let blobs = &self.inner.blobs;
        let mut writer = blobs.writer()?;
        let (layer, size) = builder.hash_layer(IntoBlob(&mut writer))?;
        pins.add(layer);
        writer.finish()?.keep()?;
        let (config, manifest) = builder.documents(layer, size)?;
        let root = digest_of(&manifest);
        for document in [&config, &manifest] {
            pins.add(digest_of(document));
            blobs.write(document)?;
        }
        let store = Arc::clone(&self.inner);
        // Building what is here already, as boards do at every start, names nothing anew.
        let named_at = store.image(root).map_or_else(now, |image| image.named_at);
        Import::new(&store, pins, &mut |_| Ok(()), &mut |_| {})
            .run(root, &BTreeSet::from([name]), named_at)
            .map_err(|error| BuildError::Refused(Box::new(error)))
    }
}

fn descriptor(media_type: &str, digest: Digest, size: usize) -> Descriptor {
    Descriptor {
        media_type: media_type.to_owned(),
        digest,
        size: size as u64,
        platform: None,
        annotations: None,
    }
}

/// A header that says nothing of when and by whom.
fn header(kind: tar::EntryType, size: u64, mode: u32) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(size);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header
}

fn append<W: Write>(
    tar: &mut tar::Builder<W>,
    path: &str,
    size: u64,
    mode: u32,
    mut content: impl Read,
) -> Result<(), BuildError> {
    let mut header = header(tar::EntryType::Regular, size, mode);
    let mut counted = Counted { inner: &mut content, count: 0 };
    tar.append_data(&mut header, path, &mut counted).map_err(BuildError::Write)?;
    if counted.count == size { Ok(()) } else { Err(BuildError::Changed) }
}

struct Counted<R> {
    inner: R,
    count: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.count += count as u64;
        Ok(count)
    }
}

struct HashingWriter<W> {
    inner: W,
    hasher: Hasher,
    size: u64,
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

struct IntoBlob<'a>(&'a mut BlobWriter);

impl Write for IntoBlob<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.append(bytes).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
