use proptest::prelude::{any, prop, prop_assert, proptest};

use super::{DecodeError, decode, encode};
use crate::{
    ClusterState, Command, Entry, TaskCause,
    sample::{at, every_command, full_state, service_id},
};

/// Compares bytes with the frozen ones. A format that boards have on disk or on the wire never
/// changes: only a new version of it may be added, next to the old one.
fn assert_frozen(bytes: &[u8], frozen: &str, name: &str) {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let frozen: String = frozen.split_whitespace().collect();
    assert!(hex == frozen, "the bytes of {name} changed; they are now\n{hex}");
}

#[test]
fn the_bytes_of_a_snapshot_never_change() {
    assert_frozen(&encode(&full_state()), include_str!("state_v1.hex"), "a snapshot");
}

#[test]
fn the_bytes_of_an_entry_never_change() {
    let entry = Entry { at: at(1_234_567), commands: every_command() };
    let bytes = postcard::to_stdvec(&entry).unwrap();
    assert_frozen(&bytes, include_str!("entry.hex"), "an entry");
}

#[test]
fn every_command_reads_back_as_itself_and_has_kept_its_number() {
    for (number, command) in every_command().into_iter().enumerate() {
        let bytes = postcard::to_stdvec(&command).unwrap();
        assert_eq!(usize::from(bytes[0]), number, "{command:?}");
        assert_eq!(postcard::from_bytes::<Command>(&bytes), Ok(command));
    }
}

#[test]
fn a_snapshot_reads_back_as_what_it_was_made_of() {
    for state in [ClusterState::default(), full_state()] {
        let again = decode(&encode(&state)).unwrap();
        assert_eq!(again, state);
        assert_eq!(again.index, state.index);
        assert_eq!(encode(&again), encode(&state));
    }
}

#[test]
fn tasks_share_what_they_run_with_their_service_after_reading_back() {
    let again = decode(&encode(&full_state())).unwrap();
    let service = again.service(service_id(7)).unwrap();
    let tasks: Vec<_> = again.tasks_of(service.id).collect();
    assert_eq!(tasks.len(), 2);
    assert!(tasks.iter().all(|task| std::sync::Arc::ptr_eq(&task.spec, &service.spec.task)));
    assert_eq!(tasks[0].cause, TaskCause::Created);
}

#[test]
fn a_cut_off_snapshot_is_refused_at_every_length() {
    let bytes = encode(&full_state());
    for length in 0..bytes.len() {
        assert!(matches!(decode(&bytes[..length]), Err(DecodeError::Malformed(_))), "{length}");
    }
}

#[test]
fn a_snapshot_with_something_behind_it_is_refused() {
    let mut bytes = encode(&full_state());
    bytes.push(0);
    assert!(matches!(decode(&bytes), Err(DecodeError::Trailing { count: 1 })));
}

#[test]
fn a_snapshot_of_a_newer_firmware_is_refused() {
    let mut bytes = encode(&full_state());
    bytes[0] = 1;
    let error = decode(&bytes).unwrap_err();
    assert_eq!(error.to_string(), "the snapshot is damaged or of a newer firmware");
}

proptest! {
    #[test]
    fn no_bytes_make_reading_panic(
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20)
    ) {
        let mut bytes = encode(&full_state());
        for (index, byte) in flips {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Ok(state) = decode(&bytes) {
            prop_assert!(!encode(&state).is_empty());
        }
    }
}
