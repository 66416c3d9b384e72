//! The binary: everything that a board runs, and the command line.
//!
//! One file plays every part. Which one is told by its name and arguments:
//! - `/init`, as the first process, is an appliance: it boots the board and becomes the keeper.
//! - `modprobe` is called by the kernel and loads a module.
//! - `bramble daemon` is a board: it becomes the keeper and starts the daemon proper as its child
//!   (see `containers::keeper`), which `node` wires together.
//! - `bramble oci` is the short-lived helper that calls libcontainer; people never type it.
//! - `bramble lab` and `bramble demo` are a cluster of virtual boards on one machine.
//! - `bramble whoami` is the built-in service.
//! - Everything else is a client of a board's API.
//!
//! This crate wires and talks to people. It decides nothing.

#![forbid(unsafe_code)]

mod appliance;
mod board;
mod card;
mod cli;
mod config;
mod daemon;
mod damage;
mod demo;
mod hostname;
mod lab;
mod log;
mod networking;
mod node;
mod problems;
mod reporting;
mod seeking;
mod updating;
mod whoami;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The firmware of a cluster of boards: container runtime, consensus, scheduler, in one file
#[derive(Debug, Parser)]
#[command(name = "bramble", version, propagate_version = true, arg_required_else_help = true)]
struct CommandLine {
    #[command(flatten)]
    connection: cli::Connection,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run this machine as a board
    Daemon(daemon::Daemon),
    /// A cluster of virtual boards on this machine
    Lab(lab::Lab),
    /// Show three virtual boards, a service, a lost board and recovery
    Demo(demo::Demo),
    /// Answer every HTTP request with who I am: the built-in service
    Whoami(whoami::Whoami),
    #[command(flatten)]
    Client(cli::Command),
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let name = arguments.next().map(PathBuf::from).unwrap_or_default();
    if appliance::is_first_process(&name) {
        appliance::run();
    }
    if name.file_name().is_some_and(|name| name == "modprobe") {
        return bramble_host::modules::modprobe_main(arguments);
    }
    // The helper must stay single-threaded and small, so it comes before everything else.
    if arguments.next().is_some_and(|first| first == "oci") {
        return bramble_containers::oci::main(arguments);
    }
    match run(CommandLine::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bramble: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(line: CommandLine) -> Result<()> {
    match line.verb {
        Verb::Daemon(daemon) => daemon.run(),
        Verb::Lab(lab) => lab.run(),
        Verb::Demo(demo) => demo.run(),
        Verb::Whoami(whoami) => whoami.run(),
        Verb::Client(command) => cli::run(command, &line.connection),
    }
}
