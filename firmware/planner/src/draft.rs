//! A plan in the making.

use std::collections::{BTreeMap, BTreeSet};

use bramble_cluster::{
    ClusterState, Command, DesiredState, Restarts, Service, ServiceId, Slot, Task, TaskCause,
    TaskId, Timestamp, limits,
};

use crate::cluster::{Plan, Reason, Subject};

/// A plan in the making, and what the later steps need to know of the earlier ones.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    /// When it is made.
    pub(crate) now: Timestamp,
    commands: Vec<Command>,
    last: Vec<Command>,
    reasons: Vec<Reason>,
    wake_at: Option<Timestamp>,
    withdrawn: BTreeSet<TaskId>,
    requests: BTreeMap<(ServiceId, Slot), Request<'a>>,
    creations_left: usize,
}

/// A task that the orchestrator wants; the scheduler finds its place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Request<'a> {
    pub(crate) service: &'a Service,
    pub(crate) slot: Slot,
    pub(crate) cause: TaskCause,
    pub(crate) restarts: Restarts,
    /// Whether it is only made if there is a place for it now.
    pub(crate) is_optional: bool,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(state: &ClusterState, now: Timestamp) -> Self {
        Self {
            now,
            commands: Vec::new(),
            last: Vec::new(),
            reasons: Vec::new(),
            wake_at: None,
            withdrawn: BTreeSet::new(),
            requests: BTreeMap::new(),
            creations_left: limits::TASKS.saturating_sub(state.tasks().len()),
        }
    }

    pub(crate) fn into_plan(mut self) -> Plan {
        self.commands.append(&mut self.last);
        Plan { commands: self.commands, voters: None, reasons: self.reasons, wake_at: self.wake_at }
    }

    /// Whether nothing is to be done so far.
    pub(crate) fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.last.is_empty() && self.requests.is_empty()
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.commands.push(command);
    }

    /// A command that changes the version of an object others of this plan were planned against.
    pub(crate) fn last_command(&mut self, command: Command) {
        self.last.push(command);
    }

    pub(crate) fn reason(&mut self, subject: Subject, text: impl Into<String>) {
        self.reasons.push(Reason { subject, text: text.into() });
    }

    /// Plans again at `instant`, or at once if that is past.
    pub(crate) fn wake_at(&mut self, instant: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(instant, |earlier| earlier.min(instant)));
    }

    /// Whether `instant` has come. If not, the next plan is made then at the latest.
    pub(crate) fn is_due(&mut self, instant: Timestamp) -> bool {
        if instant > self.now {
            self.wake_at(instant);
        }
        instant <= self.now
    }

    /// Asks a task to end and stay as history, or forgets it if it was never given to a node.
    pub(crate) fn withdraw(&mut self, task: &Task) {
        self.end(task, DesiredState::Shutdown);
    }

    /// Asks a task to end and be forgotten.
    pub(crate) fn discard(&mut self, task: &Task) {
        if task.status.state.is_terminal() {
            self.forget(task);
        } else {
            self.end(task, DesiredState::Remove);
        }
    }

    /// Forgets a task that has ended or never had a node.
    pub(crate) fn forget(&mut self, task: &Task) {
        if self.withdrawn.insert(task.id) {
            self.command(Command::RemoveTask { id: task.id });
        }
    }

    fn end(&mut self, task: &Task, desired: DesiredState) {
        if task.node.is_none() {
            return self.forget(task);
        }
        if task.desired < desired && self.withdrawn.insert(task.id) {
            self.command(Command::SetDesiredState { id: task.id, desired });
        }
    }

    /// Whether this plan ends the task.
    pub(crate) fn is_withdrawn(&self, id: TaskId) -> bool {
        self.withdrawn.contains(&id)
    }

    /// Asks for a task in a slot, once: what was asked for first counts, unless it was optional.
    pub(crate) fn request(&mut self, request: Request<'a>) {
        let key = (request.service.id, request.slot);
        if !self.is_requested(key.0, key.1) {
            self.requests.insert(key, request);
        }
    }

    /// Whether this plan fills the slot.
    pub(crate) fn is_requested(&self, service: ServiceId, slot: Slot) -> bool {
        self.requests.get(&(service, slot)).is_some_and(|request| !request.is_optional)
    }

    pub(crate) fn take_requests(&mut self) -> Vec<Request<'a>> {
        std::mem::take(&mut self.requests).into_values().collect()
    }

    /// Whether one more task may be created; says so once if not.
    pub(crate) fn may_create(&mut self, service: ServiceId) -> bool {
        if self.creations_left == 0 {
            let text = format!("the cluster holds {} tasks, its limit", limits::TASKS);
            self.reason(Subject::Service(service), text);
            return false;
        }
        self.creations_left -= 1;
        true
    }
}
