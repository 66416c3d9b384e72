//! The messages of `bramble-join/1` as a stranger would write them: from their description alone.

use bramble_cluster::{ClusterId, NodeDescription, NodeId, Peer, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    V1 {
        credential: Credential,
        node: NodeId,
        description: NodeDescription,
        public_key: [u8; 32],
        possession: Vec<u8>,
    },
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Credential {
    Key([u8; 32]),
    Token([u8; 32]),
    Certificate,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    Admitted {
        proof: Option<[u8; 32]>,
        cluster: ClusterId,
        founded_at: Timestamp,
        certificate: Vec<u8>,
        authority: Vec<u8>,
        managers: Vec<Peer>,
        at: Timestamp,
    },
    Elsewhere {
        proof: Option<[u8; 32]>,
        managers: Vec<Peer>,
    },
    Refused(Refusal),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    NotProven,
    NotManager,
    Busy,
    Removed,
    SameIdentity,
    Failed(String),
}

/// A message as a frame.
pub(crate) fn frame<T: Serialize>(message: &T) -> Vec<u8> {
    let body = postcard::to_stdvec(message).expect("it can be encoded");
    let length = u32::try_from(body.len()).expect("it is short");
    [&length.to_be_bytes()[..], &body].concat()
}
