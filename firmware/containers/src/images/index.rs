//! The index: which images there are, by what names, made of what. One small file, replaced whole.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use bramble_cluster::{Digest, Platform, Timestamp};
use serde::{Deserialize, Serialize};

/// An image that is here, whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredImage {
    /// The digest of its manifest, or of its index if it is for several platforms: its identity.
    pub digest: Digest,
    /// The digest of the configuration that runs here: what Docker calls the image's id.
    pub id: Digest,
    /// The manifest that runs here.
    pub manifest: Digest,
    /// What that manifest is for.
    pub platform: Platform,
    /// Its names, in full (`docker.io/library/whoami:latest`).
    pub names: BTreeSet<String>,
    /// All its blobs that are here, with their sizes.
    pub blobs: BTreeMap<Digest, u64>,
    /// Its layers, lowest first: the digests of their uncompressed archives.
    pub layers: Vec<Digest>,
    /// When a person last gave it a name here; zero if it only came from another board.
    pub named_at: Timestamp,
    /// When it was built, as its configuration says (RFC 3339); empty if it does not.
    pub created: String,
}

impl StoredImage {
    /// The sum of its blobs' sizes, in bytes.
    pub fn size(&self) -> u64 {
        self.blobs.values().fold(0, |sum, size| sum.saturating_add(*size))
    }
}

/// The index could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// The file system refused.
    #[error("cannot {action} the index of images {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not an index, or one of a later version.
    #[error("the index of images {} is damaged, or of a later version", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: postcard::Error,
    },
}

/// What is on the disk. Variants are only ever appended.
#[derive(Serialize, Deserialize)]
enum IndexFile {
    V1(Vec<StoredImage>),
}

/// Reads the index; there is none before the first image.
pub(super) fn read(path: &Path) -> Result<BTreeMap<Digest, StoredImage>, IndexError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        result => result.map_err(failed("read", path))?,
    };
    let IndexFile::V1(images) = postcard::from_bytes(&bytes)
        .map_err(|source| IndexError::Damaged { path: path.to_owned(), source })?;
    Ok(images.into_iter().map(|image| (image.digest, image)).collect())
}

/// Replaces the index.
pub(super) fn write(path: &Path, images: &BTreeMap<Digest, StoredImage>) -> Result<(), IndexError> {
    let bytes =
        encode(images).map_err(|source| IndexError::Damaged { path: path.to_owned(), source })?;
    let new = path.with_extension("new");
    let folder = path.parent().unwrap_or(path);
    File::create(&new)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&new, path))
        .and_then(|()| File::open(folder)?.sync_all())
        .map_err(failed("write", path))
}

fn encode(images: &BTreeMap<Digest, StoredImage>) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(&IndexFile::V1(images.values().cloned().collect()))
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IndexError {
    move |source| IndexError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::{
        BTreeMap, BTreeSet, Digest, Platform, StoredImage, Timestamp, encode, read, write,
    };

    fn image(byte: u8) -> StoredImage {
        StoredImage {
            digest: Digest::from_bytes([byte; 32]),
            id: Digest::from_bytes([2; 32]),
            manifest: Digest::from_bytes([byte; 32]),
            platform: Platform { os: "linux".into(), architecture: "arm64".into() },
            names: BTreeSet::from(["docker.io/library/a:1".to_owned()]),
            blobs: BTreeMap::from([(Digest::from_bytes([3; 32]), 300)]),
            layers: vec![Digest::from_bytes([4; 32])],
            named_at: Timestamp::from_millis(300),
            created: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    #[test]
    fn the_index_reads_back_as_itself() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        assert_eq!(read(&path).unwrap(), BTreeMap::new());
        let images =
            BTreeMap::from([1, 9].map(|byte| (Digest::from_bytes([byte; 32]), image(byte))));
        write(&path, &images).unwrap();
        assert_eq!(read(&path).unwrap(), images);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn its_bytes_are_frozen() {
        let images = BTreeMap::from([(Digest::from_bytes([1; 32]), image(1))]);
        let repeated = |byte: &str| byte.repeat(32);
        let expected = [
            "0001",
            &repeated("01"),
            &repeated("02"),
            &repeated("01"),
            "056c696e757805",
            "61726d3634",
            "0115",
            "646f636b65722e696f2f6c6962726172792f613a31",
            "01",
            &repeated("03"),
            "ac02",
            "01",
            &repeated("04"),
            "ac0214",
            "323032362d30312d30315430303a30303a30305a",
        ]
        .concat();
        assert_eq!(hex::encode(encode(&images).unwrap()), expected);
    }

    #[test]
    fn a_damaged_index_is_an_error_and_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        std::fs::write(&path, [7, 7, 7]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("damaged"));
        assert_eq!(std::fs::read(&path).unwrap(), [7, 7, 7]);
    }
}
