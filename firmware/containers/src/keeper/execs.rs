//! Execs: further processes in running containers.

use std::os::fd::OwnedFd;

use bramble_cluster::TaskId;
use nix::{libc, unistd::Pid};

use super::{helper::Job, sessions::Asker, turn::State};
use crate::{ContainerState, ExecId, KeeperEvent, Refusal, protocol::Answer};

/// Execs on one board at most.
const EXECS: usize = 256;

/// An exec.
#[derive(Debug)]
pub(super) struct Exec {
    pid: Option<Pid>,
    /// How it ended, while its helper has not reported yet.
    early_end: Option<(Pid, i32)>,
    /// Who waits for its start; none once it runs.
    starter: Option<Asker>,
}

impl Exec {
    pub(super) fn pid(&self) -> Option<Pid> {
        self.pid
    }
}

impl State {
    pub(super) fn exec(
        &mut self,
        id: TaskId,
        exec: ExecId,
        has_terminal: bool,
        files: Vec<OwnedFd>,
        asker: Asker,
    ) -> Result<Option<Answer>, Refusal> {
        if self.ending.is_some() {
            return Err(Refusal::Ending);
        }
        let container = self.containers.get(&id).ok_or(Refusal::NotFound { id })?;
        if !matches!(container.state, ContainerState::Running { .. }) {
            return Err(Refusal::NotRunning { id });
        }
        let Ok(files) = <[OwnedFd; 3]>::try_from(files) else {
            return Err(Refusal::Malformed { reason: "an exec needs three streams".to_owned() });
        };
        if self.execs.len() >= EXECS {
            let limit = EXECS as u64;
            return Err(Refusal::OverLimit { what: "execs".to_owned(), limit });
        }
        if self.execs.contains_key(&exec) {
            return Err(Refusal::Malformed { reason: format!("exec {exec} was used before") });
        }
        let record = Exec { pid: None, early_end: None, starter: Some(asker) };
        self.execs.insert(exec, record);
        self.enqueue(Job::Exec { id, exec, files, has_terminal });
        Ok(None)
    }

    pub(super) fn signal_exec(&mut self, exec: ExecId, signal: i32) -> Result<Answer, Refusal> {
        let running = self.execs.get(&exec).and_then(Exec::pid);
        let pid = running.ok_or(Refusal::ExecNotFound { exec })?;
        if !(1..=libc::SIGRTMAX()).contains(&signal) {
            return Err(Refusal::Malformed { reason: format!("{signal} is no signal") });
        }
        // SAFETY: sends a signal to a child that is not reaped, so the number is still its.
        unsafe { libc::kill(pid.as_raw(), signal) };
        Ok(Answer::Done)
    }

    pub(super) fn exec_created(&mut self, exec: ExecId, pid: Pid) {
        let Some(exec) = self.execs.get_mut(&exec) else { return };
        // libcontainer starts an exec before it says which process that is.
        match self.strays.iter().position(|(stray, _)| *stray == pid) {
            Some(position) => exec.early_end = Some(self.strays.swap_remove(position)),
            None => exec.pid = Some(pid),
        }
    }

    pub(super) fn exec_started(&mut self, id: ExecId) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        let (starter, early_end) = (exec.starter.take(), exec.early_end.take());
        let pid = exec.pid.or_else(|| early_end.map(|(pid, _)| pid));
        let pid = pid.map_or(0, |pid| pid.as_raw().unsigned_abs());
        if let Some(asker) = starter {
            self.answer(asker, Ok(Answer::Started { pid }));
        }
        if let Some((_, code)) = early_end {
            self.exec_ended(id, code);
        }
    }

    pub(super) fn exec_not_started(&mut self, id: ExecId, reason: String) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        let Some(asker) = exec.starter.take() else { return };
        if let Some(pid) = exec.pid {
            // SAFETY: sends a signal to a child that is not reaped, so the number is still its.
            unsafe { libc::kill(pid.as_raw(), libc::SIGKILL) };
        }
        self.execs.remove(&id);
        self.answer(asker, Err(Refusal::NotStarted { reason }));
    }

    pub(super) fn exec_ended(&mut self, id: ExecId, code: i32) {
        let Some(exec) = self.execs.get_mut(&id) else { return };
        if exec.starter.is_some() {
            exec.early_end = exec.pid.take().map(|pid| (pid, code));
            return;
        }
        self.execs.remove(&id);
        self.broadcast(KeeperEvent::ExecExited { exec: id, code });
    }
}
