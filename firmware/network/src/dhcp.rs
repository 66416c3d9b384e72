//! The DHCPv4 client (RFC 2131): how a board asks its network for an address, and keeps it.
//!
//! `message` reads and writes datagrams, `lease` judges what a server offers, `client` decides what
//! to say next. All three are pure; the socket belongs to the uplink's port.
//!
//! # Invariants
//! - Nothing in a datagram is believed before it names our exchange, our hardware address and a
//!   server; a datagram that does not is ignored, never an error.
//! - A lease that is held is given up when it ends or a server takes it back, and for no other
//!   reason: a server that is silent costs nobody an address.

pub(crate) mod client;
pub(crate) mod lease;
pub(crate) mod message;
