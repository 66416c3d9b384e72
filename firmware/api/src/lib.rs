//! The Docker Engine API of a board, and Bramble's own endpoints beside it.
#![forbid(unsafe_code)]

pub mod types;
