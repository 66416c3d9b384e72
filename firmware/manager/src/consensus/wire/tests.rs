use std::{collections::BTreeSet, sync::Arc};

use bramble_cluster::{Applied, Entry, Rejection, TaskId, Timestamp};
use proptest::prelude::{any, proptest};

use super::*;
use crate::consensus::types::{Content, Proposal, VoterSets};

const NODE: NodeId = NodeId::from_random(7);
const BALLOT: Ballot = Ballot { term: 3, candidate: NODE, is_won: true };
const POSITION: Position = Position { term: 3, index: 4 };

fn hex(message: &impl Serialize) -> String {
    let bytes = postcard::to_allocvec(message).expect("it is encoded");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn command() -> Command {
    Command::RemoveTask { id: TaskId::from_random(5) }
}

fn append() -> Append {
    let entry = Entry { at: Timestamp::from_millis(300), commands: vec![command()] };
    let voters = VoterSets {
        sets: vec![BTreeSet::from([NODE])],
        learners: BTreeSet::from([NodeId::from_random(8)]),
    };
    let contents =
        [Content::Blank, Content::Entry(Proposal(Arc::new(entry))), Content::Voters(voters)];
    Append {
        ballot: BALLOT,
        previous: Some(POSITION),
        items: contents.map(|content| Item { position: POSITION, content }).into(),
        committed: None,
        quorum_age: Some(Duration::from_millis(1_500)),
        is_voter: true,
    }
}

#[test]
fn the_bytes_of_what_is_asked_are_frozen() {
    let candidacy = || Candidacy { ballot: BALLOT, last: Some(POSITION), is_handover: false };
    let handover = Handover { ballot: BALLOT, successor: NODE, last: None };
    let offer = Offer { ballot: BALLOT, bytes: 300, is_voter: false };
    let asked = [
        Ask::Ping,
        Ask::Request(1, Request::Append(append())),
        Ask::Request(2, Request::Vote(candidacy())),
        Ask::Request(3, Request::PreVote(candidacy())),
        Ask::Request(4, Request::Lead(handover)),
        Ask::Request(5, Request::Snapshot(offer)),
        Ask::Request(6, Request::Propose(vec![command()])),
        Ask::Request(7, Request::Dismiss(Dismissal { since: POSITION })),
        Ask::Chunk(vec![1, 2, 3]),
    ];
    let frozen = [
        "00",
        "01010003070101030403030400030401ac02011005030402010107010800010180cab5ee0101",
        "01020103070101030400",
        "01030203070101030400",
        "0104030307010700",
        "010504030701ac0200",
        "010605011005",
        "0107060304",
        "0203010203",
    ];
    assert_eq!(asked.each_ref().map(hex), frozen);
}

#[test]
fn the_bytes_of_what_is_answered_are_frozen() {
    let voted = Voted { ballot: BALLOT, is_granted: true, last: Some(POSITION) };
    let missing = HandoverRefusal::ItemsMissing(Some(POSITION), None);
    let no_quorum = Refusal::NoQuorum { reachable: 1, managers: 3, may_apply: true };
    let outcomes = vec![Ok(Applied::Done), Err(Rejection::AlreadyFounded)];
    let answered = [
        Answer::Pong,
        Answer::Reply(1, Reply::Appended(Appended::All)),
        Answer::Reply(2, Reply::Appended(Appended::UpTo(Some(POSITION)))),
        Answer::Reply(3, Reply::Appended(Appended::Conflict)),
        Answer::Reply(4, Reply::Appended(Appended::LaterVote(BALLOT))),
        Answer::Reply(5, Reply::Voted(voted)),
        Answer::Reply(6, Reply::Leading(Ok(()))),
        Answer::Reply(7, Reply::Leading(Err(HandoverRefusal::VoteChanged(BALLOT, BALLOT)))),
        Answer::Reply(8, Reply::Leading(Err(missing))),
        Answer::Reply(9, Reply::Installed(BALLOT)),
        Answer::Reply(10, Reply::Proposed(Ok(outcomes))),
        Answer::Reply(11, Reply::Proposed(Err(Refusal::NotLeader(Some(NODE))))),
        Answer::Reply(12, Reply::Proposed(Err(no_quorum))),
        Answer::Reply(13, Reply::Proposed(Err(Refusal::Uncertain))),
        Answer::Reply(14, Reply::Proposed(Err(Refusal::Stopped("x".to_owned())))),
        Answer::Reply(15, Reply::Proposed(Err(Refusal::DiskFull(NODE)))),
        Answer::Reply(16, Reply::NotAVoter(Dismissal { since: POSITION })),
        Answer::Reply(17, Reply::Dormant),
        Answer::Reply(18, Reply::LogLost),
        Answer::Reply(19, Reply::Refused("x".to_owned())),
        Answer::Reply(20, Reply::Done),
    ];
    let frozen = [
        "00",
        "01010000",
        "01020001010304",
        "01030002",
        "01040003030701",
        "01050103070101010304",
        "01060200",
        "0107020100030701030701",
        "010802010101030400",
        "010903030701",
        "010a04000200000100",
        "010b0401000107",
        "010c040101010301",
        "010d040102",
        "010e0401030178",
        "010f04010407",
        "0110050304",
        "011106",
        "011207",
        "0113080178",
        "011409",
    ];
    assert_eq!(answered.each_ref().map(hex), frozen);
}

proptest! {
    #[test]
    fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let bytes = BytesMut::from(bytes.as_slice());
        let _ = decode::<Ask>(&bytes);
        let _ = decode::<Answer>(&bytes);
    }
}
