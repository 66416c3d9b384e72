//! The node's loop: look at what is ordered and what is here, plan, do, tell; then wait until
//! something changes.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bramble_cluster::{Assignment, Timestamp};
use bramble_containers::Containers;
use bramble_planner::node::{KILL_AGAIN_AFTER, NodeAction, NodePlan, plan_node};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use crate::{
    AgentError,
    jobs::{Done, Jobs, Outcome},
    orders::{Current, Orders},
    outbox::Outbox,
    work::{Step, Work},
};

/// Rounds without a wait. The second plans what the first one's actions make due later.
const ROUNDS: u32 = 3;

/// The node's loop.
#[derive(Debug)]
pub(crate) struct Reconciler {
    orders: Orders,
    current: watch::Receiver<Current>,
    containers: watch::Receiver<Containers>,
    outbox: Outbox,
    work: Work,
    jobs: Jobs,
    /// The session in which tasks were last reported.
    session: u64,
    /// What was last taken over from an assignment.
    known: Option<Arc<Assignment>>,
}

impl Reconciler {
    pub(crate) fn new(
        orders: Orders,
        containers: watch::Receiver<Containers>,
        outbox: Outbox,
        jobs: Jobs,
    ) -> Self {
        let current = orders.subscribe();
        Self {
            orders,
            current,
            containers,
            outbox,
            work: Work::default(),
            jobs,
            session: 0,
            known: None,
        }
    }

    /// Runs until the keeper is gone.
    pub(crate) async fn run(mut self) -> Result<Infallible, AgentError> {
        self.jobs.clean().await;
        loop {
            let mut wake_at = None;
            for _ in 0..ROUNDS {
                let plan = self.plan();
                wake_at = plan.wake_at;
                if !self.carry_out(plan) {
                    break;
                }
            }
            self.wait(wake_at).await?;
        }
    }

    /// Looks and plans.
    fn plan(&mut self) -> NodePlan {
        let current = self.current.borrow_and_update().clone();
        let containers = Arc::clone(&self.containers.borrow_and_update());
        if current.session != self.session {
            self.session = current.session;
            self.work.forget_reports();
        }
        let assignment = current.assignment;
        if self.known.as_ref().is_none_or(|known| !Arc::ptr_eq(known, &assignment)) {
            self.work.know(&assignment, &containers);
            let ids: std::collections::BTreeSet<_> =
                assignment.tasks.iter().map(|task| task.id).collect();
            self.outbox.retain(|id| ids.contains(&id));
            self.known = Some(Arc::clone(&assignment));
        }
        for id in self.work.newly_ended(&containers) {
            self.jobs.release(id);
        }
        let now = self.orders.now();
        let offset = self.orders.system_clock();
        let board_time = |at: Timestamp| offset.board_time(at);
        let observed = self.work.observed(&containers, self.orders.confirmed_at(), board_time);
        plan_node(&assignment, &observed, now)
    }

    /// Begins what was planned; whether there was anything.
    fn carry_out(&mut self, plan: NodePlan) -> bool {
        let now = self.orders.now();
        let has_actions = !plan.actions.is_empty();
        for action in plan.actions {
            self.begin(action, now);
        }
        for report in plan.reports {
            self.work.reported(&report, now);
            self.outbox.put(report, std::time::Instant::now());
        }
        has_actions
    }

    fn begin(&mut self, action: NodeAction, now: Timestamp) {
        match action {
            NodeAction::Prepare(id) => {
                let known = self.known.as_ref().map(|known| known.tasks.as_slice());
                let task = known.unwrap_or_default().iter().find(|task| task.id == id);
                if let Some(task) = task {
                    self.work.set(id, Step::Preparing { since: now });
                    self.jobs.prepare(task.clone());
                }
            }
            NodeAction::Start(id) => {
                self.work.set(id, Step::Starting { since: now });
                self.jobs.start(id);
            }
            // The keeper knows the signal, and kills after the grace period even without us.
            NodeAction::Signal { id, reason, .. } => {
                self.work.signalled(id, reason, now);
                self.jobs.stop(id, None);
            }
            NodeAction::Kill { id, reason } => {
                let is_due = self.work.killed_at(id).is_none_or(|at| now >= at + KILL_AGAIN_AFTER);
                if is_due {
                    self.work.killed(id, reason, now);
                    self.jobs.stop(id, Some(Duration::ZERO));
                }
            }
            NodeAction::Remove(id) => {
                self.work.set(id, Step::Removing);
                self.jobs.remove(id);
            }
        }
    }

    /// Waits until something changes or the plan's time has come.
    async fn wait(&mut self, wake_at: Option<Timestamp>) -> Result<(), AgentError> {
        let now = Instant::now();
        let soonest = Duration::from_millis(1);
        let wake_at = wake_at.map(|at| now + at.since(self.orders.now()).max(soonest));
        tokio::select! {
            changed = self.current.changed() => changed.map_err(|_| AgentError::Ended)?,
            changed = self.containers.changed() => changed.map_err(|_| AgentError::KeeperGone)?,
            done = self.jobs.next() => self.done(done),
            () = sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {}
        }
        // Whatever else has ended by now is looked at together.
        while let Some(done) = self.jobs.try_next() {
            self.done(done);
        }
        Ok(())
    }

    fn done(&mut self, done: Done) {
        let Done { id, outcome } = done;
        let at = self.orders.now();
        let is_preparing = matches!(self.work.step(id), Step::Preparing { .. });
        let is_starting = matches!(self.work.step(id), Step::Starting { .. });
        match outcome {
            Outcome::Prepared(Ok(())) if is_preparing => {
                self.work.set(id, Step::Prepared { since: at });
            }
            Outcome::Prepared(Err(error)) if is_preparing => {
                tracing::info!(%id, error, "a task could not be prepared");
                self.work.set(id, Step::Refused { error, at });
            }
            // From here on the keeper knows.
            Outcome::Started(Ok(())) if is_starting => self.work.set(id, Step::None),
            Outcome::Started(Err(error)) if is_starting => {
                tracing::info!(%id, error, "a task could not be started");
                self.work.set(id, Step::Failed { error, at });
            }
            Outcome::Removed => self.work.removed(id),
            Outcome::Prepared(_) | Outcome::Started(_) | Outcome::Nothing => {}
        }
    }
}
