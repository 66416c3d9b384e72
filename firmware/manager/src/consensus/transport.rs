//! How openraft reaches the other managers.

use std::{future::Future, io, time::Duration};

use bramble_cluster::NodeId;
use openraft::{
    OptionalSend, RaftNetworkFactory, RaftNetworkV2, Snapshot,
    errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable},
    network::{Backoff, RPCOption},
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderError,
        TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
    },
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    time::timeout,
};

use crate::consensus::{
    link::{Duplex, Lane, LinkError, Links},
    snapshot::SnapshotFile,
    standing::{Event, Standing},
    types::{CommittedLeaderId, Item, LogId, Types, Vote, Voter},
    wire::{
        Answer, Append, Appended, Ask, CHUNK_BYTES, Candidacy, Handover, HandoverRefusal, Offer,
        Receiver, Reply, Request, Sender,
    },
};

/// Items are given this long to become durable on a follower; its connection is watched besides.
const ITEMS_PATIENCE: Duration = Duration::from_secs(10);
/// A snapshot's receiver that makes no progress for this long is given up.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(10);
/// A receiver that installs a snapshot is asked for a sign of life this often.
const SNAPSHOT_PING: Duration = Duration::from_secs(1);
/// Pauses between attempts to replicate to a peer that cannot be reached. Short, because links
/// refuse without touching the network while they wait out their own back-off.
const PAUSES: [Duration; 4] = [
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(150),
    Duration::from_millis(200),
];

/// Makes clients.
#[derive(Debug, Clone)]
pub(crate) struct Transport {
    links: Links,
    standing: Standing,
}

/// A client for one peer.
#[derive(Debug)]
pub(crate) struct Client {
    peer: NodeId,
    links: Links,
    standing: Standing,
}

impl Transport {
    /// Over a node's links.
    pub(crate) fn new(links: Links, standing: Standing) -> Self {
        Self { links, standing }
    }
}

impl RaftNetworkFactory<Types> for Transport {
    type Network = Client;

    async fn new_client(&mut self, target: Voter, (): &()) -> Client {
        Client { peer: target.0, links: self.links.clone(), standing: self.standing.clone() }
    }
}

impl Client {
    async fn ask(
        &self,
        lane: Lane,
        request: Request,
        patience: Duration,
    ) -> Result<Reply, RPCError<Types>> {
        let reply = match timeout(patience, self.links.ask(self.peer, lane, request)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(LinkError::Unreachable { reason, .. })) => return Err(unreachable(&reason)),
            Ok(Err(LinkError::Broken { reason, .. })) => return Err(broken(&reason)),
            Err(_) => return Err(broken(&format!("no reply within {patience:?}"))),
        };
        match reply {
            Reply::NotAVoter(dismissal) => {
                self.standing.report(Event::Dismissed(dismissal));
                Err(unreachable("it says this node is not a voter"))
            }
            Reply::LogLost => {
                self.standing.report(Event::LogLost(self.peer));
                Err(unreachable("it has lost its log"))
            }
            Reply::Dormant => Err(unreachable("it takes no part in the consensus")),
            Reply::Refused(reason) => Err(unreachable(&reason)),
            reply => Ok(reply),
        }
    }

    async fn candidacy(
        &self,
        rpc: VoteRequest<Types>,
        is_real: bool,
        patience: Duration,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        let candidacy = Candidacy {
            ballot: rpc.vote.into(),
            last: rpc.last_log_id.map(Into::into),
            is_handover: rpc.leadership_transfer,
        };
        let request = if is_real { Request::Vote(candidacy) } else { Request::PreVote(candidacy) };
        match self.ask(Lane::Control, request, patience).await? {
            Reply::Voted(voted) => {
                let last = voted.last.map(LogId::from);
                Ok(VoteResponse::new(Vote::from(voted.ballot), last, voted.is_granted))
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn send_snapshot(
        &self,
        vote: Vote,
        file: SnapshotFile,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let stream = self.links.dial(self.peer).await.map_err(|error| unreachable_peer(&error))?;
        let (read, write) = tokio::io::split(stream);
        let offer = Offer {
            ballot: vote.into(),
            bytes: file.len(),
            is_voter: self.standing.is_voter(self.peer),
        };
        let (mut sender, mut receiver) = (Sender::new(write), Receiver::new(read));
        match transfer(&mut sender, &mut receiver, offer, &file).await {
            Ok(Reply::Installed(ballot)) => Ok(SnapshotResponse::new(ballot.into())),
            Ok(Reply::LogLost) => {
                self.standing.report(Event::LogLost(self.peer));
                Err(Unreachable::from_string("it has lost its log").into())
            }
            Ok(other) => Err(NetworkError::from_string(format!("{other:?}")).into()),
            Err(error) => Err(NetworkError::new(&error).into()),
        }
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RPCError<Types>> {
        let (lane, patience) = if rpc.entries.is_empty() {
            (Lane::Control, option.hard_ttl())
        } else {
            (Lane::Items, ITEMS_PATIENCE)
        };
        let append = Append {
            ballot: rpc.vote.into(),
            previous: rpc.prev_log_id.map(Into::into),
            items: rpc.entries.iter().map(Item::from).collect(),
            committed: rpc.leader_commit.map(Into::into),
            quorum_age: self.standing.quorum_age(),
            is_voter: self.standing.is_voter(self.peer),
        };
        match self.ask(lane, Request::Append(append), patience).await? {
            Reply::Appended(appended) => Ok(match appended {
                Appended::All => AppendEntriesResponse::Success,
                Appended::UpTo(position) => {
                    AppendEntriesResponse::PartialSuccess(position.map(LogId::from))
                }
                Appended::Conflict => AppendEntriesResponse::Conflict,
                Appended::LaterVote(ballot) => AppendEntriesResponse::HigherVote(ballot.into()),
            }),
            other => Err(unexpected(&other)),
        }
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.candidacy(rpc, true, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RPCError<Types>> {
        self.candidacy(rpc, false, option.hard_ttl()).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<CommittedLeaderId, Voter, (), SnapshotFile>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, snapshot.snapshot) => sent,
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RPCError<Types>> {
        let handover = Handover {
            ballot: (*request.from_leader()).into(),
            successor: request.to_node_id().0,
            last: request.last_log_id().copied().map(Into::into),
        };
        match self.ask(Lane::Control, Request::Lead(handover), option.hard_ttl()).await? {
            Reply::Leading(result) => Ok(result.map_err(|refusal| match refusal {
                HandoverRefusal::VoteChanged(expected, actual) => {
                    let (expected, actual) = (expected.into(), actual.into());
                    TransferLeaderError::VoteChanged { expected, actual }
                }
                HandoverRefusal::ItemsMissing(expected, actual) => {
                    let (expected, actual) = (expected.map(LogId::from), actual.map(LogId::from));
                    TransferLeaderError::LogNotFlushed { expected, actual }
                }
            })),
            other => Err(unexpected(&other)),
        }
    }

    fn backoff(&self) -> Option<Backoff> {
        let last = PAUSES.last().copied().unwrap_or_default();
        Some(Backoff::new(PAUSES.into_iter().chain(std::iter::repeat(last))))
    }
}

/// Sends a snapshot in chunks and waits until it is installed.
async fn transfer(
    sender: &mut Sender<WriteHalf<Box<dyn Duplex>>>,
    receiver: &mut Receiver<ReadHalf<Box<dyn Duplex>>>,
    offer: Offer,
    file: &SnapshotFile,
) -> io::Result<Reply> {
    let stalled = || io::Error::new(io::ErrorKind::TimedOut, "the receiver makes no progress");
    timeout(SNAPSHOT_PATIENCE, sender.send(&Ask::Request(0, Request::Snapshot(offer))))
        .await
        .map_err(|_| stalled())??;
    let mut offset = 0;
    while offset < file.len() {
        let chunk = file.chunk(offset, CHUNK_BYTES)?;
        offset += chunk.len() as u64;
        timeout(SNAPSHOT_PATIENCE, sender.send(&Ask::Chunk(chunk)))
            .await
            .map_err(|_| stalled())??;
    }
    let mut silence = Duration::ZERO;
    loop {
        match timeout(SNAPSHOT_PING, receiver.receive::<Answer>()).await {
            Ok(Ok(Some(Answer::Reply(_, reply)))) => return Ok(reply),
            Ok(Ok(Some(Answer::Pong))) => silence = Duration::ZERO,
            Ok(Ok(None)) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(Err(error)) => return Err(error),
            Err(_) if silence >= SNAPSHOT_PATIENCE => return Err(stalled()),
            Err(_) => {
                silence += SNAPSHOT_PING;
                sender.send(&Ask::Ping).await?;
            }
        }
    }
}

fn unreachable(reason: &str) -> RPCError<Types> {
    Unreachable::from_string(reason).into()
}

fn unreachable_peer(error: &LinkError) -> StreamingError<Types> {
    Unreachable::new(error).into()
}

fn broken(reason: &str) -> RPCError<Types> {
    NetworkError::from_string(reason).into()
}

fn unexpected(reply: &Reply) -> RPCError<Types> {
    broken(&format!("an answer to another question: {reply:?}"))
}
