//! Reading what another board passes on.

use axum::body::{Body, BodyDataStream};
use futures_util::{StreamExt, stream};

use super::{
    gather::{Entries, Entry},
    line::received,
};
use crate::{
    error::ApiError,
    frames::{Channel, HEADER_BYTES, Header},
};

/// Bytes of a frame from another board at most; a board cuts longer lines.
const FRAME_BYTES: usize = 1 << 20;

/// The entries in an answer; whatever is wrong with it ends them with an error.
pub(super) fn entries(body: Body) -> Entries {
    let relay = Relay { pieces: body.into_data_stream(), buffer: Vec::new(), used: 0 };
    stream::unfold(Some(relay), |relay| async move {
        let mut relay = relay?;
        match relay.next().await {
            Ok(None) => None,
            Ok(Some(entry)) => Some((Ok(entry), Some(relay))),
            Err(reason) => {
                let message = format!("a log broke off: {reason}");
                Some((Err(ApiError::Unavailable(message)), None))
            }
        }
    })
    .boxed()
}

struct Relay {
    pieces: BodyDataStream,
    buffer: Vec<u8>,
    /// How much of the buffer was read.
    used: usize,
}

impl Relay {
    async fn next(&mut self) -> Result<Option<Entry>, String> {
        loop {
            if let Some(entry) = self.whole_frame()? {
                return Ok(Some(entry));
            }
            self.buffer.drain(..self.used);
            self.used = 0;
            match self.pieces.next().await {
                Some(Ok(piece)) => self.buffer.extend_from_slice(&piece),
                Some(Err(error)) => return Err(error.to_string()),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err("it ends within a line".to_owned()),
            }
        }
    }

    fn whole_frame(&mut self) -> Result<Option<Entry>, String> {
        let unread = &self.buffer[self.used..];
        let Some(head) = unread.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let header = Header::parse(*head).ok_or("it is not one")?;
        let length = usize::try_from(header.length).unwrap_or(usize::MAX);
        if length > FRAME_BYTES {
            return Err(format!("it has a line of {length} bytes"));
        }
        let Some(content) = unread.get(HEADER_BYTES..HEADER_BYTES + length) else {
            return Ok(None);
        };
        if header.channel == Channel::Engine {
            return Err(String::from_utf8_lossy(content).into_owned());
        }
        let entry = received(header.channel, content).ok_or("a line lacks its task and time")?;
        self.used += HEADER_BYTES + length;
        Ok(Some(entry))
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bramble_cluster::TaskId;

    use super::*;
    use crate::{board::LogLine, frames::frame, logs::line::passed_on};

    async fn read(bytes: &[u8], piece: usize) -> Vec<Result<Entry, ApiError>> {
        let pieces: Vec<_> =
            bytes.chunks(piece).map(|piece| Ok::<_, Infallible>(piece.to_vec())).collect();
        entries(Body::from_stream(stream::iter(pieces))).collect().await
    }

    #[tokio::test]
    async fn frames_are_read_however_they_arrive() {
        let task = TaskId::from_random(5);
        let lines: Vec<_> = (0..3)
            .map(|at| LogLine { at, is_error: at == 1, text: format!("line {at}\n").into() })
            .collect();
        let bytes: Vec<u8> = lines.iter().flat_map(|line| passed_on(task, line)).collect();
        let expected: Vec<_> = lines.into_iter().map(|line| Ok((task, line))).collect();
        for piece in [1, 7, 33, bytes.len()] {
            assert_eq!(read(&bytes, piece).await, expected, "in pieces of {piece}");
        }
    }

    #[tokio::test]
    async fn what_is_no_log_ends_with_an_error() {
        let engine = frame(Channel::Engine, b"cannot read the log");
        let short = frame(Channel::Stdout, b"no task");
        let whole =
            passed_on(TaskId::from_random(1), &LogLine { at: 1, is_error: false, text: vec![1] });
        for bytes in
            [&engine[..], &short, b"garbage, of course", &whole[..20], &[1, 0, 0, 0, 255, 0, 0, 0]]
        {
            let read = read(bytes, 64).await;
            assert!(matches!(read.as_slice(), [Err(ApiError::Unavailable(_))]), "{read:?}");
        }
    }
}
