//! The leader's loop: look at the state and at who was heard of, plan, propose, until there is
//! nothing left to do; then wait until something changes or the plan's time has come.
//!
//! Level-triggered: a wake-up carries nothing. Becoming leader, steady state and a node's loss are
//! one path. A plan that comes to nothing writes nothing.

use std::{collections::BTreeSet, convert::Infallible, time::Duration};

use bramble_cluster::{Applied, Command, NodeId, Timestamp};
use bramble_planner::{Plan, plan_cluster};
use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{Leadership, consensus::VotersError, contacts::Contacts, seat::Seat};

/// Rounds that may follow on one another without a wait. Far more than any plan takes to come to
/// its end; a plan that never ends is slowed down to one round in [`PAUSE`].
const ROUNDS: u32 = 100;

/// How long to wait after a round that achieved nothing: a rejected plan, a failed proposal.
const PAUSE: Duration = Duration::from_millis(100);

/// How long to wait before voters are changed again after it failed.
const VOTERS_PAUSE: Duration = Duration::from_secs(1);

/// A proposal that is not answered by then is given up; the next round looks again.
const PROPOSAL: Duration = Duration::from_secs(5);

/// What a change of the voters came to.
type VotersChange = BoxFuture<'static, (BTreeSet<NodeId>, Result<(), VotersError>)>;

/// The leader's loop.
pub(crate) struct Leader {
    seat: Seat,
    contacts: Contacts,
    edges: watch::Receiver<u64>,
    voters_change: Option<VotersChange>,
    voters_again_at: Instant,
}

impl Leader {
    pub(crate) fn new(seat: Seat, contacts: Contacts) -> Self {
        let edges = contacts.edges();
        Self { seat, contacts, edges, voters_change: None, voters_again_at: Instant::now() }
    }

    /// Leads whenever this node is the leader.
    pub(crate) async fn run(mut self) -> Infallible {
        loop {
            let (term, former_leader) = self.until_leading().await;
            tracing::info!(term, ?former_leader, "this node leads");
            self.contacts.begin(term, self.seat.now(), former_leader);
            self.lead(term).await;
            self.contacts.end(term);
            self.voters_change = None;
            tracing::info!(term, "this node leads no more");
        }
    }

    /// The term that this node leads, and who led before it.
    async fn until_leading(&mut self) -> (u64, Option<NodeId>) {
        loop {
            let leadership = self.seat.leadership.borrow_and_update().clone();
            if leadership.is_leader_here {
                let former = leadership.former_leader.filter(|former| *former != self.seat.me);
                return (leadership.term, former);
            }
            changed(&mut self.seat.leadership).await;
        }
    }

    /// One leadership, from its begin to its end.
    async fn lead(&mut self, term: u64) {
        let mut rounds = 0;
        loop {
            let leadership = self.seat.leadership.borrow_and_update().clone();
            if !leadership.is_leader_here || leadership.term != term {
                return;
            }
            let state = self.seat.state.borrow_and_update().clone();
            self.edges.borrow_and_update();
            let heard = self.contacts.heard(self.seat.me, leadership.voters.clone());
            let now = self.seat.now();
            let Plan { commands, voters, reasons, wake_at } = plan_cluster(&state, &heard, now);
            for reason in reasons {
                tracing::debug!(subject = ?reason.subject, "{}", reason.text);
            }
            self.change_voters(voters, &leadership.voters);
            let is_idle = commands.is_empty();
            let has_achieved = !is_idle && self.propose(term, commands).await;
            rounds = if is_idle { 0 } else { rounds + 1 };
            if has_achieved && rounds < ROUNDS {
                continue;
            }
            let pause = (!is_idle).then_some(PAUSE);
            if rounds == ROUNDS {
                tracing::warn!("planning does not come to an end, it is slowed down");
            }
            self.wait(wake_at, pause).await;
        }
    }

    /// Proposes what was planned; whether any of it took effect.
    async fn propose(&mut self, term: u64, commands: Vec<Command>) -> bool {
        let proposal = timeout(PROPOSAL, (self.seat.propose)(commands.clone()));
        let mut leadership = self.seat.leadership.clone();
        let is_deposed = |seen: &Leadership| !seen.is_leader_here || seen.term != term;
        let proposed = tokio::select! {
            proposed = proposal => proposed,
            _ = leadership.wait_for(is_deposed) => return false,
        };
        let outcomes = match proposed {
            Ok(Ok(outcomes)) => outcomes,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a plan could not be proposed");
                return false;
            }
            Err(_) => {
                tracing::warn!("a plan was not agreed on in time");
                return false;
            }
        };
        for (command, outcome) in commands.iter().zip(&outcomes) {
            if let Err(rejection) = outcome {
                tracing::debug!(?command, %rejection, "a planned command was rejected");
            }
        }
        outcomes.iter().any(|outcome| outcome.as_ref().is_ok_and(|it| *it != Applied::Unchanged))
    }

    /// Begins to make `wanted` the voters, unless they are or that is under way.
    fn change_voters(&mut self, wanted: Option<BTreeSet<NodeId>>, voters: &BTreeSet<NodeId>) {
        let Some(wanted) = wanted else { return };
        let is_due = self.voters_change.is_none() && Instant::now() >= self.voters_again_at;
        if wanted == *voters || !is_due {
            return;
        }
        tracing::info!(?voters, ?wanted, "the voters change");
        let change = (self.seat.change_voters)(wanted.clone());
        self.voters_change = Some(Box::pin(async move { (wanted, change.await) }));
    }

    /// Waits until something changes, the plan's time has come, or the pause is over.
    async fn wait(&mut self, wake_at: Option<Timestamp>, pause: Option<Duration>) {
        if let Some(pause) = pause {
            // Nothing that changes meanwhile is lost: the next round looks at everything.
            tokio::select! {
                () = sleep(pause) => {}
                () = changed(&mut self.seat.leadership) => {}
            }
            return;
        }
        let now = Instant::now();
        let planned =
            wake_at.map(|at| now + at.since(self.seat.now()).max(Duration::from_millis(1)));
        let voters_again = (self.voters_again_at > now).then_some(self.voters_again_at);
        let wake_at = [planned, voters_again].into_iter().flatten().min();
        let voters = async {
            match &mut self.voters_change {
                Some(change) => change.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = changed(&mut self.seat.state) => {}
            () = changed(&mut self.seat.leadership) => {}
            () = changed(&mut self.edges) => {}
            () = sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {}
            (wanted, result) = voters => {
                self.voters_change = None;
                if let Err(error) = result {
                    tracing::warn!(?wanted, %error, "the voters could not be changed");
                    self.voters_again_at = Instant::now() + VOTERS_PAUSE;
                }
            }
        }
    }
}

/// Waits for a change; for ever once there will be none, as then the whole process ends.
async fn changed<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests;
