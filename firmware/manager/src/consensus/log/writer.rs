//! The thread that writes the log.

use std::{
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::mpsc;

use crate::consensus::log::{
    Done, LogError,
    contents::{Contents, Ticket},
    opening,
    record::{self, Body, Change, HEAD_BYTES, Summary},
    segment::Segment,
};
use crate::consensus::types::Position;

/// A frame takes no more jobs once it is this long.
const FRAME_BYTES: usize = 1024 * 1024;

/// Something to write.
pub(crate) struct Job {
    /// The changes, in order.
    pub(crate) changes: Vec<Encoded>,
    /// What is true after them.
    pub(crate) summary: Summary,
    /// Whom to tell. A job that nobody waits for may wait itself for the next one.
    pub(crate) done: Option<Done>,
}

/// A change, as bytes.
#[derive(Debug)]
pub(crate) struct Encoded {
    /// The bytes.
    pub(crate) bytes: Vec<u8>,
    /// The item that it appends.
    pub(crate) slot: Option<Ticket>,
}

/// The state of the thread.
pub(crate) struct Writer {
    folder: PathBuf,
    segment: Segment,
    contents: Arc<Mutex<Contents>>,
    /// What the written frames say.
    summary: Summary,
    committed: Option<Position>,
    failure: Option<String>,
    frame: Frame,
}

/// The frame that is being gathered.
#[derive(Default)]
struct Frame {
    body: Body,
    items: Vec<(usize, Ticket)>,
    summary: Option<Summary>,
    done: Vec<Done>,
}

impl Writer {
    /// Continues `segment`, the newest.
    pub(crate) fn new(folder: PathBuf, segment: Segment, contents: Arc<Mutex<Contents>>) -> Self {
        let (summary, committed) = {
            let contents = contents.lock().unwrap_or_else(PoisonError::into_inner);
            (contents.summary, contents.committed)
        };
        let frame = Frame::default();
        Self { folder, segment, contents, summary, committed, failure: None, frame }
    }

    /// Writes until nobody can ask any more. Changes that nobody waits for are lost then, as a
    /// power cut would lose them.
    pub(crate) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            self.frame.add(job);
            while self.frame.body.len() < FRAME_BYTES {
                match jobs.try_recv() {
                    Ok(job) => self.frame.add(job),
                    Err(_) => break,
                }
            }
            let purged = self.frame.summary.and_then(|summary| summary.purged);
            if self.frame.done.is_empty() && !self.contents().has_obsolete_segments(purged) {
                continue;
            }
            let done = std::mem::take(&mut self.frame.done);
            if self.failure.is_none()
                && let Err(error) = self.write()
            {
                tracing::error!(error = %Chain(&error), "the log cannot be written");
                self.failure = Some(Chain(&error).to_string());
            }
            for done in done {
                done(self.failure.as_ref().map_or(Ok(()), |it| Err(io::Error::other(it.clone()))));
            }
        }
    }

    fn write(&mut self) -> Result<(), LogError> {
        let mut frame = std::mem::take(&mut self.frame);
        let committed = self.contents().committed;
        if committed != self.committed
            && let Some(position) = committed
            && let Ok(bytes) = record::encode(&Change::Committed(position))
        {
            frame.body.push(&bytes);
        }
        if !frame.body.is_empty() {
            if !self.segment.has_room_for(HEAD_BYTES + frame.body.len()) {
                let number = self.segment.number + 1;
                self.segment = Segment::create(&self.folder, number, opening(&self.summary))?;
                self.contents().add_segment(&self.segment);
            }
            let offset = self.segment.append(frame.body)?;
            self.segment.flush()?;
            self.contents().written(self.segment.number, offset, &frame.items);
        }
        self.summary = frame.summary.unwrap_or(self.summary);
        self.committed = committed;
        let obsolete = self.contents().take_obsolete_segments(self.summary.purged);
        for number in obsolete {
            Segment::remove(&self.folder, number)?;
        }
        Ok(())
    }

    fn contents(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Frame {
    fn add(&mut self, job: Job) {
        for change in job.changes {
            let at = self.body.push(&change.bytes);
            self.items.extend(change.slot.map(|slot| (at, slot)));
        }
        self.summary = Some(job.summary);
        self.done.extend(job.done);
    }
}

/// An error with its causes on one line.
struct Chain<'a>(&'a LogError);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)?;
        let mut cause = std::error::Error::source(self.0);
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}
