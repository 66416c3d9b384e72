//! The first partition: what chooses the slot, and the file that owners edit.

use anyhow::Result;

use crate::{deb::Tree, fat::Volume, kind::Kind};

const LABEL: &str = "BRAMBLE";
const ID: u32 = 0xb4a4_b1e0;
const MEBIBYTES: usize = 64;

/// Which slot is started, and which when an update is tried. It is one sector, so that an update
/// is committed by one write: the rest is filled with empty lines.
const CHOICE: &str = "[all]\ntryboot_a_b=1\nboot_partition=2\n[tryboot]\nboot_partition=3\n";
const CHOICE_BYTES: usize = 512;

/// What `bramble card --reset` writes too.
const SETTINGS: &str = include_str!("../../../firmware/bramble/src/card/bramble.toml");
/// Room for the owner's settings: whoever edits the file in place need not move it.
const SETTINGS_BYTES: usize = 16 * 1024;
const README: &str = include_str!("../../../firmware/bramble/src/card/README.txt");

/// The partition's file system.
pub(super) fn volume(kind: Kind, packages: &Tree) -> Result<Volume> {
    let mut volume = Volume::new(LABEL, ID, MEBIBYTES);
    if kind == Kind::Rpi {
        // The Pi 3 and the Zero 2 W look for it here alone.
        volume.file("bootcode.bin", packages.expect("usr/lib/raspi-firmware/bootcode.bin")?);
    }
    let mut choice = CHOICE.as_bytes().to_vec();
    choice.resize(CHOICE_BYTES, b'\n');
    volume.file("autoboot.txt", choice);
    // Its being there is what makes the partition one to boot from.
    volume.file("config.txt", Vec::new());
    let mut settings = SETTINGS.as_bytes().to_vec();
    settings.resize(SETTINGS_BYTES.max(settings.len()), b'\n');
    volume.file("bramble.toml", settings);
    volume.file("README.txt", README.replace('\n', "\r\n"));
    Ok(volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_choice_of_a_slot_is_one_sector() {
        let volume = volume(Kind::QemuArm64, &Tree::default()).unwrap();
        let sizes: Vec<_> = volume.files().collect();
        assert!(sizes.contains(&("autoboot.txt", 512)));
        assert!(sizes.contains(&("config.txt", 0)));
    }

    #[test]
    fn the_settings_of_a_new_card_say_nothing_yet_and_have_room_to_grow() {
        let settings: toml::Table = toml::from_str(SETTINGS).unwrap();
        let says = |section: &toml::Value| section.as_table().is_none_or(|table| !table.is_empty());
        assert!(!settings.values().any(says), "{settings:?}");
        assert!(SETTINGS.len() < SETTINGS_BYTES / 2);
    }
}
