//! What this board says of itself: told once, but for its addresses, which come and go.

use bramble_cluster::NodeDescription;

use crate::Interfaces;

/// What this board says of itself.
#[derive(Debug, Clone)]
pub(crate) struct Portrait {
    pub(crate) description: NodeDescription,
    pub(crate) interfaces: Interfaces,
    pub(crate) port: u16,
}

impl Portrait {
    /// With the addresses that it has now.
    pub(crate) fn description(&self) -> NodeDescription {
        let addresses = self.interfaces.addresses(self.port);
        NodeDescription { addresses, ..self.description.clone() }
    }
}
