//! Records: 16 bytes of head, then the line.
//!
//! ```text
//! u32 length of the line | u8 stream | u8 flags | u16 0 | u64 nanoseconds since the epoch
//! ```
//! Little endian. A record may be written in parts: a reader waits for the rest.

use super::{LINE_BYTES, LogEntry, LogStream};

/// Bytes of a head.
pub(super) const HEAD: usize = 16;
const END: u8 = 0;
const OUTPUT: u8 = 1;
const ERROR: u8 = 2;
const PARTIAL: u8 = 1;

/// What a reader finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An entry, and how many bytes it took.
    Entry(LogEntry, usize),
    /// The container has ended; nothing follows.
    End,
    /// The bytes end within a record, or before one.
    Incomplete,
    /// These bytes are no record.
    Malformed,
}

/// Appends a record.
pub(super) fn append(buffer: &mut Vec<u8>, at: u64, stream: LogStream, line: &[u8], partial: bool) {
    let stream = match stream {
        LogStream::Output => OUTPUT,
        LogStream::Error => ERROR,
    };
    let line = &line[..line.len().min(LINE_BYTES)];
    head(buffer, line.len(), stream, if partial { PARTIAL } else { 0 }, at);
    buffer.extend_from_slice(line);
}

/// Appends the mark that nothing follows.
pub(super) fn append_end(buffer: &mut Vec<u8>, at: u64) {
    head(buffer, 0, END, 0, at);
}

fn head(buffer: &mut Vec<u8>, length: usize, stream: u8, flags: u8, at: u64) {
    buffer.extend_from_slice(&u32::try_from(length).unwrap_or(0).to_le_bytes());
    buffer.extend_from_slice(&[stream, flags, 0, 0]);
    buffer.extend_from_slice(&at.to_le_bytes());
}

/// Reads the record at the beginning of `bytes`.
pub(super) fn read(bytes: &[u8]) -> Found {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD>() else { return Found::Incomplete };
    let [l0, l1, l2, l3, stream, flags, _, _, at @ ..] = *head;
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    let stream = match stream {
        END => return Found::End,
        OUTPUT => LogStream::Output,
        ERROR => LogStream::Error,
        _ => return Found::Malformed,
    };
    if length > LINE_BYTES {
        return Found::Malformed;
    }
    let Some(line) = rest.get(..length) else { return Found::Incomplete };
    let entry = LogEntry {
        at_nanoseconds: u64::from_le_bytes(at),
        stream,
        line: line.to_vec(),
        is_partial: flags & PARTIAL != 0,
    };
    Found::Entry(entry, HEAD + length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_reads_back_as_itself_and_every_part_of_it_is_incomplete() {
        let mut bytes = Vec::new();
        append(&mut bytes, 77, LogStream::Error, b"hello", true);
        append_end(&mut bytes, 78);
        let Found::Entry(entry, taken) = read(&bytes) else { panic!("{bytes:?}") };
        assert_eq!((entry.at_nanoseconds, entry.stream), (77, LogStream::Error));
        assert_eq!((entry.line.as_slice(), entry.is_partial), (&b"hello"[..], true));
        assert_eq!(read(&bytes[taken..]), Found::End);
        for end in 0..taken {
            assert_eq!(read(&bytes[..end]), Found::Incomplete, "{end}");
        }
    }

    #[test]
    fn the_format_is_frozen() {
        let mut bytes = Vec::new();
        append(&mut bytes, 1, LogStream::Output, b"x", false);
        assert_eq!(bytes, [1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'x']);
    }

    #[test]
    fn nonsense_is_malformed() {
        assert_eq!(read(&[0xff; 64]), Found::Malformed);
        let mut bytes = Vec::new();
        append(&mut bytes, 1, LogStream::Output, b"x", false);
        bytes[2] = 1;
        assert_eq!(read(&bytes), Found::Malformed);
    }
}
