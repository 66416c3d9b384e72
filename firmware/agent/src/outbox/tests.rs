//! Reports wait until they are taken, and the latest word on a task is the only one.

use bramble_cluster::TaskStatus;

use super::*;

fn report(id: u128, state: TaskState) -> TaskReport {
    TaskReport {
        id: TaskId::from_random(id),
        status: TaskStatus { state, ..TaskStatus::default() },
    }
}

fn sent(outbox: &Outbox, now: Instant) -> Option<(u64, Vec<TaskState>)> {
    let (sequence, reports) = outbox.collect(now)?;
    Some((sequence, reports.into_iter().map(|report| report.status.state).collect()))
}

#[test]
fn a_report_waits_until_it_is_taken() {
    let outbox = Outbox::default();
    let now = Instant::now();
    outbox.put(report(1, TaskState::Running), now);
    assert_eq!(sent(&outbox, now), Some((1, vec![TaskState::Running])));
    assert_eq!(sent(&outbox, now), None, "it is on its way");
    assert_eq!(sent(&outbox, now + PATIENCE), Some((2, vec![TaskState::Running])));
    outbox.acknowledge(1);
    assert!(!outbox.is_empty(), "an answer to a number given up does not count");
    outbox.acknowledge(2);
    assert!(outbox.is_empty());
    assert_eq!(outbox.next_due(), None);
}

#[test]
fn a_new_session_says_everything_again() {
    let outbox = Outbox::default();
    let now = Instant::now();
    outbox.put(report(1, TaskState::Running), now);
    outbox.put(report(2, TaskState::Failed), now);
    assert_eq!(sent(&outbox, now).map(|(sequence, _)| sequence), Some(1));
    outbox.start_over();
    assert_eq!(sent(&outbox, now), Some((1, vec![TaskState::Running, TaskState::Failed])));
}

#[test]
fn a_state_that_is_passed_through_quickly_is_never_said() {
    let outbox = Outbox::default();
    let now = Instant::now();
    outbox.put(report(1, TaskState::Preparing), now);
    assert_eq!(sent(&outbox, now), None);
    assert_eq!(outbox.next_due(), Some(now + PASSING));
    outbox.put(report(1, TaskState::Running), now);
    assert_eq!(sent(&outbox, now), Some((1, vec![TaskState::Running])));
    outbox.put(report(2, TaskState::Preparing), now);
    assert_eq!(sent(&outbox, now + PASSING), Some((2, vec![TaskState::Preparing])));
}

#[test]
fn news_of_a_task_replaces_what_was_on_its_way() {
    let outbox = Outbox::default();
    let now = Instant::now();
    outbox.put(report(1, TaskState::Running), now);
    sent(&outbox, now);
    outbox.put(report(1, TaskState::Failed), now);
    outbox.acknowledge(1);
    assert_eq!(sent(&outbox, now), Some((2, vec![TaskState::Failed])));
    outbox.put(report(1, TaskState::Running), now);
    outbox.acknowledge(2);
    assert!(outbox.is_empty(), "a task never goes back");
}

#[test]
fn tasks_that_the_cluster_forgot_are_not_reported() {
    let outbox = Outbox::default();
    let now = Instant::now();
    outbox.put(report(1, TaskState::Running), now);
    outbox.put(report(2, TaskState::Running), now);
    outbox.retain(|id| id == TaskId::from_random(2));
    assert_eq!(outbox.collect(now).map(|(_, reports)| reports.len()), Some(1));
}

#[test]
fn no_message_holds_more_reports_than_the_cluster_takes_at_once() {
    let outbox = Outbox::default();
    let now = Instant::now();
    let count = limits::REPORTS + 7;
    for id in 0..count {
        outbox.put(report(id as u128, TaskState::Running), now);
    }
    let sizes: Vec<usize> =
        std::iter::from_fn(|| outbox.collect(now)).map(|(_, reports)| reports.len()).collect();
    assert_eq!(sizes, [limits::REPORTS, 7]);
}

#[tokio::test]
async fn putting_a_report_in_wakes_the_session() {
    let outbox = Outbox::default();
    outbox.put(report(1, TaskState::Running), Instant::now());
    tokio::time::timeout(Duration::from_secs(1), outbox.changed()).await.expect("woken");
}
