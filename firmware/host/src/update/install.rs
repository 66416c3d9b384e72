//! Writing an update into the slot that does not run.

use std::io::{self, BufReader, Read};

use bramble_cluster::Digest;
use flate2::bufread::GzDecoder;
use ring::digest::{Context, SHA256};
use semver::Version;

use super::{
    card::{Card, CardError},
    file::{Compression, Content, Header, ReadHeadError, read_head},
    medium::SECTOR,
    trust::Trust,
};
use crate::{board::Sources, slot::Slot};

/// Bytes that are written and read back at a time.
const PIECE: usize = 1 << 20;

/// What runs now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningSystem {
    /// Its slot; `None` if nobody told.
    pub slot: Option<Slot>,
    /// The boards it is for, see [`Header::board`].
    pub board: String,
    /// Its version.
    pub version: Version,
    /// The highest counter that this board has kept.
    pub counter: u64,
}

/// What is in a slot now, read back from the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// Where.
    pub slot: Slot,
    /// What.
    pub header: Header,
    /// How many bytes differed from what was there and were written.
    pub written: u64,
}

/// An update was not installed. The running slot and what boots next are as before.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The file is not acceptable.
    #[error(transparent)]
    Head(#[from] ReadHeadError),
    /// Nobody told which slot runs, so none can be written.
    #[error("it is not known which slot this board runs from, so none is written")]
    UnknownSlot,
    /// A trial is under way.
    #[error("slot {0} runs on trial: wait until it is kept, or reboot to give it up")]
    Trial(Slot),
    /// It is for other boards.
    #[error("the update is for {update} and this board is {board}")]
    OtherBoard {
        /// Those it is for.
        update: String,
        /// This one.
        board: String,
    },
    /// It is older than what runs.
    #[error(
        "the update is older than what runs: version {update} ({update_counter}) after {running} \
         ({running_counter}); boards never go back"
    )]
    Older {
        /// The update's version.
        update: Version,
        /// Its counter.
        update_counter: u64,
        /// The version that runs.
        running: Version,
        /// The highest counter kept.
        running_counter: u64,
    },
    /// The slot is too small, or its size is no number of sectors.
    #[error("the update has {update} bytes and a slot of this card {slot}")]
    Size {
        /// The update's.
        update: u64,
        /// The slot's.
        slot: u64,
    },
    /// The file broke off or cannot be unpacked.
    #[error("the update is incomplete or damaged")]
    Body(#[source] io::Error),
    /// What arrived is not what was signed.
    #[error("the update is damaged: what arrived is not what was signed")]
    Digest,
    /// The card cannot be used.
    #[error(transparent)]
    Card(#[from] CardError),
    /// The disk lost what was written.
    #[error("slot {0} reads back other bytes than were written: the card is failing, replace it")]
    ReadBack(Slot),
}

impl InstallError {
    /// Whether the update was refused for what it is, before a byte of it was written.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Head(_)
                | Self::UnknownSlot
                | Self::Trial(_)
                | Self::OtherBoard { .. }
                | Self::Older { .. }
                | Self::Size { .. }
        )
    }
}

/// The boards that an update must be for to suit this machine.
pub fn family(sources: &Sources) -> String {
    let compatible = std::fs::read(sources.proc.join("device-tree/compatible"));
    let is_pi = compatible.is_ok_and(|bytes| bytes.starts_with(b"raspberrypi,"));
    match std::env::consts::ARCH {
        "aarch64" if is_pi => "rpi".to_owned(),
        "aarch64" => "qemu-arm64".to_owned(),
        other => format!("qemu-{other}"),
    }
}

/// Installs an update into the slot that does not run. `tell` hears how many bytes of the slot are
/// done, of how many, twice: written, then read back.
///
/// # Errors
/// If the update is not acceptable or the card fails. What boots next is as before in any case.
pub fn install(
    file: &mut dyn Read,
    card: &mut Card,
    running: &RunningSystem,
    trust: &Trust,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Installed, InstallError> {
    let header = read_head(file, trust)?;
    let slot = admit(&header, card, running)?;
    let written = write(file, card, slot, &header, tell)?;
    card.medium().sync().map_err(CardError::Write)?;
    let read = digest(card, slot, header.slot.bytes, tell)?;
    if read != header.slot.sha256 {
        return Err(InstallError::ReadBack(slot));
    }
    Ok(Installed { slot, header, written })
}

/// The slot that an update may go into, if it may.
fn admit(header: &Header, card: &mut Card, running: &RunningSystem) -> Result<Slot, InstallError> {
    let slot = running.slot.ok_or(InstallError::UnknownSlot)?;
    if card.default_slot()? != slot {
        return Err(InstallError::Trial(slot));
    }
    if header.board != running.board {
        let (update, board) = (header.board.clone(), running.board.clone());
        return Err(InstallError::OtherBoard { update, board });
    }
    if header.version < running.version || header.counter < running.counter {
        return Err(InstallError::Older {
            update: header.version.clone(),
            update_counter: header.counter,
            running: running.version.clone(),
            running_counter: running.counter,
        });
    }
    let room = card.slot_bytes(slot.other());
    let bytes = header.slot.bytes;
    if bytes > room || bytes == 0 || !bytes.is_multiple_of(SECTOR) {
        return Err(InstallError::Size { update: bytes, slot: room });
    }
    Ok(slot.other())
}

/// Unpacks the body into the slot. What is there already is not written again: it spares the card.
fn write(
    file: &mut dyn Read,
    card: &mut Card,
    slot: Slot,
    header: &Header,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<u64, InstallError> {
    let Compression::Gzip = header.compression;
    let body = Hashed { reader: file.take(header.body.bytes), content: Measure::default() };
    let mut unpacked = GzDecoder::new(BufReader::with_capacity(64 << 10, body));
    let start = card.extent(slot).start;
    let (mut piece, mut there) = (vec![0; PIECE], vec![0; PIECE]);
    let (mut slot_content, mut written) = (Measure::default(), 0);
    while slot_content.bytes < header.slot.bytes {
        let left = usize::try_from(header.slot.bytes - slot_content.bytes).unwrap_or(PIECE);
        let length = left.min(PIECE);
        let (piece, there) = (&mut piece[..length], &mut there[..length]);
        unpacked.read_exact(piece).map_err(InstallError::Body)?;
        let at = start + slot_content.bytes;
        card.medium().read(at, there).map_err(CardError::Read)?;
        if piece != there {
            card.medium().write(at, piece).map_err(CardError::Write)?;
            written += piece.len() as u64;
        }
        slot_content.add(piece);
        tell(slot_content.bytes, header.slot.bytes);
    }
    // To its end: the unpacker's own checksum stands there, and nothing may follow.
    let more = unpacked.read(&mut [0]).map_err(InstallError::Body)?;
    let mut body = unpacked.into_inner();
    let rest = io::copy(&mut body, &mut io::sink()).map_err(InstallError::Body)?;
    let body = body.into_inner().content;
    if more != 0 || rest != 0 || slot_content.end() != header.slot || body.end() != header.body {
        return Err(InstallError::Digest);
    }
    Ok(written)
}

/// The digest of a slot's first bytes, as the disk has them.
fn digest(
    card: &mut Card,
    slot: Slot,
    bytes: u64,
    tell: &mut dyn FnMut(u64, u64),
) -> Result<Digest, InstallError> {
    let start = card.extent(slot).start;
    let mut piece = vec![0; PIECE];
    let mut content = Measure::default();
    while content.bytes < bytes {
        let left = usize::try_from(bytes - content.bytes).unwrap_or(PIECE);
        let piece = &mut piece[..left.min(PIECE)];
        card.medium().read(start + content.bytes, piece).map_err(CardError::Read)?;
        content.add(piece);
        tell(content.bytes, bytes);
    }
    Ok(content.end().sha256)
}

/// Counts and digests bytes.
struct Measure {
    bytes: u64,
    context: Context,
}

impl Default for Measure {
    fn default() -> Self {
        Self { bytes: 0, context: Context::new(&SHA256) }
    }
}

impl Measure {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.context.update(bytes);
    }

    fn end(self) -> Content {
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.context.finish().as_ref());
        Content { bytes: self.bytes, sha256: Digest::from_bytes(sha256) }
    }
}

/// Measures what is read through it.
struct Hashed<R> {
    reader: R,
    content: Measure,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let length = self.reader.read(into)?;
        self.content.add(&into[..length]);
        Ok(length)
    }
}
