//! Reports on their way to the leader: the latest of each task, kept until a quorum has it.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bramble_cluster::{TaskId, TaskReport, TaskState, limits};
use tokio::sync::Notify;

/// A task that passes through a state in less time than this never costs a log entry for it.
const PASSING: Duration = Duration::from_millis(150);

/// A report that was not taken for this long is said again in the same session.
const PATIENCE: Duration = Duration::from_secs(1);

/// The reports that the leader has not yet taken. Clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    changed: Notify,
}

/// What waits, by task. At most one report a task: a later one replaces an earlier.
#[derive(Debug, Default)]
struct Waiting {
    reports: BTreeMap<TaskId, Report>,
    sequence: u64,
}

#[derive(Debug)]
struct Report {
    report: TaskReport,
    due: Instant,
    sent: Option<Sent>,
}

#[derive(Debug, Clone, Copy)]
struct Sent {
    sequence: u64,
    at: Instant,
}

impl Outbox {
    /// Puts a report in, unless the task's waiting one is as new.
    pub(crate) fn put(&self, report: TaskReport, now: Instant) {
        self.waiting().put(report, now);
        self.0.changed.notify_one();
    }

    /// Forgets what waits of a task that the cluster no longer knows.
    pub(crate) fn retain(&self, is_known: impl Fn(TaskId) -> bool) {
        self.waiting().reports.retain(|id, _| is_known(*id));
    }

    /// What to send now, under which number; `None` if nothing is due.
    pub(crate) fn collect(&self, now: Instant) -> Option<(u64, Vec<TaskReport>)> {
        self.waiting().collect(now)
    }

    /// A quorum has what was sent under this number.
    pub(crate) fn acknowledge(&self, sequence: u64) {
        self.waiting().acknowledge(sequence);
    }

    /// A session began: everything that waits has to be said in it.
    pub(crate) fn start_over(&self) {
        let mut waiting = self.waiting();
        waiting.sequence = 0;
        for report in waiting.reports.values_mut() {
            report.sent = None;
        }
        drop(waiting);
        self.0.changed.notify_one();
    }

    /// When [`Self::collect`] will next have something, if nothing is put in before.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.waiting().next_due()
    }

    /// Whether everything was taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting().reports.is_empty()
    }

    /// Waits until something was put in. Cancel-safe; one waiter.
    pub(crate) async fn changed(&self) {
        self.0.changed.notified().await;
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn put(&mut self, report: TaskReport, now: Instant) {
        let is_passing = matches!(report.status.state, TaskState::Preparing | TaskState::Starting);
        let due = if is_passing { now + PASSING } else { now };
        match self.reports.get_mut(&report.id) {
            Some(waiting) if waiting.report.status == report.status => {}
            Some(waiting) if waiting.report.status.state > report.status.state => {}
            Some(waiting) => *waiting = Report { report, due, sent: None },
            None => {
                self.reports.insert(report.id, Report { report, due, sent: None });
            }
        }
    }

    fn collect(&mut self, now: Instant) -> Option<(u64, Vec<TaskReport>)> {
        let sequence = self.sequence + 1;
        let mut due = Vec::new();
        for report in self.reports.values_mut() {
            if report.send_at() <= now && due.len() < limits::REPORTS {
                report.sent = Some(Sent { sequence, at: now });
                due.push(report.report.clone());
            }
        }
        if due.is_empty() {
            return None;
        }
        self.sequence = sequence;
        Some((sequence, due))
    }

    fn acknowledge(&mut self, sequence: u64) {
        self.reports.retain(|_, report| report.sent.is_none_or(|sent| sent.sequence != sequence));
    }

    fn next_due(&self) -> Option<Instant> {
        self.reports.values().map(Report::send_at).min()
    }
}

impl Report {
    fn send_at(&self) -> Instant {
        self.sent.map_or(self.due, |sent| sent.at + PATIENCE)
    }
}

#[cfg(test)]
mod tests;
