//! What is known of this kind of board: the files of `hardware/`, compiled in.

use std::{fs, sync::LazyLock};

use serde::Deserialize;

use crate::Sources;

/// Every board that is described.
const FILES: &[&str] = &[
    include_str!("../../../hardware/qemu-arm64.toml"),
    include_str!("../../../hardware/qemu-x86_64.toml"),
    include_str!("../../../hardware/raspberry-pi-3a-plus.toml"),
    include_str!("../../../hardware/raspberry-pi-3b-plus.toml"),
    include_str!("../../../hardware/raspberry-pi-3b.toml"),
    include_str!("../../../hardware/raspberry-pi-400.toml"),
    include_str!("../../../hardware/raspberry-pi-4b.toml"),
    include_str!("../../../hardware/raspberry-pi-5.toml"),
    include_str!("../../../hardware/raspberry-pi-cm4.toml"),
    include_str!("../../../hardware/raspberry-pi-zero-2-w.toml"),
];

/// What QEMU's PC goes by; it has no device tree.
const QEMU_PC: &str = "qemu,q35";

/// A kind of board, as far as the firmware needs to know it; the image builder reads more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Profile {
    /// What people call it.
    pub name: String,
    /// What its device tree says it is, any of these.
    pub compatible: Vec<String>,
    /// The chip, as in `bcm2711`.
    #[serde(default)]
    pub soc: Option<String>,
    /// Its lights.
    #[serde(default)]
    pub leds: Leds,
    /// The thermal zone that is the processor's.
    #[serde(default)]
    pub thermal: Option<String>,
}

/// Names of lights in `/sys/class/leds`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Leds {
    /// The one that shows what the board does.
    #[serde(default)]
    pub status: Option<String>,
}

/// All profiles. One that cannot be read is left out; a test reads them all.
static PROFILES: LazyLock<Vec<Profile>> =
    LazyLock::new(|| FILES.iter().filter_map(|text| toml::from_str(text).ok()).collect());

/// The profile of the board this runs on.
pub fn of_this_board(sources: &Sources) -> Option<&'static Profile> {
    best(&PROFILES, &compatible(sources))
}

/// What the device tree says this board is, the most exact first.
pub(crate) fn compatible(sources: &Sources) -> Vec<String> {
    let bytes = fs::read(sources.proc.join("device-tree/compatible")).unwrap_or_default();
    let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<String> =
        names.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    if names.is_empty() && board_maker(sources) == "QEMU" {
        names.push(QEMU_PC.to_owned());
    }
    names
}

/// Who made the board, as a PC's firmware has it.
fn board_maker(sources: &Sources) -> String {
    let name = fs::read_to_string(sources.sys.join("class/dmi/id/sys_vendor"));
    name.unwrap_or_default().trim().to_owned()
}

/// The profile that knows the most exact of a board's names.
fn best<'a>(profiles: &'a [Profile], names: &[String]) -> Option<&'a Profile> {
    names.iter().find_map(|name| profiles.iter().find(|profile| profile.compatible.contains(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_is_a_profile_and_none_claims_anothers_board() {
        let mut seen = std::collections::BTreeSet::new();
        for text in FILES {
            let profile: Profile = toml::from_str(text).unwrap();
            for name in &profile.compatible {
                assert!(seen.insert(name.clone()), "{name} is claimed twice");
            }
        }
    }

    #[test]
    fn every_board_in_the_folder_is_compiled_in() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../hardware");
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let boards = files.filter(|path| {
            path.extension().is_some_and(|extension| extension == "toml")
                && !path.ends_with("features.toml")
        });
        for board in boards {
            let text = fs::read_to_string(&board).unwrap();
            assert!(FILES.contains(&text.as_str()), "{}", board.display());
        }
    }

    #[test]
    fn the_most_exact_name_decides() {
        let profile = |name: &str, compatible: &str| Profile {
            name: name.to_owned(),
            compatible: vec![compatible.to_owned()],
            soc: None,
            leds: Leds::default(),
            thermal: None,
        };
        let profiles = [profile("any", "brcm,bcm2711"), profile("Pi 4", "raspberrypi,4-model-b")];
        let proc = tempfile::tempdir().unwrap();
        fs::create_dir_all(proc.path().join("device-tree")).unwrap();
        let names = "raspberrypi,4-model-b\0brcm,bcm2711\0";
        fs::write(proc.path().join("device-tree/compatible"), names).unwrap();
        let sources = Sources { proc: proc.path().to_owned(), ..Sources::default() };
        assert_eq!(best(&profiles, &compatible(&sources)).unwrap().name, "Pi 4");
        assert!(best(&profiles[..1], &["other".to_owned()]).is_none());
    }
}
