//! The update file: `MAGIC`, two lengths, the header, its signature, and the compressed slot.
//!
//! The signature covers the header, and the header names the digests of what follows: so it is
//! known who made an update before a byte of it is written, and what was written afterwards.

use std::io::{self, Read, Write};

use bramble_cluster::Digest;
use semver::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::trust::{Trust, TrustError};

/// What an update file begins with; the number is the format's.
const MAGIC: &[u8; 8] = b"BRMBUP1\n";
/// Bytes of a header, at most.
const HEADER_BYTES_MAX: u32 = 4096;
/// Bytes of a signature, at most.
const SIGNATURE_BYTES_MAX: u32 = 1024;

/// What an update is. Fields that are not known are left alone: a later firmware may add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The boards that it is for: `rpi`, `qemu-arm64`, `qemu-x86_64`.
    pub board: String,
    /// The firmware's version.
    pub version: Version,
    /// Grows with each update that is published.
    pub counter: u64,
    /// How the slot is compressed.
    pub compression: Compression,
    /// The slot as it is on the card.
    pub slot: Content,
    /// The slot as it is in the file.
    pub body: Content,
}

/// How a slot is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// RFC 1952. Most of a slot is compressed already, and this takes 32 KiB to undo.
    Gzip,
}

/// Bytes by their number and digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// How many.
    pub bytes: u64,
    /// Their SHA-256.
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    pub sha256: Digest,
}

fn write_digest<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&digest.hex())
}

fn read_digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let hex = String::deserialize(deserializer)?;
    format!("sha256:{hex}").parse().map_err(de::Error::custom)
}

/// The beginning of a file is not that of an update that may be installed.
#[derive(Debug, thiserror::Error)]
pub enum ReadHeadError {
    /// It ends too early, or cannot be read.
    #[error("the update cannot be read: it breaks off")]
    Read(#[source] io::Error),
    /// It is something else.
    #[error("this is not a Bramble update file (*.bup)")]
    Magic,
    /// A length is beyond reason.
    #[error("the update is damaged: its header has {0} bytes, its signature {1}")]
    Length(u32, u32),
    /// Nobody we trust signed it.
    #[error(transparent)]
    Trust(TrustError),
    /// The header is not understood.
    #[error("the update's header is not understood: a newer firmware may be needed in between")]
    Header(#[source] serde_json::Error),
}

/// Reads a file up to its body, and believes nothing that is not signed.
///
/// # Errors
/// If it is no update, or nobody signed it whom we trust.
pub fn read_head(file: &mut dyn Read, trust: &Trust) -> Result<Header, ReadHeadError> {
    let (header, signature) = split_head(file)?;
    trust.verify(&signed_bytes(&header), &signature).map_err(ReadHeadError::Trust)?;
    serde_json::from_slice(&header).map_err(ReadHeadError::Header)
}

/// Reads what a file claims to be. Only for telling people: nothing of it is verified.
///
/// # Errors
/// If it is no update.
pub fn peek_head(file: &mut dyn Read) -> Result<Header, ReadHeadError> {
    let (header, _) = split_head(file)?;
    serde_json::from_slice(&header).map_err(ReadHeadError::Header)
}

/// The header's bytes, and its signature.
fn split_head(file: &mut dyn Read) -> Result<(Vec<u8>, String), ReadHeadError> {
    let mut start = [0; 16];
    file.read_exact(&mut start).map_err(ReadHeadError::Read)?;
    if start[..8] != *MAGIC {
        return Err(ReadHeadError::Magic);
    }
    let number = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&start[at..at + 4]);
        u32::from_le_bytes(bytes)
    };
    let (header_bytes, signature_bytes) = (number(8), number(12));
    if header_bytes > HEADER_BYTES_MAX || signature_bytes > SIGNATURE_BYTES_MAX {
        return Err(ReadHeadError::Length(header_bytes, signature_bytes));
    }
    let mut take = |bytes: u32| {
        let mut piece = vec![0; usize::try_from(bytes).unwrap_or(0)];
        file.read_exact(&mut piece).map_err(ReadHeadError::Read).map(|()| piece)
    };
    let (header, signature) = (take(header_bytes)?, take(signature_bytes)?);
    Ok((header, String::from_utf8_lossy(&signature).into_owned()))
}

/// What is signed of a header: its bytes, and what they are.
pub fn signed_bytes(header: &[u8]) -> Vec<u8> {
    [MAGIC.as_slice(), header].concat()
}

/// Writes a file up to its body. `sign` makes a minisign signature of the bytes it is given.
///
/// # Errors
/// If the file cannot be written, or `sign` fails.
pub fn write_head(
    file: &mut dyn Write,
    header: &Header,
    sign: impl FnOnce(&[u8]) -> io::Result<String>,
) -> io::Result<()> {
    let header = serde_json::to_vec(header)?;
    let signature = sign(&signed_bytes(&header))?;
    let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    file.write_all(MAGIC)?;
    file.write_all(&length(header.len())?.to_le_bytes())?;
    file.write_all(&length(signature.len())?.to_le_bytes())?;
    file.write_all(&header)?;
    file.write_all(signature.as_bytes())
}
