//! Real images: the card that `cargo image` makes, booted by QEMU's emulation.
//!
//! Needs root, QEMU for arm64, mtools, e2fsprogs, iproute2, busybox, a `docker` client, and images
//! that are built already; `tests/run appliance` provides all of it. A test has a network segment
//! of its own and removes it. On that segment:
//! - *machines* boot a copy of the image each. What they print on their serial line is the console;
//!   there is no shell on it, by design.
//! - the *observer* is one more board, of this machine's own, in a network namespace. Its API is
//!   how tests talk to the cluster, and what is inside a machine they learn from containers there.
//!
//! Emulated machines have the host's clock rate: a second of guest time is one of ours. The figures
//! that SPECIFICATION.md promises are printed with `figure:` before them.

mod busybox;
mod card;
mod command;
mod console;
mod dhcp;
mod facts;
mod images;
mod machine;
mod misfortunes;
mod nested;
mod observer;
mod one_board;
mod power;
mod power_cuts;
mod qmp;
mod segment;
mod three_boards;
mod update_file;
mod updates;
mod vlan;
mod watchdog;
