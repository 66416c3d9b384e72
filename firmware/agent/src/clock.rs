//! The board's own clock: never jumps, and goes on over restarts of the daemon.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bramble_cluster::Timestamp;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// The file in the run folder that ties the clock's zero to the boot.
const FILE: &str = "board-clock";

/// Milliseconds since the Unix epoch as the operating system believed at the first look after the
/// boot; from there on by the time since boot, which nobody can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BoardClock {
    booted_at: Timestamp,
}

/// What the run folder keeps.
#[derive(Debug, Serialize, Deserialize)]
enum Stored {
    V1 { boot_id: String, booted_at: Timestamp },
}

/// The clock could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LoadClockError {
    /// The machine does not tell which boot this is.
    #[error("the boot id could not be read")]
    BootId(#[source] bramble_host::ReadBoardError),
    /// The file could not be written.
    #[error("{} could not be written", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl BoardClock {
    /// The clock of this boot: the one that an earlier daemon left in `run`, or a new one.
    pub(crate) fn load(run: &Path) -> Result<Self, LoadClockError> {
        let boot_id = bramble_host::boot_id(&bramble_host::Sources::default())
            .map_err(LoadClockError::BootId)?;
        let path = run.join(FILE);
        let stored = fs::read(&path).ok().and_then(|bytes| postcard::from_bytes(&bytes).ok());
        if let Some(Stored::V1 { boot_id: stored, booted_at }) = stored
            && stored == boot_id
        {
            return Ok(Self { booted_at });
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let booted_at = Timestamp::default() + since_epoch.saturating_sub(since_boot());
        let write = |source| LoadClockError::Write { path: path.clone(), source };
        let bytes = postcard::to_stdvec(&Stored::V1 { boot_id, booted_at })
            .map_err(|error| write(io::Error::other(error)))?;
        fs::write(&path, bytes).map_err(write)?;
        Ok(Self { booted_at })
    }

    /// Now.
    pub(crate) fn now(&self) -> Timestamp {
        self.booted_at + since_boot()
    }

    /// How the operating system's clock relates to this one now.
    pub(crate) fn system_clock(&self) -> SystemClock {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        SystemClock { system: Timestamp::default() + since_epoch, board: self.now() }
    }
}

/// The operating system's clock and the board's, read at one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock {
    system: Timestamp,
    board: Timestamp,
}

impl SystemClock {
    /// An instant that was read from the operating system's clock, by the board's clock. Right if
    /// nobody set the former since.
    pub(crate) fn board_time(self, at: Timestamp) -> Timestamp {
        if at > self.system {
            self.board + at.since(self.system)
        } else {
            self.board - self.system.since(at)
        }
    }
}

/// Time since boot, suspended time included. Every Linux has this clock.
fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restarted_daemon_reads_the_same_clock() {
        let run = tempfile::tempdir().expect("a folder");
        let first = BoardClock::load(run.path()).expect("a clock");
        let second = BoardClock::load(run.path()).expect("a clock");
        assert_eq!(first, second);
        assert!(second.now() >= first.now());
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let difference = (Timestamp::default() + since_epoch).since(first.now());
        assert!(difference < Duration::from_secs(5), "{difference:?}");
    }

    #[test]
    fn instants_of_the_operating_systems_clock_are_translated() {
        let at = Timestamp::from_millis;
        let clock = SystemClock { system: at(10_000), board: at(4_000) };
        assert_eq!(clock.board_time(at(9_500)), at(3_500));
        assert_eq!(clock.board_time(at(10_500)), at(4_500));
    }

    #[test]
    fn a_clock_of_another_boot_is_not_taken_over() {
        let run = tempfile::tempdir().expect("a folder");
        let stored = Stored::V1 { boot_id: "other".to_owned(), booted_at: Timestamp::default() };
        let bytes = postcard::to_stdvec(&stored).expect("encodes");
        fs::write(run.path().join(FILE), bytes).expect("writes");
        let clock = BoardClock::load(run.path()).expect("a clock");
        assert_ne!(clock.booted_at, Timestamp::default());
    }
}
