//! Ended children: all of them are reaped, whoever they were.

use nix::{errno::Errno, libc, unistd::Pid};

use super::turn::State;

/// Unknown children that ended while helpers are at work: libcontainer's intermediate processes,
/// orphans of the daemon, and execs that were faster than the helper that names them.
const STRAYS: usize = 8_192;

impl State {
    /// Reaps every child that has ended.
    pub(super) fn reap(&mut self) {
        loop {
            let mut status = 0;
            // By hand: the wrapper of `nix` fails, and loses the child, for real-time signals.
            // SAFETY: any child is asked for, and the status is written to a variable that lives.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG | libc::__WALL) };
            match pid {
                1.. if libc::WIFEXITED(status) => {
                    self.ended_child(Pid::from_raw(pid), libc::WEXITSTATUS(status));
                }
                1.. if libc::WIFSIGNALED(status) => {
                    self.ended_child(Pid::from_raw(pid), 128 + libc::WTERMSIG(status));
                }
                1.. => {}
                _ if pid < 0 && Errno::last() == Errno::EINTR => {}
                _ => return,
            }
        }
    }

    fn ended_child(&mut self, pid: Pid, code: i32) {
        if self.daemon.pid() == Some(pid) {
            return self.daemon_ended(code);
        }
        if self.ended_process(pid, code) {
            return;
        }
        // A container is named by its helper before it can end: the name is there, if not read yet.
        self.hear_all_helpers();
        if self.ended_process(pid, code) {
            return;
        }
        if !self.helper_ended(pid, code) && !self.helpers.is_empty() && self.strays.len() < STRAYS {
            self.strays.push((pid, code));
        }
    }

    /// If this was a container's or an exec's process, sees to it.
    fn ended_process(&mut self, pid: Pid, code: i32) -> bool {
        let container = self.containers.iter().find(|(_, container)| container.pid == Some(pid));
        if let Some(id) = container.map(|(id, _)| *id) {
            self.container_ended(id, code);
            return true;
        }
        let exec = self.execs.iter().find(|(_, exec)| exec.pid() == Some(pid));
        if let Some(id) = exec.map(|(id, _)| *id) {
            self.exec_ended(id, code);
            return true;
        }
        false
    }
}
