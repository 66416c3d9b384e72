//! A real disk, past the kernel's caches.

use std::{
    fs::{File, OpenOptions},
    io::{self, Seek, SeekFrom},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::{Advice, OFlags, fadvise};

use super::medium::Medium;

/// Memory that the kernel hands to the disk as it is begins at such a multiple.
const ALIGNMENT: usize = 4096;
/// Bytes that are moved at a time.
const PIECE: usize = 1 << 20;

/// A block device, or a file that holds a card's image.
#[derive(Debug)]
pub struct Disk {
    /// Reads and writes without a cache; `None` where nothing offers that.
    direct: Option<File>,
    cached: File,
    bytes: u64,
    buffer: Vec<u8>,
    start: usize,
}

impl Disk {
    /// Opens a disk for reading and writing.
    ///
    /// # Errors
    /// If it is not there, or may not be written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let cached = OpenOptions::new().read(true).write(true).open(path)?;
        let flags = i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?;
        let direct = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path).ok();
        Ok(Self { direct, ..Self::cached(cached)? })
    }

    /// A disk that somebody opened, for as much as it was opened for.
    ///
    /// # Errors
    /// If its length cannot be told.
    pub fn cached(mut file: File) -> io::Result<Self> {
        let bytes = file.seek(SeekFrom::End(0))?;
        let buffer = vec![0; PIECE + ALIGNMENT];
        let start = buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Ok(Self { direct: None, cached: file, bytes, buffer, start })
    }
}

impl Medium for Disk {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut at = offset;
        for piece in into.chunks_mut(PIECE) {
            let buffer = &mut self.buffer[self.start..self.start + piece.len()];
            let is_read = match &self.direct {
                Some(direct) => is_done(direct.read_exact_at(buffer, at))?,
                None => false,
            };
            if is_read {
                piece.copy_from_slice(buffer);
            } else {
                // What is cached and on the disk already is forgotten, and read anew.
                let _ = fadvise(&self.cached, at, None, Advice::DontNeed);
                self.cached.read_exact_at(piece, at)?;
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut at = offset;
        for piece in bytes.chunks(PIECE) {
            let buffer = &mut self.buffer[self.start..self.start + piece.len()];
            buffer.copy_from_slice(piece);
            let is_written = match &self.direct {
                Some(direct) => is_done(direct.write_all_at(buffer, at))?,
                None => false,
            };
            if !is_written {
                self.cached.write_all_at(piece, at)?;
            }
            at += piece.len() as u64;
        }
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.cached.sync_data()
    }
}

/// Whether the disk did it; a disk of larger sectors refuses small pieces without a cache.
fn is_done(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(3 << 20).unwrap();
        let mut disk = Disk::open(file.path()).unwrap();
        let bytes: Vec<u8> = (0..2_u32 << 20).map(|at| (at % 251) as u8).collect();
        disk.write(512, &bytes).unwrap();
        disk.sync().unwrap();
        let mut read = vec![0; bytes.len()];
        disk.read(512, &mut read).unwrap();
        assert_eq!(read, bytes);
        assert_eq!(disk.bytes(), 3 << 20);
        assert!(disk.read(3 << 20, &mut [0; 512]).is_err(), "past its end");
    }
}
