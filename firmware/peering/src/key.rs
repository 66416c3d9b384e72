//! The cluster key: what the boards of a batch have in common, and how they prove that they know it
//! without ever sending it.

use std::fmt;

use ring::hmac::{self, HMAC_SHA256};
use serde::{Deserialize, Serialize};

/// 32 random bytes, the same on every card of a batch.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKey([u8; 32]);

/// What a board announces instead of its key: equal keys have equal tags, and a tag does not tell
/// the key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ClusterTag([u8; 16]);

/// Names one TLS connection to both its ends, and to nobody in the middle (RFC 5705, RFC 9266).
#[derive(Clone, Copy)]
pub(crate) struct ChannelBinding(pub(crate) [u8; 32]);

/// Proof that one end of one connection knows a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof(pub(crate) [u8; 32]);

/// Which end of a connection proves. A proof of one end is none of the other, so that it cannot be
/// sent back.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side {
    /// The board that wants in.
    Joiner,
    /// The board that lets it in.
    Member,
}

impl ClusterKey {
    /// The key with these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// What to announce.
    pub fn tag(&self) -> ClusterTag {
        let key = hmac::Key::new(HMAC_SHA256, &self.0);
        let tag = hmac::sign(&key, b"bramble cluster tag 1");
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&tag.as_ref()[..16]);
        ClusterTag(bytes)
    }

    pub(crate) const fn secret(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for ClusterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("ClusterKey(..)")
    }
}

impl ClusterTag {
    /// Reads the 32 hexadecimal digits of a tag.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Display for ClusterTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ClusterTag {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "ClusterTag({self})")
    }
}

impl Proof {
    /// Proves `secret` on the connection that `binding` names.
    pub(crate) fn make(secret: &[u8], side: Side, binding: &ChannelBinding) -> Self {
        let tag = hmac::sign(&hmac::Key::new(HMAC_SHA256, secret), &side.statement(binding));
        let mut bytes = [0; 32];
        bytes.copy_from_slice(tag.as_ref());
        Self(bytes)
    }

    /// Whether this proves `secret`, in a time that does not tell how nearly it does.
    pub(crate) fn holds(&self, secret: &[u8], side: Side, binding: &ChannelBinding) -> bool {
        let key = hmac::Key::new(HMAC_SHA256, secret);
        hmac::verify(&key, &side.statement(binding), &self.0).is_ok()
    }
}

impl Side {
    fn statement(self, binding: &ChannelBinding) -> Vec<u8> {
        let label: &[u8] = match self {
            Self::Joiner => b"bramble join 1 joiner",
            Self::Member => b"bramble join 1 member",
        };
        [label, &binding.0].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proof_is_bound_to_secret_side_and_connection() {
        let (here, elsewhere) = (ChannelBinding([1; 32]), ChannelBinding([2; 32]));
        let proof = Proof::make(b"secret", Side::Joiner, &here);
        assert!(proof.holds(b"secret", Side::Joiner, &here));
        assert!(!proof.holds(b"secreT", Side::Joiner, &here));
        assert!(!proof.holds(b"secret", Side::Member, &here));
        assert!(!proof.holds(b"secret", Side::Joiner, &elsewhere));
    }

    #[test]
    fn tags_agree_exactly_when_keys_do() {
        let tag = ClusterKey::from_bytes([7; 32]).tag();
        assert_eq!(tag, ClusterKey::from_bytes([7; 32]).tag());
        assert_ne!(tag, ClusterKey::from_bytes([8; 32]).tag());
        assert_eq!(ClusterTag::parse(tag.to_string().as_bytes()), Some(tag));
        assert_eq!(ClusterTag::parse(b"short"), None);
        assert!(!format!("{:?}", ClusterKey::from_bytes([7; 32])).contains('7'));
    }
}
