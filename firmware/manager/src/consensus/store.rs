//! The log as openraft sees it.

use std::{
    fmt::Debug,
    io,
    ops::{Bound, Range, RangeBounds},
    sync::Arc,
};

use openraft::{
    LogState, OptionalSend, RaftLogReader,
    storage::{IOFlushed, RaftLogStorage},
};

use crate::consensus::{
    log::Log,
    types::{Item, LogId, RaftEntry, Types, Vote},
};

/// Bytes of items in one message to a follower, so that a long catch-up leaves room on the
/// connection for what comes after it.
const MESSAGE_BYTES: usize = 256 * 1024;

/// The log of this node, shared by openraft's core and its replication tasks.
#[derive(Debug, Clone)]
pub(crate) struct LogStore {
    log: Arc<Log>,
}

impl LogStore {
    /// Of an open log.
    pub(crate) fn new(log: Arc<Log>) -> Self {
        Self { log }
    }

    async fn entries(&self, range: Range<u64>, most_bytes: usize) -> io::Result<Vec<RaftEntry>> {
        let items = self.log.read(range, most_bytes).await?;
        items.into_iter().map(RaftEntry::try_from).collect()
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.entries(start..end, usize::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.log.vote().map(Vote::from))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<RaftEntry>, io::Error> {
        self.entries(start..end, MESSAGE_BYTES).await
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, io::Error> {
        let (purged, last) = self.log.ends();
        Ok(LogState {
            last_purged_log_id: purged.map(LogId::from),
            last_log_id: last.map(LogId::from),
        })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.log.save_vote((*vote).into()).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.log.note_committed(committed.map(Into::into));
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.log.committed().map(LogId::from))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Types>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = RaftEntry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let items: Vec<Item> = entries.into_iter().map(|entry| Item::from(&entry)).collect();
        self.log.append(items, Box::new(move |result| callback.io_completed(result))).await
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        self.log.truncate_after(last_log_id.map(Into::into)).await
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        self.log.purge(log_id.into()).await
    }
}

#[cfg(test)]
mod tests;
