//! Frames: four bytes of length, big endian, and one postcard value.

use std::io;

use bytes::{Buf, BufMut, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// A frame of a member may have at most this many bytes.
pub const FRAME_BYTES: usize = 16 * 1_024 * 1_024;

const HEADER_BYTES: usize = 4;

/// A frame could not be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The other side ended the conversation between two frames.
    #[error("the other side hung up")]
    Closed,
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The frame is longer than allowed here.
    #[error("a frame of {bytes} bytes is longer than the {limit} allowed")]
    TooLong {
        /// What the frame claims.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The frame's bytes are not what is expected here.
    #[error("a frame makes no sense")]
    Malformed(#[source] postcard::Error),
}

/// A frame could not be sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The connection broke.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// The message is longer than a frame may be.
    #[error("a message of {bytes} bytes is longer than the {limit} allowed")]
    TooLong {
        /// What it takes.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The message cannot be put into bytes.
    #[error("a message cannot be encoded")]
    Unencodable(#[source] postcard::Error),
}

/// Appends the frame of a message.
pub(crate) fn encode<T: Serialize>(
    message: &T,
    limit: usize,
    buffer: &mut BytesMut,
) -> Result<(), SendError> {
    let body = postcard::to_stdvec(message).map_err(SendError::Unencodable)?;
    let too_long = || SendError::TooLong { bytes: body.len(), limit };
    let length = u32::try_from(body.len()).map_err(|_| too_long())?;
    if body.len() > limit {
        return Err(too_long());
    }
    buffer.reserve(HEADER_BYTES + body.len());
    buffer.put_u32(length);
    buffer.put_slice(&body);
    Ok(())
}

/// Takes the first frame out of what was received; `None` if it is not whole yet.
pub(crate) fn decode<T: DeserializeOwned>(
    buffer: &mut BytesMut,
    limit: usize,
) -> Result<Option<T>, ReceiveError> {
    let Some(header) = buffer.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
    let length = usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX);
    if length > limit {
        return Err(ReceiveError::TooLong { bytes: length, limit });
    }
    if buffer.len() < HEADER_BYTES + length {
        return Ok(None);
    }
    buffer.advance(HEADER_BYTES);
    let body = buffer.split_to(length);
    postcard::from_bytes(&body).map(Some).map_err(ReceiveError::Malformed)
}

/// Receives one frame. What was read beyond it stays in `buffer`; nothing is lost if the future is
/// dropped.
pub(crate) async fn receive<T: DeserializeOwned>(
    source: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
    limit: usize,
) -> Result<T, ReceiveError> {
    loop {
        if let Some(message) = decode(buffer, limit)? {
            return Ok(message);
        }
        if source.read_buf(buffer).await.map_err(ReceiveError::Io)? == 0 {
            return Err(match buffer.is_empty() {
                true => ReceiveError::Closed,
                false => ReceiveError::Io(io::ErrorKind::UnexpectedEof.into()),
            });
        }
    }
}

/// Writes all of `buffer`; if the future is dropped, `buffer` holds what is still to be written.
pub(crate) async fn flush(
    sink: &mut (impl AsyncWrite + Unpin),
    buffer: &mut BytesMut,
) -> io::Result<()> {
    while !buffer.is_empty() {
        if sink.write_buf(buffer).await? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    sink.flush().await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn messages_arrive_however_the_bytes_are_cut(
            messages in proptest::collection::vec(any::<String>(), 1..5), cut in 1usize..20,
        ) {
            let mut sent = BytesMut::new();
            for message in &messages {
                encode(message, 1_000, &mut sent).expect("it fits");
            }
            let (mut buffer, mut received) = (BytesMut::new(), Vec::new());
            for bytes in sent.chunks(cut) {
                buffer.extend_from_slice(bytes);
                while let Some(message) = decode::<String>(&mut buffer, 1_000).expect("sound") {
                    received.push(message);
                }
            }
            prop_assert!(buffer.is_empty());
            prop_assert_eq!(received, messages);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..99)) {
            let mut buffer = BytesMut::from(bytes.as_slice());
            while let Ok(Some(_)) = decode::<(String, Vec<u64>)>(&mut buffer, 64) {}
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_before_its_body_is_read() {
        let mut buffer = BytesMut::from([0xff, 0xff, 0xff, 0xff].as_slice());
        let refused = decode::<String>(&mut buffer, 64);
        assert!(matches!(refused, Err(ReceiveError::TooLong { limit: 64, .. })), "{refused:?}");
        let refused = encode(&"long".repeat(100), 64, &mut BytesMut::new());
        assert!(matches!(refused, Err(SendError::TooLong { bytes: 402, limit: 64 })));
    }

    #[tokio::test]
    async fn an_end_within_a_frame_is_not_a_clean_one() {
        let mut source = [0, 0, 0, 9, 1].as_slice();
        let broken = receive::<String>(&mut source, &mut BytesMut::new(), 64).await;
        assert!(matches!(broken, Err(ReceiveError::Io(_))), "{broken:?}");
        let mut source = [].as_slice();
        let closed = receive::<String>(&mut source, &mut BytesMut::new(), 64).await;
        assert!(matches!(closed, Err(ReceiveError::Closed)), "{closed:?}");
    }
}
