//! Links: this node's own connections to the other managers, dialled when there is something to
//! ask and kept while they work.
//!
//! To each peer there is one link a lane, so that heartbeats and votes never wait behind items;
//! snapshots dial for themselves. A link that cannot be dialled refuses at once until its back-off
//! has passed, or until the peer itself is heard of again. A link whose peer says nothing while an
//! answer is due is cut: a pulled cable sends no goodbye.

use std::{
    collections::BTreeMap,
    fmt, io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bramble_cluster::NodeId;
use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{Notify, mpsc, oneshot},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};

use crate::consensus::{
    reach::Reach,
    wire::{Answer, Ask, Receiver, Reply, Request, Sender},
};

/// Dialling takes no longer than this.
pub(crate) const DIAL_PATIENCE: Duration = Duration::from_millis(500);
/// A peer that owes an answer is asked for a sign of life when it was silent for this long.
const PING_AFTER: Duration = Duration::from_millis(200);
/// And given up when it was silent for this long.
const SILENCE: Duration = Duration::from_millis(600);
/// Requests to one peer that may wait to be sent.
const REQUESTS: usize = 256;
/// The first pause after a failed dial; each further one is twice as long, up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// A stream of bytes, both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// Opens a connection to a node, mutually authenticated.
pub type Dial =
    Arc<dyn Fn(NodeId) -> BoxFuture<'static, io::Result<Box<dyn Duplex>>> + Send + Sync>;

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Heartbeats and votes: small and urgent.
    Control,
    /// Items and proposals.
    Items,
}

/// Why a request got no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LinkError {
    /// It was never sent.
    #[error("{node} cannot be reached: {reason}")]
    Unreachable {
        /// The peer.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// It was perhaps received.
    #[error("the connection to {node} broke: {reason}")]
    Broken {
        /// The peer.
        node: NodeId,
        /// How.
        reason: String,
    },
}

/// All links of a node.
#[derive(Clone)]
pub(crate) struct Links {
    dial: Dial,
    reach: Reach,
    open: Arc<Mutex<BTreeMap<(NodeId, Lane), Link>>>,
}

#[derive(Clone)]
struct Link {
    calls: mpsc::Sender<Call>,
    heard: Arc<Notify>,
}

struct Call {
    request: Request,
    reply: oneshot::Sender<Result<Reply, LinkError>>,
}

impl fmt::Debug for Links {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Links").finish_non_exhaustive()
    }
}

impl Links {
    /// None yet.
    pub(crate) fn new(dial: Dial, reach: Reach) -> Self {
        Self { dial, reach, open: Arc::default() }
    }

    /// Asks a peer and waits for the reply, however long the peer takes while it shows signs of
    /// life. Dropping the future forgets the reply but not the request.
    pub(crate) async fn ask(
        &self,
        node: NodeId,
        lane: Lane,
        request: Request,
    ) -> Result<Reply, LinkError> {
        let (reply, answer) = oneshot::channel();
        let unreachable = |reason: &str| LinkError::Unreachable { node, reason: reason.to_owned() };
        self.link(node, lane)
            .calls
            .try_send(Call { request, reply })
            .map_err(|_| unreachable("too many requests wait"))?;
        answer.await.unwrap_or_else(|_| Err(unreachable("the link was closed")))
    }

    /// A connection that is not shared.
    pub(crate) async fn dial(&self, node: NodeId) -> Result<Box<dyn Duplex>, LinkError> {
        dial(&self.dial, node).await.map_err(|reason| LinkError::Unreachable { node, reason })
    }

    /// A peer has shown itself: links to it that wait out a back-off dial at once.
    pub(crate) fn heard_of(&self, node: NodeId) {
        for lane in [Lane::Control, Lane::Items] {
            if let Some(link) = self.lock().get(&(node, lane)) {
                link.heard.notify_one();
            }
        }
    }

    /// Closes all links.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn link(&self, node: NodeId, lane: Lane) -> Link {
        let mut open = self.lock();
        let link = open.get(&(node, lane)).filter(|link| !link.calls.is_closed());
        if let Some(link) = link {
            return link.clone();
        }
        let (calls, queue) = mpsc::channel(REQUESTS);
        let heard = Arc::new(Notify::new());
        let task = LinkTask {
            node,
            dial: Arc::clone(&self.dial),
            reach: self.reach.clone(),
            queue,
            heard: Arc::clone(&heard),
        };
        tokio::spawn(task.run());
        let link = Link { calls, heard };
        open.insert((node, lane), link.clone());
        link
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(NodeId, Lane), Link>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn dial(dial: &Dial, node: NodeId) -> Result<Box<dyn Duplex>, String> {
    match timeout(DIAL_PATIENCE, dial(node)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {DIAL_PATIENCE:?}")),
    }
}

/// The task behind one link.
struct LinkTask {
    node: NodeId,
    dial: Dial,
    reach: Reach,
    queue: mpsc::Receiver<Call>,
    heard: Arc<Notify>,
}

impl LinkTask {
    async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        while let Some(first) = self.queue.recv().await {
            match dial(&self.dial, self.node).await {
                Ok(stream) => {
                    pause = FIRST_PAUSE;
                    let reason = self.serve(stream, first).await.unwrap_or_else(|it| it);
                    tracing::debug!(peer = %self.node, reason, "link closed");
                }
                Err(reason) => {
                    self.refuse(first, &reason);
                    self.wait(pause, &reason).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    /// Refuses whatever is asked until the pause is over or the peer is heard of.
    async fn wait(&mut self, pause: Duration, reason: &str) {
        let over = Instant::now() + pause;
        loop {
            let call = tokio::select! {
                () = sleep_until(over) => return,
                () = self.heard.notified() => return,
                call = self.queue.recv() => call,
            };
            let Some(call) = call else { return };
            self.refuse(call, reason);
        }
    }

    fn refuse(&self, call: Call, reason: &str) {
        let error = LinkError::Unreachable { node: self.node, reason: reason.to_owned() };
        // Whoever asked may have lost patience.
        let _ = call.reply.send(Err(error));
    }

    /// Passes requests and replies until the connection breaks; says how it did.
    async fn serve(&mut self, stream: Box<dyn Duplex>, first: Call) -> Result<String, String> {
        let (read, write) = tokio::io::split(stream);
        let (to_write, outgoing) = mpsc::channel(REQUESTS);
        let (to_read, incoming) = mpsc::channel(REQUESTS);
        let mut writer = tokio::spawn(write_all(Sender::new(write), outgoing));
        let mut reader = tokio::spawn(read_all(Receiver::new(read), to_read));
        let mut session =
            Session { number: 0, pending: BTreeMap::new(), heard: Instant::now(), to_write };
        session.send(first);
        let reason = self.pass(&mut session, incoming, &mut writer, &mut reader).await;
        writer.abort();
        reader.abort();
        for (_, reply) in std::mem::take(&mut session.pending) {
            let error = LinkError::Broken { node: self.node, reason: reason.clone() };
            let _ = reply.send(Err(error));
        }
        Ok(reason)
    }

    async fn pass(
        &mut self,
        session: &mut Session,
        mut incoming: mpsc::Receiver<Answer>,
        writer: &mut tokio::task::JoinHandle<io::Result<()>>,
        reader: &mut tokio::task::JoinHandle<io::Result<()>>,
    ) -> String {
        let mut ticks = interval(PING_AFTER / 2);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                answer = incoming.recv() => match answer {
                    Some(answer) => {
                        self.reach.heard_from(self.node);
                        session.receive(answer);
                    }
                    None => return ending(reader.await),
                },
                ended = &mut *writer => return ending(ended),
                call = self.queue.recv() => match call {
                    Some(call) => session.send(call),
                    None => return "no longer needed".to_owned(),
                },
                _ = ticks.tick(), if !session.pending.is_empty() => {
                    if let Err(reason) = session.tick() {
                        return reason;
                    }
                }
            }
        }
    }
}

/// One connection of a link.
struct Session {
    number: u64,
    pending: BTreeMap<u64, oneshot::Sender<Result<Reply, LinkError>>>,
    heard: Instant,
    to_write: mpsc::Sender<Ask>,
}

impl Session {
    fn send(&mut self, call: Call) {
        // Time without an answer due is not silence.
        if self.pending.is_empty() {
            self.heard = Instant::now();
        }
        self.number += 1;
        self.pending.insert(self.number, call.reply);
        if self.to_write.try_send(Ask::Request(self.number, call.request)).is_err() {
            // The writer is stuck or gone; the caller is answered when the connection is cut.
            tracing::debug!("a request could not be handed to the connection");
        }
    }

    fn receive(&mut self, answer: Answer) {
        self.heard = Instant::now();
        if let Answer::Reply(number, reply) = answer
            && let Some(asker) = self.pending.remove(&number)
        {
            let _ = asker.send(Ok(reply));
        }
    }

    fn tick(&mut self) -> Result<(), String> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let silence = self.heard.elapsed();
        if silence >= SILENCE {
            return Err(format!("silent for {silence:?}"));
        }
        if silence >= PING_AFTER {
            // A full queue means that the writer is stuck, which silence will tell.
            let _ = self.to_write.try_send(Ask::Ping);
        }
        Ok(())
    }
}

async fn write_all(
    mut sender: Sender<tokio::io::WriteHalf<Box<dyn Duplex>>>,
    mut outgoing: mpsc::Receiver<Ask>,
) -> io::Result<()> {
    while let Some(ask) = outgoing.recv().await {
        sender.send(&ask).await?;
    }
    Ok(())
}

async fn read_all(
    mut receiver: Receiver<tokio::io::ReadHalf<Box<dyn Duplex>>>,
    incoming: mpsc::Sender<Answer>,
) -> io::Result<()> {
    while let Some(answer) = receiver.receive().await? {
        if incoming.send(answer).await.is_err() {
            break;
        }
    }
    Ok(())
}

fn ending(ended: Result<io::Result<()>, tokio::task::JoinError>) -> String {
    match ended {
        Ok(Ok(())) => "the other side hung up".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    }
}
