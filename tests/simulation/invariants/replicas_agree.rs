//! **Replicas agree.** Every voter that has applied the same entries holds the same state, whether
//! it applied them one by one or took over a snapshot on the way.

use bramble_cluster::{ClusterState, snapshot};

use super::{Verdict, broken};

const NAME: &str = "replicas_agree";

pub(super) fn check(replica: &ClusterState, leader: &ClusterState) -> Verdict {
    if replica.version() != leader.version() {
        return Ok(());
    }
    if replica != leader {
        let version = leader.version();
        return broken(NAME, format!("two replicas differ at version {version}"));
    }
    Ok(())
}

/// The thorough form, for a cluster at rest: the bytes are the same, too, and read back as the same.
pub(in super::super) fn check_bytes(replica: &ClusterState, leader: &ClusterState) -> Verdict {
    check(replica, leader)?;
    let bytes = snapshot::encode(replica);
    if replica.version() == leader.version() && bytes != snapshot::encode(leader) {
        return broken(NAME, "equal states have different snapshots".to_owned());
    }
    match snapshot::decode(&bytes) {
        Ok(state) if state == *replica => Ok(()),
        Ok(_) => broken(NAME, "a snapshot reads back as another state".to_owned()),
        Err(error) => broken(NAME, format!("a snapshot does not read back: {error}")),
    }
}
