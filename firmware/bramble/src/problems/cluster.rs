//! What the other boards show to be wrong: a second board with our identity, or with our name.

use std::convert::Infallible;

use anyhow::{Context, Result};
use bramble_cluster::{ClusterState, NodeState};
use bramble_manager::Manager;
use bramble_peering::Peering;

use super::Problems;

/// Watches for as long as the board runs. Only managers know all names.
///
/// # Errors
/// Only when peering or the manager have ended.
pub(crate) async fn watch(
    peering: Peering,
    manager: Manager,
    problems: Problems,
) -> Result<Infallible> {
    let mut found = peering.problems();
    let mut state = manager.state();
    loop {
        let texts = found.borrow_and_update().iter().map(ToString::to_string).collect();
        problems.set("identity", texts);
        problems.set("name", shared_names(&state.borrow_and_update()));
        tokio::select! {
            changed = found.changed() => changed.context("peering has ended")?,
            changed = state.changed() => changed.context("the manager has ended")?,
        }
    }
}

/// Names that several boards have, but for those that are gone. Names identify nobody, so this
/// hurts people alone.
fn shared_names(state: &ClusterState) -> Vec<String> {
    let mut names: Vec<&str> = state
        .nodes()
        .values()
        .filter(|node| node.status.state != NodeState::Down)
        .map(|node| node.description.hostname.as_str())
        .collect();
    names.sort_unstable();
    names
        .chunk_by(PartialEq::eq)
        .filter(|same| same.len() > 1)
        .map(|same| {
            let name = same.first().copied().unwrap_or_default();
            format!("{} boards are called {name}: give each a name of its own", same.len())
        })
        .collect()
}
