use std::{sync::Arc, time::Duration};

use bramble_cluster::{
    Constraint, ConstraintOperator, PortConfig, PortProtocol, PublishMode, ServiceId, TaskSpec,
    TaskState,
};

use crate::world::{MIB, World, id, spec};

fn create(
    world: &mut World,
    name: &str,
    replicas: u32,
    change: impl FnOnce(&mut TaskSpec),
) -> ServiceId {
    let mut spec = spec(name, replicas);
    change(Arc::make_mut(&mut spec.task));
    let service = world.create(spec);
    world.live();
    service
}

fn why(world: &World, service: ServiceId) -> String {
    let waiting = world.claims(service).into_iter().find(|task| task.node.is_none());
    waiting.expect("a waiting task").status.error.clone()
}

fn room(value: &str) -> Constraint {
    Constraint {
        attribute: "node.labels.room".to_owned(),
        operator: ConstraintOperator::Equal,
        value: value.to_owned(),
    }
}

#[test]
fn every_filter_says_in_one_line_what_is_in_the_way() {
    let mut world = World::new(4);
    for board in [2, 3, 4] {
        world.label(board, "room", "kitchen");
    }
    create(&mut world, "full", 1, |task| {
        task.resources.reserved_memory_bytes = 924 * MIB;
        task.placement.constraints = vec![room("kitchen")];
    });
    let full = world.state.tasks().values().next().unwrap().node.unwrap();
    for board in [2, 3, 4].into_iter().filter(|board| id(*board) != full) {
        world.drain(board);
    }
    let service = create(&mut world, "web", 1, |task| {
        task.resources.reserved_memory_bytes = 512 * MIB;
        task.placement.constraints = vec![room("kitchen")];
    });
    assert_eq!(
        why(&world, service),
        "no suitable board: 2 drained, 1 does not have label room=kitchen, \
         memory: 1 board full (needs 512 MiB, 100 MiB free)"
    );
}

#[test]
fn a_waiting_task_runs_as_soon_as_a_board_fits() {
    let mut world = World::new(1);
    let service =
        create(&mut world, "web", 1, |task| task.placement.constraints = vec![room("attic")]);
    assert_eq!(why(&world, service), "no suitable board: 1 does not have label room=attic");
    world.label(1, "room", "attic");
    world.live();
    assert_eq!(world.spread(service), [1]);
    assert_eq!(world.claims(service)[0].status.error, "");
}

#[test]
fn an_explanation_follows_the_cluster_but_not_faster_than_once_a_second() {
    let mut world = World::new(2);
    let service =
        create(&mut world, "web", 1, |task| task.placement.constraints = vec![room("attic")]);
    assert_eq!(why(&world, service), "no suitable board: 2 do not have label room=attic");
    world.drain(2);
    world.settle();
    world.pass(Duration::from_secs(1));
    world.settle();
    assert_eq!(
        why(&world, service),
        "no suitable board: 1 drained, 1 does not have label room=attic"
    );
}

#[test]
fn reservations_fill_a_board_and_not_more() {
    let mut world = World::new(2);
    let service = create(&mut world, "web", 8, |task| {
        task.resources.reserved_memory_bytes = 300 * MIB;
    });
    assert_eq!(world.spread(service), [3, 3]);
    assert_eq!(
        why(&world, service),
        "no suitable board: memory: 2 boards full (needs 300 MiB, at most 124 MiB free)"
    );
}

#[test]
fn processor_time_is_reserved_as_memory_is() {
    let mut world = World::new(1);
    let service = create(&mut world, "web", 3, |task| {
        task.resources.reserved_nano_cpus = 1_750_000_000;
    });
    assert_eq!(world.spread(service), [2]);
    assert_eq!(
        why(&world, service),
        "no suitable board: cpu: 1 board full (needs 1.75 cores, 0.5 cores free)"
    );
}

#[test]
fn there_are_no_more_replicas_on_a_board_than_allowed() {
    let mut world = World::new(2);
    let service = create(&mut world, "web", 5, |task| task.placement.max_replicas_per_node = 2);
    assert_eq!(world.spread(service), [2, 2]);
    assert_eq!(why(&world, service), "no suitable board: 2 at the limit of 2 a board");
}

#[test]
fn tasks_with_the_same_host_port_go_to_different_boards() {
    let mut world = World::new(2);
    let mut web = spec("web", 3);
    web.endpoint.ports.push(PortConfig {
        name: String::new(),
        protocol: PortProtocol::Tcp,
        target: 80,
        published: 8080,
        mode: PublishMode::Host,
    });
    let service = world.create(web);
    world.live();
    assert_eq!(world.spread(service), [1, 1]);
    assert_eq!(why(&world, service), "no suitable board: port 8080/tcp is taken on 2");
}

#[test]
fn tasks_are_spread_over_the_values_of_a_label_before_the_boards() {
    let mut world = World::new(4);
    for (board, room) in [(1, "attic"), (2, "attic"), (3, "attic"), (4, "cellar")] {
        world.label(board, "room", room);
    }
    let service = create(&mut world, "web", 6, |task| {
        task.placement
            .preferences
            .push(bramble_cluster::SpreadPreference { attribute: "node.labels.room".to_owned() });
    });
    assert_eq!(world.spread(service), [1, 1, 1, 3]);
}

#[test]
fn tasks_of_one_service_spread_before_the_boards_totals_even_out() {
    let mut world = World::new(2);
    create(&mut world, "other", 4, |task| {
        task.placement.constraints = vec![Constraint {
            attribute: "node.hostname".to_owned(),
            operator: ConstraintOperator::Equal,
            value: "pi-1".to_owned(),
        }];
    });
    let service = create(&mut world, "web", 4, |_| {});
    assert_eq!(world.spread(service), [2, 2]);
    let single = create(&mut world, "single", 1, |_| {});
    assert_eq!(world.spread(single), [0, 1], "the total decides what is left");
}

#[test]
fn a_board_where_a_service_keeps_failing_is_avoided() {
    let mut world = World::new(2);
    let service = create(&mut world, "web", 1, |_| {});
    let bad = world.claims(service)[0].node;
    for _ in 0..200 {
        let task = world.claims(service)[0].clone();
        if task.node == bad && !task.status.state.is_terminal() {
            world.report(&task, TaskState::Failed);
        }
        world.pass(Duration::from_millis(500));
        world.live();
    }
    assert_ne!(world.claims(service)[0].node, bad);
    assert_eq!(world.spread(service).iter().sum::<usize>(), 1);
}

#[test]
fn older_tasks_get_the_room_that_becomes_free() {
    let mut world = World::new(1);
    let big = |task: &mut TaskSpec| task.resources.reserved_memory_bytes = 700 * MIB;
    let first = create(&mut world, "first", 1, big);
    let second = create(&mut world, "second", 1, big);
    let third = create(&mut world, "third", 1, big);
    world.scale(first, 0);
    world.live();
    assert_eq!(world.spread(second), [1]);
    assert_eq!(world.spread(third), [0]);
}
