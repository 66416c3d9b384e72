//! Images.

use bramble_cluster::{Digest, Image as ClusterImage, ImageName, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rfc3339;

/// An image in the list of `docker images`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ImageSummary {
    /// Its digest.
    pub id: String,
    /// The image it was built on; unknown.
    pub parent_id: String,
    /// `name:tag` each, short.
    pub repo_tags: Vec<String>,
    /// `name@digest` each, short.
    pub repo_digests: Vec<String>,
    /// When it was built, seconds since 1970.
    pub created: i64,
    /// Its blobs, in bytes.
    pub size: i64,
    /// What it shares with others; -1 is unknown.
    pub shared_size: i64,
    /// How many containers use it; -1 is unknown.
    pub containers: i64,
    /// Labels from its configuration.
    pub labels: std::collections::BTreeMap<String, String>,
    /// The boards that hold it (Bramble's own).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holders: Vec<String>,
}

/// An image on this board, as far as its API tells.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalImage {
    /// Its digest, names and size.
    pub image: ClusterImage,
    /// When it was built.
    pub created: Option<Timestamp>,
    /// Its configuration, as in the OCI image specification.
    pub config: Value,
}

impl ImageSummary {
    /// As Docker writes it.
    pub fn from_cluster(image: &ClusterImage) -> Self {
        let (repo_tags, repo_digests) = references(image);
        Self {
            id: image.digest.to_string(),
            repo_tags,
            repo_digests,
            size: super::integer(image.size),
            shared_size: -1,
            containers: -1,
            holders: image.holders.iter().map(ToString::to_string).collect(),
            ..Self::default()
        }
    }

    /// The same for one that this board holds, with the date.
    pub fn from_local(local: &LocalImage) -> Self {
        let labels = local.config.pointer("/config/Labels").cloned().unwrap_or_default();
        Self {
            created: local.created.map_or(0, |created| super::integer(created.as_millis() / 1_000)),
            labels: serde_json::from_value(labels).unwrap_or_default(),
            ..Self::from_cluster(&local.image)
        }
    }
}

/// `docker image inspect`.
pub fn inspect(local: &LocalImage) -> Value {
    let (repo_tags, repo_digests) = references(&local.image);
    let config = &local.config;
    let text = |key: &str| config.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let layers = config.pointer("/rootfs/diff_ids").cloned().unwrap_or_else(|| json!([]));
    json!({
        "Id": local.image.digest.to_string(),
        "RepoTags": repo_tags,
        "RepoDigests": repo_digests,
        "Parent": "",
        "Comment": "",
        "Created": local.created.map(rfc3339).unwrap_or_default(),
        "Author": text("author"),
        "Architecture": text("architecture"),
        "Variant": text("variant"),
        "Os": text("os"),
        "Size": local.image.size,
        "GraphDriver": {"Name": "overlayfs", "Data": {}},
        "RootFS": {"Type": "layers", "Layers": layers},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Config": config.get("config").cloned().unwrap_or_else(|| json!({})),
    })
}

/// What a registry would say of an image: Docker's client pins services to this digest.
///
/// It names no platforms, because the client would forbid every other one; which boards can run the
/// image is the scheduler's to know.
pub fn distribution(digest: Digest, size: u64) -> Value {
    json!({
        "Descriptor": {
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest.to_string(),
            "size": size,
        },
        "Platforms": [],
    })
}

/// The short names with their tags, and with the digest.
fn references(image: &ClusterImage) -> (Vec<String>, Vec<String>) {
    let names: Vec<ImageName> = image.names.iter().filter_map(|name| name.parse().ok()).collect();
    let tags = names.iter().filter(|name| name.tag().is_some()).map(ImageName::familiar).collect();
    let mut digests: Vec<String> = names
        .iter()
        .map(|name| format!("{}@{}", name.familiar_repository(), image.digest))
        .collect();
    digests.dedup();
    (tags, digests)
}
