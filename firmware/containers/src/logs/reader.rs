//! The daemon's side of a log.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{
    LogEntry, LogError, LogQuery,
    follow::Watch,
    record::{self, Found},
    ring::{numbers, segment},
};

/// Bytes that are read at once.
const CHUNK: usize = 64 * 1024;

/// Reads a log, entry by entry.
#[derive(Debug)]
pub struct LogReader {
    folder: PathBuf,
    query: LogQuery,
    /// The segment that is being read, its number, and what of it is not parsed yet.
    file: Option<File>,
    number: u64,
    buffer: Vec<u8>,
    position: usize,
    /// Entries that were read ahead, to find the last ones.
    ahead: VecDeque<LogEntry>,
    watch: Option<Watched>,
    has_ended: bool,
}

/// What is watched: the log's folder, or its bundle while that has none.
#[derive(Debug)]
enum Watched {
    Folder(Watch),
    Bundle(Watch),
}

impl LogReader {
    /// Opens the log in a folder of a bundle. The folder may not be there yet, its bundle must.
    pub fn open(folder: &Path, query: LogQuery) -> Result<Self, LogError> {
        if !folder.parent().is_some_and(Path::is_dir) {
            return Err(LogError::NotFound { path: folder.to_owned() });
        }
        let mut reader = Self {
            folder: folder.to_owned(),
            query,
            file: None,
            number: 0,
            buffer: Vec::new(),
            position: 0,
            ahead: VecDeque::new(),
            watch: None,
            has_ended: false,
        };
        if let Some(tail) = query.tail {
            while let Some(entry) = reader.next_now()? {
                reader.ahead.push_back(entry);
                if reader.ahead.len() > tail {
                    reader.ahead.pop_front();
                }
            }
        }
        Ok(reader)
    }

    /// The next entry. When following, waits for one; `None` says that nothing more will come.
    pub async fn next(&mut self) -> Result<Option<LogEntry>, LogError> {
        if let Some(entry) = self.ahead.pop_front() {
            return Ok(Some(entry));
        }
        loop {
            if let Some(entry) = self.next_now()? {
                return Ok(Some(entry));
            }
            if self.has_ended || !self.query.follow || !self.bundle().is_dir() {
                return Ok(None);
            }
            self.wait().await?;
        }
    }

    /// The next entry that is there now.
    pub fn next_now(&mut self) -> Result<Option<LogEntry>, LogError> {
        loop {
            let Some(entry) = self.next_record().map_err(|source| self.fail(source))? else {
                return Ok(None);
            };
            let is_early =
                self.query.since_nanoseconds.is_some_and(|since| entry.at_nanoseconds < since);
            let is_late =
                self.query.until_nanoseconds.is_some_and(|until| entry.at_nanoseconds >= until);
            if is_late {
                self.has_ended = true;
                return Ok(None);
            }
            if !is_early {
                return Ok(Some(entry));
            }
        }
    }

    fn next_record(&mut self) -> io::Result<Option<LogEntry>> {
        while !self.has_ended {
            match record::read(&self.buffer[self.position..]) {
                Found::Entry(entry, length) => {
                    self.position += length;
                    return Ok(Some(entry));
                }
                Found::End => self.has_ended = true,
                Found::Incomplete | Found::Malformed if self.fill()? => {}
                // A record that never was completed ends with its segment.
                Found::Incomplete | Found::Malformed => {
                    if !self.open_next()? {
                        return Ok(None);
                    }
                }
            }
        }
        Ok(None)
    }

    /// Reads more of this segment; says whether there was more.
    fn fill(&mut self) -> io::Result<bool> {
        let Some(file) = &mut self.file else { return Ok(false) };
        self.buffer.drain(..self.position);
        self.position = 0;
        let length = self.buffer.len();
        self.buffer.resize(length + CHUNK, 0);
        let read = file.read(&mut self.buffer[length..]);
        self.buffer.truncate(length + read.as_ref().copied().unwrap_or(0));
        Ok(read? > 0)
    }

    /// Goes on with the next segment; says whether there is one.
    fn open_next(&mut self) -> io::Result<bool> {
        let numbers = match numbers(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            result => result?,
        };
        let current = self.number;
        for number in numbers.into_iter().filter(|number| *number > current) {
            // The writer finished this segment before it made the next: look once more.
            if self.fill()? {
                return Ok(true);
            }
            match File::open(segment(&self.folder, number)) {
                Ok(file) => {
                    (self.file, self.number) = (Some(file), number);
                    (self.buffer, self.position) = (Vec::new(), 0);
                    return Ok(true);
                }
                // Rotated away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Waits until something may have come.
    async fn wait(&mut self) -> Result<(), LogError> {
        let has_folder = self.folder.is_dir();
        let fail = |path: PathBuf| move |source| LogError::Read { path, source };
        match &self.watch {
            // Removed with its container. A segment that is gone and has no successor says so too,
            // and first: while it is open here, the kernel does not tell of its folder's end.
            Some(Watched::Folder(_)) if !has_folder || self.is_removed() => self.has_ended = true,
            Some(Watched::Folder(watch)) => {
                watch.changed().await.map_err(fail(self.folder.clone()))?;
            }
            Some(Watched::Bundle(watch)) if !has_folder => {
                watch.changed().await.map_err(fail(self.bundle().to_owned()))?;
            }
            // Look again after a watch begins: what came in between woke nobody.
            Some(Watched::Bundle(_)) | None => {
                let path = if has_folder { &self.folder } else { self.bundle() };
                match Watch::new(path) {
                    Ok(watch) if has_folder => self.watch = Some(Watched::Folder(watch)),
                    Ok(watch) => self.watch = Some(Watched::Bundle(watch)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => self.has_ended = true,
                    Err(error) => return Err(fail(path.to_owned())(error)),
                }
            }
        }
        Ok(())
    }

    fn is_removed(&self) -> bool {
        let metadata = self.file.as_ref().and_then(|file| file.metadata().ok());
        let is_unlinked = metadata.is_some_and(|metadata| metadata.nlink() == 0);
        let is_newer = |number: &u64| *number > self.number;
        is_unlinked && !numbers(&self.folder).is_ok_and(|numbers| numbers.iter().any(is_newer))
    }

    fn bundle(&self) -> &Path {
        self.folder.parent().unwrap_or(&self.folder)
    }

    fn fail(&self, source: io::Error) -> LogError {
        LogError::Read { path: self.folder.clone(), source }
    }
}

#[cfg(test)]
mod tests;
