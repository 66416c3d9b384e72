//! What is removed when a container has ended: its cgroup and libcontainer's state.

use std::{
    fs,
    time::{Duration, Instant},
};

use bramble_cluster::TaskId;

use super::turn::State;

/// The first wait for a cgroup that is still busy; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
/// How often it is tried: about half a minute in all.
const TRIES: u32 = 13;

/// A removal that did not succeed yet.
#[derive(Debug)]
pub(super) struct Cleaning {
    tries: u32,
    next_try: Instant,
}

impl Cleaning {
    pub(super) fn next_try(&self) -> Instant {
        self.next_try
    }
}

impl State {
    /// Cleans after a container whose processes have all ended.
    pub(super) fn clean(&mut self, id: TaskId) {
        let layout = &self.options.layout;
        let cgroup = layout.container_cgroup(id);
        drop(fs::remove_dir_all(layout.oci_state(id)));
        let Some(container) = self.containers.get_mut(&id) else { return };
        if container.pid.is_some() || container.has_helper {
            return;
        }
        let tries = container.cleaning.as_ref().map_or(0, |cleaning| cleaning.tries);
        let is_gone = self.hierarchies.remove(&cgroup);
        if is_gone || tries >= TRIES {
            if !is_gone {
                tracing::error!(cgroup = %cgroup.display(), "a cgroup cannot be removed");
            }
            container.cleaning = None;
            self.finish_removal(id);
            return;
        }
        if tries > 0 {
            self.hierarchies.kill_all(&cgroup);
        }
        let next_try = Instant::now() + FIRST_PAUSE * 2_u32.saturating_pow(tries);
        container.cleaning = Some(Cleaning { tries: tries + 1, next_try });
    }

    pub(super) fn retry_cleaning(&mut self, now: Instant) {
        let is_due = |cleaning: &Cleaning| cleaning.next_try <= now;
        let due: Vec<TaskId> = self
            .containers
            .iter()
            .filter(|(_, container)| container.cleaning.as_ref().is_some_and(is_due))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            self.clean(id);
        }
    }
}
