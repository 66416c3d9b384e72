//! A slot: what a board's boot firmware loads, and all that an update replaces.

use anyhow::Result;

use super::gzip;
use crate::{
    deb::Tree, fat::Volume, hardware::Board, kind::Kind, modules::Modules, packages::Locked,
};

/// A slot's size is fixed: an update must fit the cards that are out there.
const MEBIBYTES: usize = 128;
/// What the boot firmware of the boards before the Pi 5 loads; the Pi 5 has it all in its EEPROM.
const BOOT_FIRMWARE: &[&str] = &["start.elf", "fixup.dat", "start4.elf", "fixup4.dat"];
const BOOT_FOLDER: &str = "usr/lib/raspi-firmware/";

/// What goes into a slot.
#[derive(Debug)]
pub(super) struct Slot<'a> {
    pub(super) kind: Kind,
    pub(super) packages: &'a Tree,
    pub(super) modules: &'a Modules<'a>,
    pub(super) boards: Vec<&'a Board>,
    pub(super) initramfs: Vec<u8>,
    pub(super) version: &'a str,
    pub(super) licences: &'a [&'a Locked],
}

impl Slot<'_> {
    /// The slot's file system.
    pub(super) fn volume(self, label: &str, id: u32) -> Result<Volume> {
        let mut volume = Volume::new(label, id, MEBIBYTES);
        volume.file("config.txt", self.kind.settings());
        volume.file("cmdline.txt", self.kind.command_line());
        volume.file("version.txt", self.version_text());
        volume.file("kernel8.img", self.kernel()?);
        for board in &self.boards {
            for tree in &board.dtb {
                let content = self.modules.kernel_file(&format!("dtb/broadcom/{tree}.dtb"))?;
                volume.file(&format!("{tree}.dtb"), content);
            }
        }
        if self.kind == Kind::Rpi {
            for name in BOOT_FIRMWARE {
                volume.file(name, self.packages.expect(&format!("{BOOT_FOLDER}{name}"))?);
            }
            let overlays = format!("{BOOT_FOLDER}overlays/");
            for path in self.packages.below(&overlays).filter(|path| path.ends_with(".dtbo")) {
                let name = path.trim_start_matches(&overlays);
                volume.file(&format!("overlays/{name}"), self.packages.expect(path)?);
            }
        }
        for locked in self.licences {
            // The three packages of a kernel have one licence; those in the initramfs are there.
            if locked.name.starts_with("linux-binary") || locked.name == "raspi-firmware" {
                let path = format!("usr/share/doc/{}/copyright", locked.name);
                let name = locked.name.split("-7").next().unwrap_or(&locked.name);
                volume.file(&format!("licences/{name}.txt"), self.packages.expect(&path)?);
            }
        }
        volume.file("bramble.cpio", self.initramfs);
        Ok(volume)
    }

    /// ARM's kernel is compressed here, as boot firmware and QEMU accept it; a PC's is already.
    fn kernel(&self) -> Result<Vec<u8>> {
        let kernel = self.modules.kernel_file("vmlinuz")?;
        match self.kind {
            Kind::Rpi | Kind::QemuArm64 => gzip(kernel),
            Kind::QemuX86 => Ok(kernel.to_vec()),
        }
    }

    fn version_text(&self) -> String {
        let mut text = format!("Bramble {} for {}\n", self.version, self.kind);
        for locked in self.licences {
            text.push_str(&format!("{} {}\n", locked.name, locked.version));
        }
        text
    }
}
