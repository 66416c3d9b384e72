use super::*;

fn staged(counter: u64) -> Staged {
    Staged { version: Version::new(0, 2, 0), counter, slot: Slot::B }
}

fn on_trial() -> Ledger {
    let mut ledger = Ledger { counter: 5, staged: Some(staged(7)), ..Ledger::default() };
    assert_eq!(ledger.begin_trial(1), Some(staged(7)));
    ledger
}

#[test]
fn it_reads_back_and_garbage_is_an_empty_one() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Ledger::read(folder.path()), Ledger::default());
    let ledger = on_trial();
    ledger.write(folder.path()).unwrap();
    assert_eq!(Ledger::read(folder.path()), ledger);
    fs::write(folder.path().join(NAME), b"{\"counter\":").unwrap();
    assert_eq!(Ledger::read(folder.path()), Ledger::default());
}

#[test]
fn a_trial_that_is_kept_raises_the_counter() {
    let mut ledger = on_trial();
    assert!(ledger.started(Slot::B, false, 2));
    assert_eq!(ledger.trial.as_ref().map(|trial| trial.starts), Some(1));
    ledger.kept();
    assert_eq!(ledger, Ledger { counter: 7, ..Ledger::default() });
}

#[test]
fn a_trial_that_is_the_default_already_was_kept() {
    let mut ledger = on_trial();
    assert!(ledger.started(Slot::B, true, 2));
    assert_eq!(ledger, Ledger { counter: 7, ..Ledger::default() });
}

#[test]
fn the_old_slot_coming_back_is_a_failure_that_says_why() {
    let mut ledger = on_trial();
    assert!(ledger.started(Slot::A, true, 9));
    let failure = ledger.failure.clone().unwrap();
    assert!(failure.reason.contains("slot a came back"), "{}", failure.reason);
    assert_eq!((ledger.trial.clone(), ledger.staged.clone(), ledger.counter), (None, None, 5));
    assert!(!ledger.started(Slot::A, true, 10), "told once");
}
