//! What managers say to each other over `bramble-raft/1`: length-delimited postcard frames.
//!
//! Whoever dialled asks and the other side answers; requests carry numbers, so that many can be
//! under way at once. A `Ping` is answered by the connection itself, not by the consensus behind
//! it: silence therefore means a broken path, while a slow disk on the other side only means a
//! late answer. Variants are only ever appended.

use std::{io, time::Duration};

use bramble_cluster::{Command, NodeId, Outcome};
use bytes::{Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::codec::{FramedRead, FramedWrite, LengthDelimitedCodec};

use crate::consensus::types::{Ballot, Item, Position};

/// Most bytes in a frame. A message has at most one item beyond the bytes that a message is
/// filled up to, and an item is at most as large as a proposal.
pub(crate) const FRAME_BYTES: usize = 16 * 1024 * 1024;
/// Bytes of a snapshot in one frame.
pub(crate) const CHUNK_BYTES: usize = 64 * 1024;

/// A frame from the side that dialled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// Are you there?
    Ping,
    /// A request.
    Request(u64, Request),
    /// A piece of the snapshot that the request before it announced.
    Chunk(Vec<u8>),
}

/// A frame from the side that was dialled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// I am.
    Pong,
    /// The reply to a request.
    Reply(u64, Reply),
}

/// What is asked.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    /// A leader's items, or its heartbeat.
    Append(Append),
    /// A candidate asks for a vote.
    Vote(Candidacy),
    /// A node asks whether it would get a vote.
    PreVote(Candidacy),
    /// A leader hands over.
    Lead(Handover),
    /// A snapshot follows, in chunks.
    Snapshot(Offer),
    /// Commands for the leader.
    Propose(Vec<Command>),
    /// A leader tells a node that it does not vote any more.
    Dismiss(Dismissal),
}

/// Items from a leader.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Append {
    /// The vote that made it leader.
    pub(crate) ballot: Ballot,
    /// What is before the items.
    pub(crate) previous: Option<Position>,
    /// The items.
    pub(crate) items: Vec<Item>,
    /// What is committed.
    pub(crate) committed: Option<Position>,
    /// How long ago a quorum last answered the leader; `None` if not yet in its term.
    pub(crate) quorum_age: Option<Duration>,
    /// Whether the leader counts the receiver's vote. A voter with an empty log has lost it.
    pub(crate) is_voter: bool,
}

/// A request for a vote.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Candidacy {
    /// The vote asked for.
    pub(crate) ballot: Ballot,
    /// The candidate's last item.
    pub(crate) last: Option<Position>,
    /// Whether the leader asked for it.
    pub(crate) is_handover: bool,
}

/// A leader's request to take over from it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Handover {
    /// The leader's vote.
    pub(crate) ballot: Ballot,
    /// Who shall lead.
    pub(crate) successor: NodeId,
    /// What he must have.
    pub(crate) last: Option<Position>,
}

/// The announcement of a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Offer {
    /// The leader's vote.
    pub(crate) ballot: Ballot,
    /// How many bytes follow.
    pub(crate) bytes: u64,
    /// See [`Append::is_voter`].
    pub(crate) is_voter: bool,
}

/// What makes a node stop voting and forget its log.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Dismissal {
    /// The committed item that removed it.
    pub(crate) since: Position,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    /// To an append.
    Appended(Appended),
    /// To a candidate, or to one who would be.
    Voted(Voted),
    /// To a hand-over.
    Leading(Result<(), HandoverRefusal>),
    /// To a snapshot: the receiver's vote.
    Installed(Ballot),
    /// To commands.
    Proposed(Result<Vec<Outcome>, Refusal>),
    /// To a node that asks for votes without being a voter.
    NotAVoter(Dismissal),
    /// The receiver takes no part in the consensus.
    Dormant,
    /// The receiver is a voter whose log is gone.
    LogLost,
    /// The receiver does not take this from the sender, or its consensus has failed.
    Refused(String),
    /// Done.
    Done,
}

/// How an append went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Appended {
    /// All items are durable.
    All,
    /// The items up to a position are.
    UpTo(Option<Position>),
    /// What is before the items is missing or different.
    Conflict,
    /// A later vote was given.
    LaterVote(Ballot),
}

/// The answer to a candidate.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Voted {
    /// The vote given by now.
    pub(crate) ballot: Ballot,
    /// Whether it is for the candidate.
    pub(crate) is_granted: bool,
    /// The voter's last item.
    pub(crate) last: Option<Position>,
}

/// Why a node does not take over.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum HandoverRefusal {
    /// The votes differ: expected, found.
    VoteChanged(Ballot, Ballot),
    /// Items are missing: expected, found.
    ItemsMissing(Option<Position>, Option<Position>),
}

/// Why commands were not carried out here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Refusal {
    /// Somebody else leads, perhaps he.
    NotLeader(Option<NodeId>),
    /// There is no quorum.
    NoQuorum {
        /// Managers that answer, this one included.
        reachable: u32,
        /// Managers there are.
        managers: u32,
        /// Whether the commands may take effect once there is one again.
        may_apply: bool,
    },
    /// Leadership changed while they were under way.
    Uncertain,
    /// The consensus on this node has failed, or stops.
    Stopped(String),
    /// The leader's disk is full.
    DiskFull(NodeId),
}

/// The receiving half of a connection.
pub(crate) struct Receiver<R>(FramedRead<R, LengthDelimitedCodec>);

/// The sending half of a connection.
pub(crate) struct Sender<W>(FramedWrite<W, LengthDelimitedCodec>);

impl<R: AsyncRead + Unpin> Receiver<R> {
    /// Of a half.
    pub(crate) fn new(half: R) -> Self {
        Self(FramedRead::new(half, codec()))
    }

    /// The next frame; `None` once the other side has hung up.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> io::Result<Option<T>> {
        let Some(frame) = self.0.next().await.transpose()? else { return Ok(None) };
        decode(&frame).map(Some)
    }
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    /// Of a half.
    pub(crate) fn new(half: W) -> Self {
        Self(FramedWrite::new(half, codec()))
    }

    /// Sends a frame.
    pub(crate) async fn send<T: Serialize>(&mut self, message: &T) -> io::Result<()> {
        let bytes = postcard::to_allocvec(message)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.0.send(Bytes::from(bytes)).await
    }
}

fn decode<T: DeserializeOwned>(frame: &BytesMut) -> io::Result<T> {
    postcard::from_bytes(frame).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn codec() -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder().max_frame_length(FRAME_BYTES).new_codec()
}

#[cfg(test)]
mod tests;
