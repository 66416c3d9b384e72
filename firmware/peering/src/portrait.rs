//! What this board says of itself: told once, but for its addresses, which come and go.

use std::net::SocketAddr;

use bramble_cluster::NodeDescription;

use crate::Interfaces;

/// What this board says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Portrait {
    pub(crate) description: NodeDescription,
    pub(crate) interfaces: Interfaces,
    /// Where it listens.
    pub(crate) listen: SocketAddr,
}

impl Portrait {
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
        NodeDescription { addresses, ..self.description.clone() }
    }
}
