//! Images: named by people, identified by the digest of their manifest.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{Digest, NodeId, Timestamp};

/// An image that at least one node holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    /// The digest of its manifest (or of its index, if it is for several platforms).
    pub digest: Digest,
    /// The names that people gave it, in full form (`docker.io/library/whoami:latest`).
    pub names: BTreeSet<String>,
    /// The sum of its blobs' sizes, in bytes.
    pub size: u64,
    /// The nodes that have all of its blobs and hand them to others.
    pub holders: BTreeSet<NodeId>,
    /// When a person last gave it a name, by loading or tagging it; zero if it only was fetched
    /// from another board. Of two images with the same name, the name means the one named last.
    pub named_at: Timestamp,
}

/// An image as a specification names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageReference {
    /// The name as the person wrote it (`whoami`, `nginx:1.27`).
    pub name: String,
    /// What the name meant when it was resolved; the node runs this and nothing else.
    pub digest: Option<Digest>,
}
