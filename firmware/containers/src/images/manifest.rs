//! Manifests and indexes: which blobs an image is made of, and which of several fits a board.

use std::collections::BTreeMap;

use bramble_cluster::{Digest, Platform};
use serde::{Deserialize, Serialize};

use super::{Limits, limits::OverLimit};

/// The media types that Bramble writes; it reads Docker's as well, by their shape.
pub(super) mod media {
    pub(in crate::images) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub(in crate::images) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub(in crate::images) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    pub(in crate::images) const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    pub(in crate::images) const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
}

/// What refers to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    #[serde(default)]
    pub(super) media_type: String,
    #[serde(with = "digest_text")]
    pub(super) digest: Digest,
    pub(super) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) platform: Option<PlatformOf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) annotations: Option<BTreeMap<String, String>>,
}

/// What a manifest in an index is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlatformOf {
    #[serde(default)]
    pub(super) os: String,
    #[serde(default)]
    pub(super) architecture: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) variant: Option<String>,
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Manifest {
    pub(super) schema_version: u32,
    pub(super) media_type: &'static str,
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

impl Manifest {
    /// The manifest of a configuration and layers that came without one. The same parts make the
    /// same bytes, so that an archive loaded on two boards is one image.
    pub(super) fn of(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: media::MANIFEST, config, layers }
    }
}

/// A document that an image's digest may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Document {
    /// One image for one platform.
    Manifest(Manifest),
    /// One image for several platforms, or several images.
    Index(Vec<Descriptor>),
}

/// A document is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is not JSON, or lacks what it must have.
    #[error("it is not valid JSON of its kind")]
    Json(#[from] serde_json::Error),
    /// It has neither a configuration nor manifests.
    #[error("it is neither a manifest nor an index")]
    Shapeless,
    /// It has too much of something.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// The configuration names other layers than the manifest.
    #[error("the configuration has {in_config} layers, the manifest {in_manifest}")]
    Layers {
        /// How many digests the configuration lists.
        in_config: usize,
        /// How many layers the manifest lists.
        in_manifest: usize,
    },
}

#[derive(Deserialize)]
struct RawDocument {
    manifests: Option<Vec<Descriptor>>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
}

/// Reads a manifest or an index.
pub(super) fn parse(bytes: &[u8], limits: &Limits) -> Result<Document, DocumentError> {
    let raw: RawDocument = serde_json::from_slice(bytes)?;
    match raw {
        RawDocument { manifests: Some(manifests), .. } => {
            check_count("manifests of an index", manifests.len(), limits.manifests)?;
            Ok(Document::Index(manifests))
        }
        RawDocument { config: Some(config), layers, .. } => {
            let layers = layers.unwrap_or_default();
            check_count("layers of an image", layers.len(), limits.layers)?;
            Ok(Document::Manifest(Manifest::of(config, layers)))
        }
        _ => Err(DocumentError::Shapeless),
    }
}

/// Whether there is too much of something.
pub(super) fn check_count(
    what: &'static str,
    count: usize,
    limit: usize,
) -> Result<(), DocumentError> {
    if count > limit {
        return Err(OverLimit { what, limit: limit as u64 }.into());
    }
    Ok(())
}

/// What this program's binaries run on, by the names of the OCI image specification.
pub fn native_platform() -> Platform {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    Platform { os: "linux".to_owned(), architecture: architecture.to_owned() }
}

/// How well `of` runs on a board of `platform`; `None` is not at all, less is better.
pub(super) fn fitness(of: &PlatformOf, platform: &Platform) -> Option<u32> {
    if of.os != platform.os {
        return None;
    }
    let arm = |variant: Option<&str>| match variant {
        Some("v8") => 0,
        Some("v7") => 1,
        Some("v6") => 2,
        Some("v5") => 3,
        _ => 4,
    };
    match (platform.architecture.as_str(), of.architecture.as_str()) {
        ("arm", "arm") => Some(arm(of.variant.as_deref())),
        ("arm64", "arm") => Some(10 + arm(of.variant.as_deref())),
        (wanted, given) if wanted == given => Some(0),
        _ => None,
    }
}

/// Which of an index's manifests are images (and not attestations of one).
pub(super) fn images(manifests: &[Descriptor]) -> impl Iterator<Item = &Descriptor> {
    manifests.iter().filter(|descriptor| {
        let is_unknown = |platform: &PlatformOf| platform.os == "unknown";
        !descriptor.platform.as_ref().is_some_and(is_unknown)
            && !descriptor
                .annotations
                .as_ref()
                .is_some_and(|annotations| annotations.contains_key("vnd.docker.reference.type"))
    })
}

/// The manifest of an index that fits a board best; one that does not say what it is for fits all.
pub(super) fn choose<'a>(
    manifests: &'a [Descriptor],
    platform: &Platform,
) -> Option<&'a Descriptor> {
    images(manifests)
        .filter_map(|descriptor| {
            let fitness = match &descriptor.platform {
                Some(of) => fitness(of, platform)?,
                None => u32::MAX,
            };
            Some((fitness, descriptor))
        })
        .min_by_key(|(fitness, _)| *fitness)
        .map(|(_, descriptor)| descriptor)
}

/// Digests as text.
mod digest_text {
    use bramble_cluster::Digest;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(
        digest: &Digest,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(digest)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Digest, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
