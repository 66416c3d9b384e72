//! What became of a boot: its phases, their times, and what was wrong.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::slot::Slot;

/// The report's file in Bramble's run folder.
const NAME: &str = "boot.json";
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
    /// Writes the report into Bramble's run folder, whole or not at all.
    ///
    /// # Errors
    /// Those of the folder.
    pub fn save(&self, run_dir: &Path) -> Result<(), ReportError> {
        let path = run_dir.join(NAME);
        let file = |source| ReportError::File { path: path.clone(), source };
        let content = |source| ReportError::Content { path: path.clone(), source };
        fs::create_dir_all(run_dir).map_err(file)?;
        let text = serde_json::to_vec_pretty(self).map_err(content)?;
        let draft = path.with_extension("new");
        fs::write(&draft, text).map_err(file)?;
        fs::rename(&draft, &path).map_err(file)
    }

    /// The report in Bramble's run folder; `None` where there is none, because Bramble is not
    /// process 1.
    ///
    /// # Errors
    /// If it cannot be read, or is no report.
    pub fn load(run_dir: &Path) -> Result<Option<Self>, ReportError> {
        let path = run_dir.join(NAME);
        let file = |source| ReportError::File { path: path.clone(), source };
        let mut text = Vec::new();
        match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(file(error)),
            Ok(opened) => opened.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(file)?,
        };
        if text.len() as u64 > BYTES_MAX {
            return Err(file(io::ErrorKind::FileTooLarge.into()));
        }
        let report = serde_json::from_slice(&text);
        report.map(Some).map_err(|source| ReportError::Content { path, source })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_saved_report_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let run_dir = folder.path().join("bramble");
        assert_eq!(Report::load(&run_dir).unwrap(), None, "a machine has none");
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
        report.save(&run_dir).unwrap();
        assert_eq!(Report::load(&run_dir).unwrap(), Some(report));
    }

    #[test]
    fn what_is_no_report_is_an_error_and_no_report() {
        let folder = tempfile::tempdir().unwrap();
        let load = |content: &[u8]| {
            fs::write(folder.path().join(NAME), content).unwrap();
            Report::load(folder.path())
        };
        for content in [&b""[..], b"{", b"null", b"[]", b"\xff", b"{\"kernel_ms\": -1}"] {
            assert!(matches!(load(content), Err(ReportError::Content { .. })), "{content:?}");
        }
        let endless = vec![b' '; 2 << 20];
        assert!(matches!(load(&endless), Err(ReportError::File { .. })));
        fs::remove_file(folder.path().join(NAME)).unwrap();
        fs::create_dir(folder.path().join(NAME)).unwrap();
        assert!(matches!(Report::load(folder.path()), Err(ReportError::File { .. })));
    }
}
