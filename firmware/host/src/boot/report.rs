//! What became of a boot: its phases, their times, and what was wrong.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::slot::Slot;

/// A report is some kilobytes; a file that is bigger is not one.
const BYTES_MAX: u64 = 1 << 20;

/// One named part of booting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phase {
    /// Its name, as on the console.
    pub name: String,
    /// When it began, counted from the start of process 1.
    pub started_ms: u64,
    /// How long it took.
    pub took_ms: u64,
    /// What it did, if that is worth saying.
    pub note: Option<String>,
}

/// What process 1 did and found until the daemon could start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The phases in the order they ran in.
    pub phases: Vec<Phase>,
    /// What the kernel took before process 1 started.
    pub kernel_ms: u64,
    /// Sentences for the owner.
    pub problems: Vec<String>,
    /// The slot that this system was started from, where one is known.
    pub slot: Option<Slot>,
    /// The card's device.
    pub disk: Option<PathBuf>,
    /// The name of the board's profile.
    pub board: Option<String>,
    /// Whether this system is on trial: a slot other than the one that boots by default.
    #[serde(default)]
    pub is_trial: bool,
    /// Whether `/data` is memory: what is written there is gone with the power.
    pub data_is_temporary: bool,
}

/// A report could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The file could not be used.
    #[error("cannot use the boot report {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is not a boot report.
    #[error("{} is not a boot report", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl Report {
    /// Writes the report, whole or not at all.
    pub fn save(&self, path: &Path) -> Result<(), ReportError> {
        let file = |source| ReportError::File { path: path.to_owned(), source };
        let content = |source| ReportError::Content { path: path.to_owned(), source };
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(file)?;
        }
        let text = serde_json::to_vec_pretty(self).map_err(content)?;
        let draft = path.with_extension("new");
        fs::write(&draft, text).map_err(file)?;
        fs::rename(&draft, path).map_err(file)
    }

    /// Reads a report that was saved.
    pub fn load(path: &Path) -> Result<Self, ReportError> {
        let file = |source| ReportError::File { path: path.to_owned(), source };
        if fs::metadata(path).map_err(file)?.len() > BYTES_MAX {
            return Err(file(io::ErrorKind::FileTooLarge.into()));
        }
        let text = fs::read(path).map_err(file)?;
        serde_json::from_slice(&text)
            .map_err(|source| ReportError::Content { path: path.to_owned(), source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_report_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bramble/boot.json");
        let phase = Phase {
            name: "data".to_owned(),
            started_ms: 120,
            took_ms: 45,
            note: Some("grown".to_owned()),
        };
        let report = Report {
            phases: vec![phase],
            kernel_ms: 2900,
            problems: vec!["no card".to_owned()],
            slot: Some(Slot::B),
            disk: Some("/dev/mmcblk0".into()),
            board: None,
            is_trial: true,
            data_is_temporary: true,
        };
        report.save(&path).unwrap();
        assert_eq!(Report::load(&path).unwrap(), report);
        fs::write(&path, "{").unwrap();
        assert!(matches!(Report::load(&path), Err(ReportError::Content { .. })));
        assert!(matches!(Report::load(&folder.path().join("none")), Err(ReportError::File { .. })));
    }
}
