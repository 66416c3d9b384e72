//! The manager: what the boards agree on, and who leads.
//!
//! This crate owns the consensus (the replicated log, its storage and its transport), the leader's
//! loop and the sessions of the nodes. It decides nothing about services and nodes: that is
//! `planner`, whose plans it turns into entries of the log.
//!
//! # Terms
//! - **manager**, **voter**: a node that holds the log and votes; the others are **workers**.
//! - **quorum**: more than half of the managers. Nothing is agreed without one.
//! - **leader**: the manager that a quorum elected for a **term**; it alone appends to the log.
//! - **dormant**: a board's consensus while it holds no log.
//!
//! # Invariants
//! - An entry is acknowledged only after a quorum has flushed it to disk; no failure of fewer
//!   boards than a quorum loses it.
//! - Only `consensus/` names openraft. None of its types go to disk or on the wire.
//! - A cluster in which nothing happens writes nothing: heartbeats and sensor values stay in
//!   memory.
//! - Without a quorum proposals fail within about a second and say how many managers answer;
//!   reads go on, and say how old they are.

#![forbid(unsafe_code)]

pub mod consensus;

mod admission;
mod belonging;
mod clock;
mod contacts;
mod dispatcher;
mod handle;
mod introduction;
mod leader;
mod leadership;
mod seat;

pub use handle::{FoundingError, Hearing, Manager, ManagerConfig};
pub use leadership::Leadership;
