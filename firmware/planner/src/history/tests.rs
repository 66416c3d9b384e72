use bramble_cluster::{ClusterSpec, Command, ServiceId, TaskState, Version};

use crate::world::{World, spec};

fn limited(limit: u32) -> (World, ServiceId) {
    let mut world = World::new(1);
    world.apply(vec![Command::UpdateCluster {
        version: Version(0),
        spec: ClusterSpec { task_history_limit: limit },
    }]);
    let service = world.create(spec("web", 2));
    world.live();
    (world, service)
}

fn end_often(world: &mut World, service: ServiceId, times: usize) {
    for _ in 0..times {
        let task = world.claims(service)[0].clone();
        world.report(&task, TaskState::Failed);
        world.pass(crate::timing::RESTART_MAX);
        world.live();
    }
}

#[test]
fn of_each_slot_the_newest_ended_tasks_are_kept() {
    let (mut world, service) = limited(3);
    end_often(&mut world, service, 6);
    let slot = world.claims(service)[0].slot;
    let mut ended: Vec<_> = world
        .state
        .tasks_of(service)
        .filter(|task| task.slot == slot && task.status.state.is_terminal())
        .map(|task| task.created)
        .collect();
    assert_eq!(ended.len(), 3);
    let oldest = ended.iter().min().copied().unwrap();
    end_often(&mut world, service, 1);
    ended = world.state.tasks_of(service).map(|task| task.created).collect();
    assert!(!ended.contains(&oldest), "the oldest goes first");
}

#[test]
fn no_history_is_kept_if_none_is_wanted() {
    let (mut world, service) = limited(0);
    end_often(&mut world, service, 2);
    assert_eq!(world.state.tasks().len(), 2);
    world.change_task(service, |task| task.force_update = 1);
    world.live();
    assert_eq!(world.state.tasks().len(), 2);
}

#[test]
fn a_failing_roll_out_is_noticed_even_without_history() {
    let (mut world, service) = limited(0);
    world.change_task(service, |task| task.force_update = 1);
    world.settle();
    world.work();
    world.settle();
    let fresh = world
        .claims(service)
        .into_iter()
        .find(|task| task.status.state == TaskState::Assigned)
        .unwrap();
    world.report(&fresh, TaskState::Rejected);
    world.live_for(std::time::Duration::from_secs(2));
    let status = world.state.service(service).unwrap().update_status.clone().unwrap();
    assert_eq!(status.state, bramble_cluster::UpdateState::Paused);
}
