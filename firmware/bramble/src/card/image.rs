//! Images as they are kept: raw, or compressed with zstd.

use std::{
    cell::Cell,
    fmt,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    rc::Rc,
};

use bramble_containers::images::Zstd;
use bramble_host::disk::IMAGE_WINDOW_LOG;

use super::medium::first_partition;

/// Bytes that are read at a time.
pub(crate) const PIECE: usize = 1 << 20;
/// Holes are left in copies at multiples of this.
const HOLE: usize = 64 << 10;
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// An image cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ImageError {
    /// It cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is something else.
    #[error("{path} is no card image: {reason}")]
    NoImage {
        /// Which.
        path: PathBuf,
        /// What is missing.
        reason: &'static str,
    },
    /// A copy of it cannot be written.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// An image, decoded while it is read.
pub(crate) struct Image {
    path: PathBuf,
    reader: Box<dyn Read>,
    /// Bytes of the file that were read so far.
    consumed: Rc<Cell<u64>>,
    file_length: u64,
    length: Option<u64>,
    /// The first sector, which was looked at already.
    first: Vec<u8>,
}

impl fmt::Debug for Image {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Image").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Image {
    /// Opens an image and looks whether it is one.
    pub(crate) fn open(path: &Path) -> Result<Self, ImageError> {
        let failed = |source| ImageError::Read { path: path.to_owned(), source };
        let mut file = File::open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        if !metadata.is_file() {
            return Err(ImageError::NoImage { path: path.to_owned(), reason: "it is no file" });
        }
        let is_compressed = is_compressed(&mut file).map_err(failed)?;
        let consumed = Rc::new(Cell::new(0));
        let counted = Counted { file, count: Rc::clone(&consumed) };
        let mut reader: Box<dyn Read> = match is_compressed {
            true => {
                let buffered = BufReader::with_capacity(PIECE, counted);
                Box::new(Zstd::with_window(buffered, 1 << IMAGE_WINDOW_LOG))
            }
            false => Box::new(counted),
        };
        let mut first = Vec::new();
        reader.by_ref().take(512).read_to_end(&mut first).map_err(failed)?;
        let sector = <&[u8; 512]>::try_from(first.as_slice()).map_err(|_| "it is too short");
        sector
            .and_then(first_partition)
            .map_err(|reason| ImageError::NoImage { path: path.to_owned(), reason })?;
        let length = (!is_compressed).then_some(metadata.len());
        let file_length = metadata.len();
        Ok(Self { path: path.to_owned(), reader, consumed, file_length, length, first })
    }

    /// Bytes of the card, if they are known before all is read.
    pub(crate) fn length(&self) -> Option<u64> {
        self.length
    }

    /// Bytes of the file, compressed as it may be.
    pub(crate) fn file_length(&self) -> u64 {
        self.file_length
    }

    /// How many of them were read.
    pub(crate) fn consumed(&self) -> u64 {
        self.consumed.get()
    }

    /// Fills `piece` with what comes next; fewer bytes only at the end.
    pub(crate) fn read(&mut self, piece: &mut [u8]) -> Result<usize, ImageError> {
        let mut filled = self.first.len().min(piece.len());
        piece[..filled].copy_from_slice(&self.first[..filled]);
        self.first.drain(..filled);
        while filled < piece.len() {
            match self.reader.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(ImageError::Read { path: self.path.clone(), source }),
            }
        }
        Ok(filled)
    }

    /// Writes the image, decoded, to a new file with holes in place of zeros. `tell` hears how many
    /// bytes of the image's file were read.
    pub(crate) fn copy_to(
        mut self,
        out: &Path,
        mut tell: impl FnMut(u64),
    ) -> Result<(), ImageError> {
        let failed = |source| ImageError::Write { path: out.to_owned(), source };
        let mut file = File::create(out).map_err(failed)?;
        let mut piece = vec![0; PIECE];
        let mut length = 0;
        loop {
            let count = self.read(&mut piece)?;
            for part in piece[..count].chunks(HOLE) {
                if part.iter().all(|byte| *byte == 0) {
                    let hole = i64::try_from(part.len()).unwrap_or(0);
                    file.seek(SeekFrom::Current(hole)).map_err(failed)?;
                } else {
                    file.write_all(part).map_err(failed)?;
                }
            }
            length += count as u64;
            tell(self.consumed());
            if count < piece.len() {
                break;
            }
        }
        file.set_len(length).and_then(|()| file.sync_all()).map_err(failed)
    }
}

/// Whether the file is compressed with zstd.
pub(crate) fn is_compressed(file: &mut File) -> io::Result<bool> {
    let mut magic = Vec::new();
    Read::by_ref(file).take(ZSTD_MAGIC.len() as u64).read_to_end(&mut magic)?;
    file.rewind()?;
    Ok(magic == ZSTD_MAGIC)
}

struct Counted {
    file: File,
    count: Rc<Cell<u64>>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.count.set(self.count.get() + count as u64);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A card's first sector in a zstd frame with a window of that many bytes, as a power of two.
    fn frame(window_log: u8) -> tempfile::NamedTempFile {
        let mut sector = vec![0; 512];
        sector[450] = 0x0c;
        sector[454..462].copy_from_slice(&[8, 0, 0, 0, 8, 0, 0, 0]);
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        // The last block, not compressed, of 512 bytes.
        let head = [&ZSTD_MAGIC[..], &[0, (window_log - 10) << 3, 0x01, 0x10, 0]];
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), [&head.concat()[..], &sector].concat()).expect("it is written");
        file
    }

    #[test]
    fn a_compressed_image_may_remember_as_much_as_image_builders_do_and_no_more() {
        let log = u8::try_from(IMAGE_WINDOW_LOG).expect("a small number");
        let file = frame(log);
        let mut sector = vec![0; 1024];
        let count = Image::open(file.path()).and_then(|mut image| image.read(&mut sector));
        assert_eq!(count.expect("it is read"), 512);
        let refused = Image::open(frame(log + 1).path());
        assert!(matches!(refused, Err(ImageError::Read { .. })), "{refused:?}");
    }
}
