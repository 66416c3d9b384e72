//! A stand-in for a Raspberry Pi's boot firmware, for machines that have none: emulators and tests.
//!
//! It reads a card's image as the firmware does: the partition table, `autoboot.txt` on the first
//! partition, then `config.txt`, `cmdline.txt`, kernel and initramfs of the slot that is chosen. It
//! keeps what the firmware keeps between two boots: the one-shot flag, and which partition the
//! watchdog leads to.
//!
//! A guest sets the flag through the card, for an emulator has no mailbox: the firmware leaves an
//! offer in a sector of the gap before the first partition, and the guest replaces it by a request.

mod config;
mod image;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use bramble_host::{
    slot::Slot,
    update::{EMULATOR_SECTOR, emulator},
};
use serde::{Deserialize, Serialize};

pub use config::Config;
use image::Image;

/// Why a machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reset {
    /// The power came back: the flag is lost.
    Power,
    /// The kernel rebooted.
    Reboot,
    /// The watchdog bit.
    Watchdog,
}

/// What a machine starts with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Boot {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initramfs' file.
    pub initramfs: Option<PathBuf>,
    /// The kernel's command line; `bramble.slot=` says where it came from.
    pub cmdline: String,
    /// The slot.
    pub slot: Slot,
    /// Whether the flag chose it.
    pub is_trial: bool,
    /// Seconds until the watchdog bites unless somebody feeds it.
    pub watchdog_seconds: Option<u32>,
}

/// What survives a reset, in a file beside the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Memory {
    try_once: bool,
    watchdog_partition: Option<u32>,
}

/// The firmware of one machine.
#[derive(Debug, Clone)]
pub struct FakeFirmware {
    image: PathBuf,
    memory: PathBuf,
    has_flag: bool,
    /// The sections of `config.txt` that count, such as `pi3`.
    model: String,
}

impl FakeFirmware {
    /// The firmware of the machine whose card is `image`; it has the flag.
    pub fn new(image: &Path) -> Self {
        let mut memory = image.to_owned();
        memory.as_mut_os_string().push(".firmware");
        Self { image: image.to_owned(), memory, has_flag: true, model: "qemu".to_owned() }
    }

    /// Without the flag, as an old firmware.
    pub fn without_flag(mut self) -> Self {
        self.has_flag = false;
        self
    }

    /// Another model, by the name of its section in `config.txt`.
    pub fn of_model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.model);
        self
    }

    /// Sets the flag, as the mailbox and Raspberry Pi's own kernel do.
    pub fn try_once(&self) -> io::Result<()> {
        self.keep(&Memory { try_once: true, ..self.recall() })
    }

    /// Starts the machine: puts kernel and initramfs into the folder `into`.
    pub fn boot(&self, reset: Reset, into: &Path) -> io::Result<Boot> {
        let image = Image::open(&self.image)?;
        let mut memory = self.recall();
        let is_asked = image.sector(EMULATOR_SECTOR)?[..16] == *emulator::ASK;
        let is_trial = self.has_flag && reset == Reset::Reboot && (memory.try_once || is_asked);
        memory.try_once = false;
        let watchdog = memory.watchdog_partition.take().filter(|_| reset == Reset::Watchdog);
        self.leave_offer(&image)?;
        self.keep(&memory)?;
        let partition = match watchdog {
            Some(partition) => partition,
            None => boot_partition(&image, is_trial)?,
        };
        let boot = self.load(&image, partition, is_trial, into, &mut memory)?;
        self.keep(&memory)?;
        Ok(boot)
    }

    fn load(
        &self,
        image: &Image,
        partition: u32,
        is_trial: bool,
        into: &Path,
        memory: &mut Memory,
    ) -> io::Result<Boot> {
        let missing = |what: String| io::Error::new(io::ErrorKind::NotFound, what);
        let slot = Slot::of_partition(partition)
            .ok_or_else(|| missing(format!("partition {partition} is no slot")))?;
        let text = image.text(partition, "config.txt")?;
        let config = Config::parse(&text, partition, &self.model);
        memory.watchdog_partition = config.watchdog_partition;
        fs::create_dir_all(into)?;
        let take = |name: &str| -> io::Result<PathBuf> {
            let path = into.join(name);
            fs::write(&path, image.file(partition, name)?)?;
            Ok(path)
        };
        let cmdline = image.text(partition, &config.cmdline)?;
        Ok(Boot {
            kernel: take(&config.kernel)?,
            initramfs: config.initramfs.as_deref().map(take).transpose()?,
            cmdline: format!("{} bramble.slot={slot}", cmdline.trim()),
            slot,
            is_trial,
            watchdog_seconds: config.watchdog_seconds,
        })
    }

    /// Takes a request away and says whether there may be one.
    fn leave_offer(&self, image: &Image) -> io::Result<()> {
        let wanted = match self.has_flag {
            true => emulator::sector(emulator::OFFER),
            false => [0; 512],
        };
        match image.sector(EMULATOR_SECTOR)? == wanted {
            true => Ok(()),
            false => image.write_sector(EMULATOR_SECTOR, &wanted),
        }
    }

    fn recall(&self) -> Memory {
        let bytes = fs::read(&self.memory).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    fn keep(&self, memory: &Memory) -> io::Result<()> {
        fs::write(&self.memory, serde_json::to_vec(memory)?)
    }
}

/// What `autoboot.txt` says, read anew: not with the code that wrote it.
fn boot_partition(image: &Image, is_trial: bool) -> io::Result<u32> {
    let text = image.text(1, "autoboot.txt")?;
    let text = text.get(..512).unwrap_or(&text);
    let (mut chosen, mut is_for_us) = (None, true);
    for line in text.lines().map(str::trim) {
        match line {
            "[all]" => is_for_us = true,
            "[tryboot]" => is_for_us = is_trial,
            _ if line.starts_with('[') => is_for_us = false,
            _ => {
                let number = line.strip_prefix("boot_partition=");
                let number = number.filter(|_| is_for_us).and_then(|number| number.parse().ok());
                chosen = number.or(chosen);
            }
        }
    }
    chosen.ok_or_else(|| io::Error::other("autoboot.txt names no boot_partition"))
}
