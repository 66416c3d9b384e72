//! Tells peering's directory what the state says: who is where, who manages, who leads.

use std::sync::Arc;

use bramble_cluster::{ClusterState, Peer};
use bramble_peering::Peering;

use crate::{Leadership, consensus::Consensus};

/// Repeats it whenever either changes. A board without a log has nothing to tell: there its
/// session does.
pub(crate) async fn run(consensus: Consensus, peering: Peering) {
    let mut state = consensus.state();
    let mut leadership = consensus.leadership();
    loop {
        let seen = Arc::clone(&state.borrow_and_update());
        let led = leadership.borrow_and_update().clone();
        if seen.cluster().is_some() {
            introduce(&peering, &seen, &led);
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            changed = leadership.changed() => if changed.is_err() { return },
        }
    }
}

fn introduce(peering: &Peering, state: &ClusterState, leadership: &Leadership) {
    let directory = peering.directory();
    for node in state.nodes().values().filter(|node| node.id != peering.node_id()) {
        directory.hint(node.id, &node.description.addresses);
    }
    let managers: Vec<Peer> = leadership
        .voters
        .iter()
        .filter_map(|voter| state.node(*voter))
        .map(|node| Peer { id: node.id, addresses: node.description.addresses.clone() })
        .collect();
    directory.set_managers(&managers);
    directory.set_leader(leadership.leader);
}
