use std::time::Duration;

use super::*;
use crate::logs::{LINE_BYTES, Lines, LogStream, Ring};

fn write(ring: &mut Ring, from: u64, to: u64) {
    for at in from..to {
        ring.add(at, LogStream::Output, format!("line {at}").as_bytes(), false);
        ring.flush();
    }
}

fn all(reader: &mut LogReader) -> Vec<LogEntry> {
    std::iter::from_fn(|| reader.next_now().unwrap()).collect()
}

fn times(entries: &[LogEntry]) -> Vec<u64> {
    entries.iter().map(|entry| entry.at_nanoseconds).collect()
}

#[test]
fn a_ring_keeps_the_youngest_lines_within_its_size() {
    let bundle = tempfile::tempdir().unwrap();
    let folder = bundle.path().join("log");
    let mut ring = Ring::new(folder.clone(), 1_000, 4);
    write(&mut ring, 0, 10_000);
    let entries = all(&mut LogReader::open(&folder, LogQuery::default()).unwrap());
    let times = times(&entries);
    assert_eq!(times.last(), Some(&9_999));
    assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 1), "a gap");
    assert!((100..=200).contains(&times.len()), "{}", times.len());
    assert_eq!(numbers(&folder).unwrap().len(), 4);
}

#[test]
fn tail_since_and_until_choose() {
    let bundle = tempfile::tempdir().unwrap();
    let folder = bundle.path().join("log");
    write(&mut Ring::new(folder.clone(), 1_000, 8), 0, 100);
    let read = |query| times(&all(&mut LogReader::open(&folder, query).unwrap()));
    let since =
        LogQuery { since_nanoseconds: Some(97), until_nanoseconds: Some(99), ..Default::default() };
    assert_eq!(read(since), [97, 98]);
    let mut reader =
        LogReader::open(&folder, LogQuery { tail: Some(2), ..Default::default() }).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        assert_eq!(reader.next().await.unwrap().unwrap().at_nanoseconds, 98);
        assert_eq!(reader.next().await.unwrap().unwrap().at_nanoseconds, 99);
        assert_eq!(reader.next().await.unwrap(), None);
    });
}

#[tokio::test]
async fn a_follower_sees_every_line_and_the_end() {
    let bundle = tempfile::tempdir().unwrap();
    let folder = bundle.path().join("log");
    let query = LogQuery { follow: true, ..Default::default() };
    let mut reader = LogReader::open(&folder, query).unwrap();
    let writer = tokio::task::spawn_blocking(move || {
        let mut ring = Ring::new(folder, 4_000, 4);
        for at in 0..500 {
            write(&mut ring, at, at + 1);
            std::thread::sleep(Duration::from_micros(300));
        }
        ring.end(500);
    });
    let mut seen = Vec::new();
    while let Some(entry) = reader.next().await.unwrap() {
        seen.push(entry.at_nanoseconds);
    }
    writer.await.unwrap();
    assert_eq!(seen, (0..500).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_follower_ends_with_its_container() {
    let bundle = tempfile::tempdir().unwrap();
    let folder = bundle.path().join("log");
    write(&mut Ring::new(folder.clone(), 4_000, 4), 0, 1);
    let query = LogQuery { follow: true, ..Default::default() };
    let mut reader = LogReader::open(&folder, query).unwrap();
    assert!(reader.next().await.unwrap().is_some());
    let gone = tokio::time::sleep(Duration::from_millis(20));
    let (ended, ()) = tokio::join!(reader.next(), async {
        gone.await;
        std::fs::remove_dir_all(bundle.path()).unwrap();
    });
    assert_eq!(ended.unwrap(), None);
    assert!(matches!(LogReader::open(&folder, query), Err(LogError::NotFound { .. })));
}

#[test]
fn lines_are_cut_at_their_ends_and_at_the_limit() {
    let bundle = tempfile::tempdir().unwrap();
    let folder = bundle.path().join("log");
    let mut ring = Ring::new(folder.clone(), 1_000_000, 2);
    let mut lines = Lines::new(LogStream::Error);
    lines.take(b"one\n\ntw", 1, &mut ring);
    lines.take(b"o\nthree", 2, &mut ring);
    lines.take(&vec![b'x'; 2 * LINE_BYTES], 3, &mut ring);
    lines.end(4, &mut ring);
    ring.end(5);
    let entries = all(&mut LogReader::open(&folder, LogQuery::default()).unwrap());
    let texts: Vec<(usize, bool)> =
        entries.iter().map(|entry| (entry.line.len(), entry.is_partial)).collect();
    let full = (LINE_BYTES, true);
    assert_eq!(texts, [(3, false), (0, false), (3, false), full, full, (5, false)]);
    assert!(entries.iter().all(|entry| entry.stream == LogStream::Error));
}
