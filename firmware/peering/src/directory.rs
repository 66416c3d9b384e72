//! Who is where: the addresses at which nodes were found, who manages, who leads.
//!
//! Addresses are hints and never identity: a wrong one costs a failed attempt, since whoever answers
//! must show the right certificate. They come from the cluster's state, from sessions and from mDNS;
//! the latest to be confirmed is tried first.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bramble_cluster::{NodeId, Peer, limits};
use tokio::sync::watch;

/// How many hints on one node's address are remembered.
pub(crate) const HINTS: usize = 8;
/// How many addresses at which it answered.
pub(crate) const CONFIRMED: usize = 4;

/// Who is where. Cheap to clone; all clones are the same directory.
#[derive(Debug, Clone)]
pub struct Directory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    book: Mutex<Book>,
    changes: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Book {
    places: BTreeMap<NodeId, Places>,
    managers: BTreeSet<NodeId>,
    leader: Option<NodeId>,
}

/// Where one node may be. Hints are anybody's word, so they never push out what worked.
#[derive(Debug, Default)]
struct Places {
    /// Where it showed its certificate, the latest first.
    confirmed: Vec<SocketAddr>,
    /// Where it may be, the most promising first.
    hinted: Vec<SocketAddr>,
}

impl Default for Directory {
    fn default() -> Self {
        let (changes, _) = watch::channel(0);
        Self(Arc::new(Inner { book: Mutex::default(), changes }))
    }
}

impl Directory {
    /// Where the node was found, most promising first.
    pub fn addresses(&self, node: NodeId) -> Vec<SocketAddr> {
        self.book().addresses(node)
    }

    /// The node and where it was found.
    pub fn peer(&self, node: NodeId) -> Peer {
        Peer { id: node, addresses: self.addresses(node) }
    }

    /// The managers, as this board last heard.
    pub fn managers(&self) -> Vec<Peer> {
        let book = self.book();
        let peer = |id: &NodeId| Peer { id: *id, addresses: book.addresses(*id) };
        book.managers.iter().map(peer).collect()
    }

    /// The leader, as this board last heard.
    pub fn leader(&self) -> Option<NodeId> {
        self.book().leader
    }

    /// Counts up whenever anything in the directory changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.0.changes.subscribe()
    }

    /// Someone answered at this address and showed the node's certificate: it comes first.
    pub fn confirm(&self, node: NodeId, address: SocketAddr) {
        if !is_somewhere(&address) {
            return;
        }
        self.change(|book| book.places(node).is_some_and(|places| places.confirm(address)));
    }

    /// Someone says that the node may be at these addresses.
    pub fn hint(&self, node: NodeId, addresses: &[SocketAddr]) {
        self.change(|book| {
            let Some(places) = book.places(node) else { return false };
            let mut is_changed = false;
            for address in addresses.iter().filter(|address| is_somewhere(address)).take(HINTS) {
                is_changed |= places.hint(*address);
            }
            is_changed
        });
    }

    /// The board itself seems to announce, here and now, that it is at these addresses: the first
    /// among the hints.
    pub(crate) fn announced(&self, node: NodeId, addresses: &[SocketAddr]) {
        self.change(|book| book.places(node).is_some_and(|places| places.announce(addresses)));
    }

    /// Who manages now; their addresses are hints.
    pub fn set_managers(&self, managers: &[Peer]) {
        for manager in managers.iter().take(limits::NODES) {
            self.hint(manager.id, &manager.addresses);
        }
        let ids = managers.iter().take(limits::NODES).map(|manager| manager.id).collect();
        self.change(|book| std::mem::replace(&mut book.managers, ids) != book.managers);
    }

    /// Who leads now.
    pub fn set_leader(&self, leader: Option<NodeId>) {
        self.change(|book| std::mem::replace(&mut book.leader, leader) != book.leader);
    }

    /// Forgets a node that is gone for good.
    pub fn forget(&self, node: NodeId) {
        self.change(|book| {
            let was_known = book.places.remove(&node).is_some();
            book.managers.remove(&node) || was_known
        });
    }

    /// Forgets everything: this board left its cluster.
    pub(crate) fn clear(&self) {
        self.change(|book| {
            *book = Book::default();
            true
        });
    }

    fn change(&self, change: impl FnOnce(&mut Book) -> bool) {
        let is_changed = change(&mut self.book());
        if is_changed {
            self.0.changes.send_modify(|count| *count += 1);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    fn addresses(&self, node: NodeId) -> Vec<SocketAddr> {
        let Some(places) = self.places.get(&node) else { return Vec::new() };
        places.confirmed.iter().chain(&places.hinted).copied().collect()
    }

    fn places(&mut self, node: NodeId) -> Option<&mut Places> {
        let is_full = self.places.len() >= 2 * limits::NODES && !self.places.contains_key(&node);
        if is_full { None } else { Some(self.places.entry(node).or_default()) }
    }
}

impl Places {
    fn confirm(&mut self, address: SocketAddr) -> bool {
        if self.confirmed.first() == Some(&address) {
            return false;
        }
        self.hinted.retain(|other| *other != address);
        self.confirmed.retain(|other| *other != address);
        self.confirmed.insert(0, address);
        self.confirmed.truncate(CONFIRMED);
        true
    }

    fn hint(&mut self, address: SocketAddr) -> bool {
        let is_known = self.confirmed.contains(&address) || self.hinted.contains(&address);
        if is_known || self.hinted.len() >= HINTS {
            return false;
        }
        self.hinted.push(address);
        true
    }

    fn announce(&mut self, addresses: &[SocketAddr]) -> bool {
        let before = self.hinted.clone();
        let is_news =
            |address: &&SocketAddr| is_somewhere(address) && !self.confirmed.contains(address);
        let news = addresses.iter().filter(is_news).take(HINTS);
        let mut hinted: Vec<_> = news.copied().collect();
        hinted.extend(before.iter().filter(|address| !addresses.contains(address)));
        hinted.truncate(HINTS);
        self.hinted = hinted;
        self.hinted != before
    }
}

/// Whether one board can be there: 0.0.0.0 would be ourselves.
fn is_somewhere(address: &SocketAddr) -> bool {
    let ip = address.ip();
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId::from_random(1);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn what_was_confirmed_last_is_tried_first() {
        let directory = Directory::default();
        directory.hint(NODE, &[address(1), address(2)]);
        directory.confirm(NODE, address(3));
        directory.confirm(NODE, address(2));
        directory.hint(NODE, &[address(1), address(4)]);
        directory.announced(NODE, &[address(3), address(5)]);
        let order = [2, 3, 5, 1, 4].map(address);
        assert_eq!(directory.addresses(NODE), order);
    }

    #[test]
    fn a_flood_of_hints_does_not_push_out_what_works() {
        let directory = Directory::default();
        directory.confirm(NODE, address(1));
        for port in 100..200 {
            directory.hint(NODE, &[address(port)]);
            directory.announced(NODE, &[address(port + 1)]);
        }
        let addresses = directory.addresses(NODE);
        assert_eq!((addresses[0], addresses.len()), (address(1), 1 + HINTS));
        for node in 0..10_000 {
            directory.hint(NodeId::from_random(node), &[address(1)]);
        }
        assert!(directory.book().places.len() <= 2 * limits::NODES);
    }

    #[test]
    fn nowhere_is_no_address() {
        let directory = Directory::default();
        for text in ["0.0.0.0:7420", "[::]:7420", "10.0.0.1:0", "224.0.0.251:7420"] {
            let address = text.parse().expect("an address");
            directory.hint(NODE, &[address]);
            directory.announced(NODE, &[address]);
            directory.confirm(NODE, address);
        }
        assert_eq!(directory.addresses(NODE), []);
    }

    #[test]
    fn only_changes_are_told() {
        let directory = Directory::default();
        let mut changes = directory.changes();
        directory.confirm(NODE, address(1));
        assert!(changes.has_changed().expect("open"));
        changes.mark_unchanged();
        directory.confirm(NODE, address(1));
        directory.set_managers(&[]);
        directory.set_leader(None);
        assert!(!changes.has_changed().expect("open"));
        directory.set_leader(Some(NODE));
        directory.set_managers(&[directory.peer(NODE)]);
        assert!(changes.has_changed().expect("open"));
        assert_eq!(directory.managers(), [Peer { id: NODE, addresses: vec![address(1)] }]);
        assert_eq!(directory.leader(), Some(NODE));
    }
}
