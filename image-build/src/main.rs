//! Builds the firmware: one static binary. Cards that carry it are made here too.
//!
//! - `cargo firmware` builds the binary for this machine and says where it is.
//! - `cargo image --board rpi --out bramble.img.zst` makes the image of a card.
//! - `cargo image lock` renews the list of Debian packages that images are made of.
//! - `cargo update-keys` makes the keys of updates, `cargo update-file` an update.
//! - `cargo demo` builds the firmware and runs its demonstration.
//!
//! An image is made without root and without devices: every file system is written as bytes, and
//! the same inputs are the same bytes. In the order of the work: [`packages`] are fetched and
//! unpacked ([`deb`]); [`modules`] are chosen by what [`hardware`] says; they go with the firmware
//! into an [`initramfs`] ([`cpio`]), that into a slot ([`fat`]), and that twice onto a [`card`].

#![forbid(unsafe_code)]

mod busybox;
mod card;
mod cpio;
mod data;
mod deb;
mod fat;
mod firmware;
mod hardware;
mod image;
mod initramfs;
mod keys;
mod kind;
mod modules;
mod output;
mod packages;
mod progress;
mod tools;
mod update;

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};

use crate::kind::Kind;

/// Builds Bramble's firmware and the images of cards that carry it
#[derive(Debug, Parser)]
// Its verbs are aliases of cargo's: `.cargo/config.toml`.
#[command(bin_name = "cargo")]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Build the firmware as one static binary and print its path
    Firmware {
        /// For which architecture; by default this machine's. May be given several times
        #[arg(long, default_value = std::env::consts::ARCH)]
        arch: Vec<String>,
        /// Cargo's profile: `release`, or `quick`, which builds sooner and is larger
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Build the image of a card
    Image(Box<ImageArguments>),
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

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
struct ImageArguments {
    #[command(subcommand)]
    verb: Option<ImageVerb>,
    #[command(flatten)]
    order: Option<Order>,
}

#[derive(Debug, Subcommand)]
enum ImageVerb {
    /// Renew the list of Debian packages that images are made of
    Lock,
    /// Print the path of a static busybox for a board: a test's container can be made of it
    Busybox {
        /// The board it is for
        #[arg(long)]
        board: Kind,
    },
}

/// What image is wanted.
#[derive(Debug, Clone, Args)]
struct Order {
    /// The board it is for
    #[arg(long)]
    board: Kind,
    /// The file to write: the card's image, compressed with zstd unless --raw
    #[arg(long, value_name = "FILE", required_unless_present = "slot")]
    out: Option<PathBuf>,
    /// Write the image as a plain sparse file
    #[arg(long)]
    raw: bool,
    /// Write the image of one slot, which is what an update brings
    #[arg(long, value_name = "FILE")]
    slot: Option<PathBuf>,
    /// Take this static binary as the firmware instead of building it
    #[arg(long, value_name = "BINARY")]
    firmware: Option<PathBuf>,
    /// Cargo's profile if the firmware is built
    #[arg(long, default_value = "release")]
    profile: String,
    /// The version that the image says it is
    #[arg(long, default_value = env!("CARGO_PKG_VERSION"))]
    version: String,
    /// A minisign public key that boards accept updates from; may be given several times
    #[arg(long, value_name = "PUB")]
    trust: Vec<PathBuf>,
    /// Sign what is written with this private key: FILE.minisig
    #[arg(long, value_name = "KEY", conflicts_with = "raw")]
    sign: Option<PathBuf>,
}

impl Order {
    /// What is to be written.
    fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.out, &self.slot].into_iter().flatten().map(PathBuf::as_path)
    }
}

fn main() -> Result<()> {
    match CommandLine::parse().verb {
        Verb::Firmware { arch, profile } => {
            for path in firmware::build_all(&arch, &profile)? {
                println!("{}", path.display());
            }
            Ok(())
        }
        Verb::Image(arguments) => image(*arguments),
        Verb::UpdateKeys(order) => order.run(),
        Verb::UpdateFile(order) => order.run(),
        Verb::Demo { arguments } => {
            let asks_for_help = arguments.iter().any(|argument| argument == "--help");
            if !asks_for_help && !is_root()? {
                bail!(
                    "the demo makes network namespaces and containers, so it needs root: run it as root, or with `sudo -E env PATH=$PATH cargo demo`"
                );
            }
            let binary = firmware::build(std::env::consts::ARCH, "release")?;
            Err(Command::new(binary).arg("demo").args(arguments).exec().into())
        }
    }
}

fn image(arguments: ImageArguments) -> Result<()> {
    match arguments.verb {
        Some(ImageVerb::Lock) => {
            let changed = packages::renew::renew()?;
            for line in &changed {
                println!("{line}");
            }
            println!("{} packages changed", changed.len());
            Ok(())
        }
        Some(ImageVerb::Busybox { board }) => {
            println!("{}", busybox::path(board)?.display());
            Ok(())
        }
        None => {
            let order = arguments.order.context("which board? `cargo image --help` lists them")?;
            image::build(&order)
        }
    }
}

/// By the owner of this process's folder in `/proc`, so that nothing unsafe is needed.
fn is_root() -> Result<bool> {
    use std::os::unix::fs::MetadataExt;
    Ok(std::fs::metadata("/proc/self")?.uid() == 0)
}

/// The repository.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or_else(|| Path::new("."))
}
