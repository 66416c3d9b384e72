//! Rolling an operating-system update out over the boards, one at a time.
//!
//! Each board: drain, try, wait until it is kept, activate. The plan follows from what the boards
//! say, so whoever drives it may go away and come back: a board that was drained for an update says
//! so by a label, and goes on where it was.

use std::{collections::BTreeSet, time::Duration};

use bramble_cluster::NodeId;

/// The label of a node that was drained for an update, and is to be activated after it.
pub const DRAINED_LABEL: &str = "bramble.os-update";

/// How long a drained board's tasks may take to go.
const DRAIN_LIMIT: Duration = Duration::from_secs(120);
/// How long a board may be away or on trial: two boots, and the minutes that a trial is watched.
const AWAY_LIMIT: Duration = Duration::from_secs(15 * 60);

/// A board as whoever drives the roll-out sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Board {
    /// Its node.
    pub node: NodeId,
    /// Its host name.
    pub name: String,
    /// Whether the cluster holds it for ready.
    pub is_ready: bool,
    /// Whether it votes.
    pub is_voter: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// Whether the roll-out is driven from it: it is taken last, for that ends with its reboot.
    pub is_driver: bool,
    /// Whether it was drained for this.
    pub is_drained_for_us: bool,
    /// How many tasks run on it.
    pub tasks: usize,
    /// What it says of its system; `None` while it does not answer.
    pub system: Option<System>,
    /// For how long it has been as it is.
    pub since: Duration,
}

/// What a board says of its system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct System {
    /// The version that runs.
    pub version: String,
    /// The slot that it runs from: an update may have the version that it replaces.
    pub slot: String,
    /// Whether it runs on trial.
    pub is_trial: bool,
    /// The version that lies in the other slot, whole.
    pub staged: Option<String>,
    /// The last update that failed, and why.
    pub failure: Option<(String, String)>,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Goal {
    /// The version.
    pub version: String,
    /// The boards that are to run it.
    pub boards: BTreeSet<NodeId>,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Give a board's tasks away, and label it.
    Drain(NodeId),
    /// Boot a board's other slot.
    Try(NodeId),
    /// Let a board take tasks again, and take the label away.
    Activate(NodeId),
    /// Look again in a moment.
    Wait,
    /// The boards run what is wanted.
    Finished,
    /// Something is wrong; nothing more is touched.
    Stopped,
}

/// The next step, and why, in the operator's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What to do.
    pub step: Step,
    /// Why.
    pub reason: String,
}

fn decide(step: Step, reason: impl Into<String>) -> Decision {
    Decision { step, reason: reason.into() }
}

/// What to do next. `boards` are all of the cluster, those that are not to be updated, too.
pub fn next_step(goal: &Goal, boards: &[Board]) -> Decision {
    let mut under_way = boards.iter().filter(|board| is_under_way(board));
    if let Some(board) = under_way.next() {
        if let Some(other) = under_way.next() {
            // Never begun like this, but people may drain and try boards by hand.
            let reason = format!("{} and {} are both being updated", board.name, other.name);
            return decide(Step::Stopped, reason);
        }
        return go_on(goal, boards, board);
    }
    let targets = || boards.iter().filter(|board| goal.boards.contains(&board.node));
    if let Some((board, reason)) = targets().find_map(|board| Some((board, failure(goal, board)?)))
    {
        let text = format!("{} did not keep {}: {reason}", board.name, goal.version);
        return decide(Step::Stopped, text);
    }
    let Some(board) = targets().filter(|board| !is_done(goal, board)).min_by_key(|board| {
        (board.is_driver, board.is_leader, board.is_voter, board.name.clone(), board.node)
    }) else {
        return decide(Step::Finished, format!("all boards run {}", goal.version));
    };
    if let Some(away) = boards.iter().find(|board| is_away(board)) {
        return wait_for(away, AWAY_LIMIT, "is away: no board is taken before it is back");
    }
    if board.system.as_ref().and_then(|system| system.staged.as_ref()) != Some(&goal.version) {
        let text = format!("{} does not hold {}: send it again", board.name, goal.version);
        return decide(Step::Stopped, text);
    }
    if let Err(reason) = may_take(boards, board) {
        return decide(Step::Stopped, reason);
    }
    if boards.len() == 1 {
        let text = format!("{} is the only board: its tasks stop while it reboots", board.name);
        return decide(Step::Try(board.node), text);
    }
    decide(Step::Drain(board.node), format!("{} is next: its tasks go to other boards", board.name))
}

/// The one board that was begun with.
fn go_on(goal: &Goal, boards: &[Board], board: &Board) -> Decision {
    let name = &board.name;
    let system = match &board.system {
        Some(system) if board.is_ready => system,
        _ => return wait_for(board, AWAY_LIMIT, "reboots"),
    };
    if system.is_trial {
        return wait_for(board, AWAY_LIMIT, "runs on trial, and is kept when it stays healthy");
    }
    // Before whether it is done: the old system may have the version that is wanted.
    if failure(goal, board).is_some() {
        let text = format!(
            "{name} is back in its old system, in slot {}, and takes tasks again",
            system.slot
        );
        return decide(Step::Activate(board.node), text);
    }
    if !goal.boards.contains(&board.node) || is_done(goal, board) {
        let text = format!("{name} runs {} from slot {}", system.version, system.slot);
        return decide(Step::Activate(board.node), text);
    }
    if system.staged.as_ref() != Some(&goal.version) {
        let text = format!("{name} does not hold {}, and takes tasks again", goal.version);
        return decide(Step::Activate(board.node), text);
    }
    if board.tasks > 0 {
        return wait_for(board, DRAIN_LIMIT, "gives its tasks away");
    }
    let others = boards.iter().filter(|other| other.node != board.node);
    if let Some(away) = others.into_iter().find(|other| is_away(other)) {
        return wait_for(away, AWAY_LIMIT, "is away: no board reboots before it is back");
    }
    match may_take(boards, board) {
        Ok(()) => {
            let text = format!("{name} reboots from slot {} into {}", system.slot, goal.version);
            decide(Step::Try(board.node), text)
        }
        Err(reason) => decide(Step::Stopped, reason),
    }
}

fn is_under_way(board: &Board) -> bool {
    board.is_drained_for_us || board.system.as_ref().is_some_and(|system| system.is_trial)
}

fn is_away(board: &Board) -> bool {
    !board.is_ready || board.system.is_none()
}

/// Whether a board runs what is wanted, for good.
fn is_done(goal: &Goal, board: &Board) -> bool {
    let runs = |system: &System| {
        // What is staged and of the same version was made later, and is wanted, too.
        !system.is_trial && system.version == goal.version && system.staged.is_none()
    };
    board.system.as_ref().is_some_and(runs)
}

/// Why a board did not keep the update. Sent again, it may try again.
fn failure<'board>(goal: &Goal, board: &'board Board) -> Option<&'board str> {
    let system = board.system.as_ref()?;
    let (version, reason) = system.failure.as_ref()?;
    (*version == goal.version && system.staged.is_none()).then_some(reason)
}

/// Whether the cluster can decide while a board is away. A cluster with one voter stands still
/// meanwhile; it has nobody else.
fn may_take(boards: &[Board], board: &Board) -> Result<(), String> {
    let voters = boards.iter().filter(|board| board.is_voter).count();
    if !board.is_voter || voters <= 1 {
        return Ok(());
    }
    let there = |other: &&Board| other.is_voter && !is_away(other) && other.node != board.node;
    let left = boards.iter().filter(there).count();
    if left > voters / 2 {
        return Ok(());
    }
    Err(format!(
        "without {} only {left} of {voters} managers are left, and the cluster could not decide",
        board.name
    ))
}

fn wait_for(board: &Board, limit: Duration, what: &str) -> Decision {
    if board.since <= limit {
        return decide(Step::Wait, format!("{} {what}", board.name));
    }
    let minutes = board.since.as_secs() / 60;
    decide(Step::Stopped, format!("{} {what}, for {minutes} minutes already", board.name))
}

#[cfg(test)]
mod tests;
