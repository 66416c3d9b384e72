//! What a board remembers about updates, in its data folder.
//!
//! The card alone decides what boots. The ledger is for telling people, and for never going back.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use semver::Version;
use serde::{Deserialize, Serialize};

use super::install::Installed;
use crate::{durable, slot::Slot};

/// The ledger's file in the data folder.
const NAME: &str = "os.json";
/// Bytes of a ledger, at most.
const BYTES_MAX: u64 = 64 << 10;

/// The ledger cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// It cannot be written.
    #[error("{} cannot be written", .0.display())]
    Write(PathBuf, #[source] io::Error),
    /// It cannot be put into words.
    #[error("the ledger of updates cannot be written down")]
    Encode(#[source] serde_json::Error),
}

/// What a board remembers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The highest counter of an update that was kept.
    pub counter: u64,
    /// What lies in the slot that does not run, whole and read back.
    pub staged: Option<Staged>,
    /// The trial that a reboot was asked for.
    pub trial: Option<Trial>,
    /// How the last update that failed did so.
    pub failure: Option<Failure>,
}

/// An update that can be tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Its version.
    pub version: Version,
    /// Its counter.
    pub counter: u64,
    /// Where it lies.
    pub slot: Slot,
}

/// A trial.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// What is tried.
    pub staged: Staged,
    /// When the reboot was asked for, milliseconds since 1970.
    pub at: u64,
    /// How often the daemon has started in it.
    pub starts: u32,
}

/// An update that was not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Its version.
    pub version: Version,
    /// Why, for people.
    pub reason: String,
    /// When that was known, milliseconds since 1970.
    pub at: u64,
}

impl Ledger {
    /// The ledger in a data folder; an empty one if there is none that can be read.
    pub fn read(data_dir: &Path) -> Self {
        let path = data_dir.join(NAME);
        let is_bounded = fs::metadata(&path).is_ok_and(|data| data.len() <= BYTES_MAX);
        let bytes = if is_bounded { fs::read(&path).unwrap_or_default() } else { Vec::new() };
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// Those of the data folder.
    pub fn write(&self, data_dir: &Path) -> Result<(), LedgerError> {
        let path = data_dir.join(NAME);
        let bytes = serde_json::to_vec(self).map_err(LedgerError::Encode)?;
        durable::write(&path, &bytes).map_err(|error| LedgerError::Write(path.clone(), error))
    }

    /// A file begins to arrive: what lay in the other slot is gone.
    pub fn begin_install(&mut self) {
        self.staged = None;
    }

    /// A file has arrived.
    pub fn installed(&mut self, installed: &Installed) {
        self.staged = Some(Staged {
            version: installed.header.version.clone(),
            counter: installed.header.counter,
            slot: installed.slot,
        });
    }

    /// The staged update is about to be tried; `None` if there is none.
    pub fn begin_trial(&mut self, now: u64) -> Option<Staged> {
        let staged = self.staged.clone()?;
        self.trial = Some(Trial { staged: staged.clone(), at: now, starts: 0 });
        self.failure = None;
        Some(staged)
    }

    /// The daemon starts in a slot: counts a trial's starts, and notices one that did not last.
    /// Returns whether something changed.
    pub fn started(&mut self, running: Slot, is_default: bool, now: u64) -> bool {
        let Some(trial) = &mut self.trial else { return false };
        if trial.staged.slot != running {
            let reason = format!(
                "slot {} was tried and slot {running} came back: the new system was reset, or did \
                 not reach its daemon",
                trial.staged.slot
            );
            self.fail(reason, now);
        } else if is_default {
            // Kept, and the power failed before that was written down.
            self.kept();
        } else {
            trial.starts = trial.starts.saturating_add(1);
        }
        true
    }

    /// The trial was kept.
    pub fn kept(&mut self) {
        if let Some(trial) = self.trial.take() {
            self.counter = self.counter.max(trial.staged.counter);
            self.staged = None;
            self.failure = None;
        }
    }

    /// The trial is given up.
    pub fn fail(&mut self, reason: String, now: u64) {
        if let Some(trial) = self.trial.take() {
            self.failure = Some(Failure { version: trial.staged.version, reason, at: now });
            self.staged = None;
        }
    }
}

#[cfg(test)]
mod tests;
