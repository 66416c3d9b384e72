//! The end of a board, in order: the daemon is told, then containers stop, then all is cleaned.

use std::{fs, time::Instant};

use nix::sys::signal::Signal;

use super::{KeeperEnd, previous, turn::State};

/// An end under way.
#[derive(Debug)]
pub(super) struct Ending {
    end: KeeperEnd,
    /// Until when the daemon may take; none once it is gone.
    daemon_until: Option<Instant>,
    are_containers_told: bool,
    is_hurried: bool,
}

impl Ending {
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.daemon_until
    }
}

impl State {
    /// Begins to end. Asked a second time, it does not wait for anybody any more.
    pub(super) fn begin_end(&mut self, end: KeeperEnd) {
        if let Some(ending) = &mut self.ending {
            ending.is_hurried = true;
            ending.daemon_until = Some(Instant::now());
            self.kill_all_containers();
            return;
        }
        self.daemon.forget_start();
        self.daemon.signal(Signal::SIGTERM);
        let daemon_until = self.daemon.pid().map(|_| Instant::now() + self.options.daemon_grace);
        self.ending =
            Some(Ending { end, daemon_until, are_containers_told: false, is_hurried: false });
    }

    pub(super) fn go_on_ending(&mut self, now: Instant) {
        let has_daemon = self.daemon.pid().is_some();
        let Some(ending) = &mut self.ending else { return };
        if has_daemon {
            if ending.daemon_until.is_some_and(|until| until <= now) {
                ending.daemon_until = None;
                self.daemon.signal(Signal::SIGKILL);
            }
            return;
        }
        ending.daemon_until = None;
        if !ending.are_containers_told {
            ending.are_containers_told = true;
            let is_hurried = ending.is_hurried;
            self.stop_all_containers();
            if is_hurried {
                self.kill_all_containers();
            }
        }
    }

    /// Whether the end is reached; cleans the board then.
    pub(super) fn ended(&mut self) -> Option<KeeperEnd> {
        let ending = self.ending.as_ref()?;
        let is_quiet = self.daemon.pid().is_none()
            && ending.are_containers_told
            && self.helpers.is_empty()
            && self.containers.values().all(|container| container.is_at_rest());
        if !is_quiet {
            return None;
        }
        let layout = &self.options.layout;
        drop(previous::clean(layout, &self.hierarchies));
        self.hierarchies.remove(layout.cgroup());
        for folder in [layout.bundles(), layout.oci_states()] {
            drop(fs::remove_dir_all(folder));
        }
        drop(fs::remove_file(layout.socket()));
        Some(ending.end)
    }
}
