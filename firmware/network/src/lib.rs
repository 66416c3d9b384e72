//! Shapes networks: the uplink that joins a board to its owner's network, and the Ethernet segment
//! that joins virtual boards; overlays come here too.
//!
//! This crate owns every netlink message that Bramble sends.
//!
//! # Terms
//! - **segment**: one Ethernet switch with a cable to each board.
//! - **cable**: the link between a board's `eth0` and its port on the switch; it can be pulled.
//!
//! - **uplink**: everything of a board that joins it to its owner's network. Its terms are in
//!   [`uplink`].
//!
//! # Invariants
//! - Protocols (DHCP, link-local addresses, SNTP) are pure: time, chance and datagrams come in,
//!   orders go out. Nothing that a network says can make them panic or grow.
//! - A segment lives in a network namespace of its own. Nothing of the host's network is touched,
//!   but for one interface, the uplink, by which the host reaches the boards.

#![deny(unsafe_code)]

mod arp;
mod dhcp;
mod dice;
mod link_local;
mod segment;
pub mod sntp;
pub mod uplink;
mod wifi;

pub use segment::{Segment, SegmentError};
