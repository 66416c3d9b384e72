//! Images on this board: kept by digest, loaded from archives, fetched from other boards, mounted.
//!
//! # Terms
//! - **blob**: bytes named by their digest: manifests, indexes, configurations, layers' archives.
//! - **layer**: the difference between two file systems; its archive is a blob, and unpacked once
//!   it is a folder named by the digest of the uncompressed archive, shared by all images and
//!   containers that have it.
//! - **image**: a manifest (or an index of manifests for several platforms) and all blobs that
//!   hang on it. It is listed when all of them are here, checked and unpacked; never before.
//! - **root file system**: what a container sees as `/`: an image's layers and what it writes.
//! - **holder**: another board that has an image.
//!
//! # On the disk
//! ```text
//! index                       the images, their names and blobs (postcard, versioned, replaced whole)
//! blobs/sha256/<hex>          every blob
//! layers/<hex>                every unpacked layer, by the digest of its uncompressed archive
//! containers/<id>/            one root file system each: image, upper, work, rootfs (mounted)
//! partial/<hex>               downloads that were cut, to be resumed
//! incoming/ unpacking/ trash/ what is under way; emptied when the store is opened
//! ```
//!
//! # Invariants
//! - What has its final name is whole and was written through: power may go at any instant.
//! - Nothing in an archive or from a peer is believed: digests, sizes, counts, depths and paths are
//!   checked, memory is bounded whatever they say, and what fails leaves nothing behind.
//! - No path of an archive is ever looked up outside of its layer's folder.
//! - What an image, a container or a transfer under way needs is never removed.
//! - Nothing is written while nothing happens.

mod archive;
mod blobs;
mod builder;
mod compression;
mod config;
mod exchange;
mod import;
mod index;
mod limits;
mod manifest;
mod overlay;
mod rootfs;
mod space;
mod store;
mod tar_stream;
mod trash;
mod unpack;

pub use archive::archive_folder;
pub use blobs::BlobError;
pub use builder::{BuildError, FileContent, ImageBuilder};
pub use compression::Zstd;
pub use config::ImageConfig;
pub use exchange::{FetchError, ServeError};
pub use import::LoadError;
pub use index::{IndexError, StoredImage};
pub use limits::{Limits, OverLimit};
pub use manifest::{DocumentError, native_platform};
pub use rootfs::RootfsError;
pub use space::DiskFull;
pub use store::{
    ChangeImageError, ConfigError, ImageStore, ImageStoreOptions, OpenStoreError, Removal,
    ResolveError,
};
pub use tar_stream::TarError;
pub use unpack::UnpackError;

/// How far a load or a fetch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// An archive is read.
    Reading {
        /// How much was.
        bytes: u64,
        /// How much there is, if that is known.
        total: Option<u64>,
    },
    /// Blobs come from another board.
    Fetching {
        /// How much came.
        bytes: u64,
        /// How much there is.
        total: u64,
    },
    /// A layer is unpacked.
    Unpacking {
        /// Which, counted from 1.
        layer: usize,
        /// How many there are.
        layers: usize,
    },
}

/// Runs what blocks or computes on a thread made for that.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(act).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime shuts down, and with it whoever waits here.
            Err(_) => std::future::pending().await,
        },
    }
}
