//! Who this board is: a key pair and a node id, made at its first boot and kept for ever.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use bramble_cluster::{Digest, NodeId};
use ring::{
    rand::{SecureRandom, SystemRandom},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use serde::{Deserialize, Serialize};

use crate::store::{self, StoreError};

const FILE: &str = "identity";

/// What precedes the 32 bytes of an Ed25519 key in its SubjectPublicKeyInfo (RFC 8410, section 4).
const SPKI_PREFIX: [u8; 12] =
    [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A board's identity. Copying its file to a second board is an error that both will report.
pub struct Identity {
    id: NodeId,
    private_key: Vec<u8>,
    pair: Ed25519KeyPair,
}

/// The public half of a board's key pair: an Ed25519 key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PublicKey(pub [u8; 32]);

/// The identity could not be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Its file could not be read or written.
    #[error("cannot keep this board's identity")]
    Store(#[source] StoreError),
    /// Its file is not one.
    #[error(
        "{} is not an identity; restore it, or remove it to make this a new board",
        path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The operating system has no randomness.
    #[error("the operating system gives no random numbers")]
    Randomness,
}

#[derive(Serialize, Deserialize)]
enum Stored {
    V1 { id: NodeId, private_key: Vec<u8> },
}

impl Identity {
    /// Loads the identity kept in `directory`, or makes and keeps a new one.
    pub fn load_or_create(directory: &Path) -> Result<Self, IdentityError> {
        let path = directory.join(FILE);
        if let Some(bytes) = store::read(&path).map_err(IdentityError::Store)? {
            let damaged = || IdentityError::Damaged { path: path.clone() };
            let Stored::V1 { id, private_key } =
                postcard::from_bytes(&bytes).map_err(|_| damaged())?;
            return Self::new(id, private_key).ok_or_else(damaged);
        }
        let random = SystemRandom::new();
        let document = Ed25519KeyPair::generate_pkcs8(&random);
        let private_key = document.map_err(|_| IdentityError::Randomness)?.as_ref().to_vec();
        let id = NodeId::from_random(draw().ok_or(IdentityError::Randomness)?);
        let bytes = postcard::to_stdvec(&Stored::V1 { id, private_key: private_key.clone() });
        let bytes = bytes.map_err(|_| IdentityError::Damaged { path: path.clone() })?;
        store::write(&path, &bytes).map_err(IdentityError::Store)?;
        Self::new(id, private_key).ok_or(IdentityError::Damaged { path })
    }

    fn new(id: NodeId, private_key: Vec<u8>) -> Option<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(&private_key).ok()?;
        Some(Self { id, private_key, pair })
    }

    /// The node id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The public half of the key pair.
    pub fn public_key(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// The private key, PKCS #8 DER.
    pub(crate) fn private_key(&self) -> &[u8] {
        &self.private_key
    }

    /// Signs a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Identity({})", self.id)
    }
}

impl PublicKey {
    /// What a node's id is tied to: the SHA-256 of the key's SubjectPublicKeyInfo.
    pub fn digest(&self) -> Digest {
        sha256(&[SPKI_PREFIX.as_slice(), &self.0].concat())
    }

    /// Whether this key signed the message.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl rcgen::PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ED25519
    }
}

/// Gives up the identity kept in `directory`: at its next start this is a new board, without a
/// cluster. What a removed node does before it joins again; wipe its log too.
pub fn forget_identity(directory: &Path) -> Result<(), IdentityError> {
    store::remove(&directory.join(FILE)).map_err(IdentityError::Store)
}

/// 128 random bits; `None` if the operating system has none.
pub(crate) fn draw() -> Option<u128> {
    let mut bytes = [0; 16];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(u128::from_le_bytes(bytes))
}

/// The SHA-256 of some bytes.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
    let mut array = [0; 32];
    array.copy_from_slice(digest.as_ref());
    Digest::from_bytes(array)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_made_once() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let first = Identity::load_or_create(directory.path())?;
        let second = Identity::load_or_create(directory.path())?;
        assert_eq!(first.id(), second.id());
        assert_eq!(first.public_key(), second.public_key());
        forget_identity(directory.path())?;
        let third = Identity::load_or_create(directory.path())?;
        assert_ne!(first.id(), third.id());
        assert_ne!(first.public_key(), third.public_key());
        Ok(())
    }

    #[test]
    fn a_damaged_identity_is_reported_and_not_replaced() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join(FILE);
        std::fs::write(&path, b"scribble")?;
        let error = Identity::load_or_create(directory.path()).expect_err("it is damaged");
        assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
        assert_eq!(std::fs::read(&path)?, b"scribble");
        Ok(())
    }

    #[test]
    fn signatures_are_bound_to_key_and_message() -> anyhow::Result<()> {
        let (one, other) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let one = Identity::load_or_create(one.path())?;
        let other = Identity::load_or_create(other.path())?;
        let signature = one.sign(b"message");
        assert!(one.public_key().has_signed(b"message", &signature));
        assert!(!one.public_key().has_signed(b"massage", &signature));
        assert!(!other.public_key().has_signed(b"message", &signature));
        Ok(())
    }
}
