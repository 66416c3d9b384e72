//! The session's frames: what they look like on the wire, and that bad ones end the session.

use bramble_cluster::{Generation, Platform, Resources, Version};
use tokio::io::AsyncWriteExt;

use super::*;

fn encoded<M: Serialize>(message: M) -> String {
    hex::encode(postcard::to_stdvec(&Frame::V1(message)).expect("encodes"))
}

fn hello() -> NodeMessage {
    NodeMessage::Hello(Hello {
        instance: 7,
        description: NodeDescription {
            hostname: "pi-1".to_owned(),
            platform: Platform { os: "linux".to_owned(), architecture: "arm64".to_owned() },
            resources: Resources { nano_cpus: 4, memory_bytes: 300 },
            engine_version: "0.1.0".to_owned(),
            engine_labels: [("a".to_owned(), "b".to_owned())].into(),
            addresses: vec!["10.0.0.1:7420".parse().expect("an address")],
        },
    })
}

/// These bytes are what released boards speak: a change here is a new protocol version.
#[test]
fn the_wire_format_is_frozen() {
    assert_eq!(
        encoded(hello()),
        "00000704\
         70692d31056c696e75780561726d363404ac0205302e312e3001016101620100\
         0a000001fc39"
            .replace(char::is_whitespace, "")
    );
    assert_eq!(encoded(NodeMessage::Heartbeat { number: 300, vitals: None }), "0001ac0200");
    assert_eq!(encoded(NodeMessage::Reports { sequence: 1, reports: Vec::new() }), "00020100");
    let images = NodeMessage::Images { sequence: 2, images: Vec::new() };
    assert_eq!(encoded(images), "00030200");
    assert_eq!(encoded(NodeMessage::Leaving), "0005");
    assert_eq!(
        encoded(LeaderMessage::Welcome(Welcome {
            leader: NodeId::from_random(5),
            term: 2,
            now: Timestamp::from_millis(9),
            managers: Vec::new(),
        })),
        "000005020900"
    );
    let not_leader = LeaderMessage::NotLeader { leader: None, managers: Vec::new() };
    assert_eq!(encoded(not_leader), "00010000");
    assert_eq!(encoded(LeaderMessage::Refused { reason: "no".to_owned() }), "0002026e6f");
    let generation = Generation { term: 1, version: Version(2) };
    let assignment = Assignment { generation, ..Assignment::default() };
    assert_eq!(
        encoded(LeaderMessage::Assignment(Arc::new(assignment)))[..8],
        *"00030102",
        "an assignment starts with its generation"
    );
    assert_eq!(encoded(LeaderMessage::ReportsTaken { sequence: 4 }), "000404");
    assert_eq!(
        encoded(LeaderMessage::HeartbeatAnswer {
            number: 1,
            now: Timestamp::from_millis(2),
            quorum_age: Duration::from_millis(3),
        }),
        "0005010200c08db701"
    );
    assert_eq!(encoded(LeaderMessage::Managers(Vec::new())), "000600");
    assert_eq!(encoded(LeaderMessage::ImagesTaken { sequence: 4 }), "000704");
    assert_eq!(encoded(LeaderMessage::MayLeave), "0008");
}

#[tokio::test]
async fn messages_arrive_in_order_and_the_end_is_seen() {
    let (near, far) = tokio::io::duplex(64);
    let (mut sender, _receiver) = node_side(near);
    let (_sender, mut receiver) = leader_side(far);
    let writing = tokio::spawn(async move {
        sender.send(hello()).await.expect("sends");
        sender.send(NodeMessage::Leaving).await.expect("sends");
    });
    assert_eq!(receiver.receive().await.expect("receives"), Some(hello()));
    assert_eq!(receiver.receive().await.expect("receives"), Some(NodeMessage::Leaving));
    writing.await.expect("written");
    drop(_receiver);
    assert_eq!(receiver.receive().await.expect("ends"), None);
}

#[tokio::test]
async fn a_frame_that_is_no_message_ends_the_session() {
    let (mut near, far) = tokio::io::duplex(64);
    let (_sender, mut receiver) = leader_side(far);
    near.write_all(&[0, 0, 0, 3, 0, 99, 1]).await.expect("writes");
    let error = receiver.receive().await.expect_err("no message");
    assert!(matches!(error, SessionError::Decode { bytes: 3, .. }), "{error}");
}

#[tokio::test]
async fn a_frame_over_the_limit_is_refused_before_it_is_read() {
    let (mut near, far) = tokio::io::duplex(64);
    let (_sender, mut receiver) = leader_side(far);
    near.write_all(&[0xff, 0xff, 0xff, 0xff]).await.expect("writes");
    let error = receiver.receive().await.expect_err("too large");
    assert!(matches!(error, SessionError::Connection(_)), "{error}");
}
