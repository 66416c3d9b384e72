//! Who votes in the consensus.
//!
//! One with one or two boards, three from three, five from seven. Who votes and is there keeps
//! voting; who is down is replaced as soon as another is Ready. A person may pin a node as manager
//! or worker; a pinned manager that is down counts as any other. The number of voters stays odd
//! unless the pins leave no choice.

use std::collections::BTreeSet;

use bramble_cluster::{Command, Node, NodeId, NodeState, Role};

use crate::{
    cluster::Subject,
    draft::Draft,
    view::{Board, View},
};

/// How many nodes should vote in a cluster of so many that could.
const fn target(nodes: usize) -> usize {
    match nodes {
        0..=2 => 1,
        3..=6 => 3,
        _ => 5,
    }
}

/// Writes down who votes now.
pub(crate) fn set_roles(view: &View<'_>, draft: &mut Draft<'_>) {
    if view.heard.voters.is_empty() {
        return;
    }
    for board in &view.boards {
        let id = board.node.id;
        let role = if view.heard.voters.contains(&id) { Role::Manager } else { Role::Worker };
        if board.node.role != role {
            draft.last_command(Command::SetNodeRole { id, role });
        }
    }
}

/// Who should vote, if others than now.
pub(crate) fn choose_voters(view: &View<'_>, draft: &mut Draft<'_>) -> Option<BTreeSet<NodeId>> {
    let current = &view.heard.voters;
    if current.is_empty() {
        return None;
    }
    let chosen = choose(view);
    if chosen == *current || !is_safe(view, current, &chosen) {
        return None;
    }
    let names = |ids: &mut dyn Iterator<Item = &NodeId>| -> Vec<String> {
        ids.map(|id| match view.board(*id) {
            Some(board) => board.name().to_owned(),
            None => id.to_string(),
        })
        .collect()
    };
    let joined = names(&mut chosen.difference(current)).join(", ");
    let left = names(&mut current.difference(&chosen)).join(", ");
    let text = match (joined.is_empty(), left.is_empty()) {
        (false, false) => format!("{joined} votes instead of {left}"),
        (false, true) => format!("{joined} votes, too"),
        _ => format!("{left} no longer votes"),
    };
    draft.reason(Subject::Cluster, text);
    Some(chosen)
}

fn choose(view: &View<'_>) -> BTreeSet<NodeId> {
    let current = &view.heard.voters;
    let mut candidates: Vec<&Board<'_>> = view.boards.iter().collect();
    let managers = candidates.iter().filter(|board| is_pinned_manager(board)).count();
    let is_pinned_worker = |board: &&&Board<'_>| board.node.spec.role == Some(Role::Worker);
    let could = candidates.len() - candidates.iter().filter(is_pinned_worker).count();
    candidates.retain(|board| is_eligible(board, current.contains(&board.node.id)));
    candidates.sort_by_key(|board| preference(view, board));
    let wanted = target(could).max(managers);
    let wanted = if wanted % 2 == 0 { wanted + 1 } else { wanted };
    let mut count = wanted.min(candidates.len());
    // An even number tolerates no more losses than one less, and has one more to lose.
    if count % 2 == 0 && count > managers {
        count = count.saturating_sub(1);
    }
    candidates.truncate(count.max(1));
    candidates.iter().map(|board| board.node.id).collect()
}

fn is_pinned_manager(board: &Board<'_>) -> bool {
    board.node.spec.role == Some(Role::Manager) && board.state == NodeState::Ready
}

/// A pinned worker never votes. Who does not vote yet has to be there to begin.
fn is_eligible(board: &Board<'_>, is_voter: bool) -> bool {
    board.node.spec.role != Some(Role::Worker)
        && (is_voter || (board.state == NodeState::Ready && !board.is_leaving))
}

/// The smaller, the rather it votes: whoever is pinned first, then the leader, then whoever is
/// there, votes already, is not drained, and is a member for longest.
fn preference(view: &View<'_>, board: &Board<'_>) -> impl Ord + use<> {
    let node: &Node = board.node;
    (
        !is_pinned_manager(board),
        node.id != view.heard.leader,
        board.state != NodeState::Ready,
        !view.heard.voters.contains(&node.id),
        node.spec.availability != bramble_cluster::Availability::Active,
        node.created_at,
        node.id,
    )
}

/// Whether those that are there are a majority of the old voters and of the new ones, so that the
/// change goes through and the cluster can decide after it.
fn is_safe(view: &View<'_>, current: &BTreeSet<NodeId>, chosen: &BTreeSet<NodeId>) -> bool {
    let is_there = |id: &&NodeId| {
        **id == view.heard.leader
            || view.board(**id).is_some_and(|board| board.state == NodeState::Ready)
    };
    let has_majority =
        |voters: &BTreeSet<NodeId>| voters.iter().filter(is_there).count() > voters.len() / 2;
    !chosen.is_empty() && has_majority(current) && has_majority(chosen)
}

#[cfg(test)]
mod tests;
