//! Real clusters: the release binary, virtual boards, the real `docker` client.
//!
//! Needs root, Linux with namespaces and cgroups, a `docker` client and the firmware's binary in
//! `$BRAMBLE_BINARY`; `tests/run fleet` provides all of it. Each test has a lab of its own and
//! removes it. The figures that SPECIFICATION.md promises are printed with `figure:` before them.

mod bad_input;
mod client;
mod failover;
mod footprint;
mod formation;
mod lab;
mod rollout;
mod telemetry;
