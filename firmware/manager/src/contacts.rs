//! Which nodes the leader hears of. In its memory only, and begun anew with each leadership.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bramble_cluster::{NodeId, Timestamp, Vitals};
use bramble_planner::{Contact, Heard};
use tokio::sync::{oneshot, watch};

/// While a session was heard of within this time, another daemon with the same identity is a
/// second board with a copied card, not the same board again.
const ALIVE: Duration = Duration::from_millis(500);

/// What the leader has heard. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Contacts(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    book: Mutex<Book>,
    /// Counts what may change a plan: a node came, went, leaves. Heartbeats do not count.
    edges: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Book {
    /// The leadership that this is of; 0 is none.
    term: u64,
    leading_since: Timestamp,
    former_leader: Option<NodeId>,
    nodes: BTreeMap<NodeId, Known>,
    sessions: u64,
}

#[derive(Debug)]
struct Known {
    contact: Contact,
    vitals: Option<Vitals>,
    session: u64,
    instance: u128,
    /// Ends the session when a newer one takes its place.
    replaced: Option<oneshot::Sender<()>>,
}

/// A second board shows the identity of one that has a live session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a board with the identity {node} has a session already: two cards were copied from one \
     another after their first boot; erase the data partition of one of them"
)]
pub(crate) struct CopiedIdentity {
    node: NodeId,
}

/// An open session's entry. The node counts as disconnected when this is dropped.
#[derive(Debug)]
pub(crate) struct OpenContact {
    contacts: Contacts,
    node: NodeId,
    session: u64,
}

impl Contacts {
    /// Nobody was heard of yet.
    pub(crate) fn new() -> Self {
        let (edges, _) = watch::channel(0);
        Self(Arc::new(Shared { book: Mutex::default(), edges }))
    }

    /// This node leads in `term`, since `now` or since a node found it, if that was before.
    pub(crate) fn begin(&self, term: u64, now: Timestamp, former_leader: Option<NodeId>) {
        let mut book = self.book();
        book.enter(term, now);
        book.former_leader = former_leader;
        drop(book);
        self.changed();
    }

    /// This node leads in `term` no more.
    pub(crate) fn end(&self, term: u64) {
        let mut book = self.book();
        if book.term == term {
            book.enter(0, Timestamp::default());
        }
        drop(book);
        self.changed();
    }

    /// Tells when a node came, went or leaves.
    pub(crate) fn edges(&self) -> watch::Receiver<u64> {
        self.0.edges.subscribe()
    }

    /// A node opens a session in `term`. The second value resolves when a newer session, or a newer
    /// leadership, takes its place.
    pub(crate) fn open(
        &self,
        term: u64,
        (node, instance): (NodeId, u128),
        now: Timestamp,
    ) -> Result<(OpenContact, oneshot::Receiver<()>), CopiedIdentity> {
        let mut book = self.book();
        if book.term < term {
            book.enter(term, now);
        }
        if let Some(known) = book.nodes.get(&node) {
            let is_alive =
                known.contact.is_connected && now.since(known.contact.last_heard) < ALIVE;
            if is_alive && known.instance != instance {
                return Err(CopiedIdentity { node });
            }
        }
        book.sessions += 1;
        let session = book.sessions;
        let (replaced, is_replaced) = oneshot::channel();
        let contact = Contact { last_heard: now, is_connected: true, is_leaving: false };
        let vitals = book.nodes.remove(&node).and_then(|known| known.vitals);
        let known = Known { contact, vitals, session, instance, replaced: Some(replaced) };
        book.nodes.insert(node, known);
        drop(book);
        self.changed();
        Ok((OpenContact { contacts: self.clone(), node, session }, is_replaced))
    }

    /// What the planner gets to know.
    pub(crate) fn heard(&self, leader: NodeId, voters: BTreeSet<NodeId>) -> Heard {
        let book = self.book();
        let contacts = book.nodes.iter().map(|(node, known)| (*node, known.contact));
        Heard {
            leader,
            leading_since: book.leading_since,
            former_leader: book.former_leader,
            voters,
            contacts: contacts.collect(),
        }
    }

    /// The leadership that this is of, if there is one.
    pub(crate) fn term(&self) -> Option<u64> {
        Some(self.book().term).filter(|term| *term > 0)
    }

    /// The latest vitals of each node that sent some.
    pub(crate) fn vitals(&self) -> BTreeMap<NodeId, Vitals> {
        let book = self.book();
        let vitals = |(node, known): (&NodeId, &Known)| Some((*node, known.vitals.clone()?));
        book.nodes.iter().filter_map(vitals).collect()
    }

    fn changed(&self) {
        self.0.edges.send_modify(|edges| *edges += 1);
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Begins anew for a leadership, unless it is of that one already.
    fn enter(&mut self, term: u64, now: Timestamp) {
        if self.term != term {
            let sessions = self.sessions;
            *self = Self { term, leading_since: now, sessions, ..Self::default() };
        }
    }
}

impl OpenContact {
    /// A heartbeat came.
    pub(crate) fn heard(&self, now: Timestamp, vitals: Option<Vitals>) {
        self.change(|known| {
            known.contact.last_heard = known.contact.last_heard.max(now);
            if vitals.is_some() {
                known.vitals = vitals;
            }
        });
    }

    /// The node says that it is about to go.
    pub(crate) fn leaving(&self) {
        self.change(|known| known.contact.is_leaving = true);
        self.contacts.changed();
    }

    /// Changes the node's entry, unless a newer session has it.
    fn change(&self, change: impl FnOnce(&mut Known)) {
        let mut book = self.contacts.book();
        if let Some(known) = book.nodes.get_mut(&self.node)
            && known.session == self.session
        {
            change(known);
        }
    }
}

impl Drop for OpenContact {
    fn drop(&mut self) {
        self.change(|known| {
            known.contact.is_connected = false;
            known.replaced = None;
        });
        self.contacts.changed();
    }
}

#[cfg(test)]
mod tests;
