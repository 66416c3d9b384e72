//! What peering is told at its start.

use std::{net::SocketAddr, path::PathBuf};

use bramble_cluster::{NodeDescription, Timestamp};

use crate::{ClusterKey, Interfaces};

/// The port on which boards talk to each other.
pub const PORT: u16 = 7420;

/// What peering is told at its start.
#[derive(Debug, Clone)]
pub struct PeeringConfig {
    /// Where the identity, the membership and the time are kept; a directory of peering's own.
    pub directory: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The key of the batch of cards; without it, only a token lets this board in.
    pub cluster_key: Option<ClusterKey>,
    /// How boards are found.
    pub discovery: Discovery,
    /// What the board says of itself; peering fills in the addresses.
    pub description: NodeDescription,
    /// When the firmware was made: it is not earlier now.
    pub built_at: Timestamp,
}

/// How boards are found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Discovery {
    /// By mDNS on these interfaces.
    Mdns(Interfaces),
    /// Not at all: addresses are told.
    Off,
}

impl Discovery {
    /// The interfaces that lead to other boards.
    pub fn interfaces(&self) -> Interfaces {
        match self {
            Self::Mdns(interfaces) => interfaces.clone(),
            Self::Off => Interfaces::Physical,
        }
    }
}
