use std::{ops::Range, sync::mpsc as channel};

use bramble_cluster::{Command, Entry, TaskId, Timestamp};
use tempfile::TempDir;

use super::*;
use crate::consensus::types::{Content, Proposal};

const NODE: NodeId = NodeId::from_random(7);

fn item(term: u64, index: u64) -> Item {
    let commands = vec![Command::RemoveTask { id: TaskId::from_random(u128::from(index)) }];
    let entry = Entry { at: Timestamp::from_millis(index), commands };
    Item { position: Position { term, index }, content: Content::Entry(Proposal(Arc::new(entry))) }
}

fn large_item(index: u64, bytes: usize) -> Item {
    let error = "x".repeat(bytes);
    let id = TaskId::from_random(1);
    let commands = vec![Command::OrphanTask { id, message: error }];
    let entry = Entry { at: Timestamp::from_millis(index), commands };
    Item {
        position: Position { term: 1, index },
        content: Content::Entry(Proposal(Arc::new(entry))),
    }
}

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(work)
}

/// Appends and waits until it is durable.
async fn append(log: &Log, items: Vec<Item>) {
    let (sender, receiver) = tokio::sync::oneshot::channel();
    let done: Done = Box::new(move |result| drop(sender.send(result)));
    log.append(items, done).await.expect("appended");
    receiver.await.expect("answered").expect("durable");
}

async fn indexes(log: &Log) -> Vec<u64> {
    let items = log.read(0..u64::MAX, usize::MAX).await.expect("readable");
    items.iter().map(|item| item.position.index).collect()
}

fn range(range: Range<u64>) -> Vec<u64> {
    range.collect()
}

#[test]
fn what_was_written_is_found_again() {
    let folder = TempDir::new().expect("a folder");
    let ballot = Ballot { term: 3, candidate: NODE, is_won: true };
    run(async {
        let log = Log::open(folder.path(), NODE).expect("opened");
        assert!(log.is_empty());
        append(&log, (0..20).map(|index| item(1, index)).collect()).await;
        log.save_vote(ballot).await.expect("voted");
        log.truncate_after(Some(Position { term: 1, index: 14 })).await.expect("truncated");
        log.note_committed(Some(Position { term: 1, index: 10 }));
        append(&log, vec![item(3, 15), item(3, 16)]).await;
        log.purge(Position { term: 1, index: 4 }).await.expect("purged");
        append(&log, vec![item(3, 17)]).await;
    });
    run(async {
        let log = Log::open(folder.path(), NODE).expect("opened again");
        assert_eq!(log.vote(), Some(ballot));
        assert_eq!(log.committed(), Some(Position { term: 1, index: 10 }));
        let ends = (Some(Position { term: 1, index: 4 }), Some(Position { term: 3, index: 17 }));
        assert_eq!(log.ends(), ends);
        assert_eq!(indexes(&log).await, range(5..18));
        let items = log.read(14..16, usize::MAX).await.expect("readable");
        assert_eq!(items, vec![item(1, 14), item(3, 15)]);
    });
}

#[test]
fn an_idle_log_and_one_that_only_notes_what_is_committed_writes_nothing() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let log = Log::open(folder.path(), NODE).expect("opened");
        append(&log, vec![item(1, 0)]).await;
        let path = segment::path(folder.path(), 1);
        let before = (fs::read(&path).expect("read"), modified(&path));
        log.note_committed(Some(Position { term: 1, index: 0 }));
        std::thread::sleep(std::time::Duration::from_millis(50));
        drop(log);
        assert_eq!((fs::read(&path).expect("read"), modified(&path)), before);
    });
}

fn modified(path: &Path) -> std::time::SystemTime {
    fs::metadata(path).and_then(|metadata| metadata.modified()).expect("a time")
}

/// A log of five frames, and where each ends.
fn five_frames(folder: &Path) -> Vec<usize> {
    let path = segment::path(folder, 1);
    run(async {
        let log = Log::open(folder, NODE).expect("opened");
        let mut ends = Vec::new();
        for index in 0..5 {
            append(&log, vec![item(1, index)]).await;
            let bytes = fs::read(&path).expect("read");
            ends.push(bytes.iter().rposition(|byte| *byte != 0).expect("not empty") + 1);
        }
        ends
    })
}

/// What a log holds after its segment was made to be `bytes`.
fn reopen(bytes: &[u8]) -> Result<Vec<u64>, LogError> {
    let folder = TempDir::new().expect("a folder");
    fs::write(segment::path(folder.path(), 1), bytes).expect("written");
    let found = Log::open(folder.path(), NODE)?;
    let found = run(async {
        let before = indexes(&found).await;
        // It goes on where it was cut, and what is written then is found again.
        append(&found, vec![item(2, before.len() as u64)]).await;
        drop(found);
        let again = Log::open(folder.path(), NODE).expect("opened after the repair");
        let mut expected = before.clone();
        expected.push(before.len() as u64);
        assert_eq!(indexes(&again).await, expected);
        before
    });
    Ok(found)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_at_the_last_good_frame() {
    let folder = TempDir::new().expect("a folder");
    let ends = five_frames(folder.path());
    let bytes = fs::read(segment::path(folder.path(), 1)).expect("read");
    // Postcard may end a frame with zeros, so the end as seen may be short of the true one.
    for torn in ends[3] + 8..ends[4] {
        // Only a part of the last frame reached the disk: the rest of its space is zero ...
        let mut half = bytes.clone();
        half[torn..].fill(0);
        assert_eq!(reopen(&half).expect("opened"), range(0..4), "torn at {torn}");
        // ... or the file ends there.
        assert_eq!(reopen(&bytes[..torn]).expect("opened"), range(0..4), "cut at {torn}");
        // Only the later part reached the disk.
        let mut late = bytes.clone();
        late[ends[3] + 8..=torn].fill(0);
        if late[..ends[4]] != bytes[..ends[4]] {
            assert_eq!(reopen(&late).expect("opened"), range(0..4), "begun at {torn}");
        }
    }
}

#[test]
fn a_flipped_byte_in_the_tail_cuts_it_and_one_before_the_tail_stops_the_node() {
    let folder = TempDir::new().expect("a folder");
    let ends = five_frames(folder.path());
    let bytes = fs::read(segment::path(folder.path(), 1)).expect("read");
    let mut cuts = 0;
    let mut stops = 0;
    for flipped in 0..ends[4] {
        for bit in [0x01, 0x80] {
            let mut damaged = bytes.clone();
            damaged[flipped] ^= bit;
            match reopen(&damaged) {
                Ok(found) => {
                    assert!(flipped >= ends[3], "byte {flipped} is before the tail");
                    assert_eq!(found, range(0..4), "byte {flipped}");
                    cuts += 1;
                }
                Err(LogError::Damaged { offset, .. }) => {
                    assert!(flipped < ends[3] + 8, "byte {flipped} is in the tail");
                    assert!(offset <= flipped as u64, "byte {flipped} is not at {offset}");
                    stops += 1;
                }
                Err(other) => panic!("byte {flipped}: {other}"),
            }
        }
    }
    assert!(cuts > 0 && stops > 0 && cuts + stops == 2 * ends[4], "{cuts} cuts, {stops} stops");
}

#[test]
fn damage_in_an_older_segment_and_a_missing_segment_stop_the_node() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let log = Log::open(folder.path(), NODE).expect("opened");
        for index in 0..12 {
            append(&log, vec![large_item(index, 1024 * 1024)]).await;
        }
    });
    let numbers = segment::list(folder.path()).expect("listed");
    assert!(numbers.len() >= 3, "{numbers:?}");
    let middle = segment::path(folder.path(), numbers[1]);
    let bytes = fs::read(&middle).expect("read");
    // The last frame of a segment that is not the newest was flushed before the next segment.
    let mut torn = bytes.clone();
    let end = torn.iter().rposition(|byte| *byte != 0).expect("not empty");
    torn[end - 10..].fill(0);
    fs::write(&middle, &torn).expect("written");
    assert!(matches!(Log::open(folder.path(), NODE), Err(LogError::Discontinuous { .. })));
    fs::remove_file(&middle).expect("removed");
    assert!(matches!(Log::open(folder.path(), NODE), Err(LogError::Discontinuous { .. })));
    fs::write(&middle, &bytes).expect("written");
    assert!(Log::open(folder.path(), NODE).is_ok());
}

#[test]
fn purging_removes_segments_and_survives_a_crash_at_each_removal() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let log = Log::open(folder.path(), NODE).expect("opened");
        for index in 0..12 {
            append(&log, vec![large_item(index, 1024 * 1024)]).await;
        }
        let before = copy(folder.path());
        log.purge(Position { term: 1, index: 9 }).await.expect("purged");
        append(&log, vec![item(1, 12)]).await;
        let numbers = segment::list(folder.path()).expect("listed");
        let all = segment::list(before.path()).expect("listed");
        assert!(numbers.len() < all.len(), "{numbers:?} of {all:?}");
        // As if the process had died between two removals.
        let after = copy(folder.path());
        let gone: Vec<u64> = all.iter().copied().filter(|it| !numbers.contains(it)).collect();
        for kept in 0..=gone.len() {
            for number in &gone[kept..] {
                let from = segment::path(before.path(), *number);
                fs::copy(from, segment::path(after.path(), *number)).expect("copied");
            }
            let found = Log::open(after.path(), NODE).expect("opened");
            assert_eq!(indexes(&found).await, range(10..13));
            drop(found);
            for number in &gone {
                let _ = fs::remove_file(segment::path(after.path(), *number));
            }
        }
    });
}

fn copy(folder: &Path) -> TempDir {
    let copy = TempDir::new().expect("a folder");
    for number in segment::list(folder).expect("listed") {
        let to = segment::path(copy.path(), number);
        fs::copy(segment::path(folder, number), to).expect("copied");
    }
    copy
}

#[test]
fn a_purge_beyond_the_end_leaves_room_for_what_follows_a_snapshot() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let log = Log::open(folder.path(), NODE).expect("opened");
        append(&log, vec![item(1, 0), item(1, 1)]).await;
        log.purge(Position { term: 4, index: 900 }).await.expect("purged");
        append(&log, vec![item(4, 901)]).await;
        drop(log);
        let log = Log::open(folder.path(), NODE).expect("opened again");
        let ends = (Some(Position { term: 4, index: 900 }), Some(Position { term: 4, index: 901 }));
        assert_eq!(log.ends(), ends);
        assert_eq!(indexes(&log).await, vec![901]);
    });
}

#[test]
fn items_out_of_the_cache_are_read_from_the_disk() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let log = Log::open(folder.path(), NODE).expect("opened");
        let items: Vec<Item> = (0..40).map(|index| large_item(index, 100_000)).collect();
        for chunk in items.chunks(3) {
            append(&log, chunk.to_vec()).await;
        }
        assert_eq!(log.read(0..40, usize::MAX).await.expect("readable"), items);
        let some = log.read(10..40, 250_000).await.expect("readable");
        assert_eq!(some, items[10..12]);
        drop(log);
        let log = Log::open(folder.path(), NODE).expect("opened again");
        assert_eq!(log.read(0..40, usize::MAX).await.expect("readable"), items);
    });
}

#[test]
fn a_log_that_forgot_its_items_remembers_its_vote_even_if_it_died_meanwhile() {
    let folder = TempDir::new().expect("a folder");
    let ballot = Ballot { term: 9, candidate: NodeId::from_random(2), is_won: false };
    run(async {
        let log = Log::open(folder.path(), NODE).expect("opened");
        append(&log, vec![item(1, 0), item(1, 1)]).await;
        log.save_vote(ballot).await.expect("voted");
    });
    let before = copy(folder.path());
    Log::forget_items(folder.path(), NODE).expect("forgotten");
    // The old segment is still there if the process died before it was removed.
    for is_old_there in [false, true] {
        if is_old_there {
            let from = segment::path(before.path(), 1);
            fs::copy(from, segment::path(folder.path(), 1)).expect("copied");
        }
        let log = Log::open(folder.path(), NODE).expect("opened");
        assert!(log.is_empty());
        assert_eq!(log.vote(), Some(ballot));
    }
    assert_eq!(segment::list(folder.path()).expect("listed"), vec![2]);
}

#[test]
fn a_log_of_another_node_is_refused() {
    let folder = TempDir::new().expect("a folder");
    drop(Log::open(folder.path(), NODE).expect("opened"));
    let other = NodeId::from_random(8);
    let opened = Log::open(folder.path(), other);
    assert!(matches!(opened, Err(LogError::Foreign { owner: NODE, .. })));
}

#[test]
fn appends_that_wait_together_are_flushed_together_and_answered_in_order() {
    let folder = TempDir::new().expect("a folder");
    run(async {
        let log = Log::open(folder.path(), NODE).expect("opened");
        let (sender, receiver) = channel::channel();
        for index in 0..200 {
            let sender = sender.clone();
            let done: Done = Box::new(move |result| {
                result.expect("durable");
                sender.send(index).expect("somebody listens");
            });
            log.append(vec![item(1, index)], done).await.expect("appended");
        }
        drop(sender);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), range(0..200));
        drop(log);
        let scan = Segment::open(folder.path(), 1).expect("scanned");
        assert!(scan.frames.len() < 150, "{} frames for 200 appends", scan.frames.len());
    });
}

#[test]
fn the_bytes_of_a_frame_are_frozen() {
    let changes = [
        Change::Opened(Summary { owner: NODE, ..Summary::default() }),
        Change::Voted(Ballot { term: 1, candidate: NODE, is_won: true }),
        Change::Appended(Item {
            position: Position { term: 1, index: 2 },
            content: Content::Blank,
        }),
        Change::Truncated(Some(Position { term: 1, index: 2 })),
        Change::Purged(Position { term: 1, index: 2 }),
        Change::Committed(Position { term: 1, index: 2 }),
    ];
    let mut body = Body::default();
    for change in &changes {
        body.push(&record::encode(change).expect("encoded"));
    }
    let frame = body.into_frame(1, 0);
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "190000000a67492b01000700000000010107010201020003010102040102050102");
}

proptest::proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..600),
    ) {
        let folder = TempDir::new().expect("a folder");
        fs::write(segment::path(folder.path(), 1), &bytes).expect("written");
        // Bytes that are no segment at all are not taken for an empty log.
        proptest::prop_assert!(Log::open(folder.path(), NODE).is_err());
        let _ = record::changes(&bytes);
        let _ = record::change_at(&bytes, bytes.len() / 2);
    }
}
