//! What the leader does next with the cluster: [`plan_cluster`].

use std::collections::{BTreeMap, BTreeSet};

use bramble_cluster::{ClusterState, Command, NodeId, ServiceId, TaskId, Timestamp, limits};

use crate::{draft::Draft, history, liveness, membership, orchestrator, scheduler, view::View};

/// What the leader has heard, in its memory only: none of it enters the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Heard {
    /// Who leads: this node.
    pub leader: NodeId,
    /// Since when.
    pub leading_since: Timestamp,
    /// Who led before, if that is known and was another.
    pub former_leader: Option<NodeId>,
    /// Who votes in the consensus now; empty if that is not known.
    pub voters: BTreeSet<NodeId>,
    /// The nodes that were heard of since this node leads.
    pub contacts: BTreeMap<NodeId, Contact>,
}

/// What was heard of a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contact {
    /// When it last said anything.
    pub last_heard: Timestamp,
    /// Whether it has a session. One that was cut may come back before the node counts as down.
    pub is_connected: bool,
    /// Whether it said goodbye: its tasks are replaced before it goes.
    pub is_leaving: bool,
}

/// What the leader does next. It proposes the commands as one entry and plans again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// To propose, in this order, in one entry.
    pub commands: Vec<Command>,
    /// Who should vote, if others than now.
    pub voters: Option<BTreeSet<NodeId>>,
    /// Why, in the operator's words.
    pub reasons: Vec<Reason>,
    /// When to plan again if nothing happens before.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    /// Whether nothing is to be done.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty() && self.voters.is_none()
    }
}

/// Why something is done, or can not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// What it is about.
    pub subject: Subject,
    /// One line.
    pub text: String,
}

/// What a [`Reason`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The voters, or the cluster as a whole.
    Cluster,
    /// A node.
    Node(NodeId),
    /// A service.
    Service(ServiceId),
    /// A task.
    Task(TaskId),
}

/// Plans what the leader does next. A function of its arguments alone.
///
/// Commands of one plan do not depend on each other's outcome, except that they apply in order.
/// Whatever becomes of them, the next plan starts from the state again. A plan without commands and
/// voters means that nothing is to be done before `wake_at`.
pub fn plan_cluster(state: &ClusterState, heard: &Heard, now: Timestamp) -> Plan {
    let mut draft = Draft::new(state, now);
    let conditions = liveness::judge(state, heard, &mut draft);
    let mut view = View::new(state, heard, &conditions, now);
    orchestrator::orchestrate(&view, &mut draft);
    scheduler::schedule(&mut view, &mut draft);
    history::prune(&view, &mut draft);
    membership::set_roles(&view, &mut draft);
    let voters = membership::choose_voters(&view, &mut draft);
    let mut plan = draft.into_plan();
    plan.commands.truncate(limits::COMMANDS);
    plan.voters = voters;
    plan
}

#[cfg(test)]
mod tests;
