use std::{collections::BTreeSet, sync::Arc};

use bramble_cluster::{
    Command, DesiredState, Digest, Image, NodeDescription, Peer, TaskState, Timestamp,
};

use crate::{
    assignment,
    world::{World, admission, id, spec},
};

fn image(byte: u8, named_at: u64) -> Image {
    Image {
        digest: Digest::from_bytes([byte; 32]),
        names: BTreeSet::from(["docker.io/library/whoami:latest".to_owned()]),
        size: 1,
        holders: BTreeSet::new(),
        named_at: Timestamp::from_millis(named_at),
    }
}

fn hold(world: &mut World, number: u128, image: Image) {
    world.apply(vec![Command::ReportImages { node: id(number), images: vec![image] }]);
}

#[test]
fn an_assignment_is_all_that_a_node_should_run_and_nothing_else() {
    let mut world = World::new(2);
    let service = world.create(spec("web", 4));
    world.settle();
    let orders = assignment(&world.state, id(1), 7);
    assert_eq!((orders.generation.term, orders.generation.version), (7, world.state.version()));
    assert_eq!(orders.tasks.len(), 2);
    for task in &orders.tasks {
        assert_eq!((task.service, task.service_name.as_str()), (service, "web"));
        assert_eq!(task.desired, DesiredState::Running);
        assert_eq!(task.status.state, TaskState::Assigned);
    }
}

#[test]
fn ended_tasks_stay_so_that_their_logs_can_be_read() {
    let mut world = World::new(1);
    let service = world.create(spec("web", 1));
    world.live();
    let first = world.claims(service)[0].clone();
    world.report(&first, TaskState::Failed);
    world.pass(crate::timing::RESTART_FIRST);
    world.live();
    let orders = assignment(&world.state, id(1), 1);
    let old = orders.tasks.iter().find(|task| task.id == first.id).unwrap();
    assert_eq!(old.status.state, TaskState::Failed);
    assert_eq!(orders.tasks.len(), 2);
}

#[test]
fn a_name_means_the_image_named_last_and_its_holders_are_told_to_who_fetches() {
    let mut world = World::new(3);
    let address = "192.0.2.3:7420".parse().unwrap();
    let description = NodeDescription { addresses: vec![address], ..admission(3).description };
    world.apply(vec![Command::DescribeNode { id: id(3), description }]);
    hold(&mut world, 2, image(1, 100));
    hold(&mut world, 3, image(2, 200));
    world.create(spec("web", 3));
    world.settle();
    let orders = assignment(&world.state, id(1), 1);
    assert_eq!(orders.tasks[0].image, Some(Digest::from_bytes([2; 32])));
    assert_eq!(orders.tasks[0].image_holders, [Peer { id: id(3), addresses: vec![address] }]);
    let own = assignment(&world.state, id(3), 1);
    assert!(own.tasks[0].image_holders.is_empty(), "it holds the image itself");
}

#[test]
fn a_digest_in_the_specification_decides() {
    let mut world = World::new(2);
    hold(&mut world, 1, image(1, 100));
    hold(&mut world, 2, image(2, 200));
    let mut web = spec("web", 2);
    Arc::make_mut(&mut web.task).container.image.digest = Some(Digest::from_bytes([1; 32]));
    world.create(web);
    world.settle();
    let orders = assignment(&world.state, id(2), 1);
    assert_eq!(orders.tasks[0].image, Some(Digest::from_bytes([1; 32])));
    assert_eq!(orders.tasks[0].image_holders[0].id, id(1));
}

#[test]
fn holders_that_are_down_are_not_named() {
    let mut world = World::new(2);
    hold(&mut world, 2, image(1, 100));
    world.create(spec("web", 1));
    world.lose(2);
    world.settle();
    let orders = assignment(&world.state, id(1), 1);
    assert!(orders.tasks[0].image_holders.is_empty());
    assert_eq!(orders.tasks[0].image, Some(Digest::from_bytes([1; 32])));
}
