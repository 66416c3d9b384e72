//! A tar archive, entry by entry, in bounded memory.
//!
//! The headers are read by the `tar` crate; its iterator is not used, because it takes a name of
//! any length into memory, and names in hostile archives are as long as the archive.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::{Limits, limits::OverLimit};

const BLOCK_BYTES: usize = 512;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EntryKind {
    File,
    HardLink,
    Symlink,
    CharDevice,
    BlockDevice,
    Folder,
    Fifo,
}

/// What an archive says of one of its entries; nothing of it was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) kind: EntryKind,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: u64,
    pub(super) mode: u32,
    pub(super) owner: u64,
    pub(super) group: u64,
    pub(super) seconds: i64,
    pub(super) nanoseconds: u32,
    pub(super) device: (u32, u32),
    pub(super) attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// It is not a tar archive, or a damaged one.
    #[error("it is not a tar archive, or is damaged: {reason} at byte {position}")]
    Malformed {
        /// What is wrong.
        reason: &'static str,
        /// Where the header in question begins.
        position: u64,
    },
    /// It has too much of something.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// It could not be read or decompressed.
    #[error("it cannot be read to its end")]
    Read(#[source] io::Error),
}

/// Reads entries; between two of them, [`Read`] gives the data of the last.
pub(super) struct TarReader<R> {
    source: R,
    entries: u64,
    entries_limit: u64,
    path_limit: usize,
    extras_limit: u64,
    position: u64,
    remaining: u64,
    padding: u64,
}

/// What the headers before an entry say of it.
#[derive(Default)]
struct Extras {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    owner: Option<u64>,
    group: Option<u64>,
    time: Option<(i64, u32)>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> TarReader<R> {
    pub(super) const fn new(source: R, entries_limit: u64, limits: &Limits) -> Self {
        Self {
            source,
            entries: 0,
            entries_limit,
            path_limit: limits.path_bytes,
            extras_limit: limits.extras_bytes,
            position: 0,
            remaining: 0,
            padding: 0,
        }
    }

    /// The stream behind the archive's end.
    pub(super) fn into_inner(self) -> R {
        self.source
    }

    /// The next entry; the rest of the last one's data is skipped.
    pub(super) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        let mut extras = Extras::default();
        let mut extras_room = self.extras_limit;
        loop {
            let Some(header) = self.read_header()? else { return Ok(None) };
            self.entries += 1;
            if self.entries > self.entries_limit {
                let what = "entries of an archive";
                return Err(OverLimit { what, limit: self.entries_limit }.into());
            }
            let size = number(&header.as_old().size, header.entry_size())
                .ok_or_else(|| self.malformed("bad size"))?;
            let kind = header.entry_type();
            if matches!(
                kind,
                EntryType::XHeader
                    | EntryType::XGlobalHeader
                    | EntryType::GNULongName
                    | EntryType::GNULongLink
            ) {
                extras_room = extras_room.checked_sub(size).ok_or(OverLimit {
                    what: "bytes of an entry's name and attributes",
                    limit: self.extras_limit,
                })?;
            }
            match kind {
                EntryType::XHeader => {
                    let records = self.read_extra(size)?;
                    self.parse_records(&records, &mut extras)?;
                }
                EntryType::XGlobalHeader => drop(self.read_extra(size)?),
                EntryType::GNULongName => extras.path = Some(self.read_long_name(size)?),
                EntryType::GNULongLink => extras.link = Some(self.read_long_name(size)?),
                _ => return self.entry(&header, size, extras).map(Some),
            }
        }
    }

    const fn malformed(&self, reason: &'static str) -> TarError {
        TarError::Malformed { reason, position: self.position }
    }

    /// Skips to the next header and reads it; `None` at the archive's end.
    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        let skip = self.remaining.saturating_add(self.padding);
        let skipped = io::copy(&mut self.source.by_ref().take(skip), &mut io::sink())
            .map_err(TarError::Read)?;
        if skipped < skip {
            return Err(self.malformed("it ends in the middle of an entry"));
        }
        self.position = self.position.saturating_add(skip);
        (self.remaining, self.padding) = (0, 0);
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        self.source
            .by_ref()
            .take(BLOCK_BYTES as u64)
            .read_to_end(&mut block)
            .map_err(TarError::Read)?;
        if block.is_empty() || (block.len() == BLOCK_BYTES && block.iter().all(|byte| *byte == 0)) {
            return Ok(None);
        }
        if block.len() < BLOCK_BYTES {
            return Err(self.malformed("it ends in the middle of a header"));
        }
        let header = Header::from_byte_slice(&block).clone();
        if header.cksum().ok() != Some(checksum(&block)) {
            return Err(self.malformed("the checksum of a header is wrong"));
        }
        self.position = self.position.saturating_add(BLOCK_BYTES as u64);
        Ok(Some(header))
    }

    /// The entry of `header`, and its data next.
    fn entry(&mut self, header: &Header, size: u64, extras: Extras) -> Result<Entry, TarError> {
        let path = extras.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let link = extras.link.unwrap_or_else(|| {
            header.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default()
        });
        let kind = match header.entry_type() {
            // Before POSIX, folders were files whose names end in a slash.
            EntryType::Regular if path.ends_with(b"/") => EntryKind::Folder,
            EntryType::Regular | EntryType::Continuous => EntryKind::File,
            EntryType::Link => EntryKind::HardLink,
            EntryType::Symlink => EntryKind::Symlink,
            EntryType::Char => EntryKind::CharDevice,
            EntryType::Block => EntryKind::BlockDevice,
            EntryType::Directory => EntryKind::Folder,
            EntryType::Fifo => EntryKind::Fifo,
            _ => return Err(self.malformed("an entry is of an unknown kind")),
        };
        if path.len() > self.path_limit || link.len() > self.path_limit {
            let what = "bytes of a path in an archive";
            return Err(OverLimit { what, limit: self.path_limit as u64 }.into());
        }
        // Only files have data, whatever the size of others says (so Docker's own reader has it).
        let size = if kind == EntryKind::File { extras.size.unwrap_or(size) } else { 0 };
        self.expect_data(size);
        let id = |field: &[u8], value| {
            number(field, value).ok_or_else(|| self.malformed("bad owner or group"))
        };
        let old = header.as_old();
        let header_time = header.mtime().ok().and_then(|seconds| i64::try_from(seconds).ok());
        let header_time = (header_time.unwrap_or(0), 0);
        let (seconds, nanoseconds) = extras.time.unwrap_or(header_time);
        let is_device = matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice);
        let device_number = |value: io::Result<Option<u32>>| match value {
            _ if !is_device => Ok(0),
            Ok(Some(number)) => Ok(number),
            _ => Err(self.malformed("bad device number")),
        };
        Ok(Entry {
            kind,
            path,
            link,
            size,
            mode: number(&old.mode, header.mode()).ok_or_else(|| self.malformed("bad mode"))?,
            owner: extras.owner.map_or_else(|| id(&old.uid, header.uid()), Ok)?,
            group: extras.group.map_or_else(|| id(&old.gid, header.gid()), Ok)?,
            seconds,
            nanoseconds,
            device: (device_number(header.device_major())?, device_number(header.device_minor())?),
            attributes: extras.attributes,
        })
    }

    const fn expect_data(&mut self, size: u64) {
        self.remaining = size;
        self.padding = (BLOCK_BYTES as u64 - size % BLOCK_BYTES as u64) % BLOCK_BYTES as u64;
    }

    /// Reads the data of a header that says something of the next entry.
    fn read_extra(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        self.expect_data(size);
        let mut bytes = Vec::new();
        self.read_to_end(&mut bytes).map_err(TarError::Read)?;
        Ok(bytes)
    }

    fn read_long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.read_extra(size)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// Reads pax records: `<length> <key>=<value>\n`, the length that of the whole record.
    fn parse_records(&self, mut rest: &[u8], extras: &mut Extras) -> Result<(), TarError> {
        let bad = || self.malformed("bad pax record");
        while !rest.is_empty() {
            let space = rest.iter().take(20).position(|byte| *byte == b' ').ok_or_else(bad)?;
            let length: usize = parse_number(&rest[..space]).ok_or_else(bad)?;
            let record = rest.get(space + 1..length).ok_or_else(bad)?;
            rest = &rest[length..];
            let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
            let (key, value) = (&record[..equals], &record[equals + 1..]);
            match key {
                b"path" => extras.path = Some(value.to_vec()),
                b"linkpath" => extras.link = Some(value.to_vec()),
                b"size" => extras.size = Some(parse_number(value).ok_or_else(bad)?),
                b"uid" => extras.owner = Some(parse_number(value).ok_or_else(bad)?),
                b"gid" => extras.group = Some(parse_number(value).ok_or_else(bad)?),
                b"mtime" => extras.time = Some(parse_time(value).ok_or_else(bad)?),
                _ if key.starts_with(b"GNU.sparse.") => {
                    return Err(self.malformed("sparse files are not supported"));
                }
                _ => {
                    if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                        extras.attributes.push((name.to_vec(), value.to_vec()));
                    }
                }
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.remaining).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.source.read(&mut buffer[..wanted])?;
        if count == 0 {
            let reason =
                "the archive ends in the middle of an entry: its size is a lie, or it is cut";
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
        }
        self.remaining -= count as u64;
        self.position = self.position.saturating_add(count as u64);
        Ok(count)
    }
}

/// A number in a header; a field that was left empty is a zero.
fn number<N: Default>(field: &[u8], value: io::Result<N>) -> Option<N> {
    let is_blank = |byte: &u8| matches!(byte, 0 | b' ');
    value.ok().or_else(|| field.iter().all(is_blank).then(N::default))
}

/// The sum of a header's bytes, its checksum field taken as spaces.
fn checksum(block: &[u8]) -> u32 {
    let is_checksum = |index: usize| (148..156).contains(&index);
    block
        .iter()
        .enumerate()
        .map(|(index, byte)| if is_checksum(index) { 32 } else { u32::from(*byte) })
        .sum()
}

fn parse_number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Seconds, with a sign and a fraction if need be.
fn parse_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    let nanoseconds: u32 = digits.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests;
