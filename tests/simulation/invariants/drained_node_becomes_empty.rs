//! **A drained node becomes empty.** When everything has come to rest, nothing runs on a drained
//! board and nothing is meant to, whether or not its tasks found another place.

use bramble_cluster::Availability;

use super::{Verdict, broken};
use crate::simulation::world::{World, newest};

const NAME: &str = "drained_node_becomes_empty";

pub(in super::super) fn check(world: &World) -> Verdict {
    let state = newest(&world.boards);
    let is_drained = |id| {
        let node = state.node(id);
        node.is_some_and(|node| node.spec.availability == Availability::Drain)
    };
    for (place, task) in world.live() {
        if is_drained(world.boards[place].id) {
            return broken(NAME, format!("{task} still runs on the drained board {place}"));
        }
    }
    for task in state.tasks().values().filter(|task| !task.status.state.is_terminal()) {
        if task.node.is_some_and(is_drained) {
            let text = format!("{} is {:?} on a drained node", task.id, task.status.state);
            return broken(NAME, text);
        }
    }
    Ok(())
}
