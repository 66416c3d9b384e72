//! The operating system of a board, as `/bramble/os` shows it.

use serde::{Deserialize, Serialize};

/// What a board runs, tries, and holds ready.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OsStatus {
    /// Whether the board is an appliance: only those have slots. Others say why not.
    pub is_appliance: bool,
    /// Why it has none, or what is wrong with it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// The boards that an update must be for: `rpi`, `qemu-arm64`, `qemu-x86_64`.
    pub board: String,
    /// The version that runs.
    pub version: String,
    /// The highest counter of an update that was kept.
    pub counter: u64,
    /// The slot that runs, `a` or `b`.
    pub slot: String,
    /// The slot that boots when nobody asks for another.
    pub default_slot: String,
    /// Whether what runs is on trial.
    pub is_trial: bool,
    /// How a slot is tried: `kernel`, `firmware` or `counted`.
    pub backend: String,
    /// The version that lies in the other slot, whole and checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged: Option<String>,
    /// Its counter, which tells it from others of its version.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub staged_counter: Option<u64>,
    /// How the last update that failed did so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<OsFailure>,
}

/// An update that was not kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OsFailure {
    /// Its version.
    pub version: String,
    /// Why.
    pub reason: String,
    /// When that was known, milliseconds since 1970.
    pub at: u64,
}

/// A line of the answer to an upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OsProgress {
    /// How far the slot is written.
    Written {
        /// Bytes that are done.
        bytes: u64,
        /// Of how many.
        total: u64,
    },
    /// How far it is read back.
    Checked {
        /// Bytes that are done.
        bytes: u64,
        /// Of how many.
        total: u64,
    },
    /// It lies in the slot.
    Staged {
        /// Its version.
        version: String,
    },
    /// It does not, and why.
    Failed(String),
}
