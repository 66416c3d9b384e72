//! Writing an image to a disk and reading it back.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use nix::fcntl::{OFlag, PosixFadviseAdvice, posix_fadvise};
use ring::digest::{Context, Digest, SHA256};

use super::{
    disk::Disk,
    image::{Image, ImageError, PIECE},
};

/// Bytes after which the disk must have what it was given, so that the progress is true.
const FLUSH_EVERY: u64 = 16 << 20;
/// What reads past the cache must be aligned to.
const ALIGNMENT: usize = 4_096;

/// The disk does not hold the image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The disk cannot be opened.
    #[error("cannot open {path}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk is too small.
    #[error("{path} is too small: it has {size} bytes, the image {needed}")]
    TooSmall {
        /// Which.
        path: PathBuf,
        /// Bytes that it has.
        size: u64,
        /// Bytes that it would need, as far as is known.
        needed: u64,
    },
    /// The disk took no more.
    #[error("{path} failed at byte {at}; it does not hold the image")]
    Write {
        /// Which.
        path: PathBuf,
        /// Where.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It cannot be read back.
    #[error("{path} cannot be read back at byte {at}; it is worn out or was taken out")]
    ReadBack {
        /// Which.
        path: PathBuf,
        /// Where.
        at: u64,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// What is read is not what was written.
    #[error("{path} does not hold what was written to it: it is worn out or a counterfeit")]
    Differs {
        /// Which.
        path: PathBuf,
    },
}

/// How far the work has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many bytes of the image's file are on the disk.
    Written(u64),
    /// So many bytes of so many were read back and are right.
    ReadBack(u64, u64),
}

/// Writes the image to the disk, reads it back and compares.
///
/// Returns how many bytes were written.
pub(crate) fn write(
    mut image: Image,
    path: &Path,
    disk: &Disk,
    mut tell: impl FnMut(Step),
) -> Result<u64, WriteError> {
    let too_small =
        |needed| WriteError::TooSmall { path: path.to_owned(), size: disk.size, needed };
    if let Some(needed) = image.length().filter(|needed| *needed > disk.size) {
        return Err(too_small(needed));
    }
    // Exclusively: the kernel refuses if it was mounted since we looked, and others while we write.
    let mut device = open(path, OpenOptions::new().write(true), OFlag::O_EXCL)?;
    let mut sum = Context::new(&SHA256);
    let mut piece = vec![0; PIECE];
    let (mut at, mut flushed) = (0, 0);
    loop {
        let count = image.read(&mut piece)?;
        let failed = |at| move |source| WriteError::Write { path: path.to_owned(), at, source };
        if at + count as u64 > disk.size {
            return Err(too_small(at + count as u64));
        }
        sum.update(&piece[..count]);
        device.write_all(&piece[..count]).map_err(failed(at))?;
        at += count as u64;
        if at - flushed >= FLUSH_EVERY || count < piece.len() {
            device.sync_all().map_err(failed(at))?;
            flushed = at;
            tell(Step::Written(image.consumed()));
        }
        if count < piece.len() {
            break;
        }
    }
    let found = read_back(path, &device, at, &mut tell)?;
    match found.as_ref() == sum.finish().as_ref() {
        true => Ok(at),
        false => Err(WriteError::Differs { path: path.to_owned() }),
    }
}

/// The sum of the first `length` bytes of the disk, read past the cache.
fn read_back(
    path: &Path,
    written: &File,
    length: u64,
    tell: &mut impl FnMut(Step),
) -> Result<Digest, WriteError> {
    let failed = |at| move |source| WriteError::ReadBack { path: path.to_owned(), at, source };
    // What the cache still holds says nothing of the disk.
    posix_fadvise(written, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)
        .map_err(|error| failed(0)(error.into()))?;
    let mut options = OpenOptions::new();
    options.read(true);
    let mut device = match open(path, &mut options, OFlag::O_DIRECT) {
        Ok(device) => device,
        // Some devices cannot be read past the cache, which was emptied.
        Err(_) => open(path, &mut options, OFlag::empty())?,
    };
    let mut memory = vec![0; PIECE + ALIGNMENT];
    let offset = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
    let piece = &mut memory[offset..offset + PIECE];
    let mut sum = Context::new(&SHA256);
    let mut at = 0;
    while at < length {
        let count = device.read(piece).map_err(failed(at))?;
        if count == 0 {
            return Err(failed(at)(io::ErrorKind::UnexpectedEof.into()));
        }
        let wanted = usize::try_from(length - at).unwrap_or(usize::MAX).min(count);
        sum.update(&piece[..wanted]);
        at += wanted as u64;
        tell(Step::ReadBack(at, length));
    }
    Ok(sum.finish())
}

fn open(path: &Path, options: &mut OpenOptions, flags: OFlag) -> Result<File, WriteError> {
    let opened = options.custom_flags(flags.bits()).open(path);
    opened.map_err(|source| WriteError::Open { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
