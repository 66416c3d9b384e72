use std::collections::BTreeSet;

use bramble_cluster::NodeId;
use tempfile::TempDir;

use super::*;

fn image(index: u64) -> Image {
    let voters = VoterSets {
        sets: vec![BTreeSet::from([NodeId::from_random(7)])],
        learners: BTreeSet::new(),
    };
    let head = Head {
        applied: Some(Position { term: 2, index }),
        voters_since: Some(Position { term: 1, index: 0 }),
        voters,
        at: Timestamp::from_millis(300),
    };
    Image { head, state: Arc::default() }
}

#[test]
fn what_was_saved_is_found_again_and_leftovers_are_removed() {
    let folder = TempDir::new().expect("a folder");
    let (snapshots, found) = SnapshotFolder::open(folder.path()).expect("opened");
    assert!(found.is_none() && snapshots.current().is_none());
    snapshots.save(&image(5)).expect("saved");
    fs::write(folder.path().join("snapshot.new"), "half").expect("written");
    let (snapshots, found) = SnapshotFolder::open(folder.path()).expect("opened again");
    assert_eq!(found, Some(image(5)));
    assert_eq!(snapshots.current().expect("there is one").0, image(5).head);
    assert!(!folder.path().join("snapshot.new").exists());
}

#[test]
fn an_older_snapshot_does_not_replace_a_newer_one() {
    let folder = TempDir::new().expect("a folder");
    let (snapshots, _) = SnapshotFolder::open(folder.path()).expect("opened");
    let (_, newer) = snapshots.save(&image(9)).expect("saved");
    let (head, file) = snapshots.save(&image(8)).expect("not needed");
    assert_eq!(head, image(9).head);
    assert_eq!(file.read().expect("readable"), newer.read().expect("readable"));
    assert_eq!(SnapshotFolder::open(folder.path()).expect("opened again").1, Some(image(9)));
}

#[test]
fn a_snapshot_can_be_read_while_a_newer_one_replaces_it() {
    let folder = TempDir::new().expect("a folder");
    let (snapshots, _) = SnapshotFolder::open(folder.path()).expect("opened");
    let (_, older) = snapshots.save(&image(1)).expect("saved");
    let half = older.chunk(0, 10).expect("readable");
    snapshots.save(&image(2)).expect("saved");
    let rest = older.chunk(10, usize::MAX).expect("still readable");
    assert_eq!(decode(&[half, rest].concat()).expect("sound"), image(1));
}

#[test]
fn damage_at_any_byte_is_noticed() {
    let bytes = encode(&image(5)).expect("encoded");
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x40;
        assert!(decode(&damaged).is_err(), "byte {at}");
        assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
    }
}

#[test]
fn the_bytes_of_a_snapshot_are_frozen() {
    let mut image = image(5);
    let body = Body { head: std::mem::take(&mut image.head), state: vec![1, 2, 3] };
    let bytes = frame(&body).expect("encoded");
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "4252534e41500100a292ef7601020501010001010700ac0203010203");
}
