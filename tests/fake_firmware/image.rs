//! A card's image: its partitions' files, and sectors.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::Path,
};

use fatfs::{FileSystem, FsOptions};

/// An image.
pub(super) struct Image(File);

impl Image {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().read(true).write(true).open(path).map(Self)
    }

    pub(super) fn sector(&self, sector: u64) -> io::Result<[u8; 512]> {
        let mut bytes = [0; 512];
        self.0.read_exact_at(&mut bytes, sector * 512)?;
        Ok(bytes)
    }

    pub(super) fn write_sector(&self, sector: u64, bytes: &[u8; 512]) -> io::Result<()> {
        self.0.write_all_at(bytes, sector * 512)
    }

    /// A file of a partition, by its number from 1.
    pub(super) fn file(&self, partition: u32, name: &str) -> io::Result<Vec<u8>> {
        let file_system = FileSystem::new(self.partition(partition)?, FsOptions::new())?;
        let mut bytes = Vec::new();
        let opened = file_system.root_dir().open_file(name);
        let opened = opened.map_err(|error| {
            io::Error::new(error.kind(), format!("partition {partition}: {name}: {error}"))
        });
        opened?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn text(&self, partition: u32, name: &str) -> io::Result<String> {
        String::from_utf8(self.file(partition, name)?).map_err(io::Error::other)
    }

    fn partition(&self, number: u32) -> io::Result<Partition<'_>> {
        let table = self.sector(0)?;
        let index = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        let entry = index.filter(|index| *index < 4).map(|index| &table[446 + 16 * index..][..16]);
        let entry = entry.ok_or_else(|| io::Error::other(format!("no partition {number}")))?;
        let number = |at: usize| {
            entry[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        Ok(Partition { file: &self.0, start: number(8) * 512, bytes: number(12) * 512, at: 0 })
    }
}

/// The bytes of a partition. It is never written.
struct Partition<'a> {
    file: &'a File,
    start: u64,
    bytes: u64,
    at: u64,
}

impl Read for Partition<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.bytes.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let length = into.len().min(left);
        let length = self.file.read_at(&mut into[..length], self.start + self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}

impl Write for Partition<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::Error::from(io::ErrorKind::ReadOnlyFilesystem))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Partition<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.bytes.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}
