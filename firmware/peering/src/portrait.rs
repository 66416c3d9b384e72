//! What this board says of itself: told once, but for its addresses, which come and go, and for
//! labels that are set later.

use std::net::SocketAddr;

use bramble_cluster::NodeDescription;
use tokio::sync::watch;

use crate::Interfaces;

/// What this board says of itself. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Portrait {
    description: watch::Sender<NodeDescription>,
    interfaces: Interfaces,
    /// Where it listens.
    listen: SocketAddr,
}

impl Portrait {
    pub(crate) fn new(
        description: NodeDescription,
        interfaces: Interfaces,
        listen: SocketAddr,
    ) -> Self {
        Self { description: watch::Sender::new(description), interfaces, listen }
    }

    /// From now on it has this label, or none of this name.
    pub(crate) fn set_label(&self, name: &str, value: Option<String>) {
        self.description.send_modify(|description| {
            description.engine_labels.remove(name);
            description.engine_labels.extend(value.map(|value| (name.to_owned(), value)));
        });
    }

    /// With the addresses that it has now.
    pub(crate) fn description(&self) -> NodeDescription {
        let addresses = if self.listen.ip().is_unspecified() {
            let mut addresses = self.interfaces.addresses(self.listen.port());
            // [::] takes IPv4 as well, 0.0.0.0 takes nothing else.
            addresses.retain(|address| address.is_ipv4() || self.listen.is_ipv6());
            addresses
        } else {
            vec![self.listen]
        };
        NodeDescription { addresses, ..self.description.borrow().clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_comes_and_goes_and_leaves_the_others_alone() {
        let labels = [("room".to_owned(), "attic".to_owned())].into();
        let description = NodeDescription { engine_labels: labels, ..NodeDescription::default() };
        let listen = SocketAddr::from(([192, 0, 2, 1], 7420));
        let portrait = Portrait::new(description, Interfaces::Physical, listen);
        let clone = portrait.clone();
        let before = clone.description();
        portrait.set_label("problems", Some("no cable".to_owned()));
        portrait.set_label("problems", Some("no address".to_owned()));
        assert_eq!(clone.description().engine_labels["problems"], "no address");
        assert_eq!(clone.description().engine_labels["room"], "attic");
        portrait.set_label("problems", None);
        assert_eq!(clone.description(), before);
    }
}
