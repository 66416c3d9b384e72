use std::{sync::Arc, time::Duration};

use bramble_cluster::{
    Availability, Command, ServiceId, ServiceMode, TaskReport, TaskState, UpdateOrder, limits,
};
use proptest::prelude::{Strategy, any, prop, prop_oneof, proptest};

use crate::world::{MIB, World, id, spec, status};

/// One thing that happens to a cluster.
#[derive(Debug, Clone)]
enum Happening {
    Create(u32, u64, bool),
    Scale(usize, u32),
    Update(usize, u64, bool),
    Remove(usize),
    Lose(u128),
    Hear(u128),
    Leave(u128),
    Availability(u128, u8),
    Label(u128, bool),
    End(usize, u8),
    Work,
    Pass(u64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let board = 2u128..=5;
    prop_oneof![
        (0u32..8, 0u64..600, any::<bool>()).prop_map(|(n, m, g)| Happening::Create(n, m, g)),
        (any::<usize>(), 0u32..8).prop_map(|(s, n)| Happening::Scale(s, n)),
        (any::<usize>(), 0u64..5, any::<bool>()).prop_map(|(s, f, o)| Happening::Update(s, f, o)),
        any::<usize>().prop_map(Happening::Remove),
        board.clone().prop_map(Happening::Lose),
        board.clone().prop_map(Happening::Hear),
        board.clone().prop_map(Happening::Leave),
        (board.clone(), 0u8..3).prop_map(|(b, a)| Happening::Availability(b, a)),
        (board, any::<bool>()).prop_map(|(b, l)| Happening::Label(b, l)),
        (any::<usize>(), 0u8..4).prop_map(|(t, s)| Happening::End(t, s)),
        proptest::strategy::Just(Happening::Work),
        proptest::strategy::Just(Happening::Work),
        (1u64..20_000).prop_map(Happening::Pass),
    ]
}

fn nth_service(world: &World, index: usize) -> Option<ServiceId> {
    let count = world.state.services().len();
    world.state.services().keys().nth(index.checked_rem(count)?).copied()
}

fn happen(world: &mut World, happening: Happening) {
    match happening {
        Happening::Create(replicas, memory, is_global) => {
            let name = format!("s{}", world.state.version());
            let mut spec = spec(&name, replicas);
            Arc::make_mut(&mut spec.task).resources.reserved_memory_bytes = memory * MIB;
            if is_global {
                spec.mode = ServiceMode::Global;
            }
            if replicas % 3 == 1 {
                let label = bramble_cluster::Constraint {
                    attribute: "node.labels.ssd".to_owned(),
                    operator: bramble_cluster::ConstraintOperator::Equal,
                    value: "true".to_owned(),
                };
                Arc::make_mut(&mut spec.task).placement.constraints.push(label);
            }
            if replicas % 4 == 2 {
                Arc::make_mut(&mut spec.task).placement.max_replicas_per_node = 1;
            }
            world.create(spec);
        }
        Happening::Scale(index, replicas) => {
            let Some(service) = nth_service(world, index) else { return };
            if world.state.service(service).unwrap().spec.mode != ServiceMode::Global {
                world.scale(service, replicas);
            }
        }
        Happening::Update(index, force, is_start_first) => {
            let Some(service) = nth_service(world, index) else { return };
            world.change(service, |spec| {
                Arc::make_mut(&mut spec.task).force_update = force;
                spec.update.order =
                    if is_start_first { UpdateOrder::StartFirst } else { UpdateOrder::StopFirst };
                spec.update.parallelism = u32::try_from(force).unwrap();
            });
        }
        Happening::Remove(index) => {
            let Some(id) = nth_service(world, index) else { return };
            world.apply(vec![Command::RemoveService { id }]);
        }
        Happening::Lose(board) => world.lose(board),
        Happening::Hear(board) => world.hear(board),
        Happening::Leave(board) => world.leave(board),
        Happening::Availability(board, which) => world.change_node(board, |spec| {
            spec.availability = match which {
                0 => Availability::Active,
                1 => Availability::Pause,
                _ => Availability::Drain,
            };
        }),
        Happening::Label(board, has) => {
            world.label(board, "ssd", if has { "true" } else { "false" });
        }
        Happening::End(index, how) => {
            let Some(task) = world.state.tasks().values().nth(index % 50).cloned() else { return };
            let state = match how {
                0 => TaskState::Complete,
                1 => TaskState::Failed,
                2 => TaskState::Rejected,
                _ => TaskState::Shutdown,
            };
            let Some(node) = task.node else { return };
            let reports = vec![TaskReport { id: task.id, status: status(state, world.now) }];
            world.apply(vec![Command::ReportTasks { node, reports }]);
        }
        Happening::Work => {
            world.work();
        }
        Happening::Pass(millis) => world.pass(Duration::from_millis(millis)),
    }
}

fn assert_fits(world: &World) {
    for node in world.state.nodes().values() {
        let reserved = world.state.reserved_on(node.id);
        let has = node.description.resources;
        assert!(reserved.memory_bytes <= has.memory_bytes, "{} is over-full", node.id);
    }
}

proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: 1_000, ..Default::default() })]

    #[test]
    fn whatever_happens_the_plan_converges_and_all_of_it_is_accepted(
        happenings in prop::collection::vec(happening(), 1..60)
    ) {
        let mut world = World::new(5);
        for happening in happenings {
            happen(&mut world, happening);
            // Panics if a command is rejected, or if planning does not end.
            world.settle();
            assert_fits(&world);
        }
    }

    #[test]
    fn after_whatever_happened_a_healed_cluster_runs_what_is_wanted_and_is_at_peace(
        happenings in prop::collection::vec(happening(), 1..60)
    ) {
        let mut world = World::new(5);
        for happening in happenings {
            happen(&mut world, happening);
            world.settle();
        }
        for board in 1..=5 {
            world.hear(board);
            world.change_node(board, |spec| spec.availability = Availability::Active);
            world.label(board, "ssd", "true");
        }
        world.live_for(Duration::from_secs(400));
        let services: Vec<_> = world.state.services().values().cloned().collect();
        for service in services {
            let claims = world.claims(service.id);
            let wanted = match service.spec.mode {
                ServiceMode::Replicated { replicas } => usize::try_from(replicas).unwrap(),
                ServiceMode::Global => 5,
            };
            assert_eq!(claims.len(), wanted, "{}", service.spec.name);
            for task in &claims {
                let is_waiting = task.node.is_none() && !task.status.error.is_empty();
                let is_running = task.status.state == TaskState::Running;
                assert!(is_running || is_waiting, "{task:?}");
            }
        }
        world.pass(Duration::from_secs(1));
        let plan = world.plan();
        assert!(plan.is_empty(), "{plan:?}");
    }
}

#[test]
fn a_plan_is_never_longer_than_an_entry_may_be() {
    let mut world = World::new(2);
    for index in 0..12 {
        world.create(spec(&format!("s{index}"), limits::REPLICAS));
    }
    let plan = world.plan();
    assert_eq!(plan.commands.len(), limits::COMMANDS);
    world.settle();
    assert_eq!(world.state.tasks().len(), 12_000);
}

#[test]
fn tasks_beyond_the_limit_are_not_planned_and_it_is_said_why() {
    let mut world = World::new(2);
    for index in 0..21 {
        world.create(spec(&format!("s{index}"), limits::REPLICAS));
    }
    world.settle();
    assert_eq!(world.state.tasks().len(), limits::TASKS);
    let reasons = world.plan().reasons;
    assert!(reasons.iter().any(|reason| reason.text.contains("its limit")), "{reasons:?}");
}

#[test]
fn the_same_arguments_give_the_same_plan() {
    let mut world = World::new(3);
    let service = world.create(spec("web", 6));
    world.live();
    world.lose(2);
    world.scale(service, 9);
    assert_eq!(world.plan(), world.plan());
    assert!(!world.plan().is_empty());
    assert_eq!(world.heard.leader, id(1));
}

/// The fastest of some runs, because others use the machine, too.
#[expect(clippy::disallowed_methods, reason = "what is measured is time itself")]
fn fastest(world: &World) -> Duration {
    let time = |_| {
        let start = std::time::Instant::now();
        std::hint::black_box(world.plan());
        start.elapsed()
    };
    (0..50).map(time).min().unwrap_or_default()
}

/// Ten boards with 300 tasks and the history of as many replaced ones.
fn busy_world() -> (World, ServiceId) {
    let mut world = World::new(10);
    let services: Vec<_> =
        (0..6).map(|index| world.create(spec(&format!("s{index}"), 50))).collect();
    world.live();
    for service in &services {
        for force in 1..3 {
            world.change(*service, |spec| {
                Arc::make_mut(&mut spec.task).force_update = force;
                spec.update.parallelism = 0;
            });
            world.live();
        }
    }
    assert_eq!(world.state.tasks().len(), 900);
    (world, services[0])
}

#[test]
fn planning_for_ten_boards_and_three_hundred_tasks_takes_less_than_two_milliseconds() {
    let (mut world, service) = busy_world();
    let idle = fastest(&world);
    world.change(service, |spec| {
        Arc::make_mut(&mut spec.task).force_update = 9;
        spec.update.parallelism = 1;
    });
    let rolling = fastest(&world);
    world.lose(2);
    let failing_over = fastest(&world);
    println!("idle {idle:?}, rolling {rolling:?}, failing over {failing_over:?}");
    for time in [idle, rolling, failing_over] {
        assert!(time < Duration::from_millis(2), "{time:?}");
    }
}
