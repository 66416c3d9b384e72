//! Finding the leader: ask the managers, several at a time, until one opens a session.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bramble_cluster::{NodeId, Peer};
use bramble_peering::session::{
    Hello, LeaderMessage, NodeMessage, Receiver, Sender, SessionError, Welcome, node_side,
};
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use super::{Dial, Managers};

/// How long after one manager the next is asked, while the first has not answered.
const STAGGER: Duration = Duration::from_millis(60);

/// How long one manager may take. One that knows no leader holds its answer back until it does.
const ATTEMPT: Duration = Duration::from_secs(3);

/// How long until a manager that sent us elsewhere, or failed, is asked again.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The pause doubles with each failure in a row, up to this.
const PAUSE_MOST: Duration = Duration::from_secs(2);

/// A session that was opened.
pub(super) struct Found {
    pub(super) welcome: Welcome,
    pub(super) sender: Sender<NodeMessage>,
    pub(super) receiver: Receiver<LeaderMessage>,
}

/// What became of asking one board.
enum Answer {
    Opened(Box<Found>),
    Elsewhere { leader: Option<Peer>, managers: Vec<Peer> },
    Refused { reason: String },
    Failed { reason: String },
}

/// Finds the leader and opens a session; takes as long as it takes. Cancel-safe.
pub(super) async fn find(dial: Dial, hello: Hello, managers: watch::Sender<Managers>) -> Found {
    let mut news = managers.subscribe();
    let mut asking =
        Asking { dial, hello, in_flight: FuturesUnordered::new(), boards: BTreeMap::new() };
    let mut next_start = Instant::now();
    loop {
        let known = news.borrow_and_update().clone();
        let candidate = asking.candidate(&known);
        let start_at = candidate.as_ref().map(|(_, at)| next_start.max(*at));
        tokio::select! {
            Some((board, answer)) = asking.in_flight.next(), if !asking.in_flight.is_empty() => {
                if let Some(found) = asking.answered(board, answer, &managers) {
                    return found;
                }
                // A hint at the leader is followed at once.
                next_start = Instant::now();
            }
            () = sleep_until(start_at.unwrap_or_else(Instant::now)), if start_at.is_some() => {
                if let Some((peer, _)) = candidate {
                    asking.ask(peer);
                    next_start = Instant::now() + STAGGER;
                }
            }
            // The sender is ours, so this never fails.
            _ = news.changed() => {}
        }
    }
}

/// The boards being asked.
struct Asking {
    dial: Dial,
    hello: Hello,
    in_flight: FuturesUnordered<BoxFuture<'static, (NodeId, Answer)>>,
    boards: BTreeMap<NodeId, Asked>,
}

/// One board that was asked before.
#[derive(Debug, Clone, Copy)]
struct Asked {
    is_in_flight: bool,
    again_at: Instant,
    pause: Duration,
}

impl Asking {
    /// Whom to ask next and when: whoever may be asked first, the leader before the others.
    fn candidate(&self, known: &Managers) -> Option<(Peer, Instant)> {
        let now = Instant::now();
        known
            .peers
            .iter()
            .filter_map(|peer| match self.boards.get(&peer.id) {
                Some(asked) if asked.is_in_flight => None,
                Some(asked) => Some((peer, asked.again_at.max(now))),
                None => Some((peer, now)),
            })
            .min_by_key(|(peer, at)| (*at, known.leader != Some(peer.id)))
            .map(|(peer, at)| (peer.clone(), at))
    }

    fn ask(&mut self, peer: Peer) {
        let asked = Asked { is_in_flight: true, again_at: Instant::now(), pause: PAUSE_FIRST };
        let id = peer.id;
        self.boards.entry(id).or_insert(asked).is_in_flight = true;
        let (dial, hello) = (Arc::clone(&self.dial), self.hello.clone());
        self.in_flight.push(Box::pin(async move {
            let answer = match timeout(ATTEMPT, ask(dial, peer, hello)).await {
                Ok(answer) => answer,
                Err(_) => Answer::Failed { reason: "no answer".to_owned() },
            };
            (id, answer)
        }));
    }

    /// Takes an answer in. Boards that did not open a session are asked again after a pause.
    fn answered(
        &mut self,
        board: NodeId,
        answer: Answer,
        managers: &watch::Sender<Managers>,
    ) -> Option<Found> {
        let now = Instant::now();
        let asked = self.boards.get_mut(&board)?;
        asked.is_in_flight = false;
        asked.again_at = now + asked.pause;
        match answer {
            Answer::Opened(found) => return Some(*found),
            Answer::Elsewhere { leader, managers: peers } => {
                asked.pause = PAUSE_FIRST;
                let hint = leader.as_ref().map(|leader| leader.id);
                learn(managers, leader, peers);
                if let Some(asked) = hint.and_then(|hint| self.boards.get_mut(&hint)) {
                    asked.again_at = asked.again_at.min(now + PAUSE_FIRST / 4);
                }
            }
            Answer::Refused { reason } => {
                tracing::warn!(%board, reason, "the leader refused a session");
                asked.pause = (asked.pause * 2).min(PAUSE_MOST);
            }
            Answer::Failed { reason } => {
                tracing::debug!(%board, reason, "a manager could not be asked");
                asked.pause = (asked.pause * 2).min(PAUSE_MOST);
            }
        }
        None
    }
}

async fn ask(dial: Dial, peer: Peer, hello: Hello) -> Answer {
    let stream = match dial(peer).await {
        Ok(stream) => stream,
        Err(error) => return Answer::Failed { reason: error.to_string() },
    };
    let (mut sender, mut receiver) = node_side(stream);
    match greet(&mut sender, &mut receiver, hello).await {
        Ok(Some(LeaderMessage::Welcome(welcome))) => {
            Answer::Opened(Box::new(Found { welcome, sender, receiver }))
        }
        Ok(Some(LeaderMessage::NotLeader { leader, managers })) => {
            Answer::Elsewhere { leader, managers }
        }
        Ok(Some(LeaderMessage::Refused { reason })) => Answer::Refused { reason },
        Ok(Some(_)) => Answer::Failed { reason: "it does not begin with a welcome".to_owned() },
        Ok(None) => Answer::Failed { reason: "it hung up".to_owned() },
        Err(error) => Answer::Failed { reason: error.to_string() },
    }
}

async fn greet(
    sender: &mut Sender<NodeMessage>,
    receiver: &mut Receiver<LeaderMessage>,
    hello: Hello,
) -> Result<Option<LeaderMessage>, SessionError> {
    sender.send(NodeMessage::Hello(hello)).await?;
    receiver.receive().await
}

/// Takes over what a board said of who manages and who leads.
pub(super) fn learn(managers: &watch::Sender<Managers>, leader: Option<Peer>, peers: Vec<Peer>) {
    managers.send_if_modified(|known| {
        let before = known.clone();
        known.learn(leader.as_ref().map(|leader| leader.id), peers);
        if let Some(leader) = leader
            && known.peers.iter().all(|peer| peer.id != leader.id)
        {
            known.peers.push(leader);
        }
        *known != before
    });
}
