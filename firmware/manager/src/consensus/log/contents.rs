//! What the log holds, in memory: every item's position and place, and the newest items whole.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    sync::Arc,
};

use crate::consensus::{
    log::{
        record::{self, Change, HEAD_BYTES, Summary},
        segment::{Scan, Segment},
    },
    types::{Item, Position},
};

/// The newest items are kept in memory up to this many bytes; replication reads those.
const CACHE_BYTES: usize = 512 * 1024;

/// The log's items and what else it remembers. The same methods serve the running log and its
/// replay at start-up.
#[derive(Debug)]
pub(crate) struct Contents {
    /// Vote and ends.
    pub(crate) summary: Summary,
    /// The last item known to be committed.
    pub(crate) committed: Option<Position>,
    /// The index of the first of `slots`.
    first: u64,
    slots: VecDeque<Slot>,
    /// The index from which on items are cached.
    first_cached: u64,
    cached_bytes: usize,
    total_bytes: usize,
    tickets: u64,
    segments: BTreeMap<u64, Extent>,
    /// Items up to here are missing, because their segments were removed: a purge that says so
    /// must follow.
    missing_to: Option<Position>,
}

#[derive(Debug)]
struct Slot {
    position: Position,
    bytes: usize,
    ticket: u64,
    place: Option<Place>,
    cached: Option<Arc<Item>>,
}

#[derive(Debug)]
struct Extent {
    file: Arc<File>,
    last_index: Option<u64>,
}

/// Names an item that waits to be written. Positions do not: a truncated one is used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ticket {
    index: u64,
    ticket: u64,
}

/// Where an item is on the disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// The segment.
    pub(crate) segment: u64,
    /// Where its frame begins.
    pub(crate) frame: u64,
    /// Where in the frame's body it begins.
    pub(crate) at: usize,
}

/// An item, or where to find it.
#[derive(Debug)]
pub(crate) enum Stored {
    /// In memory.
    Cached(Arc<Item>),
    /// On the disk.
    Written(Arc<File>, Place, Position),
}

impl Contents {
    /// Of a log that begins with a segment that says `summary`.
    pub(crate) fn new(summary: Summary, segment: &Segment) -> Self {
        let first = summary.last.map_or(0, |last| last.index + 1);
        let mut contents = Self {
            summary,
            committed: None,
            first,
            slots: VecDeque::new(),
            first_cached: first,
            cached_bytes: 0,
            total_bytes: 0,
            tickets: 0,
            segments: BTreeMap::new(),
            missing_to: summary.last.filter(|_| summary.last != summary.purged),
        };
        contents.add_segment(segment);
        contents
    }

    /// Adds a segment that is written from now on.
    pub(crate) fn add_segment(&mut self, segment: &Segment) {
        let extent = Extent { file: Arc::clone(&segment.file), last_index: None };
        self.segments.insert(segment.number, extent);
    }

    /// The segments in use.
    pub(crate) fn segment_numbers(&self) -> BTreeSet<u64> {
        self.segments.keys().copied().collect()
    }

    /// Whether every item between the ends is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.missing_to <= self.summary.purged
    }

    /// Bytes of the items.
    pub(crate) fn live_bytes(&self) -> usize {
        self.total_bytes
    }

    /// Adds an item at the end.
    pub(crate) fn append(&mut self, item: Item, bytes: usize) -> io::Result<Ticket> {
        let position = item.position;
        let expected = self.first + self.slots.len() as u64;
        if self.slots.is_empty() && position.index >= expected {
            self.first = position.index;
            self.first_cached = position.index;
        } else if position.index != expected {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("item {position} would leave a hole in the log after {}", expected - 1),
            ));
        }
        self.tickets += 1;
        let ticket = self.tickets;
        let cached = Some(Arc::new(item));
        self.slots.push_back(Slot { position, bytes, ticket, place: None, cached });
        self.cached_bytes += bytes;
        self.total_bytes += bytes;
        self.summary.last = Some(position);
        Ok(Ticket { index: position.index, ticket })
    }

    /// Drops the items after a position.
    pub(crate) fn truncate_after(&mut self, position: Option<Position>) {
        let kept = position.map_or(0, |position| position.index + 1);
        while self.slots.back().is_some_and(|slot| slot.position.index >= kept) {
            if let Some(slot) = self.slots.pop_back() {
                self.release(&slot);
            }
        }
        if self.slots.is_empty() {
            self.first = self.first.min(kept);
        }
        self.first_cached = self.first_cached.min(self.first + self.slots.len() as u64);
        self.missing_to = self.missing_to.min(position.or_else(|| Some(Position::default())));
        self.summary.last = self.slots.back().map(|slot| slot.position).or(position);
    }

    /// Drops the items up to a position.
    pub(crate) fn purge(&mut self, position: Position) {
        while self.slots.front().is_some_and(|slot| slot.position.index <= position.index) {
            if let Some(slot) = self.slots.pop_front() {
                self.release(&slot);
            }
            self.first += 1;
        }
        if self.slots.is_empty() {
            self.first = self.first.max(position.index + 1);
        }
        self.first_cached = self.first_cached.max(self.first);
        self.summary.purged = self.summary.purged.max(Some(position));
        self.summary.last = self.summary.last.max(Some(position));
    }

    /// Notes where items were written.
    pub(crate) fn written(&mut self, segment: u64, frame: u64, items: &[(usize, Ticket)]) {
        for (at, ticket) in items {
            let Some(offset) = ticket.index.checked_sub(self.first) else { continue };
            let slot = usize::try_from(offset).ok().and_then(|at| self.slots.get_mut(at));
            if let Some(slot) = slot.filter(|slot| slot.ticket == ticket.ticket) {
                slot.place = Some(Place { segment, frame, at: *at });
            }
        }
        if let (Some(extent), Some(last)) =
            (self.segments.get_mut(&segment), items.iter().map(|(_, it)| it.index).max())
        {
            extent.last_index = extent.last_index.max(Some(last));
        }
        self.shrink_cache();
    }

    /// The oldest segments whose items are all purged, but never the newest; they are forgotten.
    /// `purged` is what the disk says; what is true in memory may not be written yet.
    pub(crate) fn take_obsolete_segments(&mut self, purged: Option<Position>) -> Vec<u64> {
        let Some(purged) = purged else { return Vec::new() };
        let mut obsolete = Vec::new();
        while self.segments.len() > 1 {
            let Some(oldest) = self.segments.first_entry() else { break };
            if oldest.get().last_index.is_some_and(|last| last > purged.index) {
                break;
            }
            obsolete.push(*oldest.key());
            oldest.remove();
        }
        obsolete
    }

    /// Whether [`Self::take_obsolete_segments`] would find one.
    pub(crate) fn has_obsolete_segments(&self, purged: Option<Position>) -> bool {
        let Some(purged) = purged else { return false };
        self.segments.len() > 1
            && self
                .segments
                .values()
                .next()
                .is_some_and(|oldest| oldest.last_index.is_none_or(|last| last <= purged.index))
    }

    /// The items of a range, up to an amount of bytes, at least one.
    pub(crate) fn stored(&self, range: Range<u64>, most_bytes: usize) -> Vec<Stored> {
        let skipped = usize::try_from(range.start.saturating_sub(self.first));
        let mut bytes = 0_usize;
        let mut found = Vec::new();
        for slot in self.slots.iter().skip(skipped.unwrap_or(usize::MAX)) {
            bytes = bytes.saturating_add(slot.bytes);
            if slot.position.index >= range.end || (bytes > most_bytes && !found.is_empty()) {
                break;
            }
            found.push(match (&slot.cached, slot.place) {
                (Some(item), _) => Stored::Cached(Arc::clone(item)),
                (None, Some(place)) => match self.segments.get(&place.segment) {
                    Some(extent) => Stored::Written(Arc::clone(&extent.file), place, slot.position),
                    None => break,
                },
                (None, None) => break,
            });
        }
        found
    }

    fn release(&mut self, slot: &Slot) {
        self.total_bytes -= slot.bytes;
        if slot.cached.is_some() {
            self.cached_bytes -= slot.bytes;
        }
    }

    fn shrink_cache(&mut self) {
        while self.cached_bytes > CACHE_BYTES {
            let Some(offset) = self.first_cached.checked_sub(self.first) else { break };
            let slot = usize::try_from(offset).ok().and_then(|at| self.slots.get_mut(at));
            let Some(slot) = slot.filter(|slot| slot.place.is_some()) else { break };
            if slot.cached.take().is_some() {
                self.cached_bytes -= slot.bytes;
            }
            self.first_cached += 1;
        }
    }
}

/// Adds what a segment says to what those before it said; `None` if it does not continue them.
pub(crate) fn replay(before: Option<Contents>, scan: &Scan) -> Option<Contents> {
    let mut frames = scan.frames.iter();
    let (_, opening) = frames.next()?;
    let [(_, Change::Opened(summary))] = opening.as_slice() else { return None };
    let mut contents = match before {
        Some(mut contents) if contents.summary.era == summary.era => {
            let newest = contents.segments.keys().next_back();
            if contents.summary != *summary || newest.map(|it| it + 1) != Some(scan.segment.number)
            {
                return None;
            }
            contents.add_segment(&scan.segment);
            contents
        }
        Some(contents) if contents.summary.era > summary.era => return None,
        _ => Contents::new(*summary, &scan.segment),
    };
    for (offset, changes) in frames {
        let mut written = Vec::new();
        for (at, change) in changes {
            match change {
                Change::Opened(_) => return None,
                Change::Voted(ballot) => contents.summary.vote = Some(*ballot),
                Change::Appended(item) => {
                    let bytes = record::encode(&Change::Appended(item.clone())).ok()?.len();
                    written.push((*at, contents.append(item.clone(), bytes).ok()?));
                }
                Change::Truncated(position) => contents.truncate_after(*position),
                Change::Purged(position) => contents.purge(*position),
                Change::Committed(position) => contents.committed = Some(*position),
            }
        }
        contents.written(scan.segment.number, *offset, &written);
    }
    Some(contents)
}

/// Reads the items that are not in memory, checking each frame again.
pub(crate) fn fetch(stored: Vec<Stored>) -> io::Result<Vec<Item>> {
    let mut frame: Option<(u64, u64, Vec<u8>)> = None;
    let mut items = Vec::with_capacity(stored.len());
    for stored in stored {
        let (file, place, position) = match stored {
            Stored::Cached(item) => {
                items.push(Arc::unwrap_or_clone(item));
                continue;
            }
            Stored::Written(file, place, position) => (file, place, position),
        };
        let body = match &frame {
            Some((segment, offset, body))
                if (*segment, *offset) == (place.segment, place.frame) =>
            {
                body
            }
            _ => {
                let body = read_body(&file, place)?;
                &frame.insert((place.segment, place.frame, body)).2
            }
        };
        match record::change_at(body, place.at) {
            Some(Change::Appended(item)) if item.position == position => items.push(item),
            _ => return Err(damaged(place)),
        }
    }
    Ok(items)
}

fn read_body(file: &File, place: Place) -> io::Result<Vec<u8>> {
    let mut head = [0; HEAD_BYTES];
    file.read_exact_at(&mut head, place.frame)?;
    let length = u32::from_le_bytes([head[0], head[1], head[2], head[3]]) as usize;
    if length > record::BODY_BYTES {
        return Err(damaged(place));
    }
    let mut body = vec![0; length];
    file.read_exact_at(&mut body, place.frame + HEAD_BYTES as u64)?;
    if !record::is_sound(&head, &body, place.segment, place.frame) {
        return Err(damaged(place));
    }
    Ok(body)
}

fn damaged(place: Place) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("the log is damaged at byte {} of segment {:016x}", place.frame, place.segment),
    )
}
