//! The keeper's record of a container, and what can be asked of it.

use std::{
    fs,
    os::fd::OwnedFd,
    path::PathBuf,
    time::{Duration, Instant},
};

use bramble_cluster::{TaskId, Timestamp};
use nix::{libc, unistd::Pid};

use super::{
    cleaning::Cleaning,
    helper::Job,
    sessions::Asker,
    turn::{State, nanoseconds, timestamp},
};
use crate::{
    ContainerExit, ContainerState, ContainerStatus, KeeperEvent, Layout, Refusal,
    logs::Ring,
    protocol::{Answer, Order, OrderV1, StatusFile},
};

/// Containers on one board at most, ended ones included.
const CONTAINERS: usize = 1_000;
/// The longest grace period: a day.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// A container.
#[derive(Debug)]
pub(super) struct Container {
    pub(super) state: ContainerState,
    pub(super) order: OrderV1,
    /// Its first process, until it is reaped.
    pub(super) pid: Option<Pid>,
    /// How its first process ended, while the helper that started it has not reported yet.
    early_end: Option<(Pid, i32)>,
    /// Whether a helper starts it, or waits to.
    pub(super) has_helper: bool,
    pub(super) ring: Ring,
    pub(super) started_at: Timestamp,
    /// Kept open so that the container's input does not end.
    pub(super) stdin: Option<OwnedFd>,
    /// When it is to be killed.
    pub(super) kill_at: Option<Instant>,
    /// A stop that was asked for before it ran, with its grace period.
    stop_wish: Option<Duration>,
    pub(super) cleaning: Option<Cleaning>,
    /// Who waits for its start, and for its removal.
    pub(super) starters: Vec<Asker>,
    removers: Vec<Asker>,
}

impl Container {
    pub(super) fn new(log: PathBuf, order: OrderV1) -> Self {
        let ring = Ring::new(log, order.segment_bytes, order.segments);
        Self {
            state: ContainerState::Starting,
            order,
            pid: None,
            early_end: None,
            has_helper: false,
            ring,
            started_at: Timestamp::default(),
            stdin: None,
            kill_at: None,
            stop_wish: None,
            cleaning: None,
            starters: Vec::new(),
            removers: Vec::new(),
        }
    }

    /// When something must be done about it.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let cleaning = self.cleaning.as_ref().map(Cleaning::next_try);
        [self.kill_at, cleaning].into_iter().flatten().min()
    }

    /// Whether it has no process, no helper, and nothing to clean.
    pub(super) fn is_at_rest(&self) -> bool {
        self.pid.is_none() && !self.has_helper && self.cleaning.is_none()
    }

    /// Writes down what became of it, before anybody is told.
    pub(super) fn save(&self, layout: &Layout, id: TaskId) {
        let file = StatusFile::V1 { state: self.state.clone(), started_at: self.started_at };
        let bytes = postcard::to_stdvec(&file).unwrap_or_default();
        let path = layout.status(id);
        let unfinished = path.with_extension("new");
        let saved = fs::write(&unfinished, bytes).and_then(|()| fs::rename(&unfinished, &path));
        if let Err(error) = saved {
            tracing::warn!(path = %path.display(), %error, "a status could not be written");
        }
    }

    fn grace(&self) -> Duration {
        Duration::from_millis(self.order.grace_milliseconds).min(LONGEST_GRACE)
    }

    pub(super) fn signal(&self, signal: i32) {
        if let Some(pid) = self.pid {
            // SAFETY: sends a signal to a child that is not reaped, so the number is still its.
            unsafe { libc::kill(pid.as_raw(), signal) };
        }
    }
}

impl State {
    pub(super) fn start(&mut self, id: TaskId, asker: Asker) -> Result<Option<Answer>, Refusal> {
        if self.ending.is_some() {
            return Err(Refusal::Ending);
        }
        if self.containers.contains_key(&id) {
            return Err(Refusal::Exists { id });
        }
        if self.containers.len() >= CONTAINERS {
            let limit = CONTAINERS as u64;
            return Err(Refusal::OverLimit { what: "containers".to_owned(), limit });
        }
        let order =
            fs::read(self.options.layout.order(id)).map_err(|_| Refusal::NotFound { id })?;
        let Order::V1(order) = postcard::from_bytes(&order)
            .map_err(|error| Refusal::Malformed { reason: format!("the order: {error}") })?;
        let mut container = Container::new(self.options.layout.log(id), order);
        container.has_helper = true;
        container.started_at = timestamp();
        container.starters.push(asker);
        container.save(&self.options.layout, id);
        self.containers.insert(id, container);
        self.tell(id);
        self.enqueue(Job::Start { id });
        Ok(None)
    }

    pub(super) fn stop(&mut self, id: TaskId, grace: Option<Duration>) -> Result<Answer, Refusal> {
        let container = self.containers.get_mut(&id).ok_or(Refusal::NotFound { id })?;
        let grace = grace.map_or_else(|| container.grace(), |grace| grace.min(LONGEST_GRACE));
        match container.state {
            ContainerState::Starting => {
                container.stop_wish = Some(grace);
                self.forget_queued_start(id, "it was stopped before it started");
            }
            ContainerState::Running { .. } => {
                container.signal(container.order.stop_signal);
                let kill_at = Instant::now() + grace;
                container.kill_at = Some(container.kill_at.map_or(kill_at, |at| at.min(kill_at)));
            }
            ContainerState::Exited(_) | ContainerState::NotStarted { .. } => {}
        }
        Ok(Answer::Done)
    }

    pub(super) fn signal(&mut self, id: TaskId, signal: i32) -> Result<Answer, Refusal> {
        let container = self.containers.get(&id).ok_or(Refusal::NotFound { id })?;
        if !(1..=libc::SIGRTMAX()).contains(&signal) {
            return Err(Refusal::Malformed { reason: format!("{signal} is no signal") });
        }
        if !matches!(container.state, ContainerState::Running { .. }) {
            return Err(Refusal::NotRunning { id });
        }
        container.signal(signal);
        Ok(Answer::Done)
    }

    pub(super) fn remove(&mut self, id: TaskId, asker: Asker) -> Result<Option<Answer>, Refusal> {
        let Some(container) = self.containers.get_mut(&id) else {
            // Created and never started: there is nothing but files.
            return match fs::remove_dir_all(self.options.layout.bundle(id)) {
                Ok(()) => Ok(Some(Answer::Done)),
                Err(_) => Err(Refusal::NotFound { id }),
            };
        };
        container.removers.push(asker);
        container.signal(libc::SIGKILL);
        container.stop_wish = Some(Duration::ZERO);
        self.forget_queued_start(id, "it was removed before it started");
        self.finish_removal(id);
        Ok(None)
    }

    /// Removes a container that is to be removed, once nothing of it is left but files.
    pub(super) fn finish_removal(&mut self, id: TaskId) {
        let Some(container) = self.containers.get_mut(&id) else { return };
        if container.removers.is_empty() || !container.is_at_rest() {
            return;
        }
        let askers = std::mem::take(&mut container.removers);
        self.containers.remove(&id);
        drop(fs::remove_dir_all(self.options.layout.bundle(id)));
        self.broadcast(KeeperEvent::Removed { id });
        for asker in askers {
            self.answer(asker, Ok(Answer::Done));
        }
    }

    /// The helper says that the process went on: the container runs.
    pub(super) fn container_started(&mut self, id: TaskId) {
        let Some(container) = self.containers.get_mut(&id) else { return };
        let early_end = container.early_end.take();
        let Some(pid) = container.pid.or_else(|| early_end.map(|(pid, _)| pid)) else { return };
        container.has_helper = false;
        let pid = pid.as_raw().unsigned_abs();
        container.started_at = timestamp();
        container.state = ContainerState::Running { pid, since: container.started_at };
        container.save(&self.options.layout, id);
        let starters = std::mem::take(&mut container.starters);
        let wish = container.stop_wish.take();
        self.tell(id);
        for asker in starters {
            self.answer(asker, Ok(Answer::Started { pid }));
        }
        if let Some((_, code)) = early_end {
            self.container_ended(id, code);
        } else if let Some(grace) = wish {
            drop(self.stop(id, Some(grace)));
        }
    }

    /// It will never run.
    pub(super) fn container_not_started(&mut self, id: TaskId, reason: String) {
        let Some(container) = self.containers.get_mut(&id) else { return };
        container.has_helper = false;
        container.stdin = None;
        // Its process, if there is one, waits for a start that will not come.
        container.signal(libc::SIGKILL);
        container.early_end = None;
        if !matches!(container.state, ContainerState::Starting) {
            return;
        }
        container.state = ContainerState::NotStarted { reason: reason.clone(), at: timestamp() };
        container.save(&self.options.layout, id);
        let starters = std::mem::take(&mut container.starters);
        self.end_log(id);
        // Events come before answers: who has an answer finds it in what it knows.
        self.tell(id);
        for asker in starters {
            self.answer(asker, Err(Refusal::NotStarted { reason: reason.clone() }));
        }
        self.clean(id);
    }

    /// Its first process has ended and is reaped; with it, all others of the container have.
    pub(super) fn container_ended(&mut self, id: TaskId, code: i32) {
        let Some(container) = self.containers.get_mut(&id) else { return };
        let pid = container.pid.take();
        if matches!(container.state, ContainerState::Starting) && container.has_helper {
            container.early_end = pid.map(|pid| (pid, code));
            return;
        }
        container.stdin = None;
        container.kill_at = None;
        if matches!(container.state, ContainerState::Running { .. }) {
            let cgroup = self.options.layout.container_cgroup(id);
            let is_out_of_memory = code != 0 && self.hierarchies.memory_kills(&cgroup) > 0;
            let started_at = container.started_at;
            let exit = ContainerExit { code, is_out_of_memory, started_at, at: timestamp() };
            self.end_log(id);
            if let Some(container) = self.containers.get_mut(&id) {
                container.state = ContainerState::Exited(exit);
                container.save(&self.options.layout, id);
            }
            self.tell(id);
        }
        self.clean(id);
    }

    fn end_log(&mut self, id: TaskId) {
        self.drain_outputs(id);
        if let Some(container) = self.containers.get_mut(&id) {
            container.ring.end(nanoseconds());
        }
    }

    pub(super) fn kill_slow_containers(&mut self, now: Instant) {
        for container in self.containers.values_mut() {
            if container.kill_at.is_some_and(|at| at <= now) {
                container.kill_at = None;
                container.signal(libc::SIGKILL);
            }
        }
    }

    pub(super) fn stop_all_containers(&mut self) {
        let ids: Vec<TaskId> = self.containers.keys().copied().collect();
        for id in ids {
            drop(self.stop(id, None));
        }
    }

    pub(super) fn kill_all_containers(&mut self) {
        self.containers.values().for_each(|container| container.signal(libc::SIGKILL));
    }

    /// Tells every daemon where a container is.
    pub(super) fn tell(&mut self, id: TaskId) {
        if let Some(container) = self.containers.get(&id) {
            let status = ContainerStatus { id, state: container.state.clone() };
            self.broadcast(KeeperEvent::Container(status));
        }
    }
}
