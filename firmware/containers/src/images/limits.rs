//! How much an image may be. Everything that an archive or a peer can grow is bounded here.

/// The bounds of a store; whatever is over one ends in an error that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of an archive, once decompressed.
    pub archive_bytes: u64,
    /// Entries of an archive.
    pub archive_entries: u64,
    /// Bytes of a manifest, index or configuration.
    pub document_bytes: u64,
    /// Layers of an image.
    pub layers: usize,
    /// Manifests of an index.
    pub manifests: usize,
    /// Bytes of all layers of an image, unpacked.
    pub unpacked_bytes: u64,
    /// Entries of a layer.
    pub layer_entries: u64,
    /// Bytes of a path or of a link's target in a layer.
    pub path_bytes: usize,
    /// Folders above a file in a layer.
    pub depth: usize,
    /// Bytes of the extended attributes and other extras of one entry.
    pub extras_bytes: u64,
    /// Beyond [`Limits::free_expansion`], how many bytes one compressed byte may become.
    pub expansion: u64,
    /// How many bytes may come out of a decompressor before [`Limits::expansion`] is looked at.
    pub free_expansion: u64,
    /// Bytes of the disk that images leave free: the log and the tasks live on it too.
    pub reserve_bytes: u64,
    /// Downloads that were cut and are kept to be resumed.
    pub partial_downloads: usize,
}

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

impl Default for Limits {
    fn default() -> Self {
        Self {
            archive_bytes: 16 * GIB,
            archive_entries: 4_096,
            document_bytes: 4 * MIB,
            layers: 256,
            manifests: 256,
            unpacked_bytes: 8 * GIB,
            layer_entries: 500_000,
            path_bytes: 4_096,
            depth: 256,
            extras_bytes: MIB,
            expansion: 200,
            free_expansion: GIB,
            reserve_bytes: 64 * MIB,
            partial_downloads: 32,
        }
    }
}

/// What was over a limit: part of every error of this kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: more than the limit of {limit}")]
pub struct OverLimit {
    /// What there is too much of.
    pub what: &'static str,
    /// How much there may be.
    pub limit: u64,
}
