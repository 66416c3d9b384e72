//! One file of the log: frames one after another in pre-allocated space.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::consensus::log::{
    LogError,
    record::{self, Body, Change, HEAD_BYTES},
};

/// A segment is full when the next frame would end beyond this. A larger frame gets a segment of
/// its own.
pub(crate) const SEGMENT_BYTES: u64 = 4 * 1024 * 1024;
/// Space is allocated in steps of this, filled with zeros: a small cluster's log stays small, and
/// a flush inside allocated space has no file size or extent to write besides the data.
pub(crate) const ALLOCATION_BYTES: u64 = 256 * 1024;

const SUFFIX: &str = "log";
const UNFINISHED_SUFFIX: &str = "new";

/// A segment that can be written.
#[derive(Debug)]
pub(crate) struct Segment {
    /// Its place in the order of segments; also its name.
    pub(crate) number: u64,
    /// The file. Shared with readers, who may outlive the segment.
    pub(crate) file: Arc<File>,
    path: PathBuf,
    end: u64,
    allocated: u64,
}

/// A segment as it was found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Each frame's offset and changes.
    pub(crate) frames: Vec<(u64, Vec<(usize, Change)>)>,
    /// How many bytes after the last sound frame are not zero: the remains of a write that was
    /// never acknowledged.
    pub(crate) torn_bytes: u64,
    /// The segment, ready to be written after its last sound frame.
    pub(crate) segment: Segment,
}

impl Segment {
    /// Makes a segment whose first frame is `body`. It appears whole or not at all.
    pub(crate) fn create(folder: &Path, number: u64, body: Body) -> Result<Self, LogError> {
        let path = path_of(folder, number, SUFFIX);
        let unfinished = path_of(folder, number, UNFINISHED_SUFFIX);
        let failed = |action| {
            let path = unfinished.clone();
            move |source| LogError::File { action, path, source }
        };
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&unfinished)
            .map_err(failed("create"))?;
        let mut segment =
            Self { number, file: Arc::new(file), path: unfinished.clone(), end: 0, allocated: 0 };
        segment.append(body)?;
        segment.flush()?;
        fs::rename(&unfinished, &path).map_err(failed("rename"))?;
        sync_folder(folder)?;
        segment.path = path;
        Ok(segment)
    }

    /// Reads a segment and finds its end. A frame that is not sound ends it, unless a sound one
    /// follows: frames are written one at a time, each after the flush of the one before, so only
    /// the last may be torn, and anything else is damage.
    pub(crate) fn open(folder: &Path, number: u64) -> Result<Scan, LogError> {
        let path = path_of(folder, number, SUFFIX);
        let failed = |action| {
            let path = path.clone();
            move |source| LogError::File { action, path, source }
        };
        let file = File::options().read(true).write(true).open(&path).map_err(failed("open"))?;
        let bytes = fs::read(&path).map_err(failed("read"))?;
        let mut frames = Vec::new();
        let mut end = 0;
        while let Some(body) = record::frame_at(&bytes, number, end) {
            let changes = record::changes(body)
                .ok_or_else(|| LogError::Damaged { path: path.clone(), offset: end as u64 })?;
            frames.push((end as u64, changes));
            end += HEAD_BYTES + body.len();
        }
        let tail = &bytes[end..];
        let torn_bytes = tail.iter().filter(|byte| **byte != 0).count() as u64;
        if torn_bytes > 0 && has_sound_frame(&bytes, number, end) {
            return Err(LogError::Damaged { path, offset: end as u64 });
        }
        let allocated = bytes.len() as u64;
        let segment = Self { number, file: Arc::new(file), path, end: end as u64, allocated };
        Ok(Scan { frames, torn_bytes, segment })
    }

    /// Whether a frame of this many bytes fits without growing beyond a segment's size.
    pub(crate) fn has_room_for(&self, bytes: usize) -> bool {
        self.end + bytes as u64 <= SEGMENT_BYTES
    }

    /// Writes a frame and says where. Not durable before [`Self::flush`].
    pub(crate) fn append(&mut self, body: Body) -> Result<u64, LogError> {
        let offset = self.end;
        let frame = body.into_frame(self.number, offset);
        let end = offset + frame.len() as u64;
        if end > self.allocated {
            self.allocate(end.next_multiple_of(ALLOCATION_BYTES))?;
        }
        self.file.write_all_at(&frame, offset).map_err(|source| self.failed("write", source))?;
        self.end = end;
        Ok(offset)
    }

    /// Returns once all that was written is on the disk.
    pub(crate) fn flush(&self) -> Result<(), LogError> {
        self.file.sync_data().map_err(|source| self.failed("flush", source))
    }

    /// Overwrites what follows the last sound frame with zeros.
    pub(crate) fn cut(&self) -> Result<(), LogError> {
        self.zero(self.end, self.allocated)?;
        self.flush()
    }

    /// Removes the file.
    pub(crate) fn remove(folder: &Path, number: u64) -> Result<(), LogError> {
        let path = path_of(folder, number, SUFFIX);
        fs::remove_file(&path).map_err(|source| LogError::File { action: "remove", path, source })
    }

    fn allocate(&mut self, size: u64) -> Result<(), LogError> {
        self.zero(self.allocated, size)?;
        self.allocated = size;
        Ok(())
    }

    fn zero(&self, mut from: u64, to: u64) -> Result<(), LogError> {
        const ZEROS: [u8; 16 * 1024] = [0; 16 * 1024];
        while from < to {
            let length = usize::try_from(to - from).unwrap_or(usize::MAX).min(ZEROS.len());
            self.file
                .write_all_at(&ZEROS[..length], from)
                .map_err(|source| self.failed("allocate", source))?;
            from += length as u64;
        }
        Ok(())
    }

    fn failed(&self, action: &'static str, source: io::Error) -> LogError {
        LogError::File { action, path: self.path.clone(), source }
    }
}

/// The numbers of the segments in a folder, in order. Unfinished ones are removed.
pub(crate) fn list(folder: &Path) -> Result<Vec<u64>, LogError> {
    let failed = |source| LogError::File { action: "list", path: folder.to_owned(), source };
    let mut numbers = Vec::new();
    for found in fs::read_dir(folder).map_err(failed)? {
        let path = found.map_err(failed)?.path();
        let number = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .filter(|stem| stem.len() == 16)
            .and_then(|stem| u64::from_str_radix(stem, 16).ok());
        match (number, path.extension().and_then(|suffix| suffix.to_str())) {
            (Some(number), Some(SUFFIX)) => numbers.push(number),
            (Some(_), Some(UNFINISHED_SUFFIX)) => {
                fs::remove_file(&path).map_err(|source| LogError::File {
                    action: "remove",
                    path: path.clone(),
                    source,
                })?;
            }
            _ => {}
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// The path of a segment.
pub(crate) fn path(folder: &Path, number: u64) -> PathBuf {
    path_of(folder, number, SUFFIX)
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), LogError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|source| LogError::File {
        action: "flush",
        path: folder.to_owned(),
        source,
    })
}

fn path_of(folder: &Path, number: u64, suffix: &str) -> PathBuf {
    folder.join(format!("{number:016x}.{suffix}"))
}

fn has_sound_frame(bytes: &[u8], number: u64, from: usize) -> bool {
    (from..bytes.len()).any(|offset| record::frame_at(bytes, number, offset).is_some())
}
