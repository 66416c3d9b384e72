//! The keeper's side of a log: appends records, keeps the folder within its size.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{LogStream, record};

/// A log that is being written. Writing never fails and never waits for a reader: what does not
/// fit is lost, the oldest first.
#[derive(Debug)]
pub(crate) struct Ring {
    folder: PathBuf,
    segment_bytes: u64,
    segments: u64,
    number: u64,
    /// The youngest segment; none before the first line.
    file: Option<File>,
    written: u64,
    /// Records that are collected for one write.
    buffer: Vec<u8>,
}

impl Ring {
    /// A log in `folder`, which is made with the first line. No segments: nothing is kept.
    pub(crate) fn new(folder: PathBuf, segment_bytes: u64, segments: u32) -> Self {
        let segments = u64::from(segments);
        Self {
            folder,
            segment_bytes,
            segments,
            number: 0,
            file: None,
            written: 0,
            buffer: Vec::new(),
        }
    }

    /// Adds a line, or a part of one; it is written by [`Ring::flush`].
    pub(crate) fn add(&mut self, at: u64, stream: LogStream, line: &[u8], is_partial: bool) {
        record::append(&mut self.buffer, at, stream, line, is_partial);
        if self.buffer.len() as u64 >= self.segment_bytes {
            self.flush();
        }
    }

    /// Writes what was added.
    pub(crate) fn flush(&mut self) {
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.is_empty() || self.segments == 0 {
            return;
        }
        if self.write(&buffer).is_err() {
            // Memory is full: give back what this log has, and try once more.
            self.file = None;
            self.remove_segments_before(self.number + 1);
            if let Err(error) = self.write(&buffer) {
                tracing::warn!(folder = %self.folder.display(), %error, "a log lost lines");
                self.file = None;
            }
        }
    }

    /// Marks the end; a reader that follows stops there.
    pub(crate) fn end(&mut self, at: u64) {
        record::append_end(&mut self.buffer, at);
        self.flush();
        self.file = None;
    }

    fn write(&mut self, buffer: &[u8]) -> io::Result<()> {
        if self.file.is_none() || self.written >= self.segment_bytes {
            self.open_next()?;
        }
        let Some(file) = self.file.as_mut() else { return Ok(()) };
        file.write_all(buffer)?;
        self.written += buffer.len() as u64;
        Ok(())
    }

    fn open_next(&mut self) -> io::Result<()> {
        if self.number == 0 {
            fs::create_dir_all(&self.folder)?;
        }
        self.number += 1;
        self.file = Some(File::create_new(segment(&self.folder, self.number))?);
        self.written = 0;
        self.remove_segments_before((self.number + 1).saturating_sub(self.segments));
        Ok(())
    }

    fn remove_segments_before(&self, number: u64) {
        for old in (number.saturating_sub(self.segments + 1)..number).rev() {
            drop(fs::remove_file(segment(&self.folder, old)));
        }
    }
}

/// The path of a segment; names sort as numbers do.
pub(super) fn segment(folder: &Path, number: u64) -> PathBuf {
    folder.join(format!("{number:010}"))
}

/// The numbers of the segments that are there, ascending.
pub(super) fn numbers(folder: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(folder)? {
        if let Some(number) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            numbers.push(number);
        }
    }
    numbers.sort_unstable();
    Ok(numbers)
}
