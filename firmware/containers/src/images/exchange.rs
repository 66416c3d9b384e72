//! `bramble-blob/1`: boards hand each other blobs.
//!
//! The one who asks sends [`Request`] frames, the one who has answers each with a [`Reply`]
//! `Begin`, chunks and an `End` (or says why not), one request after the other on a stream. A
//! request begins at any offset, so a transfer that was cut goes on where it was, with whoever has
//! the blob. The stream comes from outside: this module knows nothing of who is at its other end,
//! and trusts him in nothing.

use std::{io, time::Duration};

use bramble_cluster::Digest;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::timeout,
};

mod fetch;
mod serve;

pub use fetch::FetchError;
pub use serve::ServeError;

/// Bytes of a blob in one frame.
const CHUNK_BYTES: usize = 128 * 1024;
/// Bytes in a frame, at most: a chunk and what says that it is one.
const FRAME_BYTES: usize = CHUNK_BYTES + 64;
/// How long one frame may take.
const FRAME_TIME: Duration = Duration::from_secs(10);

/// What is asked for. Variants are only ever appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Request {
    /// A blob from an offset on.
    Blob { digest: Digest, offset: u64 },
}

/// What is answered. Variants are only ever appended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Reply<'a> {
    /// The whole blob has this size; from the offset on it follows.
    Begin { size: u64 },
    /// The next bytes.
    Chunk(&'a [u8]),
    /// That was all.
    End,
    /// It is not here.
    Missing,
    /// It cannot be read, or not from there.
    Failed(&'a str),
}

/// Writes one frame: its length (four bytes, the highest first) and a value in postcard.
async fn send<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    buffer: &mut Vec<u8>,
    value: &T,
) -> io::Result<()> {
    buffer.clear();
    buffer.extend([0; 4]);
    *buffer = postcard::to_extend(value, std::mem::take(buffer)).map_err(io::Error::other)?;
    let length = u32::try_from(buffer.len() - 4).map_err(io::Error::other)?;
    buffer[..4].copy_from_slice(&length.to_be_bytes());
    let written = async {
        stream.write_all(buffer).await?;
        stream.flush().await
    };
    timeout(FRAME_TIME, written).await.map_err(|_| late())?
}

/// Reads the next frame into `buffer`; `false` if the stream ended between two frames.
async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut Vec<u8>,
    patience: Duration,
) -> io::Result<bool> {
    let mut length = [0; 4];
    match timeout(patience, stream.read(&mut length[..1])).await.map_err(|_| late())?? {
        0 => return Ok(false),
        _ => {
            timeout(FRAME_TIME, stream.read_exact(&mut length[1..])).await.map_err(|_| late())??
        }
    };
    let length = u32::from_be_bytes(length) as usize;
    if length > FRAME_BYTES {
        let reason = format!("a frame of {length} bytes, {FRAME_BYTES} are allowed");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    buffer.resize(length, 0);
    timeout(FRAME_TIME, stream.read_exact(buffer)).await.map_err(|_| late())??;
    Ok(true)
}

/// Reads a request that owns what it says.
fn parse<T: DeserializeOwned>(frame: &[u8]) -> io::Result<T> {
    postcard::from_bytes(frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn late() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the other board does not answer")
}

#[cfg(test)]
mod tests;
