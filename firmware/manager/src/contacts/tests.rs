//! Who counts as heard of.

use super::*;

const NODE: NodeId = NodeId::from_random(1);

fn at(milliseconds: u64) -> Timestamp {
    Timestamp::from_millis(milliseconds)
}

fn contacts() -> Contacts {
    let contacts = Contacts::new();
    contacts.begin(1, at(1_000), None);
    contacts
}

fn contact(contacts: &Contacts) -> Contact {
    let heard = contacts.heard(NODE, BTreeSet::new());
    heard.contacts.get(&NODE).copied().expect("known")
}

#[test]
fn a_session_is_heard_of_until_it_ends() {
    let contacts = contacts();
    let (entry, _replaced) = contacts.open(1, (NODE, 7), at(1_100)).expect("opens");
    entry.heard(at(1_300), Some(Vitals { cpu_permille: 5, ..Vitals::default() }));
    entry.heard(at(1_200), None);
    assert_eq!(
        contact(&contacts),
        Contact { last_heard: at(1_300), is_connected: true, is_leaving: false }
    );
    drop(entry);
    assert_eq!(
        contact(&contacts),
        Contact { last_heard: at(1_300), is_connected: false, is_leaving: false }
    );
    assert_eq!(contacts.vitals()[&NODE].cpu_permille, 5);
}

#[test]
fn heartbeats_wake_nobody_but_coming_leaving_and_going_do() {
    let contacts = contacts();
    let mut edges = contacts.edges();
    let (entry, _replaced) = contacts.open(1, (NODE, 7), at(1_100)).expect("opens");
    assert!(edges.has_changed().expect("open"));
    edges.mark_unchanged();
    entry.heard(at(1_300), None);
    assert!(!edges.has_changed().expect("open"));
    entry.leaving();
    assert!(edges.has_changed().expect("open"));
    assert!(contact(&contacts).is_leaving);
    edges.mark_unchanged();
    drop(entry);
    assert!(edges.has_changed().expect("open"));
}

#[test]
fn the_same_daemon_on_a_new_connection_replaces_its_old_session() {
    let contacts = contacts();
    let (old, mut replaced) = contacts.open(1, (NODE, 7), at(1_100)).expect("opens");
    let (new, _replaced) = contacts.open(1, (NODE, 7), at(1_200)).expect("opens");
    assert!(replaced.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
    old.heard(at(9_000), None);
    drop(old);
    assert!(contact(&contacts).is_connected, "the old session's end does not count");
    assert_eq!(contact(&contacts).last_heard, at(1_200));
    drop(new);
    assert!(!contact(&contacts).is_connected);
}

#[test]
fn a_second_board_with_the_same_identity_is_told_so() {
    let contacts = contacts();
    let (entry, mut replaced) = contacts.open(1, (NODE, 7), at(1_100)).expect("opens");
    let error = contacts.open(1, (NODE, 8), at(1_400)).expect_err("refused");
    assert!(error.to_string().contains("copied"), "{error}");
    assert!(replaced.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Empty));
    // A board that came back after a power cut takes over once the old session is silent.
    let (_new, _) = contacts.open(1, (NODE, 8), at(1_700)).expect("opens");
    drop(entry);
    assert!(contact(&contacts).is_connected);
}

#[test]
fn a_restarted_daemon_is_let_in_at_once() {
    let contacts = contacts();
    drop(contacts.open(1, (NODE, 7), at(1_100)).expect("opens"));
    contacts.open(1, (NODE, 8), at(1_110)).expect("opens");
}

#[test]
fn a_new_leadership_begins_with_nobody() {
    let contacts = contacts();
    let (entry, mut replaced) = contacts.open(1, (NODE, 7), at(1_100)).expect("opens");
    contacts.begin(2, at(2_000), Some(NODE));
    assert!(replaced.try_recv().is_err_and(|error| error == oneshot::error::TryRecvError::Closed));
    entry.heard(at(2_100), None);
    let heard = contacts.heard(NODE, BTreeSet::new());
    assert_eq!((heard.leading_since, heard.former_leader), (at(2_000), Some(NODE)));
    assert!(heard.contacts.is_empty());
    contacts.end(1);
    assert_eq!(contacts.term(), Some(2), "an old leadership's end does not end the new one");
    contacts.end(2);
    assert_eq!(contacts.term(), None);
}

#[test]
fn a_node_that_finds_the_leader_before_its_loop_does_is_not_forgotten() {
    let contacts = contacts();
    let (_entry, _replaced) = contacts.open(2, (NODE, 7), at(2_000)).expect("opens");
    contacts.begin(2, at(2_010), None);
    assert!(contact(&contacts).is_connected);
    assert_eq!(contacts.heard(NODE, BTreeSet::new()).leading_since, at(2_000));
}
