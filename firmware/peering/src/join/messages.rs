//! What is said in `bramble-join/1`. Variants are only ever appended.

use bramble_cluster::{ClusterId, NodeDescription, NodeId, Peer, Role, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    PublicKey,
    key::{ChannelBinding, Proof},
};

/// Neither the question nor the answer is longer than this.
pub(crate) const JOIN_FRAME_BYTES: usize = 64 * 1_024;

/// The question.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Ask {
    V1 {
        credential: Credential,
        node: NodeId,
        description: NodeDescription,
        public_key: PublicKey,
        /// The signature of [`possession_message`]: whoever asks has the private key.
        possession: Vec<u8>,
    },
}

/// What the asking board shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Credential {
    /// That it knows the cluster key.
    Key(Proof),
    /// That it knows a join secret.
    Token(Proof),
    /// A certificate, in TLS.
    Certificate,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Answer {
    Admitted(Box<Admitted>),
    Elsewhere(Elsewhere),
    Refused(JoinRefusal),
}

/// The board is let in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Admitted {
    /// That the answering board knows the secret too.
    pub(crate) proof: Option<Proof>,
    pub(crate) cluster: ClusterId,
    pub(crate) founded_at: Timestamp,
    pub(crate) certificate: Vec<u8>,
    pub(crate) authority: Vec<u8>,
    pub(crate) managers: Vec<Peer>,
    pub(crate) at: Timestamp,
}

/// The board that was asked is a worker; these may let the board in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Elsewhere {
    pub(crate) proof: Option<Proof>,
    pub(crate) managers: Vec<Peer>,
}

/// Why a board is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum JoinRefusal {
    /// The proof does not hold: another key, a wrong or rotated token, a proof heard elsewhere.
    #[error("the cluster key differs, or the token is wrong or was rotated")]
    NotProven,
    /// The board that was asked is a worker and cannot check tokens.
    #[error("the board is a worker: ask a manager")]
    NotManager,
    /// There is too much to do.
    #[error("the board is busy")]
    Busy,
    /// The node was removed from the cluster.
    #[error("the node was removed from the cluster")]
    Removed,
    /// The node's id belongs to another key.
    #[error("another board has this node id")]
    SameIdentity,
    /// The cluster could not agree on it: no quorum, a limit.
    #[error("{0}")]
    Failed(String),
}

/// By what right a board is let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It knows the cluster key.
    Key,
    /// It knows the join secret of a role.
    Token(Role),
    /// It is a member and needs its next certificate.
    Certificate,
}

/// What a board signs to show that it has its private key, on this connection.
pub(crate) fn possession_message(binding: &ChannelBinding) -> Vec<u8> {
    [b"bramble join 1 possession".as_slice(), &binding.0].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..500)) {
            let _ = postcard::from_bytes::<Ask>(&bytes);
            let _ = postcard::from_bytes::<Answer>(&bytes);
        }
    }

    #[test]
    fn the_format_on_the_wire_does_not_change() -> anyhow::Result<()> {
        let ask = Ask::V1 {
            credential: Credential::Token(Proof([1; 32])),
            node: NodeId::from_random(2),
            description: NodeDescription { hostname: "a".to_owned(), ..Default::default() },
            public_key: PublicKey([3; 32]),
            possession: vec![4, 5],
        };
        let ones = "01".repeat(32);
        let threes = "03".repeat(32);
        assert_eq!(
            hex::encode(postcard::to_stdvec(&ask)?),
            format!("0001{ones}020161000000000000 00{threes}020405").replace(' ', "")
        );
        let admitted = Answer::Admitted(Box::new(Admitted {
            proof: Some(Proof([1; 32])),
            cluster: ClusterId::from_random(6),
            founded_at: Timestamp::from_millis(10),
            certificate: vec![7],
            authority: vec![8],
            managers: vec![],
            at: Timestamp::from_millis(9),
        }));
        assert_eq!(
            hex::encode(postcard::to_stdvec(&admitted)?),
            format!("0001{ones}060a01070108 0009").replace(' ', "")
        );
        let elsewhere = Answer::Elsewhere(Elsewhere { proof: None, managers: vec![] });
        assert_eq!(postcard::to_stdvec(&elsewhere)?, [1, 0, 0]);
        let refused = Answer::Refused(JoinRefusal::SameIdentity);
        assert_eq!(postcard::to_stdvec(&refused)?, [2, 4]);
        Ok(())
    }
}
