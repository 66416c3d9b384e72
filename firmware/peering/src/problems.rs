//! What a person must know and nobody here can mend.

use std::{collections::BTreeSet, net::SocketAddr};

use tokio::sync::watch;

use crate::{JoinError, JoinRefusal, Refusal};

/// What a person must know and nobody here can mend.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Problem {
    /// Two boards have the same identity.
    #[error(
        "another board, at {address}, has the same identity as this one: a card was copied after \
         its first boot; write a fresh image to one of the two"
    )]
    SameIdentity {
        /// Where the other one is.
        address: SocketAddr,
    },
    /// This node was removed from its cluster.
    #[error("this node was removed from its cluster")]
    Removed,
}

/// How many problems are kept.
const PROBLEMS: usize = 16;

/// The problems of this board. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Problems(watch::Sender<BTreeSet<Problem>>);

impl Problem {
    pub(crate) const fn from_refusal(refusal: &Refusal) -> Option<Self> {
        match refusal {
            Refusal::Removed => Some(Self::Removed),
            Refusal::SameIdentity { address } => Some(Self::SameIdentity { address: *address }),
            Refusal::NotServed | Refusal::Busy => None,
        }
    }

    pub(crate) const fn from_join(error: &JoinError) -> Option<Self> {
        match error {
            JoinError::Refused { refusal: JoinRefusal::Removed, .. } => Some(Self::Removed),
            _ => None,
        }
    }
}

impl Default for Problems {
    fn default() -> Self {
        Self(watch::channel(BTreeSet::new()).0)
    }
}

impl Problems {
    /// Tells of a problem, once.
    pub(crate) fn report(&self, problem: Option<Problem>) {
        let Some(problem) = problem else { return };
        self.0.send_if_modified(|problems| {
            let is_new = problems.len() < PROBLEMS && problems.insert(problem.clone());
            if is_new {
                tracing::error!("{problem}");
            }
            is_new
        });
    }

    pub(crate) fn clear(&self) {
        self.0.send_if_modified(|problems| !std::mem::take(problems).is_empty());
    }

    pub(crate) fn watch(&self) -> watch::Receiver<BTreeSet<Problem>> {
        self.0.subscribe()
    }
}
