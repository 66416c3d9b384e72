use bramble_cluster::{Placement, SpreadPreference};

use super::{Census, spread};
use crate::{draft::Draft, liveness, view::View, world::World};

/// Four boards, two rooms with two shelves each.
fn shelves() -> World {
    let mut world = World::new(4);
    for (board, room, shelf) in
        [(1, "attic", "top"), (2, "attic", "low"), (3, "cellar", "top"), (4, "cellar", "top")]
    {
        world.label(board, "room", room);
        world.label(board, "shelf", shelf);
    }
    world
}

fn by(attributes: &[&str]) -> Placement {
    let preferences = attributes
        .iter()
        .map(|attribute| SpreadPreference { attribute: format!("node.labels.{attribute}") })
        .collect();
    Placement { preferences, ..Placement::default() }
}

fn census(claims: &[u32]) -> Census {
    Census {
        claims: claims.to_vec(),
        alive: vec![Vec::new(); claims.len()],
        failures: vec![0; claims.len()],
    }
}

/// Runs a check on the boards of a world.
fn with_boards(world: &World, check: impl FnOnce(&View<'_>)) {
    let mut draft = Draft::new(&world.state, world.now);
    let verdicts = liveness::judge(&world.state, &world.heard, &mut draft);
    check(&View::new(&world.state, &world.heard, &verdicts, world.now));
}

#[test]
fn a_group_is_counted_within_the_groups_before_it() {
    with_boards(&shelves(), |view| {
        let spread = spread(&view.boards, &by(&["room", "shelf"]), &[1, 2, 3, 4]);
        let groups: Vec<_> = (0..4).map(|index| spread.groups(index)).collect();
        assert_eq!(groups, [[3, 1], [3, 2], [7, 7], [7, 7]]);
    });
}

#[test]
fn boards_without_the_label_are_a_group_of_their_own() {
    let mut world = World::new(3);
    world.label(1, "room", "attic");
    with_boards(&world, |view| {
        let spread = spread(&view.boards, &by(&["room"]), &[5, 1, 1]);
        assert_eq!([spread.groups(0), spread.groups(1)], [[5], [2]]);
    });
}

#[test]
fn a_move_is_a_gain_only_where_it_makes_a_count_more_even() {
    with_boards(&shelves(), |view| {
        let placement = Placement::default();
        for (claims, from, to, is_gain) in [
            ([2, 0, 0, 0], 0, 1, true),
            ([1, 0, 0, 0], 0, 1, false),
            ([3, 2, 0, 0], 0, 1, false),
            ([0, 2, 0, 0], 0, 1, false),
            ([2, 2, 0, 0], 0, 0, false),
        ] {
            let spread = spread(&view.boards, &placement, &claims);
            let gain = spread.gain(from, to, &view.boards, &census(&claims));
            assert_eq!(gain.is_some(), is_gain, "{claims:?}");
        }
    });
}

#[test]
fn a_gain_for_a_preference_is_worth_more_than_one_for_the_boards() {
    with_boards(&shelves(), |view| {
        let claims = [3, 0, 1, 0];
        let census = census(&claims);
        let spread = spread(&view.boards, &by(&["room"]), &claims);
        let across = spread.gain(0, 3, &view.boards, &census);
        let within = spread.gain(0, 1, &view.boards, &census);
        assert!(across > within && within.is_some());
    });
}
