//! The write-ahead log: a node's votes and the items it has accepted, on its own disk.
//!
//! One thread writes. Whatever was asked of it while it flushed goes into the next frame (group
//! commit). What is appended can be read at once; whoever asked is told when it is durable.
//! Truncations, purges and what is known to be committed are written along with the next change
//! that has to be durable, and lose nothing if it never comes: so a cluster in which nothing
//! happens writes nothing.
//!
//! Invariants
//! - Each frame is flushed before the next is written: only the last can be torn.
//! - Nothing is acknowledged before the flush of the frame that holds it.
//! - After a failed write or flush nothing more is written: what the disk holds is unknown then.

pub(crate) mod record;
pub(crate) mod segment;

mod contents;
mod writer;

#[cfg(test)]
mod tests;

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
};

use bramble_cluster::NodeId;
use tokio::sync::mpsc;

use self::{
    contents::{Contents, Stored},
    record::{Body, Change, Summary},
    segment::Segment,
    writer::{Encoded, Job, Writer},
};
use crate::consensus::types::{Ballot, Item, Position};

/// Jobs that may wait for the writer. More than openraft keeps in flight.
const JOBS: usize = 1_024;

/// Called once what was written is durable, or failed to become so.
pub(crate) type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file system refused.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// A frame that was once sound is not, and later ones are.
    #[error(
        "the log is damaged at byte {offset} of {}: acknowledged changes follow the damage, so \
         nothing was cut; remove this board from the cluster and let it join again",
        path.display()
    )]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// A segment does not begin where the one before it ended.
    #[error(
        "the log is damaged: {} does not continue what is before it; remove this board from the \
         cluster and let it join again",
        path.display()
    )]
    Discontinuous {
        /// The segment.
        path: PathBuf,
    },
    /// The folder was copied from another node.
    #[error("the log in {} belongs to node {owner}, and this is node {node}", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        owner: NodeId,
        /// Who opened it.
        node: NodeId,
    },
}

/// A node's log, open.
#[derive(Debug)]
pub(crate) struct Log {
    contents: Arc<Mutex<Contents>>,
    jobs: mpsc::Sender<Job>,
    writer: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the log in a folder, or begins one. A torn tail is cut.
    pub(crate) fn open(folder: &Path, node: NodeId) -> Result<Self, LogError> {
        let (contents, segment) = load(folder, node)?;
        let (jobs, queue) = mpsc::channel(JOBS);
        let contents = Arc::new(Mutex::new(contents));
        let writer = Writer::new(folder.to_owned(), segment, Arc::clone(&contents));
        let thread = std::thread::Builder::new()
            .name("raft-log".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|source| LogError::File {
                action: "start the writer of",
                path: folder.to_owned(),
                source,
            })?;
        Ok(Self { contents, jobs, writer: Some(thread) })
    }

    /// Empties the log in a folder but remembers the vote: a node that votes twice in a term
    /// breaks the cluster, whatever else it forgets. Nobody else may have it open.
    pub(crate) fn forget_items(folder: &Path, node: NodeId) -> Result<(), LogError> {
        let (contents, segment) = load(folder, node)?;
        let summary = Summary {
            owner: node,
            era: contents.summary.era + 1,
            vote: contents.summary.vote,
            ..Summary::default()
        };
        Segment::create(folder, segment.number + 1, opening(&summary))?;
        for number in segment::list(folder)?.into_iter().filter(|it| *it <= segment.number) {
            Segment::remove(folder, number)?;
        }
        Ok(())
    }

    /// Whether there is nothing but perhaps a vote.
    pub(crate) fn is_empty(&self) -> bool {
        self.contents().summary.last.is_none()
    }

    /// The last vote given.
    pub(crate) fn vote(&self) -> Option<Ballot> {
        self.contents().summary.vote
    }

    /// The last item that a snapshot replaced, and the last item.
    pub(crate) fn ends(&self) -> (Option<Position>, Option<Position>) {
        let contents = self.contents();
        (contents.summary.purged, contents.summary.last)
    }

    /// The last item known to be committed when something was last written.
    pub(crate) fn committed(&self) -> Option<Position> {
        self.contents().committed
    }

    /// Notes what is committed; written with the next change.
    pub(crate) fn note_committed(&self, position: Option<Position>) {
        self.contents().committed = position;
    }

    /// Bytes of items that no snapshot has replaced yet.
    pub(crate) fn live_bytes(&self) -> usize {
        self.contents().live_bytes()
    }

    /// Votes. Returns once the vote is durable.
    pub(crate) async fn save_vote(&self, ballot: Ballot) -> io::Result<()> {
        let summary = {
            let mut contents = self.contents();
            contents.summary.vote = Some(ballot);
            contents.summary
        };
        let (done, durable) = tokio::sync::oneshot::channel();
        let done: Done = Box::new(move |result| {
            // Whoever asked may have gone; the vote stands all the same.
            let _ = done.send(result);
        });
        self.send(&[Change::Voted(ballot)], summary, Some(done)).await?;
        durable.await.map_err(|_| stopped())?
    }

    /// Appends items. They can be read when this returns, and are durable when `done` is called.
    pub(crate) async fn append(&self, items: Vec<Item>, done: Done) -> io::Result<()> {
        let mut changes = Vec::with_capacity(items.len());
        let summary = {
            let mut contents = self.contents();
            for item in items {
                let bytes = encode(&Change::Appended(item.clone()))?;
                let slot = contents.append(item, bytes.len())?;
                changes.push(Encoded { bytes, slot: Some(slot) });
            }
            contents.summary
        };
        self.submit(Job { changes, summary, done: Some(done) }).await
    }

    /// Drops the items after a position.
    pub(crate) async fn truncate_after(&self, position: Option<Position>) -> io::Result<()> {
        let summary = {
            let mut contents = self.contents();
            contents.truncate_after(position);
            contents.summary
        };
        self.send(&[Change::Truncated(position)], summary, None).await
    }

    /// Drops the items up to a position, and the segments that hold nothing else.
    pub(crate) async fn purge(&self, position: Position) -> io::Result<()> {
        let summary = {
            let mut contents = self.contents();
            contents.purge(position);
            contents.summary
        };
        self.send(&[Change::Purged(position)], summary, None).await
    }

    /// The items of a range that the log has; of those the first `most_bytes`, and at least one.
    pub(crate) async fn read(&self, range: Range<u64>, most_bytes: usize) -> io::Result<Vec<Item>> {
        let stored = self.contents().stored(range, most_bytes);
        if stored.iter().all(|item| matches!(item, Stored::Cached(_))) {
            return contents::fetch(stored);
        }
        tokio::task::spawn_blocking(move || contents::fetch(stored))
            .await
            .map_err(io::Error::other)?
    }

    async fn send(
        &self,
        changes: &[Change],
        summary: Summary,
        done: Option<Done>,
    ) -> io::Result<()> {
        let changes = changes
            .iter()
            .map(|change| Ok(Encoded { bytes: encode(change)?, slot: None }))
            .collect::<io::Result<_>>()?;
        self.submit(Job { changes, summary, done }).await
    }

    async fn submit(&self, job: Job) -> io::Result<()> {
        self.jobs.send(job).await.map_err(|_| stopped())
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Log {
    /// Waits for the writer: whoever opens the folder next must find it quiet.
    fn drop(&mut self) {
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.jobs, closed));
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has nothing more to say.
            let _ = writer.join();
        }
    }
}

/// Reads all segments of a folder, and returns what they say and the one to write next.
fn load(folder: &Path, node: NodeId) -> Result<(Contents, Segment), LogError> {
    fs::create_dir_all(folder).map_err(|source| LogError::File {
        action: "create",
        path: folder.to_owned(),
        source,
    })?;
    if let Some(above) = folder.parent() {
        segment::sync_folder(above)?;
    }
    let numbers = segment::list(folder)?;
    let Some(newest) = numbers.last().copied() else {
        let summary = Summary { owner: node, ..Summary::default() };
        let segment = Segment::create(folder, 1, opening(&summary))?;
        return Ok((Contents::new(summary, &segment), segment));
    };
    let mut contents: Option<Contents> = None;
    let mut last_segment = None;
    let mut obsolete = Vec::new();
    for number in numbers {
        let scan = Segment::open(folder, number)?;
        let path = segment::path(folder, number);
        if scan.torn_bytes > 0 {
            if number != newest {
                return Err(LogError::Discontinuous { path });
            }
            tracing::warn!(
                segment = %path.display(),
                bytes = scan.torn_bytes,
                "cut the torn tail of the log: a write that was never acknowledged"
            );
            scan.segment.cut()?;
        }
        let before = contents.as_ref().map(|contents| contents.segment_numbers());
        let replayed = contents::replay(contents.take(), &scan)
            .ok_or_else(|| LogError::Discontinuous { path: path.clone() })?;
        let kept = replayed.segment_numbers();
        obsolete
            .extend(before.unwrap_or_default().into_iter().filter(|number| !kept.contains(number)));
        contents = Some(replayed);
        last_segment = Some(scan.segment);
    }
    let path = segment::path(folder, newest);
    let (Some(contents), Some(last_segment)) = (contents, last_segment) else {
        return Err(LogError::Discontinuous { path });
    };
    let owner = contents.summary.owner;
    if owner != node {
        return Err(LogError::Foreign { path: folder.to_owned(), owner, node });
    }
    if !contents.is_whole() {
        return Err(LogError::Discontinuous { path });
    }
    for number in obsolete {
        Segment::remove(folder, number)?;
    }
    Ok((contents, last_segment))
}

/// The first frame of a segment.
fn opening(summary: &Summary) -> Body {
    let mut body = Body::default();
    if let Ok(bytes) = record::encode(&Change::Opened(*summary)) {
        body.push(&bytes);
    }
    body
}

fn encode(change: &Change) -> io::Result<Vec<u8>> {
    let bytes = record::encode(change)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    if bytes.len() >= record::BODY_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{} bytes are too many for one change of the log", bytes.len()),
        ));
    }
    Ok(bytes)
}

fn stopped() -> io::Error {
    io::Error::other("the log's writer has stopped")
}
