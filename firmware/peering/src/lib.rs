//! Finds, trusts and talks to other boards.
//!
//! This crate owns a board's identity, its membership in a cluster, the one port on which boards
//! talk to each other, and mDNS. It decides nothing about when to join or to found: that is
//! `planner::founding`, driven by the wiring, which looks at [`Peering::neighbours`] and calls
//! [`Peering::join`], [`Peering::draft_founding`] or [`Peering::leave`]. It agrees on nothing: a
//! board is let in by the manager, which takes [`Peering::admissions`].
//!
//! # Terms
//! - **identity**: a key pair and a node id, made at the first boot; **instance**: one run of the
//!   firmware. **neighbour**: a board that mDNS found.
//! - **cluster key**: 32 bytes on every card of a batch; its **tag** is announced, so that equal keys
//!   find each other. **join token**: the same for routed networks, one a role.
//! - **authority**: the cluster's own certificate authority, in the replicated state. **membership**:
//!   the certificate it signed for this board.
//! - **conversation**: one TLS connection with one purpose, named by its [`Protocol`].
//! - **directory**: the addresses at which nodes were found. **situation**: what this board is in its
//!   cluster, as announced.
//!
//! # Invariants
//! - Addresses and mDNS find, they never authenticate. A node is who its certificate says.
//! - Neither the cluster key nor a token's secret ever leaves a board. Both ends prove them by an
//!   HMAC over the TLS exporter, so that a proof is worth nothing on any other connection.
//! - Every conversation but `bramble-join/1` needs a certificate of our cluster on both sides that
//!   has not run out, of a node that was not removed. A removed node's connections end at once.
//! - Everything that strangers can send or cause is bounded: frames, handshakes under way, failures,
//!   neighbours, addresses, queues.
//! - Nothing is written in operation but a new certificate, a new list of managers, and the time
//!   with either and at shutdown.
//!
//! # How it is driven
//! ```no_run
//! # async fn example(
//! #     config: bramble_peering::PeeringConfig, cluster: bramble_cluster::Cluster,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use bramble_peering::{Membership, Peering, Protocol};
//!
//! let peering = Peering::start(config).await?;
//! let mut neighbours = peering.neighbours();
//! while *peering.membership().borrow() == Membership::Seeking {
//!     neighbours.changed().await?;
//!     let found = neighbours.borrow_and_update().clone();
//!     // planner::founding::decide(..) says what to do; for instance join the first member:
//!     let Some(peer) = found.values().find(|found| found.announcement.cluster.is_some()) else {
//!         continue; // or: draft_founding, put it into the log, adopt
//!     };
//!     peering.join(&peer.peer()).await?;
//! }
//! // On a manager: let boards in.
//! let mut admissions = peering.admissions().ok_or("taken already")?;
//! while let Some(request) = admissions.recv().await {
//!     // Commit Command::AdmitNode(request.node.clone()), then:
//!     let admission = request.sign(&cluster, peering.clock().now())?;
//!     request.admit(admission);
//! }
//! // Talk to a member.
//! let mut stream = peering.connect_to(peering.node_id(), Protocol::Session).await?;
//! stream.send(&"hello").await?;
//! # Ok(()) }
//! ```

#![forbid(unsafe_code)]

pub mod authority;
pub mod session;

mod announcement;
mod certificate;
mod clock;
mod config;
mod dial;
mod directory;
mod doors;
mod frame;
mod gate;
mod handle;
mod hello;
mod identity;
mod interfaces;
mod join;
mod key;
mod listen;
mod mdns;
mod membership;
mod portrait;
mod presence;
mod problems;
mod protocol;
mod recall;
mod renewal;
mod situation;
mod socket;
mod start;
mod store;
mod stream;
mod token;
mod trust;
mod verifier;

pub use announcement::{Announcement, ClusterFacts, Neighbour, Neighbours};
pub use certificate::{CertificateError, Expiry, NodeCertificate};
pub use clock::Clock;
pub use config::{Discovery, PORT, PeeringConfig};
pub use dial::{AttemptError, Attempts, CONNECT_TIMEOUT, ConnectError};
pub use directory::Directory;
pub use frame::{FRAME_BYTES, ReceiveError, SendError};
pub use handle::{FoundError, Founding, Peering, Place};
pub use identity::{Identity, IdentityError, PublicKey, forget_identity};
pub use interfaces::Interfaces;
pub use join::{
    ANSWER_TIMEOUT, JoinError, JoinRefusal, Standing,
    desk::{Admission, AdmissionRequest},
};
pub use key::{ClusterKey, ClusterTag};
pub use membership::{Member, Membership};
pub use presence::{Instance, Refusal};
pub use problems::Problem;
pub use protocol::Protocol;
pub use situation::Situation;
pub use start::StartError;
pub use store::StoreError;
pub use stream::{PeerReader, PeerStream, PeerWriter};
pub use token::{JoinToken, JoinTokens, ParseTokenError};
pub use trust::MembershipError;
