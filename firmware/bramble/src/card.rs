//! The card that a board boots from, as another machine holds it: an image, or the medium itself.
//!
//! # Terms
//! - **medium**: an image file or a block device with the card's partition table.
//! - **settings**: the text of `bramble.toml` on the medium's first partition.
//!
//! # Invariants
//! - Editing settings changes that file alone, in place: its own sectors, its length, and, when it
//!   grows, the clusters it takes.
//! - Nothing on a medium is believed: every number is checked before it is used, every walk has an
//!   end.
//! - A disk that anything uses is never written to.

pub(crate) mod checksum;
pub(crate) mod disk;
pub(crate) mod image;
pub(crate) mod medium;
pub(crate) mod settings;
pub(crate) mod signature;
pub(crate) mod writing;

/// The settings' file on a card's first partition.
pub(crate) const SETTINGS_FILE: &str = "bramble.toml";
/// What it says when nobody has said anything yet.
pub(crate) const TEMPLATE: &str = include_str!("card/bramble.toml");
