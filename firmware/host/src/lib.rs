//! The board as a machine: what it is, and what its sensors say.
//!
//! Owns every look into `/proc` and `/sys` that is not about a container or a network.
//!
//! # Terms
//! - **sources**: the folders that are read, `/proc` and `/sys` but for tests.
//! - **vitals**: sensor values of the moment, [`bramble_cluster::Vitals`].
//!
//! # Invariants
//! - Nothing here writes, waits or starts a thread: a look costs some microseconds.
//! - A sensor that is missing is left out; it is never an error and never a made-up value.

#![forbid(unsafe_code)]

mod board;
mod sensors;
pub mod slot;
pub mod update;

pub use board::{
    ReadBoardError, Sources, boot_id, description, hostname, model, platform, resources, uptime,
};
pub use sensors::Sensors;
