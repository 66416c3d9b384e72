//! The board's light, and what it says.
//!
//! The kernel blinks by itself: a sign is set once and costs nothing while it shows.

use std::{fs, io, path::PathBuf};

use crate::{Sources, profile};

/// Names of the light next to the card, as device trees have them.
const NAMES: &[&str] = &["ACT", "led0", "act", "green:act"];

/// What the light says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sign {
    /// The board is booting: quick blinking.
    Booting,
    /// It looks for its cluster: slow blinking.
    Seeking,
    /// It is a member: on.
    Member,
    /// It leads: on, with a short gap.
    Leader,
    /// It needs its owner: off, with a short flash.
    Fault,
}

/// How a sign is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pattern {
    On,
    /// Milliseconds on and off.
    Blink(u32, u32),
}

impl Sign {
    fn pattern(self) -> Pattern {
        match self {
            Self::Booting => Pattern::Blink(100, 100),
            Self::Seeking => Pattern::Blink(500, 500),
            Self::Member => Pattern::On,
            Self::Leader => Pattern::Blink(1900, 100),
            Self::Fault => Pattern::Blink(100, 900),
        }
    }
}

/// A board's light.
#[derive(Debug)]
pub struct Led {
    folder: PathBuf,
    shown: Option<Sign>,
}

impl Led {
    /// The light of the board that this is.
    pub fn of_this_board(sources: &Sources) -> Option<Self> {
        let name = profile::of_this_board(sources).and_then(|it| it.leds.status.as_deref());
        Self::find(sources, name)
    }

    /// The light of a board: the one its profile names, or the one next to the card. Boards
    /// without one have `None`.
    pub fn find(sources: &Sources, profile: Option<&str>) -> Option<Self> {
        let folder = sources.sys.join("class/leds");
        let names = profile.into_iter().chain(NAMES.iter().copied());
        let found = names.map(|name| folder.join(name)).find(|path| path.exists())?;
        Some(Self { folder: found, shown: None })
    }

    /// Shows a sign. The same one again is not shown anew, so that its blinking goes on evenly.
    pub fn show(&mut self, sign: Sign) -> io::Result<()> {
        if self.shown == Some(sign) {
            return Ok(());
        }
        match sign.pattern() {
            Pattern::On => {
                self.write("trigger", "none")?;
                let brightest = fs::read_to_string(self.folder.join("max_brightness"));
                self.write("brightness", brightest.as_deref().map_or("1", str::trim))?;
            }
            Pattern::Blink(on, off) => {
                // Its files are there once the trigger is chosen.
                self.write("trigger", "timer")?;
                self.write("delay_on", &on.to_string())?;
                self.write("delay_off", &off.to_string())?;
            }
        }
        self.shown = Some(sign);
        Ok(())
    }

    fn write(&self, file: &str, value: &str) -> io::Result<()> {
        fs::write(self.folder.join(file), value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn board(names: &[&str]) -> (tempfile::TempDir, Sources) {
        let sys = tempfile::tempdir().unwrap();
        for name in names {
            let folder = sys.path().join("class/leds").join(name);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("max_brightness"), "255\n").unwrap();
        }
        let sources = Sources { sys: sys.path().to_owned(), ..Sources::default() };
        (sys, sources)
    }

    #[test]
    fn each_sign_has_its_pattern() {
        let (_sys, sources) = board(&["PWR", "ACT"]);
        let mut led = Led::find(&sources, None).unwrap();
        let read = |file: &str| {
            fs::read_to_string(sources.sys.join("class/leds/ACT").join(file)).unwrap_or_default()
        };
        led.show(Sign::Leader).unwrap();
        assert_eq!(
            (read("trigger"), read("delay_on"), read("delay_off")),
            ("timer".to_owned(), "1900".to_owned(), "100".to_owned())
        );
        led.show(Sign::Member).unwrap();
        assert_eq!((read("trigger"), read("brightness")), ("none".to_owned(), "255".to_owned()));
        fs::write(sources.sys.join("class/leds/ACT/brightness"), "0").unwrap();
        led.show(Sign::Member).unwrap();
        assert_eq!(read("brightness"), "0", "the same sign is not shown anew");
    }

    #[test]
    fn the_profile_knows_better_and_a_dark_board_has_none() {
        let (_sys, sources) = board(&["PWR", "ACT"]);
        let led = Led::find(&sources, Some("PWR")).unwrap();
        assert!(led.folder.ends_with("PWR"));
        let (_sys, sources) = board(&[]);
        assert!(Led::find(&sources, Some("ACT")).is_none());
    }
}
