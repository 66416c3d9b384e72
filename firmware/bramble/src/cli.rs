//! The command line of a cluster: Docker's verbs, as a client of a board's API.
//!
//! One file a noun. Every verb is a request or two to the socket; nothing here knows more than the
//! API tells, so what the `docker` client does and what this does cannot drift apart.

mod client;
mod cluster;
mod human;
mod image;
mod logs;
mod node;
mod output;
mod ps;
mod service;
mod system;
mod task;
mod values;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

pub(crate) use client::{Client, Query};
pub(crate) use image::load_quietly as load_image;

/// Where a board's socket is, unless the command line or the environment says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/bramble/bramble.sock";

/// Which board is talked to.
#[derive(Debug, Clone, Default, Args)]
pub struct Connection {
    /// The board's socket, as unix:///path or /path
    #[arg(
        short = 'H',
        long,
        global = true,
        env = "DOCKER_HOST",
        value_name = "SOCKET",
        hide_env_values = true
    )]
    host: Option<String>,
}

/// What a client can ask for.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Boards of the cluster
    #[command(subcommand)]
    Node(node::Node),
    /// Services: what the cluster runs
    #[command(subcommand)]
    Service(service::Service),
    /// Tasks: the runs of services on boards
    #[command(subcommand)]
    Task(task::Task),
    /// Images on the board
    #[command(subcommand)]
    Image(image::Image),
    /// The cluster itself
    #[command(subcommand, alias = "swarm")]
    Cluster(cluster::Cluster),
    /// List what runs in the cluster
    Ps(ps::Ps),
    /// Show the logs of a service or a task
    Logs(logs::Logs),
    /// Show what the board and its cluster are
    Info(system::Info),
    /// Show the versions of the client and of the board's firmware
    Version(system::Version),
}

/// Does what the command line says.
///
/// # Errors
/// In the words of the person at the keyboard.
pub fn run(command: Command, connection: &Connection) -> Result<()> {
    let client = Client::new(connection.host.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the client's runtime")?;
    runtime.block_on(async {
        match command {
            Command::Node(verb) => verb.run(&client).await,
            Command::Service(verb) => verb.run(&client).await,
            Command::Task(verb) => verb.run(&client).await,
            Command::Image(verb) => verb.run(&client).await,
            Command::Cluster(verb) => verb.run(&client).await,
            Command::Ps(verb) => verb.run(&client).await,
            Command::Logs(verb) => verb.run(&client).await,
            Command::Info(verb) => verb.run(&client).await,
            Command::Version(verb) => verb.run(&client).await,
        }
    })
}
