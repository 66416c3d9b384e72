//! One node's session, at the leader's end.

use std::{sync::Arc, time::Duration};

use bramble_cluster::{
    AssignedTask, Assignment, Availability, ClusterState, Command, DesiredState, Image, Node,
    NodeDescription, NodeId, NodeState, Peer, Slot, Task, TaskReport, TaskState,
};
use bramble_peering::session::{
    Hello, LeaderMessage, NodeMessage, Receiver, Sender, SessionError, Welcome, leader_side,
};
use bramble_planner::assignment;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{Batch, Caller, Desk, Taken, managers, peer};
use crate::contacts::OpenContact;

/// A node says hello within this time of its connection.
const HELLO: Duration = Duration::from_secs(2);

/// While no leader is known, a node's question is held back for this long: an election usually
/// ends before, and then the answer is the right one at once.
const ELECTION: Duration = Duration::from_secs(1);

/// A message that cannot be sent for this long ends the session.
const SEND: Duration = Duration::from_secs(2);

/// A session in which nothing came for this long is over; its node is down for long by then.
const SILENCE: Duration = Duration::from_secs(5);

/// Acknowledgements that wait to be sent.
const TAKEN: usize = 64;

/// The session is over; `0` says why, for the log.
struct Over(String);

/// One node's open session.
struct Session {
    desk: Desk,
    node: NodeId,
    term: u64,
    sender: Sender<LeaderMessage>,
    receiver: Receiver<NodeMessage>,
    contact: OpenContact,
    replaced: oneshot::Receiver<()>,
    taken: mpsc::Receiver<Taken>,
    taken_sender: mpsc::Sender<Taken>,
    /// What the node was told last.
    assignment: Arc<Assignment>,
    managers: Vec<Peer>,
    is_leaving: bool,
    silent_at: Instant,
}

enum Event {
    Received(Result<Option<NodeMessage>, SessionError>),
    StateChanged,
    LeadershipChanged,
    Taken(Taken),
    Replaced,
    Silent,
}

/// Serves a node that opened a connection, until either side ends it.
pub(super) async fn serve<S>(desk: Desk, caller: Caller<S>)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let Caller { node, stream } = caller;
    let (mut sender, mut receiver) = leader_side(stream);
    let hello = match timeout(HELLO, receiver.receive()).await {
        Ok(Ok(Some(NodeMessage::Hello(hello)))) => hello,
        other => {
            tracing::debug!(%node, ?other, "a connection that does not begin with a hello");
            return;
        }
    };
    match admit(&desk, node, &hello).await {
        Ok((contact, replaced, term)) => {
            let (taken_sender, taken) = mpsc::channel(TAKEN);
            let session = Session {
                desk,
                node,
                term,
                sender,
                receiver,
                contact,
                replaced,
                taken,
                taken_sender,
                assignment: Arc::default(),
                managers: Vec::new(),
                is_leaving: false,
                silent_at: Instant::now() + SILENCE,
            };
            let Over(reason) = session.run(hello.description).await;
            tracing::info!(%node, reason, "session over");
        }
        Err(answer) => {
            if let Err(error) = sender.send(answer).await {
                tracing::debug!(%node, %error, "a node did not wait for its answer");
            }
        }
    }
}

/// Lets a node in, or says where to go or why not.
async fn admit(
    desk: &Desk,
    node: NodeId,
    hello: &Hello,
) -> Result<(OpenContact, oneshot::Receiver<()>, u64), LeaderMessage> {
    if !leads(desk).await {
        let (leader, managers) = desk.directions();
        let leader = leader.filter(|leader| leader.id != desk.seat.me);
        return Err(LeaderMessage::NotLeader { leader, managers });
    }
    let refused = |reason: String| LeaderMessage::Refused { reason };
    let state = desk.seat.state();
    if state.node(node).is_none() {
        let reason = match state.removed_nodes().contains_key(&node) {
            true => "this node was removed from the cluster",
            false => "this node is no member of the cluster",
        };
        return Err(refused(reason.to_owned()));
    }
    let term = desk.seat.leadership().term;
    let (contact, replaced) = desk
        .contacts
        .open(term, (node, hello.instance), desk.seat.now())
        .map_err(|error| refused(error.to_string()))?;
    Ok((contact, replaced, term))
}

/// Whether this node leads a live quorum. While nobody does, waits for a while.
async fn leads(desk: &Desk) -> bool {
    let mut leadership = desk.seat.leadership.clone();
    let decided = async {
        loop {
            let known = leadership.borrow_and_update().clone();
            match known.leader {
                // Deposed without knowing it yet: the successor may be known any moment.
                _ if known.is_leader_here && desk.seat.live_quorum_age().is_some() => return true,
                Some(leader) if leader != desk.seat.me => return false,
                // A worker does not take part in elections, it knows only what it was told.
                None if known.voters.is_empty() => return false,
                _ => {}
            }
            tokio::select! {
                changed = leadership.changed() => if changed.is_err() { return false },
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
    };
    timeout(ELECTION, decided).await.unwrap_or(false)
}

impl Session {
    async fn run(mut self, description: NodeDescription) -> Over {
        match self.converse(description).await {
            Ok(never) => match never {},
            Err(over) => over,
        }
    }

    async fn converse(
        &mut self,
        description: NodeDescription,
    ) -> Result<std::convert::Infallible, Over> {
        let state = self.desk.seat.state.borrow_and_update().clone();
        self.desk.seat.leadership.borrow_and_update();
        let leadership = self.desk.seat.leadership();
        self.managers = managers(&state, &leadership.voters);
        let welcome = Welcome {
            leader: self.desk.seat.me,
            term: self.term,
            now: self.desk.seat.now(),
            managers: self.managers.clone(),
        };
        self.send(LeaderMessage::Welcome(welcome)).await?;
        self.assign(&state, true).await?;
        self.describe(&state, description).await?;
        loop {
            match self.next().await {
                Event::Received(Ok(Some(message))) => self.received(message).await?,
                Event::Received(Ok(None)) => return Err(over("the node hung up")),
                Event::Received(Err(error)) => return Err(over(error)),
                Event::StateChanged => self.state_changed().await?,
                Event::LeadershipChanged => self.leadership_changed().await?,
                Event::Taken(Taken::Reports(sequence)) => {
                    self.send(LeaderMessage::ReportsTaken { sequence }).await?;
                }
                Event::Taken(Taken::Images(sequence)) => {
                    self.send(LeaderMessage::ImagesTaken { sequence }).await?;
                }
                Event::Replaced => {
                    // The end of the leadership has the same effect, and may be seen here first.
                    self.leadership_changed().await?;
                    return Err(over("a newer session took its place"));
                }
                Event::Silent => return Err(over("nothing was heard of the node")),
            }
        }
    }

    /// What happens next. Cancel-safe, so that every arm may be first.
    async fn next(&mut self) -> Event {
        let seat = &mut self.desk.seat;
        tokio::select! {
            message = self.receiver.receive() => Event::Received(message),
            Ok(()) = seat.state.changed() => Event::StateChanged,
            Ok(()) = seat.leadership.changed() => Event::LeadershipChanged,
            Some(taken) = self.taken.recv() => Event::Taken(taken),
            _ = &mut self.replaced => Event::Replaced,
            () = sleep_until(self.silent_at) => Event::Silent,
        }
    }

    async fn received(&mut self, message: NodeMessage) -> Result<(), Over> {
        self.silent_at = Instant::now() + SILENCE;
        let now = self.desk.seat.now();
        match message {
            NodeMessage::Heartbeat { number, vitals } => {
                self.contact.heard(now, vitals);
                // Without a live quorum the node is not to count on this leader.
                if let Some(quorum_age) = self.desk.seat.live_quorum_age() {
                    let answer = LeaderMessage::HeartbeatAnswer { number, now, quorum_age };
                    self.send(answer).await?;
                }
            }
            NodeMessage::Reports { sequence, reports } => {
                self.contact.heard(now, None);
                self.report(sequence, reports).await?;
            }
            NodeMessage::Images { sequence, images } => {
                let state = self.desk.seat.state();
                self.report_images(&state, sequence, images).await?;
            }
            NodeMessage::Describe(description) => {
                let state = self.desk.seat.state();
                self.describe(&state, description).await?;
            }
            NodeMessage::Leaving => {
                self.contact.leaving();
                self.is_leaving = true;
                let state = self.desk.seat.state();
                self.let_leave(&state).await?;
            }
            NodeMessage::Hello(_) => return Err(over("the node said hello twice")),
        }
        Ok(())
    }

    async fn state_changed(&mut self) -> Result<(), Over> {
        let state = self.desk.seat.state.borrow_and_update().clone();
        if state.node(self.node).is_none() {
            let reason = "this node was removed from the cluster".to_owned();
            self.send(LeaderMessage::Refused { reason }).await?;
            return Err(over("the node was removed"));
        }
        self.assign(&state, false).await?;
        self.let_leave(&state).await?;
        self.tell_managers(&state).await
    }

    async fn leadership_changed(&mut self) -> Result<(), Over> {
        let leadership = self.desk.seat.leadership.borrow_and_update().clone();
        if leadership.is_leader_here && leadership.term == self.term {
            let state = self.desk.seat.state();
            return self.tell_managers(&state).await;
        }
        let (_, managers) = self.desk.directions();
        let state = self.desk.seat.state();
        let leader = leadership.leader.filter(|leader| *leader != self.desk.seat.me);
        let leader = leader.and_then(|leader| peer(&state, leader));
        self.send(LeaderMessage::NotLeader { leader, managers }).await?;
        Err(over("this node leads no more"))
    }

    /// Hands the node its assignment, if there is anything new in it.
    async fn assign(&mut self, state: &ClusterState, is_first: bool) -> Result<(), Over> {
        let assignment = assignment(state, self.node, self.term);
        if !is_first && is_same_order(&assignment, &self.assignment) {
            return Ok(());
        }
        self.assignment = Arc::new(assignment);
        let message = LeaderMessage::Assignment(Arc::clone(&self.assignment));
        self.send(message).await
    }

    /// Tells a node that leaves when it may: said once.
    async fn let_leave(&mut self, state: &ClusterState) -> Result<(), Over> {
        if self.is_leaving && may_leave(state, self.node) {
            self.is_leaving = false;
            self.send(LeaderMessage::MayLeave).await?;
        }
        Ok(())
    }

    async fn tell_managers(&mut self, state: &ClusterState) -> Result<(), Over> {
        let leadership = self.desk.seat.leadership();
        let managers = managers(state, &leadership.voters);
        if managers == self.managers {
            return Ok(());
        }
        self.managers.clone_from(&managers);
        self.send(LeaderMessage::Managers(managers)).await
    }

    async fn report(&mut self, sequence: u64, reports: Vec<TaskReport>) -> Result<(), Over> {
        let command = Command::ReportTasks { node: self.node, reports };
        let taken = Some((self.taken_sender.clone(), Taken::Reports(sequence)));
        self.change(Batch { commands: vec![command], taken }).await
    }

    async fn describe(
        &mut self,
        state: &ClusterState,
        description: NodeDescription,
    ) -> Result<(), Over> {
        if state.node(self.node).is_some_and(|node| node.description == description) {
            return Ok(());
        }
        let command = Command::DescribeNode { id: self.node, description };
        self.change(Batch { commands: vec![command], taken: None }).await
    }

    async fn report_images(
        &mut self,
        state: &ClusterState,
        sequence: u64,
        images: Vec<Image>,
    ) -> Result<(), Over> {
        if holds_exactly(state, self.node, &images) {
            return self.send(LeaderMessage::ImagesTaken { sequence }).await;
        }
        let command = Command::ReportImages { node: self.node, images };
        let taken = Some((self.taken_sender.clone(), Taken::Images(sequence)));
        self.change(Batch { commands: vec![command], taken }).await
    }

    async fn change(&mut self, batch: Batch) -> Result<(), Over> {
        self.desk.batches.send(batch).await.map_err(|_| over("the manager stops"))
    }

    async fn send(&mut self, message: LeaderMessage) -> Result<(), Over> {
        match timeout(SEND, self.sender.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(over(error)),
            Err(_) => Err(over("a message could not be sent in time")),
        }
    }
}

/// Whether two assignments ask the same of the node. What the cluster believes of its tasks it has
/// from the node itself, and who holds an image only matters until it was fetched.
pub(super) fn is_same_order(new: &Assignment, old: &Assignment) -> bool {
    new.tasks.len() == old.tasks.len()
        && new.tasks.iter().zip(&old.tasks).all(|(new, old)| {
            // All are named: whoever adds one decides here whether it is an order.
            let AssignedTask {
                id,
                service: _,
                service_name: _,
                slot: _,
                spec: _,
                desired,
                status,
                image_holders,
                image,
                is_withheld,
            } = new;
            let is_fetching = status.state < TaskState::Starting;
            *id == old.id
                && *desired == old.desired
                && *image == old.image
                && *is_withheld == old.is_withheld
                && (!is_fetching || *image_holders == old.image_holders)
        })
}

/// Whether a node that leaves has nothing to wait for: whatever ran on it and can run elsewhere was
/// withdrawn from it, which the planner does once a replacement runs; or no other node takes tasks.
fn may_leave(state: &ClusterState, node: NodeId) -> bool {
    let takes_tasks = |other: &Node| {
        other.id != node
            && other.status.state == NodeState::Ready
            && other.spec.availability == Availability::Active
    };
    let is_replaceable = |task: &Task| {
        matches!(task.slot, Slot::Replica(_))
            && task.desired == DesiredState::Running
            && !task.status.state.is_terminal()
    };
    !state.nodes().values().any(|other| takes_tasks(other))
        || !state.tasks_on(node).any(|task| is_replaceable(task))
}

/// Whether the state says already that the node holds these images by these names.
fn holds_exactly(state: &ClusterState, node: NodeId, images: &[Image]) -> bool {
    let held = state.images().values().filter(|image| image.holders.contains(&node)).count();
    let is_known = |image: &Image| {
        let Some(known) = state.images().get(&image.digest) else { return false };
        let has_names = match known.holders.len() {
            1 => image.names == known.names,
            _ => image.names.is_subset(&known.names),
        };
        known.holders.contains(&node) && has_names && image.named_at <= known.named_at
    };
    held == images.len() && images.iter().all(is_known)
}

fn over(reason: impl ToString) -> Over {
    Over(reason.to_string())
}
