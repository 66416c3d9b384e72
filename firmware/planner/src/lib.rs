//! What should happen next.

#![forbid(unsafe_code)]

pub mod founding;
pub mod node;
pub mod timing;

mod assignment;
mod cluster;
mod draft;
mod history;
mod liveness;
mod membership;
mod orchestrator;
mod scheduler;
mod view;
#[cfg(test)]
mod world;

pub use assignment::assignment;
pub use cluster::{Contact, Heard, Plan, Reason, Subject, plan_cluster};
pub use node::plan_node;
