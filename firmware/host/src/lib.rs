//! The board as a machine: being its operating system, what it is, and what its sensors say.
//!
//! Owns process 1's work up to the daemon ([`boot::run`]) and after it ([`power`]): mounts, kernel
//! modules, the clock, the disk, memory, the watchdog, the light. Owns every look into `/proc` and
//! `/sys` that is not about a container or a network.
//!
//! # Terms
//! - **sources**: the folders that are read, `/proc` and `/sys` but for tests.
//! - **places**: the sources and every other folder that booting uses.
//! - **vitals**: sensor values of the moment, [`bramble_cluster::Vitals`].
//! - **phase**: a named part of booting, with its time. There are twelve, always in one order.
//! - **problem**: a sentence for the owner about something that is not as it should be, with which
//!   the board runs on.
//! - **card**: the disk whose first partition is a FAT named `BRAMBLE`, whatever its kind.
//! - **slot**: one of the card's two partitions that a board can boot from, [`slot::Slot`].
//! - **data partition**: the card's fourth, the only thing that is written in operation.
//! - **profile**: what is known of a kind of board, a file in `hardware/`.
//!
//! # Invariants
//! - Booting does not fail and does not panic. What goes wrong becomes a problem.
//! - Nothing found on a disk is believed: every number is bounded before it is used.
//! - The data partition is formatted only when nothing on it can be mounted, even after a repair.
//! - A power cut at any moment leaves a card that boots: what makes a new file system whole is
//!   written last.
//! - Everything here has one thread and never starts another.
//! - A sensor that is missing is left out; it is never an error and never a made-up value.

#![deny(unsafe_code)]

mod board;
pub mod boot;
pub mod clock;
pub mod data;
pub mod disk;
pub mod durable;
pub mod fat32;
mod ioctl;
pub mod led;
pub mod mailbox;
pub mod memory;
pub mod modules;
mod panics;
mod places;
pub mod power;
pub mod profile;
mod sensors;
pub mod slot;
mod sysctls;
pub mod update;
pub mod watchdog;

pub use board::{
    ReadBoardError, Sources, boot_id, description, hostname, model, platform, resources, uptime,
};
pub use places::Places;
pub use sensors::Sensors;
