//! The Docker Engine API of a board, and Bramble's own endpoints beside it.
//!
//! This crate owns the HTTP door of a board: its paths, its JSON, its status codes and its words. It
//! keeps no state and decides nothing about services and nodes: a request becomes a look at the
//! replicated state or a command for it.
//!
//! # Terms
//! - **board**: what the API runs on ([`Board`]): its images, containers and logs. What is about
//!   these is answered by the board that was asked.
//! - **cluster**: what all boards share ([`Cluster`]). What is about it is answered by the leader,
//!   whichever board was asked; the board passes the request on (`leader`).
//! - **types**: Docker's JSON and its translation from and to the cluster's nouns; nowhere else do
//!   the two vocabularies meet.
//! - **endpoint**: what a request means, as a function of the state; a **route** runs it.
//!
//! # Invariants
//! - What a request asks for and Bramble cannot do is refused or named in a warning, never dropped.
//! - A request is passed on once. Changes are never sent twice.
//! - Without a leader, what a manager answers from its own state says how old that is
//!   (`Bramble-State-Age`, in seconds); changes fail and say how many managers are missing.
//! - Bodies are bounded: JSON by [`JSON_BYTES`], archives by the image store's limits.

#![forbid(unsafe_code)]

pub mod frames;
pub mod types;

mod board;
mod body;
mod cluster;
mod endpoints;
mod error;
mod events;
mod filters;
#[cfg(test)]
mod fixture;
mod leader;
mod logs;
mod lookup;
mod prefix;
mod rejection;
mod router;
mod server;
mod standing;

pub use board::{
    Archive, Board, BoardError, Container, Facts, Health, ImageRemoval, LogLine, LogQuery, Power,
};
pub use body::JSON_BYTES;
pub use cluster::{Cluster, Dial, Duplex, Propose, ReadVitals, WriteTokens};
pub use error::ApiError;
pub use leader::{FORWARDED, STATE_AGE};
pub use router::router;
pub use server::{CONNECTIONS, ServeError, Socket, connection};
