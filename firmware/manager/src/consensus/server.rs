//! The answering side of a connection: what other managers ask of this node.

use std::{io, os::unix::fs::FileExt, sync::Arc, time::Duration};

use bramble_cluster::NodeId;
use openraft::{
    Snapshot,
    raft::{
        AppendEntriesRequest, AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest,
        VoteRequest,
    },
    rt::WatchReceiver as _,
};
use tokio::{
    io::{ReadHalf, WriteHalf},
    sync::{Semaphore, mpsc},
    time::timeout,
};

use crate::consensus::{
    Consensus, Running, folder,
    link::Duplex,
    snapshot::{SNAPSHOT_BYTES, SnapshotFile},
    space::FOLLOWERS_ROOM,
    standing::Event,
    types::{LogId, RaftEntry, Vote, Voter},
    wire::{
        Answer, Append, Appended, Ask, Candidacy, Dismissal, Handover, HandoverRefusal, Offer,
        Receiver, Reply, Request, Sender, Voted,
    },
};

/// Requests of one connection that are worked on at once.
const REQUESTS: usize = 64;
/// Answers of one connection that may wait to be sent.
const ANSWERS: usize = 64;
/// A sender of a snapshot that sends nothing for this long is given up.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(10);

impl Consensus {
    /// Answers a member until it hangs up. Whoever calls has authenticated it as `peer`.
    pub async fn serve(&self, peer: NodeId, stream: Box<dyn Duplex>) -> io::Result<()> {
        let (read, write) = tokio::io::split(stream);
        let mut receiver = Receiver::new(read);
        let (answers, outgoing) = mpsc::channel(ANSWERS);
        let writer = AbortOnDrop(tokio::spawn(write_all(Sender::new(write), outgoing)));
        let room = Arc::new(Semaphore::new(REQUESTS));
        self.inner.links.heard_of(peer);
        while !writer.0.is_finished()
            && let Some(ask) = receiver.receive::<Ask>().await?
        {
            self.inner.reach.heard_from(peer);
            match ask {
                Ask::Ping => send(&answers, Answer::Pong).await?,
                Ask::Request(number, Request::Snapshot(offer)) => {
                    let reply = self.receive_snapshot(peer, offer, &mut receiver, &answers).await?;
                    send(&answers, Answer::Reply(number, reply)).await?;
                }
                Ask::Request(number, request) => {
                    let permit =
                        Arc::clone(&room).acquire_owned().await.map_err(io::Error::other)?;
                    let (consensus, answers) = (self.clone(), answers.clone());
                    tokio::spawn(async move {
                        let reply = consensus.reply(peer, request).await;
                        // The connection may be gone by now.
                        let _ = answers.send(Answer::Reply(number, reply)).await;
                        drop(permit);
                    });
                }
                Ask::Chunk(_) => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a stray chunk"));
                }
            }
        }
        Ok(())
    }

    async fn reply(&self, peer: NodeId, request: Request) -> Reply {
        match request {
            Request::Append(append) => self.append(peer, append).await,
            Request::Vote(candidacy) => self.candidacy(peer, candidacy, true).await,
            Request::PreVote(candidacy) => self.candidacy(peer, candidacy, false).await,
            Request::Lead(handover) => self.lead(peer, handover).await,
            Request::Propose(commands) => Reply::Proposed(self.propose_here(commands).await),
            Request::Dismiss(dismissal) => {
                if (self.inner.trusts)(peer) {
                    self.inner.standing.report(Event::Dismissed(dismissal));
                }
                Reply::Done
            }
            Request::Snapshot(_) => Reply::Refused("a snapshot out of turn".to_owned()),
        }
    }

    /// The consensus of this node, begun now if a leader wants it to take part.
    async fn wake(
        &self,
        leader: NodeId,
        peer: NodeId,
        is_voter: bool,
    ) -> Result<Arc<Running>, Reply> {
        if leader != peer || !(self.inner.trusts)(peer) {
            return Err(Reply::Refused(format!("{peer} is not the leader it speaks for")));
        }
        if let Some(running) = self.running() {
            return Ok(running);
        }
        if is_voter {
            return Err(self.why_no_log().await);
        }
        self.begin(true).await.map_err(|error| Reply::Refused(error.to_string()))
    }

    /// What to tell a leader that counts the vote of this node, which has no log open: that it is
    /// lost only if it is not on the disk either.
    async fn why_no_log(&self) -> Reply {
        let may_begin = self.inner.lifecycle.lock().await;
        if !*may_begin || self.running().is_some() {
            return Reply::Refused("it begins or ends".to_owned());
        }
        let (folder, node) = (self.inner.folder.clone(), self.inner.node);
        match tokio::task::spawn_blocking(move || folder::holds_log(&folder, node)).await {
            Ok(Ok(false)) => Reply::LogLost,
            Ok(Ok(true)) => Reply::Refused("its log is closed".to_owned()),
            Ok(Err(error)) => Reply::Refused(error.to_string()),
            Err(error) => Reply::Refused(error.to_string()),
        }
    }

    async fn append(&self, peer: NodeId, append: Append) -> Reply {
        let running = match self.wake(append.ballot.candidate, peer, append.is_voter).await {
            Ok(running) => running,
            Err(refusal) => return refusal,
        };
        if !append.items.is_empty() && !running.space.has(FOLLOWERS_ROOM) {
            return Reply::Refused("its disk is full".to_owned());
        }
        let entries: io::Result<Vec<RaftEntry>> =
            append.items.into_iter().map(RaftEntry::try_from).collect();
        let entries = match entries {
            Ok(entries) => entries,
            Err(error) => return Reply::Refused(error.to_string()),
        };
        let request = AppendEntriesRequest {
            vote: append.ballot.into(),
            prev_log_id: append.previous.map(LogId::from),
            entries,
            leader_commit: append.committed.map(LogId::from),
        };
        match running.raft.append_entries(request).await {
            Ok(AppendEntriesResponse::HigherVote(vote)) => {
                Reply::Appended(Appended::LaterVote(vote.into()))
            }
            Ok(response) => {
                self.inner.standing.follow(peer, append.quorum_age);
                if matches!(response, AppendEntriesResponse::Success) {
                    self.fill(&running, append.is_voter, append.committed);
                }
                Reply::Appended(match response {
                    AppendEntriesResponse::PartialSuccess(id) => Appended::UpTo(id.map(Into::into)),
                    AppendEntriesResponse::Conflict => Appended::Conflict,
                    _ => Appended::All,
                })
            }
            Err(error) => Reply::Refused(error.to_string()),
        }
    }

    async fn candidacy(&self, peer: NodeId, candidacy: Candidacy, is_real: bool) -> Reply {
        if candidacy.ballot.candidate != peer || !(self.inner.trusts)(peer) {
            return Reply::Refused(format!("{peer} is not the candidate it speaks for"));
        }
        let Some(running) = self.running() else { return Reply::Dormant };
        if let Some(dismissal) = self.not_a_voter(&running, peer) {
            return Reply::NotAVoter(dismissal);
        }
        let request = VoteRequest {
            vote: Vote::from(candidacy.ballot),
            last_log_id: candidacy.last.map(LogId::from),
            leadership_transfer: candidacy.is_handover,
        };
        let answer = if is_real {
            running.raft.vote(request).await
        } else {
            running.raft.pre_vote(request).await
        };
        match answer {
            Ok(response) => Reply::Voted(Voted {
                ballot: response.vote.into(),
                is_granted: response.vote_granted,
                last: response.last_log_id.map(Into::into),
            }),
            Err(error) => Reply::Refused(error.to_string()),
        }
    }

    /// What to tell a node that campaigns although the managers, who have a leader, agreed to go
    /// on without it.
    fn not_a_voter(&self, running: &Running, peer: NodeId) -> Option<Dismissal> {
        self.inner.leadership.borrow().leader?;
        let metrics = running.raft.metrics();
        let metrics = metrics.borrow_watched();
        let committed = &metrics.committed_membership_config;
        let is_settled = committed.log_id() == metrics.membership_config.log_id()
            && committed.get_joint_config().len() == 1;
        let since = (*committed.log_id())?.into();
        (is_settled && committed.get_node(&Voter(peer)).is_none()).then_some(Dismissal { since })
    }

    async fn lead(&self, peer: NodeId, handover: Handover) -> Reply {
        if handover.ballot.candidate != peer || !(self.inner.trusts)(peer) {
            return Reply::Refused(format!("{peer} is not the leader it speaks for"));
        }
        let Some(running) = self.running() else { return Reply::Dormant };
        let request = TransferLeaderRequest::new(
            handover.ballot.into(),
            Voter(handover.successor),
            handover.last.map(LogId::from),
        );
        match running.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => Reply::Leading(Ok(())),
            Ok(Err(TransferLeaderError::VoteChanged { expected, actual })) => {
                Reply::Leading(Err(HandoverRefusal::VoteChanged(expected.into(), actual.into())))
            }
            Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual })) => {
                Reply::Leading(Err(HandoverRefusal::ItemsMissing(
                    expected.map(Into::into),
                    actual.map(Into::into),
                )))
            }
            Err(error) => Reply::Refused(error.to_string()),
        }
    }

    /// Receives a snapshot to a nameless file and installs it.
    async fn receive_snapshot(
        &self,
        peer: NodeId,
        offer: Offer,
        receiver: &mut Receiver<ReadHalf<Box<dyn Duplex>>>,
        answers: &mpsc::Sender<Answer>,
    ) -> io::Result<Reply> {
        let running = match self.wake(offer.ballot.candidate, peer, offer.is_voter).await {
            Ok(running) => running,
            Err(refusal) => return Ok(refusal),
        };
        if !running.space.has(FOLLOWERS_ROOM.saturating_add(offer.bytes.saturating_mul(2))) {
            return Ok(Reply::Refused("its disk is full".to_owned()));
        }
        if offer.bytes > SNAPSHOT_BYTES {
            return Ok(Reply::Refused(format!("a snapshot of {} bytes", offer.bytes)));
        }
        let file = running.snapshots.receiving()?;
        let mut received = 0;
        while received < offer.bytes {
            let ask = timeout(SNAPSHOT_PATIENCE, receiver.receive::<Ask>()).await??;
            match ask {
                Some(Ask::Chunk(chunk)) => {
                    self.inner.reach.heard_from(peer);
                    file.write_all_at(&chunk, received)?;
                    received += chunk.len() as u64;
                }
                Some(Ask::Ping) => send(answers, Answer::Pong).await?,
                Some(Ask::Request(..)) | None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let snapshot = SnapshotFile::new(file)?;
        let reader = snapshot.clone();
        let image = match tokio::task::spawn_blocking(move || reader.read()).await {
            Ok(Ok(image)) => image,
            Ok(Err(error)) => return Ok(Reply::Refused(error.to_string())),
            Err(error) => return Err(io::Error::other(error)),
        };
        let snapshot = Snapshot { meta: image.head.meta()?, snapshot };
        drop(image);
        Ok(match running.raft.install_full_snapshot(offer.ballot.into(), snapshot).await {
            Ok(response) => Reply::Installed(response.vote.into()),
            Err(error) => Reply::Refused(error.to_string()),
        })
    }
}

/// Ends a task when its owner goes.
pub(crate) struct AbortOnDrop<T>(pub(crate) tokio::task::JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn send(answers: &mpsc::Sender<Answer>, answer: Answer) -> io::Result<()> {
    answers.send(answer).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
}

async fn write_all(
    mut sender: Sender<WriteHalf<Box<dyn Duplex>>>,
    mut outgoing: mpsc::Receiver<Answer>,
) -> io::Result<()> {
    while let Some(answer) = outgoing.recv().await {
        sender.send(&answer).await?;
    }
    Ok(())
}
