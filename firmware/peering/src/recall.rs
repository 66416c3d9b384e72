//! Keeps who manages, so that a board finds its cluster after a restart where mDNS does not reach.

use std::{convert::Infallible, time::Duration};

use tokio::time::sleep;

use crate::{Directory, trust::Trust};

/// Changes come in bursts; one write does for all of them.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Keeps who manages.
#[derive(Debug)]
pub(crate) struct Recall {
    pub(crate) trust: Trust,
    pub(crate) directory: Directory,
}

impl Recall {
    pub(crate) async fn run(self) -> Infallible {
        let mut changes = self.directory.changes();
        loop {
            // The sender lives as long as the directory that this loop holds.
            let _ = changes.changed().await;
            sleep(SETTLED_AFTER).await;
            changes.mark_unchanged();
            if let Err(error) = self.trust.remember_managers(self.directory.managers()) {
                tracing::warn!(%error, "who manages is not kept");
            }
        }
    }
}
