//! Whole boards' peering, several in one process, over loopback and in network namespaces.

#![cfg(test)]

mod boards;
mod impostors;
mod joining;
mod members;
mod mirror;
mod multicast;
mod renewal;
mod segment;
