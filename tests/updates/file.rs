//! Update files that must not be installed.

use bramble_host::{
    slot::Slot,
    update::{Card, InstallError, ReadHeadError, RunningSystem, TrustError, install},
};
use minisign::KeyPair;

use crate::{
    card::{Bench, SLOT_BYTES, running},
    medium::Power,
    suite::{Machine, Way},
};

fn try_install(
    bench: &Bench,
    file: &[u8],
    running: &RunningSystem,
) -> (Result<(), InstallError>, usize) {
    let machine = Machine::new(bench, "file", Way::Counted);
    let power = Power::steady();
    let mut card: Card = machine.card(&power);
    let mut reader = file;
    let result = install(&mut reader, &mut card, running, &bench.trust(), &mut |_, _| {});
    assert_eq!(card.default_slot().expect("a card"), Slot::A);
    (result.map(|_| ()), power.writes())
}

/// An update that is refused before anything is written.
fn refused(bench: &Bench, file: &[u8], running: &RunningSystem) -> InstallError {
    let (result, writes) = try_install(bench, file, running);
    assert_eq!(writes, 0, "nothing is written");
    let error = result.expect_err("it is refused");
    assert!(error.is_refusal(), "{error}");
    error
}

#[test]
fn an_older_version_or_counter_is_refused() {
    let bench = Bench::new();
    let mut now = running(Slot::A, 2);
    let error = refused(&bench, &bench.update(1), &now);
    assert!(error.to_string().contains("boards never go back"), "{error}");
    now.counter = 21;
    let error = refused(&bench, &bench.update(2), &now);
    assert!(matches!(error, InstallError::Older { running_counter: 21, .. }), "{error}");
    now.counter = 20;
    assert!(try_install(&bench, &bench.update(2), &now).0.is_ok(), "the same again may be");
}

#[test]
fn an_update_for_other_boards_is_refused() {
    let bench = Bench::new();
    let file = bench.update_with(2, |header| "rpi".clone_into(&mut header.board));
    let error = refused(&bench, &file, &running(Slot::A, 1));
    assert_eq!(error.to_string(), "the update is for rpi and this board is qemu-arm64");
}

#[test]
fn a_slot_of_another_size_is_refused() {
    let bench = Bench::new();
    for bytes in [0, 511, SLOT_BYTES + 512, u64::MAX] {
        let file = bench.update_with(2, |header| header.slot.bytes = bytes);
        let error = refused(&bench, &file, &running(Slot::A, 1));
        assert!(matches!(error, InstallError::Size { .. }), "{error}");
    }
}

#[test]
fn nothing_is_written_without_knowing_what_runs() {
    let bench = Bench::new();
    let unknown = RunningSystem { slot: None, ..running(Slot::A, 1) };
    assert!(matches!(refused(&bench, &bench.update(2), &unknown), InstallError::UnknownSlot));
    let on_trial = running(Slot::B, 1);
    assert!(matches!(refused(&bench, &bench.update(2), &on_trial), InstallError::Trial(Slot::B)));
}

#[test]
fn a_strangers_signature_is_refused() {
    let (bench, stranger) = (Bench::new(), Bench::new());
    let now = running(Slot::A, 1);
    let is_untrusted = |error: &InstallError| {
        matches!(error, InstallError::Head(ReadHeadError::Trust(TrustError::Untrusted)))
    };
    assert!(is_untrusted(&refused(&bench, &stranger.update(2), &now)));
    // A signature of ours, of another header.
    let mut file = bench.update(2);
    let at = file.windows(8).position(|window| window == b"\"2.0.0\",").expect("a version");
    file[at + 1] = b'9';
    assert!(is_untrusted(&refused(&bench, &file, &now)));
    let keys = KeyPair::generate_unencrypted_keypair().expect("keys");
    assert!(bench.trust().verify(b"x", &Bench::sign_with(&keys, b"x")).is_err());
}

#[test]
fn whatever_is_damaged_on_its_way_is_refused_and_boots_nothing() {
    let bench = Bench::new();
    let file = bench.update(2);
    let now = running(Slot::A, 1);
    let step = file.len() / 40;
    for at in (0..file.len()).step_by(step) {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        let (result, _) = try_install(&bench, &damaged, &now);
        assert!(result.is_err(), "byte {at} of {}", file.len());
        let (result, _) = try_install(&bench, &file[..at], &now);
        assert!(result.is_err(), "cut at {at}");
    }
    for garbage in [b"".as_slice(), b"PK\x03\x04 a zip file or so", &[0; 4096]] {
        refused(&bench, garbage, &now);
    }
    let huge = [b"BRMBUP1\n".as_slice(), &[0xff; 8], &[b'{'; 64]].concat();
    assert!(matches!(
        refused(&bench, &huge, &now),
        InstallError::Head(ReadHeadError::Length(u32::MAX, u32::MAX))
    ));
}

#[test]
fn a_body_that_is_not_what_was_signed_is_refused() {
    let bench = Bench::new();
    let now = running(Slot::A, 1);
    let other = bench.update(3);
    // The header of one and the body of the other, both by us.
    let file = bench.update_with(2, |header| header.body.bytes = u64::MAX);
    let head = file.len() - body_bytes(&file);
    let swapped = [&file[..head], &other[other.len() - body_bytes(&other)..]].concat();
    assert!(matches!(try_install(&bench, &swapped, &now).0, Err(InstallError::Digest)));
}

/// The body begins where gzip's magic does.
fn body_bytes(file: &[u8]) -> usize {
    let at = file.windows(3).position(|window| window == [0x1f, 0x8b, 0x08]).expect("gzip");
    file.len() - at
}
