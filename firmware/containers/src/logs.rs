//! Logs: what containers write, with its time, in a ring of bounded size.
//!
//! The keeper writes (`ring`), the daemon reads ([`LogReader`]); they share nothing but files.
//! A ring is a folder of segments with growing numbers; the oldest is removed when a new one would
//! be too many. A segment is a sequence of records (`record`).

mod follow;
mod lines;
mod reader;
mod record;
mod ring;

use std::{io, path::PathBuf};

pub use self::reader::LogReader;
pub(crate) use self::{lines::Lines, ring::Ring};

/// Bytes of one entry at most; longer lines become several entries.
pub const LINE_BYTES: usize = 16 * 1024;

/// Something that a container wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    /// When, in nanoseconds since the Unix epoch, by the board's clock.
    pub at_nanoseconds: u64,
    /// Where to.
    pub stream: LogStream,
    /// A line without its end, or a part of one.
    pub line: Vec<u8>,
    /// Whether the line goes on in the next entry of this stream.
    pub is_partial: bool,
}

/// Where a container wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Its standard output.
    Output,
    /// Its standard error.
    Error,
}

/// Which part of a log to read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogQuery {
    /// Whether to wait for more until the container ends.
    pub follow: bool,
    /// Only the last so many entries of what is there now.
    pub tail: Option<usize>,
    /// Only entries of this time or later, in nanoseconds since the Unix epoch.
    pub since_nanoseconds: Option<u64>,
    /// Only entries before this time.
    pub until_nanoseconds: Option<u64>,
}

/// A log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The container is not there, or not created by this version.
    #[error("there is no log at {path}")]
    NotFound {
        /// Where it should be.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("cannot read the log at {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}
