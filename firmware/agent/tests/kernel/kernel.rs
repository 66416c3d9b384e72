//! The agent with a real keeper and real containers, under a leader that the tests play. Needs root.

#![cfg(test)]

mod board;
mod leader;

mod lifecycle;
mod partition;
