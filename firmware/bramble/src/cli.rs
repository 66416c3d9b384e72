//! The command line of a cluster: Docker's verbs, as a client of a board's API.
//!
//! One file a noun. Every verb is a request or two to the socket; nothing here knows more than the
//! API tells, so what the `docker` client does and what this does cannot drift apart.

mod board;
mod card;
mod client;
mod cluster;
mod flash;
mod human;
mod image;
mod logs;
mod node;
mod os;
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
pub(crate) use os::activate as activate_after_update;

/// Where a board's socket is, unless the command line or the environment says otherwise.
pub(crate) const DEFAULT_SOCKET: &str = "/run/bramble/bramble.sock";

/// Which board is talked to.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Connection {
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
pub(crate) enum Command {
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
    /// The boards' operating system, and updates of it
    #[command(subcommand)]
    Os(os::Os),
    /// List what runs in the cluster
    Ps(ps::Ps),
    /// Show the logs of a service or a task
    Logs(logs::Logs),
    /// Show the board itself: its problems, and how it started
    Board(board::Board),
    /// Change the settings on a card, in a card image, or in a bramble.toml
    Card(Box<card::Card>),
    /// Write a card image to a card, and read it back
    Flash(flash::Flash),
    /// Show what the board and its cluster are
    Info(system::Info),
    /// Show the versions of the client and of the board's firmware
    Version(system::Version),
}

/// Does what the command line says.
///
/// # Errors
/// In the words of the person at the keyboard.
pub(crate) fn run(command: Command, connection: &Connection) -> Result<()> {
    let command = match command {
        // These talk to no board.
        Command::Card(verb) => return verb.run(),
        Command::Flash(verb) => return verb.run(),
        command => command,
    };
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
            Command::Os(verb) => verb.run(&client).await,
            Command::Ps(verb) => verb.run(&client).await,
            Command::Logs(verb) => verb.run(&client).await,
            Command::Board(verb) => verb.run(&client).await,
            Command::Card(verb) => verb.run(),
            Command::Flash(verb) => verb.run(),
            Command::Info(verb) => verb.run(&client).await,
            Command::Version(verb) => verb.run(&client).await,
        }
    })
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        connection: Connection,
        #[command(subcommand)]
        command: Command,
    }

    /// clap checks names, shorts and positions only when a verb is used; this uses them all.
    #[test]
    fn every_verb_and_flag_is_sound_and_says_what_it_does() {
        Line::command().debug_assert();
        let mut verbs = vec![Line::command()];
        while let Some(verb) = verbs.pop() {
            for argument in verb.get_arguments() {
                let name = argument.get_id();
                assert!(argument.get_help().is_some(), "{} {name} has no help", verb.get_name());
            }
            assert!(verb.get_name() == "bramble" || verb.get_about().is_some(), "{verb}");
            verbs.extend(verb.get_subcommands().cloned());
        }
    }

    #[test]
    fn dockers_words_are_understood() {
        for line in [
            "service ls --filter name=web -q",
            "service create --name web -p 80:80 --mode global whoami --flag x",
            "service update --env-add A=1 --image whoami:2 --force web",
            "service scale web=3 db=1",
            "service ps --no-trunc web",
            "service logs -f --tail 10 --since 5m web",
            "service rollback -d web",
            "node update --availability drain pi-1",
            "node promote pi-1 pi-2",
            "node rm --force pi-1",
            "node ps",
            "image load -",
            "swarm join-token --rotate -q worker",
            "swarm leave --force",
            "cluster info --format json",
            "ps -a",
            "card bramble.img --key new --hostname pi-1 --wifi home --join 10.0.0.1:7420",
            "card /dev/sdx --show --format json",
            "flash bramble.img.zst /dev/sdx --yes",
            "flash",
            "board --format json",
            "os status --format json",
            "os update --board pi-1 --board pi-2 https://example.org/rpi.bup",
            "os update --send-only rpi.bup",
            "os commit pi-1",
            "-H unix:///run/x.sock info",
        ] {
            let words = std::iter::once("bramble").chain(line.split(' '));
            let parsed = Line::try_parse_from(words);
            assert!(
                parsed.is_ok(),
                "{line}: {}",
                parsed.err().map_or_else(String::new, |error| error.to_string())
            );
        }
    }
}
