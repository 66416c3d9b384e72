//! Tells the world how the boards are, by MQTT.
//!
//! This crate owns the connection to the broker and the words that go over it. It reads the state
//! of the board and of the cluster; it changes neither.
//!
//! # Terms
//! - **board topics** `bramble/board/<node id>/…`: what every board says of itself:
//!   `availability` (`online`, or `offline` by last will) and `state`, every 10 s.
//! - **cluster topics** `bramble/cluster/<cluster id>/…`: what the leader says: `state`,
//!   `service/<service id>/state`, and `event` for what happened.
//! - **discovery** `homeassistant/…/config`: what makes Home Assistant show a board: today whether
//!   it has problems, and which.
//! - **outbox**: what the broker has not confirmed yet. Of a state only the latest counts; events
//!   wait in order, and the oldest give way when the outbox is full.
//!
//! # Invariants
//! - The broker is never a part of the cluster: when it is away nothing waits for it, and the
//!   outbox stays bounded.
//! - No password is ever logged.

#![forbid(unsafe_code)]

mod broker;
mod discovery;
mod events;
mod outbox;
mod report;
mod reporter;

pub use broker::{BrokerConfig, BrokerConfigError};
pub use events::{Event, events_between};
pub use report::{BoardReport, board_state, cluster_state, service_state};
pub use reporter::{Reporter, Sources};
