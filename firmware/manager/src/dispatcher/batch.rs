//! Changes that nodes ask for, proposed together.
//!
//! What comes while nothing is being proposed goes at once; what comes while something is goes
//! with the next proposal. So a busy cluster writes few large entries, and an idle one waits for
//! nothing.

use std::{convert::Infallible, time::Duration};

use bramble_cluster::{Command, limits};
use tokio::{sync::mpsc, time::timeout};

use crate::seat::Seat;

/// Batches that are proposed together at most.
const TOGETHER: usize = 256;

/// A proposal that is not answered by then counts as failed; nodes say their reports again.
const PROPOSAL: Duration = Duration::from_secs(5);

/// Changes that one node asks for.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) commands: Vec<Command>,
    /// Whom to tell, and what, once a quorum has them.
    pub(crate) taken: Option<(mpsc::Sender<Taken>, Taken)>,
}

/// What a quorum has of what a node said, by the node's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    Reports(u64),
    Images(u64),
}

/// Proposes what comes in.
pub(super) async fn run(seat: Seat, mut batches: mpsc::Receiver<Batch>) -> Infallible {
    let mut together = Vec::new();
    loop {
        if batches.recv_many(&mut together, TOGETHER).await == 0 {
            // The dispatcher holds a sender, so this is the end of the whole process.
            std::future::pending::<()>().await;
        }
        let mut commands = Vec::new();
        let mut taken = Vec::new();
        for batch in together.drain(..) {
            if commands.len() + batch.commands.len() > limits::COMMANDS {
                propose(&seat, std::mem::take(&mut commands), std::mem::take(&mut taken)).await;
            }
            commands.extend(batch.commands);
            taken.extend(batch.taken);
        }
        propose(&seat, commands, taken).await;
    }
}

async fn propose(seat: &Seat, commands: Vec<Command>, taken: Vec<(mpsc::Sender<Taken>, Taken)>) {
    match timeout(PROPOSAL, (seat.propose)(commands)).await {
        Ok(Ok(outcomes)) => {
            for rejection in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
                tracing::debug!(%rejection, "what a node said was rejected");
            }
            for (session, what) in taken {
                // A session that is full or gone says it again.
                let _ = session.try_send(what);
            }
        }
        Ok(Err(error)) => tracing::debug!(%error, "what nodes said could not be proposed"),
        Err(_) => tracing::warn!("what nodes said was not agreed on in time"),
    }
}
