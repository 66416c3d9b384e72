use openraft::{
    StorageError,
    testing::log::{StoreBuilder, Suite},
};
use tempfile::TempDir;
use tokio::sync::watch;

use super::*;
use crate::consensus::{
    snapshot::SnapshotFolder,
    space::Space,
    state_machine::{LastInstant, StateMachine},
};

struct Builder;

impl StoreBuilder<Types, LogStore, StateMachine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, StateMachine), StorageError<Types>> {
        let folder = TempDir::new().expect("a folder");
        let node = bramble_cluster::NodeId::from_random(0);
        let log = Log::open(&folder.path().join("log"), node).expect("a log");
        let (snapshots, image) =
            SnapshotFolder::open(&folder.path().join("snapshot")).expect("a snapshot folder");
        let space = Arc::new(Space::new(folder.path().to_owned()));
        let published = watch::Sender::new(Arc::default());
        let machine =
            StateMachine::new(Arc::new(snapshots), space, image, published, LastInstant::default())
                .expect("a state machine");
        Ok((folder, LogStore::new(Arc::new(log)), machine))
    }
}

#[test]
fn openraft_accepts_the_store() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime
        .expect("a runtime")
        .block_on(Suite::test_all(Builder))
        .expect("openraft's suite is green");
}
