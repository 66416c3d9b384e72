//! A session that is open.

use std::{collections::VecDeque, time::Duration};

use bramble_cluster::{TaskReport, Timestamp};
use bramble_peering::session::{
    LeaderMessage, NodeMessage, Receiver, Sender, SessionError, Welcome,
};
use bramble_planner::timing::HEARTBEAT;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until, timeout};

use super::{Found, Listing, Search, Session, search::learn};

/// Without an answer to a heartbeat for this long, other managers are asked as well.
const UNANSWERED: Duration = Duration::from_millis(500);

/// Without an answer for this long the connection is given up.
const SILENT: Duration = Duration::from_secs(5);

/// A message that cannot be sent for this long ends the session.
const SEND: Duration = Duration::from_secs(2);

/// Answers older than this many heartbeats are not waited for.
const HEARTBEATS_KEPT: usize = 50;

/// How a session ended.
pub(super) enum Ended {
    /// Another board leads and has opened a session already.
    Replaced(Box<Found>),
    /// Nothing was heard for too long; the search that is under way goes on.
    Silent(Search),
    /// The connection broke or the board leads no more.
    Closed(String),
}

/// A session that is open.
pub(super) struct Open<'a> {
    session: &'a mut Session,
    welcome: Welcome,
    sender: Sender<NodeMessage>,
    receiver: Receiver<LeaderMessage>,
    heartbeat: Interval,
    /// The number of the last heartbeat, and when those not yet answered were sent.
    number: u64,
    sent: VecDeque<(u64, Timestamp)>,
    answered_at: Instant,
    search: Option<Search>,
}

enum Event {
    Received(Result<Option<LeaderMessage>, SessionError>),
    Heartbeat,
    Reports,
    Images,
    Leaving,
    Found(Box<Found>),
}

impl<'a> Open<'a> {
    pub(super) fn new(session: &'a mut Session, found: Found) -> Self {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            session,
            welcome: found.welcome,
            sender: found.sender,
            receiver: found.receiver,
            heartbeat,
            number: 0,
            sent: VecDeque::new(),
            answered_at: Instant::now(),
            search: None,
        }
    }

    /// Runs until the session ends.
    pub(super) async fn run(mut self) -> Ended {
        if let Err(ended) = self.begin().await {
            return ended;
        }
        loop {
            let event = self.next().await;
            let outcome = match event {
                Event::Found(found) => return Ended::Replaced(found),
                Event::Received(Ok(Some(message))) => self.received(message),
                Event::Received(Ok(None)) => Err(closed("the leader hung up")),
                Event::Received(Err(error)) => Err(closed(error)),
                Event::Heartbeat => self.beat().await,
                Event::Reports => self.report().await,
                Event::Images => self.tell_images().await,
                Event::Leaving => self.leave().await,
            };
            if let Err(ended) = outcome {
                return ended;
            }
        }
    }

    /// Everything a new leader has to know, whether or not an earlier one was told.
    async fn begin(&mut self) -> Result<(), Ended> {
        let managers = std::mem::take(&mut self.welcome.managers);
        let leader = Some(self.welcome.leader);
        self.session.managers.send_if_modified(|known| known.learn(leader, managers));
        self.session.orders.session_began(&self.welcome);
        self.session.outbox.start_over();
        // Heartbeats first: the leader counts from them.
        self.beat().await?;
        self.tell_images().await?;
        if *self.session.is_leaving.borrow_and_update() {
            self.send(NodeMessage::Leaving).await?;
        }
        Ok(())
    }

    /// What happens next. Cancel-safe, so that every arm may be first.
    async fn next(&mut self) -> Event {
        let session = &mut *self.session;
        let due = session.outbox.next_due().map(Instant::from_std);
        let search = async {
            match &mut self.search {
                Some(search) => search.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            message = self.receiver.receive() => Event::Received(message),
            _ = self.heartbeat.tick() => Event::Heartbeat,
            () = session.outbox.changed() => Event::Reports,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Reports,
            Ok(()) = session.images.changed() => Event::Images,
            Ok(()) = session.is_leaving.changed() => Event::Leaving,
            found = search => Event::Found(Box::new(found)),
        }
    }

    fn received(&mut self, message: LeaderMessage) -> Result<(), Ended> {
        match message {
            LeaderMessage::Assignment(assignment) => self.session.orders.take(assignment),
            LeaderMessage::ReportsTaken { sequence } => self.session.outbox.acknowledge(sequence),
            LeaderMessage::HeartbeatAnswer { number, now, quorum_age } => {
                self.answered(number, now, quorum_age);
            }
            LeaderMessage::ImagesTaken { sequence } => {
                self.session.listed.send_if_modified(|listed| {
                    let is_newer = sequence > *listed;
                    *listed = (*listed).max(sequence);
                    is_newer
                });
            }
            LeaderMessage::MayLeave => self.session.orders.let_leave(),
            LeaderMessage::Managers(managers) => learn(&self.session.managers, None, managers),
            LeaderMessage::NotLeader { leader, managers } => {
                learn(&self.session.managers, leader, managers);
                return Err(closed("it leads no more"));
            }
            LeaderMessage::Refused { reason } => {
                tracing::warn!(reason, "the leader refused the session");
                return Err(closed(reason));
            }
            LeaderMessage::Welcome(_) => return Err(closed("welcomed twice")),
        }
        Ok(())
    }

    fn answered(&mut self, number: u64, now: Timestamp, quorum_age: Duration) {
        while let Some((sent, at)) = self.sent.pop_front() {
            if sent == number {
                self.session.orders.confirm(at, quorum_age, now);
                break;
            }
        }
        self.answered_at = Instant::now();
        self.search = None;
    }

    async fn beat(&mut self) -> Result<(), Ended> {
        let silence = self.answered_at.elapsed();
        if silence >= UNANSWERED && self.search.is_none() {
            tracing::info!(leader = %self.welcome.leader, "the leader does not answer, asking others");
            self.search = Some(self.session.search());
        }
        if silence >= SILENT
            && let Some(search) = self.search.take()
        {
            return Err(Ended::Silent(search));
        }
        let is_first = self.number == 0;
        let vitals = &mut self.session.vitals;
        let has_news = is_first || vitals.has_changed().unwrap_or(false);
        let vitals = has_news.then(|| vitals.borrow_and_update().clone());
        if vitals.is_some() {
            self.describe().await?;
        }
        self.number += 1;
        self.sent.push_back((self.number, self.session.orders.now()));
        if self.sent.len() > HEARTBEATS_KEPT {
            self.sent.pop_front();
        }
        self.send(NodeMessage::Heartbeat { number: self.number, vitals }).await
    }

    /// Says what the board is now, if that is not what was said last: addresses come and go.
    async fn describe(&mut self) -> Result<(), Ended> {
        let description = (self.session.describe)();
        if description == self.session.described {
            return Ok(());
        }
        self.session.described.clone_from(&description);
        self.send(NodeMessage::Describe(description)).await
    }

    async fn report(&mut self) -> Result<(), Ended> {
        let Some((sequence, mut reports)) = self.session.outbox.collect(std::time::Instant::now())
        else {
            return Ok(());
        };
        let orders = &self.session.orders;
        let in_cluster_time = |report: &mut TaskReport| {
            report.status.since = orders.cluster_time(report.status.since);
        };
        reports.iter_mut().for_each(in_cluster_time);
        self.send(NodeMessage::Reports { sequence, reports }).await
    }

    async fn tell_images(&mut self) -> Result<(), Ended> {
        let Listing { number, images } = self.session.images.borrow_and_update().clone();
        self.send(NodeMessage::Images { sequence: number, images: images.to_vec() }).await
    }

    async fn leave(&mut self) -> Result<(), Ended> {
        if *self.session.is_leaving.borrow_and_update() {
            self.send(NodeMessage::Leaving).await?;
        }
        Ok(())
    }

    async fn send(&mut self, message: NodeMessage) -> Result<(), Ended> {
        match timeout(SEND, self.sender.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(closed(error)),
            Err(_) => Err(closed("a message could not be sent in time")),
        }
    }
}

fn closed(reason: impl ToString) -> Ended {
    Ended::Closed(reason.to_string())
}
