//! The clock of a board that has no battery for one.
//!
//! At power-on the clock says 1970. It is set forwards to the latest time that is known to be past,
//! the *floor*: when this system was built, or when the board last wrote the time down. Peers and
//! time servers say the rest; setting the clock to what they say is [`step`].

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bramble_cluster::chain;
use nix::{
    sys::time::TimeSpec,
    time::{ClockId, clock_gettime, clock_settime},
};

use crate::{
    Places,
    boot::{Findings, say},
};

/// The file whose modification time is the time that was saved.
const FILE: &str = "clock";
/// No system of ours with this source was built before: 21 November 2026.
const FIRST_BUILD: u64 = 1_795_219_200;
/// The build's time, for builds that state one (reproducible-builds.org); else the commit's.
const BUILD: Option<&str> = match option_env!("SOURCE_DATE_EPOCH") {
    None => option_env!("BRAMBLE_COMMIT_TIME"),
    stated => stated,
};
/// A saved time beyond this is a mistake and no floor: 1 January 2100.
const LATEST: u64 = 4_102_444_800;
/// Clocks that differ by less are not worth a word.
const TOLERANCE: Duration = Duration::from_secs(1);

/// The clock could not be set or the time not be saved.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The kernel refused the time.
    #[error("cannot set the clock to {to} s")]
    Set {
        /// Seconds since 1970.
        to: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The time is outside of what a clock can say.
    #[error("the time {to} s is beyond what can be, and was not set")]
    Absurd {
        /// Seconds since 1970.
        to: u64,
    },
    /// The file could not be written.
    #[error("cannot save the time in {}", path.display())]
    Save {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Sets the system's clock, to `to` since 1970, forwards or backwards.
pub fn step(to: Duration) -> Result<(), ClockError> {
    let seconds = to.as_secs();
    if seconds > LATEST {
        return Err(ClockError::Absurd { to: seconds });
    }
    clock_settime(ClockId::CLOCK_REALTIME, TimeSpec::from(to))
        .map_err(|source| ClockError::Set { to: seconds, source: source.into() })
}

/// When this system was built, since 1970, or a time before that.
pub fn built_at() -> Duration {
    let build = BUILD.and_then(|text| text.parse().ok()).unwrap_or(FIRST_BUILD);
    Duration::from_secs(build.clamp(FIRST_BUILD, LATEST))
}

/// The latest time that is known to be past, since 1970. `data` is Bramble's folder on the data
/// partition, `image` what the image says about itself.
pub fn floor(image: &Path, data: &Path) -> Duration {
    let times = [image.join("version"), data.join(FILE)].map(|path| written(&path));
    times.into_iter().flatten().fold(built_at(), Duration::max)
}

/// Writes the time down for the next boot. Costs one small write: do it at an orderly end, and when
/// a better time was learnt, but not often.
pub fn save(data: &Path) -> Result<(), ClockError> {
    let path = data.join(FILE);
    let saved = File::create(&path).and_then(|file| {
        file.set_modified(SystemTime::now())?;
        file.sync_all()
    });
    saved.map_err(|source| ClockError::Save { path, source })
}

/// How long the machine has been up, with the kernel's own start.
pub fn since_power_on() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}

/// Sets the clock to the floor if it is behind it.
pub(crate) fn raise_to_floor(places: &Places, findings: &mut Findings) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let floor = floor(&places.image, &places.bramble());
    if now + TOLERANCE >= floor {
        return;
    }
    let (said, floor_seconds) = (now.as_secs(), floor.as_secs());
    say(&format!("the clock said {said} s, which is past; it goes on from {floor_seconds} s"));
    if let Err(error) = step(floor) {
        findings.problem(chain(&error));
    }
}

/// When a file was last written, if that is a time.
fn written(path: &Path) -> Option<Duration> {
    let time = fs::metadata(path).ok()?.modified().ok()?;
    let time = time.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    (time.as_secs() <= LATEST).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, seconds: u64) {
        let file = File::create(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }

    #[test]
    fn the_floor_is_the_latest_of_what_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let (image, data) = (folder.path().join("image"), folder.path().join("data"));
        fs::create_dir_all(&image).unwrap();
        fs::create_dir_all(&data).unwrap();
        let bare = floor(&image, &data);
        assert!(bare.as_secs() >= FIRST_BUILD);
        write(&image.join("version"), bare.as_secs() + 100);
        assert_eq!(floor(&image, &data).as_secs(), bare.as_secs() + 100);
        write(&data.join(FILE), bare.as_secs() + 200);
        assert_eq!(floor(&image, &data).as_secs(), bare.as_secs() + 200);
        write(&data.join(FILE), LATEST + 1);
        assert_eq!(floor(&image, &data).as_secs(), bare.as_secs() + 100);
    }

    #[test]
    fn a_saved_time_is_the_next_floor() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path()).unwrap();
        let saved = written(&folder.path().join(FILE)).unwrap();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        assert!(now - saved < Duration::from_secs(60));
        assert!(matches!(save(&folder.path().join("none")), Err(ClockError::Save { .. })));
    }

    #[test]
    fn an_absurd_time_is_not_set() {
        let to = LATEST + 1;
        let refused = step(Duration::from_secs(to));
        assert!(matches!(refused, Err(ClockError::Absurd { to: seconds }) if seconds == to));
    }
}
