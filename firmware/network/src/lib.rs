//! Shapes networks: today the Ethernet segment that joins virtual boards; overlays come here too.
//!
//! This crate owns every netlink message that Bramble sends, and decides nothing.
//!
//! # Terms
//! - **segment**: one Ethernet switch with a cable to each board.
//! - **cable**: the link between a board's `eth0` and its port on the switch; it can be pulled.
//!
//! # Invariants
//! - A segment lives in a network namespace of its own. Nothing of the host's network is touched,
//!   but for one interface, the uplink, by which the host reaches the boards.

#![forbid(unsafe_code)]

mod segment;

pub use segment::{Segment, SegmentError};
