//! What boards are made of: the files of `hardware/`, which the firmware reads too.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde::Deserialize;

/// One kind of board. The firmware reads more of the file than the builder does.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "every key is named, so that a misspelt one is refused")]
pub(crate) struct Board {
    /// What people call it.
    pub(crate) name: String,
    /// Device trees, without `.dtb`.
    pub(crate) dtb: Vec<String>,
    /// Kernel modules for what is on the board.
    pub(crate) modules: Vec<String>,
    /// Files below `/lib/firmware`.
    pub(crate) firmware: Vec<String>,
    compatible: Vec<String>,
    soc: String,
    console: String,
    #[serde(default)]
    leds: BTreeMap<String, String>,
    #[serde(default)]
    watchdog: Option<toml::Value>,
    #[serde(default)]
    thermal: Option<String>,
    medium: String,
    quirks: Vec<String>,
    verified: BTreeMap<String, String>,
}

/// Modules by what they are for, whatever the board.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "every key is named, so that a misspelt one is refused")]
pub(crate) struct Feature {
    why: String,
    /// Loaded by process 1.
    #[serde(default)]
    pub(crate) boot: Vec<String>,
    /// There to be asked for.
    #[serde(default)]
    pub(crate) modules: Vec<String>,
    /// The images that carry it; all, if none is named.
    #[serde(default)]
    only: Vec<String>,
}

impl Feature {
    /// Whether the image called `image` carries it.
    pub(crate) fn is_for(&self, image: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == image)
    }
}

/// All boards whose file's name begins with `prefix`, by that name.
pub(crate) fn boards(folder: &Path, prefix: &str) -> Result<BTreeMap<String, Board>> {
    let mut boards = BTreeMap::new();
    let listed =
        fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in listed {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if path.extension().is_some_and(|kind| kind == "toml") && stem.starts_with(prefix) {
            boards.insert(stem, parse(&path)?);
        }
    }
    Ok(boards)
}

/// The features by name.
pub(crate) fn features(folder: &Path) -> Result<BTreeMap<String, Feature>> {
    parse(&folder.join("features.toml"))
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text =
        fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("{} is not as it should be", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> std::path::PathBuf {
        crate::root().join("hardware")
    }

    #[test]
    fn every_board_is_described() {
        let boards = boards(&folder(), "").map(|boards| boards.into_keys().collect::<Vec<_>>());
        // `features.toml` is no board: its keys are refused.
        assert!(boards.is_err());
        let pis = super::boards(&folder(), "raspberry-pi-").unwrap();
        assert_eq!(pis.len(), 8);
        for (file, board) in pis {
            assert!(!board.dtb.is_empty() && !board.modules.is_empty(), "{file}");
            assert_eq!(board.verified["hardware"], "none", "{file}: say where it was tried");
        }
    }

    #[test]
    fn a_feature_is_for_the_images_it_names() {
        let features = features(&folder()).unwrap();
        assert!(features["storage"].is_for("rpi") && !features["storage"].is_for("qemu-arm64"));
        assert!(features["files"].is_for("qemu-arm64"));
        assert!(features["files"].boot.contains(&"vfat".to_owned()));
    }
}
