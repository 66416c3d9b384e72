//! The bytes of the log: changes, gathered into frames.
//!
//! ```text
//! frame   = length: u32, checksum: u32, body            (little endian)
//! body    = version: u8 (1), change, change, ...        (postcard, back to back)
//! ```
//! One frame is one write and one flush: the changes in it become durable together or not at all.
//! The checksum covers the segment's number, the frame's offset and length, and the body, so that
//! bytes that were meant for another place are never taken for a frame. A length of zero is what
//! pre-allocated space reads as.

use bramble_cluster::NodeId;
use serde::{Deserialize, Serialize};

use crate::consensus::types::{Ballot, Item, Position};

/// Bytes before a frame's body.
pub(crate) const HEAD_BYTES: usize = 8;
/// Most bytes in a frame's body. Larger writes are refused before they reach the log.
pub(crate) const BODY_BYTES: usize = 64 * 1024 * 1024;
/// The version that this code writes. A body of another one is not understood.
const VERSION: u8 = 1;

/// One change of the log. Variants are only ever appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Change {
    /// The first change of every segment: what was true when it was begun.
    Opened(Summary),
    /// A vote was given.
    Voted(Ballot),
    /// An item was appended.
    Appended(Item),
    /// The items after a position were dropped (all of them, if `None`).
    Truncated(Option<Position>),
    /// The items up to a position are in a snapshot and were dropped.
    Purged(Position),
    /// The items up to a position are known to be committed. Written along with other changes,
    /// never for its own sake.
    Committed(Position),
}

/// All that is remembered besides the items themselves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Whose log this is; a log is of no use to another node.
    pub(crate) owner: NodeId,
    /// How often the log was emptied because its node ceased to be a voter.
    pub(crate) era: u64,
    /// The last vote given.
    pub(crate) vote: Option<Ballot>,
    /// The last item that was dropped because a snapshot has it.
    pub(crate) purged: Option<Position>,
    /// The last item, dropped ones included.
    pub(crate) last: Option<Position>,
}

/// A body under construction.
#[derive(Debug, Default)]
pub(crate) struct Body {
    bytes: Vec<u8>,
}

impl Body {
    /// Adds encoded changes and says where in the body they begin.
    pub(crate) fn push(&mut self, encoded: &[u8]) -> usize {
        if self.bytes.is_empty() {
            self.bytes.push(VERSION);
        }
        let at = self.bytes.len();
        self.bytes.extend_from_slice(encoded);
        at
    }

    /// How long it is so far.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was added.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The whole frame, for one place in one segment.
    pub(crate) fn into_frame(self, segment: u64, offset: u64) -> Vec<u8> {
        let body = self.bytes;
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut frame = Vec::with_capacity(HEAD_BYTES + body.len());
        frame.extend_from_slice(&length.to_le_bytes());
        frame.extend_from_slice(&checksum(segment, offset, &body).to_le_bytes());
        frame.extend_from_slice(&body);
        frame
    }
}

/// The bytes of one change.
pub(crate) fn encode(change: &Change) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_allocvec(change)
}

/// The body of the frame at `offset` of a segment's bytes, if there is a sound one.
pub(crate) fn frame_at(bytes: &[u8], segment: u64, offset: usize) -> Option<&[u8]> {
    let head: &[u8; HEAD_BYTES] = bytes.get(offset..offset + HEAD_BYTES)?.try_into().ok()?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length == 0 || length > BODY_BYTES {
        return None;
    }
    let body = bytes.get(offset + HEAD_BYTES..)?.get(..length)?;
    is_sound(head, body, segment, offset as u64).then_some(body)
}

/// Whether a frame's head fits its body and its place.
pub(crate) fn is_sound(head: &[u8; HEAD_BYTES], body: &[u8], segment: u64, offset: u64) -> bool {
    let expected = u32::from_le_bytes([head[4], head[5], head[6], head[7]]);
    body.first() == Some(&VERSION) && checksum(segment, offset, body) == expected
}

/// The changes of a sound body, each with where in the body it begins; `None` if they cannot be
/// read, which a checksum that fits makes a fault of the writer and not of the disk.
pub(crate) fn changes(body: &[u8]) -> Option<Vec<(usize, Change)>> {
    let mut rest = body.get(1..)?;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let at = body.len() - rest.len();
        let (change, after) = postcard::take_from_bytes(rest).ok()?;
        found.push((at, change));
        rest = after;
    }
    Some(found)
}

/// The change that begins at `at` of a body.
pub(crate) fn change_at(body: &[u8], at: usize) -> Option<Change> {
    postcard::take_from_bytes(body.get(at..)?).ok().map(|(change, _)| change)
}

fn checksum(segment: u64, offset: u64, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&segment.to_le_bytes());
    hasher.update(&offset.to_le_bytes());
    hasher.update(&u64::try_from(body.len()).unwrap_or(u64::MAX).to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}
