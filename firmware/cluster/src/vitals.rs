//! Vitals: what a board's sensors say just now. They travel with heartbeats and never enter the log.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a board's sensors say just now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vitals {
    /// How busy its processors were since the last reading, in thousandths of all cores together.
    pub cpu_permille: u32,
    /// Memory in use that could not be given to somebody else, in bytes.
    pub memory_used_bytes: u64,
    /// Memory there is, in bytes.
    pub memory_total_bytes: u64,
    /// Its processor's temperature in thousandths of a degree Celsius; `None` without a sensor.
    pub temperature_millicelsius: Option<i32>,
    /// Bytes in use on the file system that holds its data.
    pub disk_used_bytes: u64,
    /// Bytes that file system has.
    pub disk_total_bytes: u64,
    /// How long it has been up.
    pub uptime: Duration,
}
