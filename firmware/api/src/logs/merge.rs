//! Merging streams of lines by their time.

use std::{cmp::Reverse, collections::BinaryHeap};

use futures_util::{Stream, StreamExt, stream};

use super::gather::{Entries, Entry};
use crate::error::ApiError;

/// The streams' lines, the oldest first, given that each is in order. An error comes at once.
pub(super) fn by_time(streams: Vec<Entries>) -> impl Stream<Item = Result<Entry, ApiError>> {
    let heads = streams.iter().map(|_| None).collect();
    let unread = (0..streams.len()).collect();
    let merge = Merge { streams, heads, order: BinaryHeap::new(), unread };
    stream::unfold(merge, |mut merge| async move {
        let entry = merge.next().await?;
        Some((entry, merge))
    })
}

struct Merge {
    streams: Vec<Entries>,
    /// The next line of each stream that has one.
    heads: Vec<Option<Result<Entry, ApiError>>>,
    /// The times of the heads, and whose they are.
    order: BinaryHeap<Reverse<(u64, usize)>>,
    /// The streams whose head was taken.
    unread: Vec<usize>,
}

impl Merge {
    async fn next(&mut self) -> Option<Result<Entry, ApiError>> {
        while let Some(index) = self.unread.pop() {
            if let Some(entry) = self.streams[index].next().await {
                let at = entry.as_ref().map_or(0, |(_, line)| line.at);
                self.heads[index] = Some(entry);
                self.order.push(Reverse((at, index)));
            }
        }
        let Reverse((_, index)) = self.order.pop()?;
        self.unread.push(index);
        self.heads[index].take()
    }
}

#[cfg(test)]
mod tests {
    use bramble_cluster::TaskId;

    use super::*;
    use crate::board::LogLine;

    fn entries(task: u128, times: &[u64]) -> Entries {
        let task = TaskId::from_random(task);
        let entry = move |at| Ok((task, LogLine { at, is_error: false, text: Vec::new() }));
        stream::iter(times.to_vec()).map(entry).boxed()
    }

    #[tokio::test]
    async fn lines_come_by_time_and_errors_at_once() {
        let broken = stream::iter([Err(ApiError::Unavailable("gone".to_owned()))]).boxed();
        let streams = vec![entries(1, &[1, 4, 6]), entries(2, &[]), broken, entries(3, &[2, 3, 9])];
        let merged: Vec<_> = by_time(streams).collect().await;
        let times: Vec<_> =
            merged.into_iter().map(|entry| entry.map(|(_, line)| line.at).ok()).collect();
        assert_eq!(times, [None, Some(1), Some(2), Some(3), Some(4), Some(6), Some(9)]);
    }
}
