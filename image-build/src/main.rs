//! Builds the firmware: one static binary. Cards that carry it are made here too.
//!
//! - `cargo firmware` builds the binary for this machine and says where it is.
//! - `cargo update-keys` makes the keys of updates, `cargo update-file` an update.
//! - `cargo demo` builds it and runs its demonstration.

#![forbid(unsafe_code)]

mod firmware;
mod keys;
mod update;

use std::{os::unix::process::CommandExt, process::Command};

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};

/// Builds Bramble's firmware
#[derive(Debug, Parser)]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the firmware as one static binary and print its path
    Firmware {
        /// For which architecture; by default this machine's
        #[arg(long, default_value = std::env::consts::ARCH)]
        arch: String,
    },
    /// Make the keys that updates are signed with
    UpdateKeys(keys::UpdateKeys),
    /// Make a signed update of a slot
    UpdateFile(update::UpdateFile),
    /// Build the firmware and show a cluster of virtual boards that loses one (needs root)
    Demo {
        /// Passed on to `bramble demo`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
}

fn main() -> Result<()> {
    match CommandLine::parse().verb {
        Verb::Firmware { arch } => {
            println!("{}", firmware::build(&arch)?.display());
            Ok(())
        }
        Verb::UpdateKeys(order) => order.run(),
        Verb::UpdateFile(order) => order.run(),
        Verb::Demo { arguments } => {
            let asks_for_help = arguments.iter().any(|argument| argument == "--help");
            if !asks_for_help && !is_root()? {
                bail!(
                    "the demo makes network namespaces and containers, so it needs root: run it as root, or with `sudo -E env PATH=$PATH cargo demo`"
                );
            }
            let binary = firmware::build(std::env::consts::ARCH)?;
            Err(Command::new(binary).arg("demo").args(arguments).exec().into())
        }
    }
}

/// By the owner of this process's folder in `/proc`, so that nothing unsafe is needed.
fn is_root() -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}
