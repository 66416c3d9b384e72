//! The node's loop.
#![forbid(unsafe_code)]

mod clock;
mod orders;
mod outbox;
mod session;
