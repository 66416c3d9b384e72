//! Whose updates are accepted.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use minisign_verify::{PublicKey, Signature};

/// Keys that are read, at most: the current one, the recovery one, and their successors.
const KEYS_MAX: usize = 8;
/// Bytes of a key file, at most.
const KEY_BYTES_MAX: u64 = 1024;

/// The keys cannot be used, or none of them made a signature.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// They cannot be read.
    #[error("{} cannot be read", .0.display())]
    Read(PathBuf, #[source] io::Error),
    /// One of them is none.
    #[error("{} is not a minisign public key", .0.display())]
    Key(PathBuf, #[source] minisign_verify::Error),
    /// There are none.
    #[error("{} holds no key: this firmware accepts no updates", .0.display())]
    NoKeys(PathBuf),
    /// The signature is none.
    #[error("the update's signature cannot be read")]
    Signature(#[source] minisign_verify::Error),
    /// The signature was made by another key, or for something else.
    #[error("the update is not signed by a key that this board trusts")]
    Untrusted,
}

/// The keys whose signature makes an update acceptable.
#[derive(Debug, Clone)]
pub struct Trust(Vec<PublicKey>);

impl Trust {
    /// Reads every `*.pub` of a folder.
    ///
    /// # Errors
    /// If there is none, or one cannot be used.
    pub fn read(folder: &Path) -> Result<Self, TrustError> {
        let read = |error| TrustError::Read(folder.to_owned(), error);
        let mut files: Vec<PathBuf> = fs::read_dir(folder)
            .map_err(read)?
            .take(64)
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(read)?;
        files.retain(|path| path.extension().is_some_and(|extension| extension == "pub"));
        files.sort();
        files.truncate(KEYS_MAX);
        let mut keys = Vec::new();
        for path in files {
            let read = |error| TrustError::Read(path.clone(), error);
            if fs::metadata(&path).map_err(read)?.len() > KEY_BYTES_MAX {
                return Err(read(io::Error::from(io::ErrorKind::FileTooLarge)));
            }
            let text = fs::read_to_string(&path).map_err(read)?;
            let key = PublicKey::decode(&text);
            keys.push(key.map_err(|error| TrustError::Key(path.clone(), error))?);
        }
        match keys.is_empty() {
            true => Err(TrustError::NoKeys(folder.to_owned())),
            false => Ok(Self(keys)),
        }
    }

    /// Whether one of the keys signed the bytes.
    ///
    /// # Errors
    /// If none did.
    pub fn verify(&self, bytes: &[u8], signature: &str) -> Result<(), TrustError> {
        let signature = Signature::decode(signature).map_err(TrustError::Signature)?;
        let is_by = |key: &PublicKey| key.verify(bytes, &signature, false).is_ok();
        self.0.iter().any(is_by).then_some(()).ok_or(TrustError::Untrusted)
    }
}
