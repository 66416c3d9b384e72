//! Real containers on a real kernel. Needs root.

#![expect(clippy::tests_outside_test_module, reason = "this whole program is tests")]

mod board;
mod cycles;
mod lifecycle;
mod limits;
mod profile;
mod speed;
mod survival;
mod worlds;
