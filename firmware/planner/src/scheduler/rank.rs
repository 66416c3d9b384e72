//! Of the boards that fit, which is best: where the preferences' groups have fewest tasks of the
//! service, then where the service did not fail of late, then fewest of its tasks, then fewest
//! tasks at all, then the lowest node id.

use std::{cmp::Reverse, collections::BTreeMap};

use bramble_cluster::Placement;

use super::{Census, filter};
use crate::view::Board;

/// This many failures of late make a board worse than others.
const FAILURES: u32 = 5;

/// How the tasks of a service are spread over the groups of its preferences.
#[derive(Debug)]
pub(crate) struct Spread {
    /// For each board, and in it for each preference, which group it is in and how many tasks of
    /// the service that group has. Groups are counted within those of the preference before.
    groups: Vec<Vec<(usize, u32)>>,
}

/// Which of two boards is better; the smaller.
pub(crate) type Key = (Vec<u32>, u32, u32, u32);

/// How much better a move makes things; the greater. First the level at which it does, the
/// preferences' first, then by how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gain(Reverse<usize>, u32);

/// The level of a [`Gain`] in the tasks of the service.
const SERVICE_LEVEL: usize = usize::MAX - 1;
/// The level of a [`Gain`] in all tasks of the boards.
const BOARD_LEVEL: usize = usize::MAX;

/// Counts the groups, from how many tasks of the service each board has.
pub(crate) fn spread(boards: &[Board<'_>], placement: &Placement, claims: &[u32]) -> Spread {
    if placement.preferences.is_empty() {
        return Spread { groups: Vec::new() };
    }
    let mut groups: Vec<Vec<(usize, u32)>> = vec![Vec::new(); boards.len()];
    // Each board's group so far; a preference splits each group by the value of its label.
    let mut group_of = vec![0; boards.len()];
    for preference in &placement.preferences {
        let mut found: BTreeMap<(usize, &str), (usize, u32)> = BTreeMap::new();
        for (index, board) in boards.iter().enumerate() {
            let label = filter::label(board.node, &preference.attribute).unwrap_or_default();
            let next = found.len();
            let group = found.entry((group_of[index], label)).or_insert((next, 0));
            group.1 += claims[index];
        }
        for (index, board) in boards.iter().enumerate() {
            let label = filter::label(board.node, &preference.attribute).unwrap_or_default();
            let group = found.get(&(group_of[index], label)).copied().unwrap_or_default();
            groups[index].push(group);
            group_of[index] = group.0;
        }
    }
    Spread { groups }
}

impl Spread {
    /// How many tasks of the service the groups of a board have.
    pub(crate) fn groups(&self, index: usize) -> Vec<u32> {
        let groups = self.groups.get(index).into_iter().flatten();
        groups.map(|(_, count)| *count).collect()
    }

    /// What to compare boards by.
    pub(crate) fn key(&self, index: usize, boards: &[Board<'_>], census: &Census) -> Key {
        (
            self.groups(index),
            census.failures[index] / FAILURES,
            census.claims[index],
            boards[index].tasks,
        )
    }

    /// How much better it is to have a task on one board instead of another; `None` if it is not.
    ///
    /// One task more or less between two counts is the same spread the other way round: then the
    /// next level decides. So a move never makes one level worse for the next one's sake.
    pub(crate) fn gain(
        &self,
        from: usize,
        to: usize,
        boards: &[Board<'_>],
        census: &Census,
    ) -> Option<Gain> {
        let none = Vec::new();
        let from_groups = self.groups.get(from).unwrap_or(&none);
        let to_groups = self.groups.get(to).unwrap_or(&none);
        let groups = from_groups
            .iter()
            .zip(to_groups)
            .enumerate()
            .filter(|(_, (here, there))| here.0 != there.0)
            .map(|(level, (here, there))| (level, here.1, there.1));
        let counts = groups.chain([
            (SERVICE_LEVEL, census.claims[from], census.claims[to]),
            (BOARD_LEVEL, boards[from].tasks, boards[to].tasks),
        ]);
        for (level, here, there) in counts {
            match here.checked_sub(there) {
                Some(1) => {}
                Some(more @ 2..) => return Some(Gain(Reverse(level), more)),
                _ => return None,
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
