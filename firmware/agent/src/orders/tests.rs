//! Orders are taken in order, and survive the daemon.

use bramble_cluster::{AssignedTask, DesiredState, Generation, ServiceId, Slot, TaskId, TaskSpec};
use bramble_cluster::{TaskStatus, Version};

use super::*;

fn task(on_partition: OnPartition) -> AssignedTask {
    AssignedTask {
        id: TaskId::from_random(1),
        service: ServiceId::from_random(2),
        service_name: "web".to_owned(),
        slot: Slot::Replica(1),
        spec: Arc::new(TaskSpec { on_partition, ..TaskSpec::default() }),
        desired: DesiredState::Running,
        status: TaskStatus::default(),
        image_holders: Vec::new(),
        image: None,
        is_withheld: false,
    }
}

fn assignment(term: u64, version: u64, tasks: Vec<AssignedTask>) -> Arc<Assignment> {
    Arc::new(Assignment { generation: Generation { term, version: Version(version) }, tasks })
}

fn load(run: &Path) -> Orders {
    let clock = BoardClock::load(run).expect("a clock");
    Orders::load(run, ClusterId::from_random(3), clock)
}

fn generation(orders: &Orders) -> Generation {
    orders.subscribe().borrow().assignment.generation
}

#[test]
fn an_older_assignment_is_refused() {
    let run = tempfile::tempdir().expect("a folder");
    let orders = load(run.path());
    orders.take(assignment(2, 10, Vec::new()));
    for (term, version) in [(1, 99), (2, 9)] {
        orders.take(assignment(term, version, vec![task(OnPartition::Keep)]));
        assert_eq!(generation(&orders), Generation { term: 2, version: Version(10) });
    }
    orders.take(assignment(3, 1, Vec::new()));
    assert_eq!(generation(&orders), Generation { term: 3, version: Version(1) });
}

#[test]
fn a_restarted_daemon_knows_its_orders_and_still_refuses_older_ones() {
    let run = tempfile::tempdir().expect("a folder");
    let given = assignment(2, 10, vec![task(OnPartition::Keep)]);
    load(run.path()).take(Arc::clone(&given));
    let orders = load(run.path());
    assert_eq!(orders.subscribe().borrow().assignment, given);
    orders.take(assignment(2, 9, Vec::new()));
    assert_eq!(orders.subscribe().borrow().assignment, given);
}

#[test]
fn orders_of_another_cluster_are_none() {
    let run = tempfile::tempdir().expect("a folder");
    load(run.path()).take(assignment(2, 10, Vec::new()));
    let clock = BoardClock::load(run.path()).expect("a clock");
    let orders = Orders::load(run.path(), ClusterId::from_random(4), clock);
    assert_eq!(generation(&orders), Generation::default());
}

#[test]
fn a_damaged_record_is_no_order() {
    let run = tempfile::tempdir().expect("a folder");
    load(run.path()).take(assignment(2, 10, vec![task(OnPartition::Keep)]));
    let path = run.path().join("assignment");
    let bytes = std::fs::read(&path).expect("reads");
    std::fs::write(&path, &bytes[..bytes.len() / 2]).expect("writes");
    assert_eq!(generation(&load(run.path())), Generation::default());
}

#[test]
fn the_leaders_word_outlives_the_daemon_only_where_a_task_depends_on_it() {
    let run = tempfile::tempdir().expect("a folder");
    let at = Timestamp::from_millis(5_000);
    let age = Duration::from_millis(200);
    let orders = load(run.path());
    orders.take(assignment(1, 1, vec![task(OnPartition::Keep)]));
    orders.confirm(at, age, at);
    assert_eq!(orders.confirmed_at(), Some(Timestamp::from_millis(4_800)));
    assert_eq!(load(run.path()).confirmed_at(), None);
    orders.take(assignment(1, 2, vec![task(OnPartition::Stop)]));
    orders.confirm(at, age, at);
    assert_eq!(load(run.path()).confirmed_at(), Some(Timestamp::from_millis(4_800)));
    orders.confirm(at, age * 2, at);
    assert_eq!(orders.confirmed_at(), Some(Timestamp::from_millis(4_800)), "never earlier");
}

#[test]
fn reports_are_stamped_by_the_clusters_clock() {
    let run = tempfile::tempdir().expect("a folder");
    let orders = load(run.path());
    let now = orders.now();
    assert_eq!(orders.cluster_time(now), now, "nobody has told it yet");
    orders.confirm(now, Duration::ZERO, Timestamp::from_millis(1_000_000));
    let told = orders.cluster_time(now - Duration::from_secs(1)).as_millis();
    assert!((998_000..=999_000).contains(&told), "{told}");
}
