//! Runs containers on this board: the keeper, libcontainer, images, logs.
//!
//! This crate owns every process of every container, its standard output, its exit code, its
//! cgroup and its files on this board. It does not decide what runs: the agent does.
//!
//! # Terms
//! - **keeper**: the process that owns the containers ([`keeper::run`]). It has one thread, does
//!   nothing while nothing happens, and outlives the daemon, which it starts and restarts.
//! - **daemon**: everything else of Bramble on this board; talks to the keeper through [`Keeper`].
//! - **helper**: this binary executed again for some milliseconds, `bramble oci …` ([`oci::main`]),
//!   to call libcontainer, which clones in ways that only a process with one thread survives.
//!   What it starts become children of the keeper.
//! - **container**: one run of a task's processes; its id is the task's. It is *created* by the
//!   daemon ([`Keeper::create`]: files alone), *started* by the keeper, and stays *exited*, with its
//!   log, until it is removed. It is never started twice.
//! - **bundle**: a container's folder on the run directory: specification, files, log, status.
//! - **exec**: a further process in a running container.
//! - **ring**: a container's log, the youngest part of what it wrote.
//!
//! # The run directory
//! It is on memory (tmpfs) and everything in it is lost with the board, as the containers are.
//! ```text
//! keeper.sock                    the daemon connects here
//! keeper.lock                    held by the one keeper
//! oci/<id>/                      libcontainer's state, from start to exit
//! containers/<id>/config.json    OCI runtime specification
//!                 order          what the keeper must know to start and stop it
//!                 status         what became of it
//!                 hosts hostname resolv.conf
//!                 log/<number>   segments of the ring
//! ```
//!
//! # Invariants
//! - The keeper does not panic, never waits for a container, a daemon or a disk, and holds no
//!   collection that input can grow without a limit.
//! - The daemon may die at any moment: no container, line of a log or exit code is lost.
//! - A container that has ended leaves no process, mount or cgroup; a removed one no file.
//! - Paths inside an image or a container are only ever resolved with `RESOLVE_IN_ROOT`.
//! - What a keeper that was killed left behind is cleaned before the next one serves.

mod bundle;
mod cgroups;
mod client;
pub mod images;
mod in_root;
pub mod keeper;
mod layout;
pub mod logs;
pub mod oci;
mod protocol;
mod request;
mod seccomp;
mod spec;
mod status;
mod volumes;

pub use bundle::CreateError;
pub use client::{CallError, ConnectError, Containers, ExecIo, Keeper, RunningExec, Terminal};
pub use layout::Layout;
pub use logs::{LogEntry, LogError, LogQuery, LogReader, LogStream};
pub use protocol::Refusal;
pub use request::{BoardFacts, ContainerRequest, ExecRequest, NetworkMode};
pub use spec::SpecError;
pub use status::{ContainerExit, ContainerState, ContainerStatus, ExecId, KeeperEvent};
pub use volumes::{VolumeError, labels as volume_labels};
