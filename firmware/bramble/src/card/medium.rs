//! Where on an image or a device the settings are.

use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use bramble_host::{
    fat32::{Fat32Error, Volume},
    update::{Disk, Medium as _, SECTOR},
};

use super::SETTINGS_FILE;

/// Types of a partition with FAT32.
const FAT32_TYPES: [u8; 2] = [0x0b, 0x0c];

/// The settings on a medium cannot be reached.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MediumError {
    /// It cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something uses the device.
    #[error("{path} is in use: unmount its partitions first")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is no card.
    #[error("{path} is no card: {reason}")]
    NoCard {
        /// Which.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// Its first partition cannot be used.
    #[error("{path} cannot be used")]
    Volume {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Fat32Error,
    },
}

/// An image, or a device that nobody else uses as long as this lives.
#[derive(Debug)]
pub(crate) struct Medium {
    path: PathBuf,
    disk: Disk,
}

impl Medium {
    /// Opens it, for writing if need be.
    pub(crate) fn open(path: &Path, is_written: bool) -> Result<Self, MediumError> {
        let open = |source| MediumError::Open { path: path.to_owned(), source };
        let kind = path.metadata().map_err(open)?.file_type();
        let mut options = OpenOptions::new();
        options.read(true).write(is_written);
        if kind.is_block_device() && is_written {
            // The kernel refuses a device that is mounted, or that has a mounted partition.
            options.custom_flags(nix::fcntl::OFlag::O_EXCL.bits());
        } else if !kind.is_block_device() && !kind.is_file() {
            let reason = "it is neither a file nor a block device";
            return Err(MediumError::NoCard { path: path.to_owned(), reason });
        }
        let file = options.open(path).map_err(|source| match source.kind() {
            io::ErrorKind::ResourceBusy => MediumError::InUse { path: path.to_owned() },
            _ => open(source),
        })?;
        let disk = Disk::cached(file)
            .map_err(|source| MediumError::Read { path: path.to_owned(), source })?;
        Ok(Self { path: path.to_owned(), disk })
    }

    /// The text of the settings' file.
    pub(crate) fn read_settings(&mut self) -> Result<Vec<u8>, MediumError> {
        let mut volume = self.volume()?;
        let content = volume.find(SETTINGS_FILE).and_then(|entry| volume.read(&entry));
        content.map_err(|source| MediumError::Volume { path: self.path.clone(), source })
    }

    /// Writes the settings' file anew; nothing else changes.
    pub(crate) fn write_settings(&mut self, text: &[u8]) -> Result<(), MediumError> {
        let mut volume = self.volume()?;
        let written = volume.find(SETTINGS_FILE).and_then(|entry| volume.replace(&entry, text));
        written.map_err(|source| MediumError::Volume { path: self.path.clone(), source })
    }

    /// What was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn volume(&mut self) -> Result<Volume<'_>, MediumError> {
        let mut sector = [0; 512];
        let no_card = |reason| MediumError::NoCard { path: self.path.clone(), reason };
        if self.disk.bytes() < SECTOR {
            return Err(no_card("it is too short"));
        }
        self.disk
            .read(0, &mut sector)
            .map_err(|source| MediumError::Read { path: self.path.clone(), source })?;
        let (start, length) = if &sector[82..87] == b"FAT32" {
            // The first partition itself was named.
            (0, self.disk.bytes())
        } else {
            first_partition(&sector).map_err(no_card)?
        };
        if start + length > self.disk.bytes() {
            return Err(no_card("it ends within its first partition"));
        }
        Volume::open(&mut self.disk, start, length)
            .map_err(|source| MediumError::Volume { path: self.path.clone(), source })
    }
}

/// Where the first partition begins, and how long it is, in bytes.
pub(crate) fn first_partition(sector: &[u8; 512]) -> Result<(u64, u64), &'static str> {
    if sector[510..] != [0x55, 0xaa] {
        return Err("it has no partition table");
    }
    let number = |at: usize| {
        let bytes = [sector[at], sector[at + 1], sector[at + 2], sector[at + 3]];
        u64::from(u32::from_le_bytes(bytes))
    };
    if !FAT32_TYPES.contains(&sector[450]) {
        return Err("its first partition is not one with FAT32");
    }
    match (number(454) * SECTOR, number(458) * SECTOR) {
        (0, _) | (_, 0) => Err("its first partition is empty"),
        (start, length) => Ok((start, length)),
    }
}

#[cfg(test)]
mod tests;
