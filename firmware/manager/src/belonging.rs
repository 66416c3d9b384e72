//! Puts the log and the membership in step after a founding that was interrupted between them.

use std::time::Duration;

use bramble_peering::Peering;
use tokio::time::timeout;

use crate::consensus::Consensus;

/// A founder knows its own log within this time: nobody else has to be asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// A board that holds a log and is no member began to found a cluster. If the cluster is in the
/// log, it becomes its member now; if not, nothing was founded and the log is forgotten, so that
/// the board can seek as if it had never tried.
pub(crate) async fn settle(consensus: &Consensus, peering: &Peering) {
    if consensus.is_dormant() || peering.membership().borrow().member().is_some() {
        return;
    }
    let mut state = consensus.state();
    let founded = timeout(PATIENCE, state.wait_for(|state| state.cluster().is_some())).await;
    if let Ok(Ok(state)) = founded {
        if let Some(cluster) = state.cluster()
            && let Err(error) = peering.adopt(cluster)
        {
            tracing::error!(%error, "cannot become a member of the cluster in this board's log");
        }
        return;
    }
    let managers = consensus.leadership().borrow().voters.len();
    if managers > 1 {
        tracing::error!(managers, "this board holds a cluster's log and is no member of it");
        return;
    }
    tracing::info!("a founding was interrupted; it begins anew");
    if let Err(error) = consensus.leave().await {
        tracing::error!(%error, "cannot forget the interrupted founding");
    }
}
