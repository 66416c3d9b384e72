//! Who is there: the leader's verdict on each node.
//!
//! A node is Ready as soon as it is heard of, and Down when it was not heard of for
//! [`DOWN_AFTER`]. A new leader has heard of nobody yet: it gives every node [`LEADER_GRACE`] to find
//! it, but the former leader's only [`SUSPECT_AFTER`]. The leader's own node is never Down.

use std::collections::BTreeMap;

use bramble_cluster::{ClusterState, Command, Node, NodeId, NodeState, Timestamp};

use crate::{
    cluster::{Heard, Subject},
    draft::Draft,
    timing::{DOWN_AFTER, LEADER_GRACE, SUSPECT_AFTER},
};

/// Judges every node; the plan goes on from these verdicts, the log learns of those that are new.
pub(crate) fn judge(
    state: &ClusterState,
    heard: &Heard,
    draft: &mut Draft<'_>,
) -> BTreeMap<NodeId, NodeState> {
    let mut verdicts = BTreeMap::new();
    for node in state.nodes().values() {
        let verdict = verdict(node, heard, draft);
        verdicts.insert(node.id, verdict);
        if verdict == node.status.state {
            continue;
        }
        let message = match verdict {
            NodeState::Down => silence(node, heard, draft.now),
            NodeState::Ready | NodeState::Unknown => String::new(),
        };
        let name = &node.description.hostname;
        draft.reason(
            Subject::Node(node.id),
            match verdict {
                NodeState::Down => format!("{name} is down: {message}"),
                NodeState::Ready | NodeState::Unknown => format!("{name} is ready"),
            },
        );
        draft.command(Command::SetNodeState {
            id: node.id,
            version: node.version,
            state: verdict,
            message,
        });
    }
    verdicts
}

fn verdict(node: &Node, heard: &Heard, draft: &mut Draft<'_>) -> NodeState {
    if let Some(last_heard) = last_heard(node.id, heard) {
        if draft.now < last_heard + DOWN_AFTER {
            draft.wake_at(last_heard + DOWN_AFTER);
            return NodeState::Ready;
        }
        return if node.id == heard.leader { node.status.state } else { NodeState::Down };
    }
    if node.status.state != NodeState::Ready || node.id == heard.leader {
        return node.status.state;
    }
    let grace = if heard.former_leader == Some(node.id) { SUSPECT_AFTER } else { LEADER_GRACE };
    if draft.is_due(heard.leading_since + grace) { NodeState::Down } else { NodeState::Ready }
}

/// When the node was last heard of by this leadership.
fn last_heard(node: NodeId, heard: &Heard) -> Option<Timestamp> {
    let last_heard = heard.contacts.get(&node)?.last_heard;
    (last_heard >= heard.leading_since).then_some(last_heard)
}

fn silence(node: &Node, heard: &Heard, now: Timestamp) -> String {
    let since = last_heard(node.id, heard).unwrap_or(heard.leading_since);
    let tenths = now.since(since).as_millis() / 100;
    let whose = if last_heard(node.id, heard).is_some() { "" } else { " by the new leader" };
    format!("not heard of for {}.{} s{whose}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests;
