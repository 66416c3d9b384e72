use proptest::prelude::{ProptestConfig, any, prop_assert, prop_assert_eq, proptest};

use super::*;

mod ether;

use ether::{Ether, Weather};

const fn node(number: u128) -> NodeId {
    NodeId::from_random(number)
}

const fn facts(number: u128, founded_at: u64, is_used: bool) -> ClusterFacts {
    ClusterFacts {
        id: ClusterId::from_random(number),
        founded_at: Timestamp::from_millis(founded_at),
        is_used,
    }
}

const fn seeker(first_heard: u64) -> Neighbour {
    let first_heard = Duration::from_millis(first_heard);
    Neighbour { cluster: None, is_manager: false, first_heard, refusals: 0 }
}

fn member(cluster: ClusterFacts) -> Neighbour {
    Neighbour { cluster: Some(cluster), is_manager: true, ..seeker(0) }
}

fn leading(cluster: ClusterFacts) -> Standing {
    Standing::Member { cluster, is_leader: true, leaderless_for: None }
}

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn a_lone_board_founds_after_the_whole_time() {
    let me = node(7_000);
    let until = FOUND_AFTER;
    let ask = |elapsed| decide(me, &Standing::Seeking, elapsed, &BTreeMap::new());
    assert_eq!(ask(Duration::ZERO), FoundingStep::Wait { until });
    assert_eq!(ask(until - millis(1)), FoundingStep::Wait { until });
    assert_eq!(ask(until), FoundingStep::Found);
}

#[test]
fn the_lowest_of_settled_seekers_founds_sooner() {
    let neighbours = BTreeMap::from([(node(9_000), seeker(200)), (node(8_000), seeker(400))]);
    let ask = |elapsed| decide(node(7_000), &Standing::Seeking, elapsed, &neighbours);
    assert_eq!(ask(millis(1_999)), FoundingStep::Wait { until: SEEK_FOR });
    assert_eq!(ask(millis(2_000)), FoundingStep::Found);
}

#[test]
fn a_seeker_heard_late_delays_the_founding_but_not_past_its_time() {
    let ask = |heard| {
        let neighbours = BTreeMap::from([(node(9_000), seeker(heard))]);
        decide(node(7_000), &Standing::Seeking, millis(2_100), &neighbours)
    };
    assert_eq!(ask(1_500), FoundingStep::Wait { until: millis(2_500) });
    assert_eq!(ask(2_050), FoundingStep::Wait { until: FOUND_AFTER });
}

#[test]
fn a_board_waits_for_lower_ids_but_not_for_ever() {
    let neighbours = BTreeMap::from([(node(1), seeker(0)), (node(2), seeker(0))]);
    let ask = |elapsed| decide(node(7_000), &Standing::Seeking, elapsed, &neighbours);
    let until = FOUND_AFTER + PATIENCE * 2;
    assert_eq!(ask(millis(4_000)), FoundingStep::Wait { until });
    assert_eq!(ask(until), FoundingStep::Found);
}

#[test]
fn a_member_is_joined_at_once() {
    let cluster = facts(5, 0, false);
    let neighbours = BTreeMap::from([(node(1), seeker(0)), (node(2), member(cluster))]);
    let step = decide(node(7), &Standing::Seeking, millis(1), &neighbours);
    assert_eq!(step, FoundingStep::Join { via: node(2), cluster: cluster.id });
}

#[test]
fn a_member_that_refused_is_asked_after_the_others() {
    let cluster = facts(5, 0, false);
    let refusing = Neighbour { refusals: 1, ..member(cluster) };
    let worker = Neighbour { is_manager: false, ..member(cluster) };
    let neighbours = BTreeMap::from([(node(1), refusing), (node(2), worker)]);
    let step = decide(node(7), &Standing::Seeking, millis(1), &neighbours);
    assert_eq!(step, FoundingStep::Join { via: node(2), cluster: cluster.id });
}

#[test]
fn an_unused_cluster_dissolves_into_a_used_or_older_one_or_a_lower_id() {
    let mine = facts(5, 100, false);
    for other in [facts(9, 200, true), facts(9, 99, false), facts(4, 100, false)] {
        let neighbours = BTreeMap::from([(node(2), member(other))]);
        let step = decide(node(7), &leading(mine), millis(1), &neighbours);
        assert_eq!(step, FoundingStep::Dissolve { via: node(2), into: other.id });
    }
    for other in [facts(9, 101, false), facts(6, 100, false), facts(5, 100, false)] {
        let neighbours = BTreeMap::from([(node(2), member(other))]);
        let step = decide(node(7), &leading(mine), millis(1), &neighbours);
        assert_eq!(step, FoundingStep::Stay { rivals: vec![] });
    }
}

#[test]
fn a_refusal_never_makes_a_cluster_that_gives_way_hide_the_one_that_survives() {
    let mine = facts(5, 500, false);
    let survivor = Neighbour { refusals: 3, ..member(facts(4, 400, false)) };
    let neighbours =
        BTreeMap::from([(node(8_000), survivor), (node(9_000), member(facts(6, 600, false)))]);
    let step = decide(node(7_000), &leading(mine), millis(9_000), &neighbours);
    let into = ClusterId::from_random(4);
    assert_eq!(step, FoundingStep::Dissolve { via: node(8_000), into });
}

#[test]
fn two_used_clusters_are_reported_and_never_merged() {
    let neighbours = BTreeMap::from([
        (node(1), member(facts(3, 0, true))),
        (node(2), member(facts(3, 0, true))),
        (node(3), member(facts(4, 0, false))),
    ]);
    let step = decide(node(7), &leading(facts(5, 100, true)), millis(1), &neighbours);
    assert_eq!(step, FoundingStep::Stay { rivals: vec![ClusterId::from_random(3)] });
}

#[test]
fn a_member_leaves_the_decision_to_its_leader_while_it_has_one() {
    let neighbours = BTreeMap::from([(node(1), member(facts(3, 0, true)))]);
    let ask = |leaderless_for| {
        let cluster = facts(5, 100, false);
        let standing = Standing::Member { cluster, is_leader: false, leaderless_for };
        decide(node(7), &standing, millis(1), &neighbours)
    };
    let stay = FoundingStep::Stay { rivals: vec![] };
    assert_eq!(ask(None), stay);
    assert_eq!(ask(Some(LEADERLESS_AFTER - millis(1))), stay);
    let into = ClusterId::from_random(3);
    assert_eq!(ask(Some(LEADERLESS_AFTER)), FoundingStep::Dissolve { via: node(1), into });
}

#[test]
fn three_boards_on_a_good_network_are_one_cluster_within_four_seconds() {
    for seed in 0..200 {
        let mut ether = Ether::new(seed, 3, Weather::GOOD);
        ether.run_until(millis(4_000));
        assert!(ether.is_one_cluster(), "seed {seed}: {ether:#?}");
        assert_eq!(ether.founded(), 1, "seed {seed}: more than one founder on a good network");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// However messages are lost and late, boards started within a second end in one cluster, even
    /// if two halves of them found clusters of their own first.
    #[test]
    fn boards_started_together_end_in_one_cluster(
        seed in any::<u64>(),
        boards in 1..25usize,
        loss_percent in 0..40u64,
        delay_max in 1..1_500u64,
        refusal_percent in 0..30u64,
        split_until in 0..10_000u64,
    ) {
        let weather = Weather { loss_percent, delay_max, refusal_percent, split_until };
        let mut ether = Ether::new(seed, boards, weather);
        ether.run_until(millis(300_000));
        prop_assert!(ether.is_one_cluster(), "{:#?}", ether);
    }

    /// Both sides agree on who survives, whatever they know.
    #[test]
    fn of_two_clusters_exactly_one_survives(
        first in (0..3u128, 0..3u64, any::<bool>()),
        second in (0..3u128, 0..3u64, any::<bool>()),
    ) {
        let (first, second) = (facts(first.0, first.1, first.2), facts(second.0, second.1, second.2));
        if first.id != second.id {
            prop_assert!(first.survives(&second) != second.survives(&first));
        }
    }

    /// Whatever is heard, a used cluster is never given up.
    #[test]
    fn a_used_cluster_never_dissolves(
        others in proptest::collection::vec((0..9u128, 0..9u64, any::<bool>()), 0..9),
        is_leader in any::<bool>(),
    ) {
        let neighbours = others.iter().enumerate().map(|(index, (id, founded_at, is_used))| {
            (node(index as u128), member(facts(*id, *founded_at, *is_used)))
        });
        let cluster = facts(5, 5, true);
        let leaderless_for = (!is_leader).then_some(Duration::MAX);
        let standing = Standing::Member { cluster, is_leader, leaderless_for };
        let step = decide(node(77), &standing, Duration::MAX, &neighbours.collect());
        prop_assert_eq!(matches!(step, FoundingStep::Stay { .. }), true);
    }
}
