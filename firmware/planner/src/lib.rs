//! What should happen next.
//!
//! This crate owns every decision of a bramble that is not made by a person: what the leader does
//! with the cluster ([`plan_cluster`]), what a board does with its tasks ([`plan_node`]), who founds
//! a cluster that is not there yet ([`founding`]), and which board is updated next ([`os_update`]).
//! It touches nothing: time, observations and ids come in as arguments, and what should be done goes
//! out as data.
//!
//! # The cluster's plan
//! The leader calls [`plan_cluster`] with the state, what it has [`Heard`] and the time; proposes the
//! [`Plan`]'s commands as one entry; and calls again until the plan is empty, then at
//! [`Plan::wake_at`] or when anything changes. The steps, one module each:
//! 1. `liveness` judges who is there. The steps after it go on from its verdicts, so that a lost
//!    board's tasks are replaced in the very plan that finds it down.
//! 2. `orchestrator` decides for each slot of each service which task ends and which is wanted:
//!    scaling, replacement under the restart policy, roll-outs, leaving boards, balance.
//! 3. `scheduler` finds a board for what is wanted, or says in one line why there is none.
//! 4. `history` forgets ended tasks beyond those kept to look at.
//! 5. `membership` chooses who votes.
//!
//! [`assignment()`] then says what one node should run.
//!
//! # Terms
//! - **claim**: a task whose desired state is Running; it claims its slot. Two claims of one slot are
//!   a task and its **successor** that starts first; the newest wins when it runs.
//! - **vacant**: a slot in which nothing runs any more, as far as anybody can know.
//! - **dirty**: a task that runs something else than its service wants by now.
//! - **busy**: a slot that a roll-out has begun to change and that does not run again yet.
//! - **open**: a board that takes tasks: Ready, active, and not about to leave.
//! - **lost**: a task on a board that is down; another takes its place at once.
//! - **draft**: a plan in the making; **view**: the state as a plan looks at it.
//!
//! # Invariants
//! - Planning is a function of its arguments and has no errors: it returns what can be done, with
//!   [`Reason`]s in the operator's words for what is done and for what can not be.
//! - It converges: applying a plan and planning again at the same instant reaches the empty plan in
//!   a bounded number of rounds, whatever the state (a property test tries).
//! - Everything follows from the state and what was heard: a new leader goes on where the old one
//!   stopped, back-off and roll-outs included.
//! - Planned commands carry the version of what they were planned against; a plan changes the
//!   version of an object only after all of its commands that were planned against it.

#![forbid(unsafe_code)]

pub mod founding;
pub mod node;
pub mod os_update;
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
