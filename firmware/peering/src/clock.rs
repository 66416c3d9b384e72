//! The time by which certificates are judged, on boards that forget it when unplugged.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bramble_cluster::Timestamp;
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use serde::{Deserialize, Serialize};

use crate::store::{self, StoreError};

const FILE: &str = "clock";

/// A time this long after the firmware was made is a mistake and is not believed.
const FIRMWARE_LIFE: Duration = Duration::from_secs(20 * 365 * 86_400);

/// Peers tell the time with every connection; smaller differences are not worth taking over.
const TOLERANCE: Duration = Duration::from_secs(60);

/// The later of the operating system's clock and the latest instant known to have passed: the
/// firmware's making, the saved time, what a member of the cluster said.
///
/// Only ever corrected forwards, since a board without a battery-backed clock is only ever late.
#[derive(Debug, Clone)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    latest_believable: Timestamp,
    floor: Mutex<Floor>,
}

/// `passed` had passed when the monotonic clock showed `seen`.
#[derive(Debug, Clone, Copy)]
struct Floor {
    passed: Timestamp,
    seen: Instant,
}

#[derive(Serialize, Deserialize)]
enum Stored {
    V1 { at: Timestamp },
}

impl Clock {
    /// The clock of a board whose firmware was made at `built_at`, with the time that an earlier
    /// run saved in `directory`.
    pub fn load(directory: &Path, built_at: Timestamp) -> Result<Self, StoreError> {
        let path = directory.join(FILE);
        let latest_believable = built_at + FIRMWARE_LIFE;
        let saved = store::read(&path)?.and_then(|bytes| postcard::from_bytes(&bytes).ok());
        let saved = saved.map_or(built_at, |Stored::V1 { at }| at);
        let passed = if saved > latest_believable { built_at } else { saved.max(built_at) };
        let floor = Mutex::new(Floor { passed, seen: Instant::now() });
        Ok(Self(Arc::new(Inner { path, latest_believable, floor })))
    }

    /// What time it is, as far as this board can know.
    pub fn now(&self) -> Timestamp {
        system_time().max(self.passed())
    }

    /// Takes over the time that a member of the cluster told, if ours is behind it.
    pub fn learn(&self, told: Timestamp) {
        if told > self.0.latest_believable || told <= self.now() + TOLERANCE {
            return;
        }
        tracing::info!(behind = ?told.since(self.now()), "the clock was behind the cluster's");
        let mut floor = self.0.floor.lock().unwrap_or_else(PoisonError::into_inner);
        *floor = Floor { passed: told, seen: Instant::now() };
    }

    /// Keeps the time for the next start.
    pub fn save(&self) -> Result<(), StoreError> {
        let at = self.now().min(self.0.latest_believable);
        let bytes = postcard::to_stdvec(&Stored::V1 { at });
        let bytes = bytes.map_err(|_| StoreError::Damaged { path: self.0.path.clone() })?;
        store::write(&self.0.path, &bytes)
    }

    fn passed(&self) -> Timestamp {
        let floor = *self.0.floor.lock().unwrap_or_else(PoisonError::into_inner);
        floor.passed + floor.seen.elapsed()
    }
}

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.now()))
    }
}

/// The instant in the form that certificates are judged by.
pub(crate) fn unix_time(at: Timestamp) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_millis(at.as_millis()))
}

fn system_time() -> Timestamp {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::default() + elapsed
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    #[test]
    fn time_never_lies_before_the_firmware_was_made() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let built_at = system_time() + HOUR;
        assert!(Clock::load(directory.path(), built_at)?.now() >= built_at);
        Ok(())
    }

    #[test]
    fn time_learnt_from_a_peer_survives_a_restart() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let told = system_time() + HOUR;
        let clock = Clock::load(directory.path(), Timestamp::default() + HOUR * 24 * 365 * 50)?;
        clock.learn(told);
        assert!(clock.now() >= told);
        clock.save()?;
        let restarted = Clock::load(directory.path(), Timestamp::default() + HOUR * 24 * 365 * 50)?;
        assert!(restarted.now() >= told);
        Ok(())
    }

    #[test]
    fn the_past_and_the_absurd_are_not_believed() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let built_at = system_time();
        let clock = Clock::load(directory.path(), built_at)?;
        clock.learn(Timestamp::from_millis(1));
        clock.learn(built_at + FIRMWARE_LIFE + HOUR);
        assert!(clock.now().since(built_at) < HOUR);
        Ok(())
    }
}
