//! **The plan of a converged cluster is empty.** At any time, planning again and again at the same
//! instant comes to an empty plan in a bounded number of rounds; an empty plan does not ask to be made
//! again at once; and in a cluster at rest the next plan is empty.

use bramble_cluster::{ClusterState, Entry, Timestamp};
use bramble_planner::{Heard, plan_cluster};

use super::{Verdict, broken};
use crate::simulation::world::World;

const NAME: &str = "converged_plan_is_empty";

/// So many plans may follow from one another at the same instant.
const ROUNDS: usize = 40;

/// Plans at one instant until there is nothing to plan.
pub(in super::super) fn settles(state: &ClusterState, heard: &Heard, now: Timestamp) -> Verdict {
    let (mut state, mut heard) = (state.clone(), heard.clone());
    let mut last = String::new();
    for _ in 0..ROUNDS {
        let plan = plan_cluster(&state, &heard, now);
        if plan.is_empty() {
            return Ok(());
        }
        last = format!("{:?} {:?}", plan.commands, plan.voters);
        if let Some(voters) = plan.voters {
            heard.voters = voters;
        }
        state.apply(&Entry { at: now, commands: plan.commands });
    }
    broken(NAME, format!("after {ROUNDS} plans at one instant the next would be {last}"))
}

/// An empty plan waits until `wake_at`.
pub(in super::super) fn waits(wake_at: Timestamp, now: Timestamp) -> Verdict {
    if wake_at > now {
        return Ok(());
    }
    broken(NAME, format!("an empty plan at {now:?} asks to be made again at {wake_at:?}"))
}

/// In a cluster at rest.
pub(in super::super) fn check(world: &World) -> Verdict {
    let Some((term, _, state)) = world.leader() else {
        return broken(NAME, "nobody leads".to_owned());
    };
    let ahead = world.consensus.leaderships[&term].ahead;
    let now = Timestamp::from_millis(world.now + ahead);
    let plan = plan_cluster(state, &world.heard(term), now);
    if plan.is_empty() {
        return Ok(());
    }
    broken(NAME, format!("at rest, the next plan is {:?} {:?}", plan.commands, plan.voters))
}
