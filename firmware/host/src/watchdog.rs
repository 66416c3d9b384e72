//! The watchdog: hardware that resets the board unless it is fed.
//!
//! It is armed by opening it. Whoever holds a [`Watchdog`] feeds it while all makes progress, and
//! for no other reason: a board that hangs is reset by being left alone.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::ioctl;

/// The first watchdog of a machine.
const DEVICE: &str = "watchdog";
/// Written before closing, it says that closing is meant (linux/Documentation/watchdog).
const FAREWELL: &[u8] = b"V";

/// An armed watchdog.
///
/// Dropping it without [`Watchdog::disarm`] leaves it armed and unfed: the board resets.
#[derive(Debug)]
pub struct Watchdog {
    file: File,
    identity: String,
    timeout: Duration,
}

/// There is no watchdog, or it is another's.
#[derive(Debug, thiserror::Error)]
#[error("no watchdog at {}", path.display())]
pub struct OpenWatchdogError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

impl Watchdog {
    /// Arms the watchdog in a folder of devices, to wait for `timeout` from now on and after every
    /// feeding. One that cannot wait so long keeps its own time.
    pub fn open(dev: &Path, timeout: Duration) -> Result<Self, OpenWatchdogError> {
        let path = dev.join(DEVICE);
        let file = OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(|source| OpenWatchdogError { path, source })?;
        let identity = ioctl::watchdog_identity(file.as_fd())
            .unwrap_or_else(|_| "a watchdog without a name".to_owned());
        let mut watchdog = Self { file, identity, timeout: Duration::ZERO };
        watchdog.set_timeout(timeout);
        watchdog.feed();
        Ok(watchdog)
    }

    /// A second handle of it, which feeds it by writing a byte.
    ///
    /// # Errors
    /// If the process has no file left to open.
    pub fn share(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// What its driver calls it.
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// How long it waits; zero if it does not say.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Asks it to wait for another time.
    pub fn set_timeout(&mut self, timeout: Duration) {
        let seconds = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        if let Ok(seconds) = ioctl::watchdog_timeout(self.file.as_fd(), seconds) {
            self.timeout = Duration::from_secs(seconds.into());
        }
    }

    /// Gives it its time again. If that fails, it resets the board, which is what it is for.
    pub fn feed(&mut self) {
        if ioctl::watchdog_feed(self.file.as_fd()).is_err() {
            // Some drivers take a write and no request.
            let _ = self.file.write_all(b"\0");
        }
    }

    /// Stops it, so that the board may be without anybody to feed it. Some cannot be stopped.
    pub fn disarm(mut self) {
        let _ = self.file.write_all(FAREWELL);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_watchdog_that_takes_no_request_is_fed_by_writing() {
        let dev = tempfile::tempdir().unwrap();
        assert!(Watchdog::open(dev.path(), Duration::from_secs(15)).is_err());
        fs::write(dev.path().join(DEVICE), "").unwrap();
        let mut watchdog = Watchdog::open(dev.path(), Duration::from_secs(15)).unwrap();
        assert_eq!(watchdog.timeout(), Duration::ZERO);
        watchdog.feed();
        watchdog.disarm();
        assert_eq!(fs::read(dev.path().join(DEVICE)).unwrap(), b"\0\0V");
    }
}
