//! Where incoming conversations go: one bounded queue a protocol.

use std::{
    fmt,
    sync::{Mutex, PoisonError},
};

use tokio::sync::mpsc::{self, OwnedPermit, error::TrySendError};

use crate::{PeerStream, Protocol, Refusal};

/// Conversations that wait to be taken up; more are turned away.
const WAITING: usize = 64;

/// The queues of incoming conversations.
pub(crate) struct Doors(Vec<Door>);

struct Door {
    sender: mpsc::Sender<PeerStream>,
    receiver: Mutex<Option<mpsc::Receiver<PeerStream>>>,
}

impl Doors {
    pub(crate) fn new() -> Self {
        let door = |_| {
            let (sender, receiver) = mpsc::channel(WAITING);
            Door { sender, receiver: Mutex::new(Some(receiver)) }
        };
        Self(Protocol::ALL.iter().map(door).collect())
    }

    /// The queue of a protocol, once.
    pub(crate) fn take(&self, protocol: Protocol) -> Option<mpsc::Receiver<PeerStream>> {
        let door = self.0.get(protocol.index())?;
        door.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// A place in the queue of a protocol.
    pub(crate) fn reserve(&self, protocol: Protocol) -> Result<OwnedPermit<PeerStream>, Refusal> {
        let door = self.0.get(protocol.index()).ok_or(Refusal::NotServed)?;
        if door.receiver.lock().unwrap_or_else(PoisonError::into_inner).is_some() {
            return Err(Refusal::NotServed);
        }
        door.sender.clone().try_reserve_owned().map_err(|error| match error {
            TrySendError::Full(_) => Refusal::Busy,
            TrySendError::Closed(_) => Refusal::NotServed,
        })
    }
}

impl fmt::Debug for Doors {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Doors").finish_non_exhaustive()
    }
}
