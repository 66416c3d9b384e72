//! Lets boards in: commits what peering has checked, and signs.

use bramble_cluster::{Command, Rejection};
use bramble_peering::{AdmissionRequest, JoinRefusal, Peering, Standing};
use tokio::{sync::mpsc, task::JoinSet};

use crate::consensus::Consensus;

/// Admissions that are committed at the same time.
const ADMISSIONS: usize = 16;

/// Answers admissions for ever.
pub(crate) async fn run(
    consensus: Consensus,
    peering: Peering,
    mut requests: mpsc::Receiver<AdmissionRequest>,
) {
    let mut admissions = JoinSet::new();
    loop {
        tokio::select! {
            request = requests.recv(), if admissions.len() < ADMISSIONS => {
                let Some(request) = request else { return };
                admissions.spawn(admit(consensus.clone(), peering.clone(), request));
            }
            Some(_) = admissions.join_next() => {}
        }
    }
}

async fn admit(consensus: Consensus, peering: Peering, request: AdmissionRequest) {
    let node = request.node.id;
    if let Err(refusal) = commit(&consensus, &request).await {
        tracing::info!(%node, from = %request.from, %refusal, "a board was turned away");
        request.refuse(refusal);
        return;
    }
    let state = std::sync::Arc::clone(&consensus.state().borrow());
    let Some(cluster) = state.cluster() else {
        request.refuse(JoinRefusal::NotManager);
        return;
    };
    match request.sign(cluster, peering.clock().now()) {
        Ok(admission) => {
            tracing::info!(%node, from = %request.from, "a board was let in");
            request.admit(admission);
        }
        Err(error) => request.refuse(JoinRefusal::Failed(error.to_string())),
    }
}

/// Makes the board a member. One that is a member, and only needs its next certificate, is.
async fn commit(consensus: &Consensus, request: &AdmissionRequest) -> Result<(), JoinRefusal> {
    let is_known = consensus.state().borrow().node(request.node.id).is_some();
    if request.standing == Standing::Certificate && is_known {
        return Ok(());
    }
    let command = Command::AdmitNode(Box::new(request.node.clone()));
    let outcomes = consensus
        .propose(vec![command])
        .await
        .map_err(|error| JoinRefusal::Failed(error.to_string()))?;
    match outcomes.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        Some(Err(Rejection::NodeRemoved { .. })) => Err(JoinRefusal::Removed),
        Some(Err(rejection)) => Err(JoinRefusal::Failed(rejection.to_string())),
        None => Err(JoinRefusal::Failed("the cluster did not answer".to_owned())),
    }
}
