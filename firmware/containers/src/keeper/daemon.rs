//! The daemon as the keeper sees it: a child that is always there.

use std::{
    os::unix::process::CommandExt,
    process::Command,
    time::{Duration, Instant},
};

use nix::{
    sys::{
        prctl,
        signal::{SigSet, Signal, kill},
    },
    unistd::Pid,
};

use super::{KeeperEnd, exit_code, turn::State};

/// How long to wait before the daemon is started again, the first time.
const FIRST_DELAY: Duration = Duration::from_millis(100);
/// A daemon that ran for so long did not fail at its start.
const STEADY: Duration = Duration::from_secs(30);

/// The daemon's place.
#[derive(Debug, Default)]
pub(super) struct Daemon {
    pid: Option<Pid>,
    started_at: Option<Instant>,
    start_at: Option<Instant>,
    delay: Option<Duration>,
    /// Failures since one ran steadily.
    failures: u32,
}

impl Daemon {
    pub(super) fn pid(&self) -> Option<Pid> {
        self.pid
    }

    /// When it is to be started.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.start_at
    }

    /// It is not started again.
    pub(super) fn forget_start(&mut self) {
        self.start_at = None;
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid {
            let _ = kill(pid, signal);
        }
    }

    /// Plans the next start.
    fn retry(&mut self, now: Instant, longest: Duration) {
        let was_steady = self.started_at.is_some_and(|at| now.duration_since(at) >= STEADY);
        let delay = match self.delay {
            Some(delay) if !was_steady => (delay * 2).min(longest),
            _ => FIRST_DELAY,
        };
        self.failures = if was_steady { 1 } else { self.failures.saturating_add(1) };
        self.delay = Some(delay);
        self.start_at = Some(now + delay);
    }
}

impl State {
    pub(super) fn start_daemon(&mut self, now: Instant) {
        self.daemon.start_at = None;
        let Some((program, arguments)) = self.options.daemon.split_first() else { return };
        let mut command = Command::new(program);
        command.args(arguments);
        let keeper = nix::unistd::getpid();
        // SAFETY: the closure makes system calls and allocates nothing.
        unsafe {
            command.pre_exec(move || {
                // What the keeper waits for by descriptor, the daemon handles as it likes.
                SigSet::empty().thread_set_mask()?;
                // A daemon without its keeper would hold the board's ports for nothing.
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                if nix::unistd::getppid() != keeper {
                    return Err(nix::errno::Errno::ESRCH.into());
                }
                Ok(())
            });
        }
        match command.spawn() {
            Ok(child) => {
                self.daemon.pid = i32::try_from(child.id()).ok().map(Pid::from_raw);
                self.daemon.started_at = Some(now);
                self.life.begins(now);
            }
            Err(error) => {
                tracing::error!(program = %program.display(), %error, "the daemon does not start");
                self.daemon.started_at = None;
                self.daemon.retry(now, self.options.longest_restart_delay);
            }
        }
    }

    /// The daemon has ended with this code (128 + n by signal n).
    pub(super) fn daemon_ended(&mut self, code: i32) {
        self.daemon.pid = None;
        self.life.ends();
        if self.ending.is_some() {
            return;
        }
        let now = Instant::now();
        match code {
            exit_code::END => self.begin_end(KeeperEnd::Daemon),
            exit_code::REBOOT => self.begin_end(KeeperEnd::Reboot),
            exit_code::POWER_OFF => self.begin_end(KeeperEnd::PowerOff),
            exit_code::REFUSED => self.begin_end(KeeperEnd::Refused),
            exit_code::RESTART => self.daemon.start_at = Some(now),
            code => {
                tracing::warn!(code, "the daemon ended and is started again");
                self.daemon.retry(now, self.options.longest_restart_delay);
                if self.options.failures_max.is_some_and(|most| self.daemon.failures >= most) {
                    tracing::error!("the daemon does not get well, the board reboots");
                    self.begin_end(KeeperEnd::Reboot);
                }
            }
        }
    }
}
