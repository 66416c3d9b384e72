//! The tests that are wider than one crate: the shape of the source tree, simulations, consensus
//! under faults, real clusters of virtual boards, the layer for Yocto.

pub mod fake_firmware;
pub mod simulation;
pub mod yocto;
