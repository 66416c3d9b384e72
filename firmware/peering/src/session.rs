//! `bramble-session/1`: what a node and the leader say to each other over one connection.
//!
//! The node opens the connection and says [`NodeMessage::Hello`]. A manager that leads answers
//! [`LeaderMessage::Welcome`] and from then on pushes the node's whole assignment whenever it
//! changes; any other board answers [`LeaderMessage::NotLeader`] with what it knows and hangs up.
//! Nothing here survives the connection: after a cut the node starts again with `Hello`, and says
//! everything that was not acknowledged again.
//!
//! Every frame is a length (4 bytes, big endian) and one postcard value, `V1(message)`. Variants
//! and their fields are frozen; new ones are appended.

use std::{fmt, io, marker::PhantomData, sync::Arc, time::Duration};

use bramble_cluster::{
    Assignment, Image, NodeDescription, NodeId, Peer, TaskReport, Timestamp, Vitals,
};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

/// A frame is refused beyond this many bytes: an assignment of some thousand tasks fits.
pub const FRAME_BYTES: usize = 16 * 1024 * 1024;

/// What a node says to the leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum NodeMessage {
    /// The first message, and only the first.
    Hello(Hello),
    /// Says that the node is there, every 200 ms.
    Heartbeat {
        /// Counts up from 1 in a session; the answer repeats it.
        number: u64,
        /// What the board's sensors say, with every 50th heartbeat.
        vitals: Option<Vitals>,
    },
    /// Where tasks are. Said again, with a new number, until it was taken.
    Reports {
        /// Counts up from 1 in a session; the answer repeats it.
        sequence: u64,
        /// The latest of each task.
        reports: Vec<TaskReport>,
    },
    /// All images that the node holds; replaces what it said before.
    Images {
        /// Chosen by the node; the answer repeats it.
        sequence: u64,
        /// Their `holders` are ignored.
        images: Vec<Image>,
    },
    /// What the node says of itself has changed (a new address, for one).
    Describe(NodeDescription),
    /// The board is about to go: start its tasks elsewhere first.
    Leaving,
}

/// How a node introduces itself. Who it is, its certificate has said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Drawn at each start of the daemon: tells a restarted daemon from a second board with a
    /// copied identity.
    pub instance: u128,
    /// What the node says of itself.
    pub description: NodeDescription,
}

/// What the leader (or who was taken for it) says to a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum LeaderMessage {
    /// The session is open.
    Welcome(Welcome),
    /// Try elsewhere; the connection ends here.
    NotLeader {
        /// The leader, as far as this board knows.
        leader: Option<Peer>,
        /// The managers, as far as this board knows.
        managers: Vec<Peer>,
    },
    /// The node may not open a session; the connection ends here.
    Refused {
        /// Why, in a person's words.
        reason: String,
    },
    /// Everything the node should run.
    Assignment(Arc<Assignment>),
    /// Reports are in the log of a quorum.
    ReportsTaken {
        /// The number of the last message they came in.
        sequence: u64,
    },
    /// Answers a heartbeat. Only a leader with a live quorum does.
    HeartbeatAnswer {
        /// The number of the heartbeat.
        number: u64,
        /// The cluster clock.
        now: Timestamp,
        /// How long ago a quorum last followed this leader.
        quorum_age: Duration,
    },
    /// The managers have changed.
    Managers(Vec<Peer>),
    /// The node's images are in the log of a quorum.
    ImagesTaken {
        /// The number of the message.
        sequence: u64,
    },
    /// The node said that it leaves, and nothing more is gained by waiting: its tasks run
    /// elsewhere, or there is no elsewhere.
    MayLeave,
}

/// What a node learns when its session opens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// Who leads.
    pub leader: NodeId,
    /// In which term.
    pub term: u64,
    /// The cluster clock.
    pub now: Timestamp,
    /// The managers: whom to ask when this session breaks.
    pub managers: Vec<Peer>,
}

/// The root of every frame.
#[derive(Debug, Serialize, Deserialize)]
enum Frame<M> {
    V1(M),
}

/// A session broke.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection failed.
    #[error("the session's connection failed")]
    Connection(#[source] io::Error),
    /// What arrived is no message of this protocol.
    #[error("a frame of {bytes} bytes is no message of bramble-session/1")]
    Decode {
        /// The frame's size.
        bytes: usize,
        /// What postcard says.
        #[source]
        source: postcard::Error,
    },
    /// A message could not be written down.
    #[error("a message could not be encoded")]
    Encode(#[source] postcard::Error),
    /// A message is larger than the other side would take.
    #[error("a message of {bytes} bytes is over the limit of {FRAME_BYTES}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
}

/// Splits the node's end of a connection: it sends [`NodeMessage`]s.
pub fn node_side<S>(stream: S) -> (Sender<NodeMessage>, Receiver<LeaderMessage>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    split(stream)
}

/// Splits the leader's end of a connection: it sends [`LeaderMessage`]s.
pub fn leader_side<S>(stream: S) -> (Sender<LeaderMessage>, Receiver<NodeMessage>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    split(stream)
}

fn split<S, Out, In>(stream: S) -> (Sender<Out>, Receiver<In>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let (read, write) = tokio::io::split(stream);
    let sender =
        Sender { frames: FramedWrite::new(Box::pin(write), codec()), message: PhantomData };
    let receiver =
        Receiver { frames: FramedRead::new(Box::pin(read), codec()), message: PhantomData };
    (sender, receiver)
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES).new_codec()
}

type Reading = std::pin::Pin<Box<dyn AsyncRead + Send>>;
type Writing = std::pin::Pin<Box<dyn AsyncWrite + Send>>;

/// The sending half of a session.
pub struct Sender<M> {
    frames: FramedWrite<Writing, LengthDelimitedCodec>,
    message: PhantomData<fn(M)>,
}

/// The receiving half of a session.
pub struct Receiver<M> {
    frames: FramedRead<Reading, LengthDelimitedCodec>,
    message: PhantomData<fn() -> M>,
}

impl<M> fmt::Debug for Sender<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("session::Sender(..)")
    }
}

impl<M> fmt::Debug for Receiver<M> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("session::Receiver(..)")
    }
}

impl<M: Serialize> Sender<M> {
    /// Sends one message and flushes it.
    ///
    /// Not cancel-safe: a send that was dropped half-way ends the session.
    pub async fn send(&mut self, message: M) -> Result<(), SessionError> {
        let bytes = postcard::to_stdvec(&Frame::V1(message)).map_err(SessionError::Encode)?;
        if bytes.len() > FRAME_BYTES {
            return Err(SessionError::TooLarge { bytes: bytes.len() });
        }
        self.frames.send(Bytes::from(bytes)).await.map_err(SessionError::Connection)
    }
}

impl<M: DeserializeOwned> Receiver<M> {
    /// The next message, or `None` once the other side has hung up. Cancel-safe.
    pub async fn receive(&mut self) -> Result<Option<M>, SessionError> {
        let Some(frame) = self.frames.next().await else { return Ok(None) };
        let frame = frame.map_err(SessionError::Connection)?;
        match postcard::from_bytes(&frame) {
            Ok(Frame::V1(message)) => Ok(Some(message)),
            Err(source) => Err(SessionError::Decode { bytes: frame.len(), source }),
        }
    }
}

#[cfg(test)]
mod tests;
