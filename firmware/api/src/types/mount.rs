//! Mounts of a container.

use std::collections::BTreeMap;

use bramble_cluster::{Mount as ClusterMount, MountKind};
use serde::{Deserialize, Serialize};

use super::{InvalidField, amount, integer, is_default, nullable};

/// Something mounted into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Mount {
    /// `bind`, `volume` or `tmpfs`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// A path of the board, or a volume's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Where in the container.
    pub target: String,
    /// Whether it is read-only.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// What only volumes have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume_options: Option<VolumeOptions>,
    /// What only memory has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tmpfs_options: Option<TmpfsOptions>,
}

/// What only volumes have.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct VolumeOptions {
    /// Whether a new volume stays without the image's files.
    #[serde(skip_serializing_if = "is_default")]
    pub no_copy: bool,
    /// Labels on a new volume.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
}

/// What only memory has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TmpfsOptions {
    /// At most this many bytes.
    #[serde(skip_serializing_if = "is_default")]
    pub size_bytes: i64,
    /// Permission bits.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: u32,
}

impl Mount {
    /// As Docker writes it.
    pub fn from_cluster(mount: &ClusterMount) -> Self {
        let base =
            Self { target: mount.target.clone(), read_only: mount.is_read_only, ..Self::default() };
        match &mount.kind {
            MountKind::Bind { source } => {
                Self { kind: "bind".to_owned(), source: source.clone(), ..base }
            }
            MountKind::Volume { name, labels, is_not_filled } => {
                let options = VolumeOptions { no_copy: *is_not_filled, labels: labels.clone() };
                Self {
                    kind: "volume".to_owned(),
                    source: name.clone(),
                    volume_options: (!is_default(&options)).then_some(options),
                    ..base
                }
            }
            MountKind::Tmpfs { size_bytes, mode } => {
                let options = TmpfsOptions { size_bytes: integer(*size_bytes), mode: *mode };
                Self {
                    kind: "tmpfs".to_owned(),
                    tmpfs_options: (!is_default(&options)).then_some(options),
                    ..base
                }
            }
        }
    }

    /// As the cluster knows it; `field` is where it stands in the request.
    pub fn into_cluster(self, field: &str) -> Result<ClusterMount, InvalidField> {
        if !self.target.starts_with('/') {
            let reason = format!("`{}` is not an absolute path", self.target);
            return Err(InvalidField::new(format!("{field}.Target"), reason));
        }
        let kind = match self.kind.as_str() {
            "bind" if self.source.starts_with('/') => MountKind::Bind { source: self.source },
            "bind" => {
                let reason = format!("`{}` is not an absolute path of the board", self.source);
                return Err(InvalidField::new(format!("{field}.Source"), reason));
            }
            "volume" => {
                let options = self.volume_options.unwrap_or_default();
                MountKind::Volume {
                    name: self.source,
                    labels: options.labels,
                    is_not_filled: options.no_copy,
                }
            }
            "tmpfs" if !self.source.is_empty() => {
                return Err(InvalidField::new(format!("{field}.Source"), "a tmpfs has none"));
            }
            "tmpfs" => {
                let options = self.tmpfs_options.unwrap_or_default();
                let size = format!("{field}.TmpfsOptions.SizeBytes");
                MountKind::Tmpfs {
                    size_bytes: amount(&size, options.size_bytes)?,
                    mode: options.mode,
                }
            }
            other => {
                let reason = format!("`{other}` is none of bind, volume, tmpfs");
                return Err(InvalidField::new(format!("{field}.Type"), reason));
            }
        };
        Ok(ClusterMount { kind, target: self.target, is_read_only: self.read_only })
    }
}
