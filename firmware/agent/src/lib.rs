//! The node's part of the cluster: what it is told to run, runs; what becomes of it, it tells.
//!
//! This crate owns the session with the leader, the standing orders, and the loop that turns them
//! into containers. It decides nothing: `planner::plan_node` does, from the assignment and from
//! what is observed here. The containers themselves are the keeper's and outlive this crate's
//! process.
//!
//! # Terms
//! - **session**: the connection to whoever leads. There is one at a time, found again when lost.
//! - **orders**: the last assignment taken, kept in the run folder, so that a restarted daemon goes
//!   on where it was and a board without a leader goes on as it was told.
//! - **outbox**: reports on their way, the latest of each task, until a quorum has them.
//! - **work**: what is in hand, between the keeper's word and what was begun here.
//! - **job**: one thing begun for one task. The loop never waits for it.
//! - **board clock**: never jumps; instants are told to the leader by the cluster's clock.
//!
//! # Invariants
//! - An assignment older than the one there is is refused, whoever sends it, over restarts too.
//! - Nothing waits for the leader: without one, tasks run on (or stop, if their service says so).
//! - Nothing is polled: a loop wakes when something changed or a deadline has come. An idle agent
//!   writes nothing to any disk.
//! - A report is repeated until a quorum has it.

#![forbid(unsafe_code)]

mod blobs;
mod clock;
mod handle;
mod introduction;
mod jobs;
mod orders;
mod outbox;
mod reconcile;
mod session;
mod work;

pub use clock::LoadClockError;
pub use handle::{
    Agent, AgentConfig, AgentError, LocalContainer, OwnSession, StartError, Surroundings,
};
pub use session::{BoxedStream, Describe, Dial, Managers, Stream};
