//! Real containers on a real kernel. Needs root.

mod board;
mod cycles;
mod lifecycle;
mod limits;
mod profile;
mod speed;
mod survival;
