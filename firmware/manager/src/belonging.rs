//! Puts the log and the membership in step: after a founding or a dissolution that was interrupted
//! between them, or the loss of one of them.

use std::time::Duration;

use bramble_cluster::{Cluster, NodeId};
use bramble_peering::{Member, Peering};
use tokio::time::timeout;

use crate::consensus::{Consensus, StartError};

/// A founder knows its own log within this time: nobody else has to be asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// Makes what this board holds and what it is a member of the same.
///
/// # Errors
/// [`StartError::Lost`] if this board was the only manager of a cluster and holds no log of it.
pub(crate) async fn settle(consensus: &Consensus, peering: &Peering) -> Result<(), StartError> {
    let member = peering.membership().borrow().member().cloned();
    match member {
        Some(member) if consensus.is_dormant() && is_alone(&member, consensus.node()) => {
            return Err(StartError::Lost);
        }
        Some(member) if consensus.is_sole_voter().await => end_dissolving(consensus, &member).await,
        None if !consensus.is_dormant() => end_founding(consensus, peering).await,
        _ => {}
    }
    Ok(())
}

fn is_alone(member: &Member, node: NodeId) -> bool {
    matches!(member.managers.as_slice(), [only] if only.id == node)
}

/// A board that gives up its own, unused cluster enters the other one first. If it was stopped in
/// between, it still holds the log of what it gave up, and would lead that for ever.
async fn end_dissolving(consensus: &Consensus, member: &Member) {
    if cluster_in_log(consensus).await.is_none_or(|own| own.id == member.cluster) {
        return;
    }
    tracing::info!(into = %member.cluster, "the unused cluster's log is forgotten");
    if let Err(error) = consensus.leave().await {
        tracing::error!(%error, "cannot forget the unused cluster's log");
    }
}

/// A board that holds a log and is no member began to found a cluster. If the cluster is in the
/// log, it becomes its member now; if not, nothing was founded and the log is forgotten, so that
/// the board can seek as if it had never tried.
async fn end_founding(consensus: &Consensus, peering: &Peering) {
    if let Some(cluster) = cluster_in_log(consensus).await {
        if let Err(error) = peering.adopt(&cluster) {
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

/// The cluster whose log this node holds, once it knows.
async fn cluster_in_log(consensus: &Consensus) -> Option<Cluster> {
    let mut state = consensus.state();
    let known = timeout(PATIENCE, state.wait_for(|state| state.cluster().is_some())).await;
    known.ok()?.ok()?.cluster().cloned()
}
