//! **A task's state never goes back.** Its state and its desired state only move forward; it never
//! changes its node; what has ended stays as it ended; a task that was forgotten is not created again.

use bramble_cluster::TaskState;

use super::{Change, Past, Verdict, broken};

const NAME: &str = "task_state_never_goes_back";

pub(super) fn check(change: &Change<'_>, forgotten: Option<&Past>) -> Verdict {
    let task = change.task;
    if let Some(past) = forgotten {
        return broken(NAME, format!("{} was forgotten ({past:?}) and is back", task.id));
    }
    let Some(past) = change.past else { return Ok(()) };
    let state = task.status.state;
    if state < past.state || (past.state.is_terminal() && state != past.state) {
        return broken(NAME, format!("{} went from {:?} to {state:?}", task.id, past.state));
    }
    if task.desired < past.desired {
        let text = format!("{} is wanted {:?} after {:?}", task.id, task.desired, past.desired);
        return broken(NAME, text);
    }
    if past.node.is_some() && task.node != past.node {
        return broken(NAME, format!("{} moved from {:?} to {:?}", task.id, past.node, task.node));
    }
    if task.node.is_none() && state > TaskState::Pending && !state.is_terminal() {
        return broken(NAME, format!("{} is {state:?} without a node", task.id));
    }
    Ok(())
}
