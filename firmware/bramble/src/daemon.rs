//! `bramble daemon`: a machine as a board. This process becomes the keeper; the daemon proper is its
//! child, this command again with `--kept`.

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context, Result, bail};
use bramble_containers::{
    Layout,
    keeper::{self, KeeperEnd, KeeperOptions, exit_code},
};
use clap::{
    Args,
    builder::{PathBufValueParser, TypedValueParser},
};

use crate::{config::Config, log, node, problems::Problems};

/// Where a board keeps what must survive a power cut.
const DATA_DIR: &str = "/var/lib/bramble";
/// Where it keeps what must not.
const RUN_DIR: &str = "/run/bramble";
/// The control group above its containers'.
const CGROUP: &str = "/bramble";

/// Run this machine as a board
#[derive(Debug, Clone, Args)]
pub(crate) struct Daemon {
    /// The configuration file; without one every setting has its default
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where to keep what must survive a power cut: identity, log, images, volumes
    #[arg(long, value_name = "DIR", default_value = DATA_DIR, value_parser = folder())]
    pub(crate) data_dir: PathBuf,
    /// Where to keep what must not: sockets, containers' logs. Best on a tmpfs
    #[arg(long, value_name = "DIR", default_value = RUN_DIR, value_parser = folder())]
    pub(crate) run_dir: PathBuf,
    /// The control group above the containers', from the root of each hierarchy
    #[arg(long, value_name = "PATH", default_value = CGROUP)]
    pub(crate) cgroup: PathBuf,
    /// This is the daemon proper; the keeper is its parent
    #[arg(long, hide = true)]
    pub(crate) kept: bool,
    /// The board is an appliance: process 1 is ours
    #[arg(long, hide = true)]
    pub(crate) appliance: bool,
}

impl Daemon {
    /// Runs the board until it is asked to end.
    ///
    /// # Errors
    /// If the configuration cannot be used, or a keeper cannot begin here.
    pub(crate) fn run(self) -> Result<()> {
        log::start();
        let config = self.read_config()?;
        if self.kept {
            return self.run_kept(config);
        }
        if !nix::unistd::geteuid().is_root() {
            bail!("a board makes containers, so it needs root: run it with sudo");
        }
        let options = KeeperOptions::new(self.layout(), self.daemon_command()?);
        match keeper::run(options).context("the keeper has ended")? {
            KeeperEnd::Signal | KeeperEnd::Daemon => Ok(()),
            KeeperEnd::Reboot | KeeperEnd::PowerOff => Ok(()),
            KeeperEnd::Refused => bail!("the daemon cannot work here; what it said stands above"),
        }
    }

    /// Where things are on this board.
    pub(crate) fn layout(&self) -> Layout {
        Layout::new(&self.run_dir, &self.data_dir, &self.cgroup)
    }

    fn run_kept(self, config: Config) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(node::WORKERS)
            .max_blocking_threads(node::BLOCKING_THREADS)
            .thread_keep_alive(node::BLOCKING_KEEP_ALIVE)
            .enable_all()
            .build()
            .context("cannot start the daemon's runtime")?;
        match runtime.block_on(node::run(&self, config, Problems::default())) {
            Ok(node::End::Orderly) => end(exit_code::END),
            Ok(node::End::Restart) => end(exit_code::RESTART),
            Ok(node::End::Reboot) => end(exit_code::REBOOT),
            Ok(node::End::PowerOff) => end(exit_code::POWER_OFF),
            Err(error) if error.is::<node::Unusable>() => {
                eprintln!("bramble: {error:#}");
                end(exit_code::REFUSED)
            }
            Err(error) => Err(error),
        }
    }

    /// The settings. An appliance has nobody before it who could mend them, so it goes on with
    /// what is sound; what is not stands in the report of its boot.
    fn read_config(&self) -> Result<Config> {
        match &self.config {
            Some(path) if self.appliance => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Ok(Config::read_lenient(&text).0)
            }
            Some(path) => Ok(Config::read(path)?),
            None => Ok(Config::default()),
        }
    }

    fn daemon_command(&self) -> Result<Vec<OsString>> {
        let program = std::env::current_exe().context("cannot find this program's own file")?;
        let mut command: Vec<OsString> = vec![program.into(), "daemon".into(), "--kept".into()];
        if let Some(config) = &self.config {
            command.extend(["--config".into(), config.into()]);
        }
        command.extend(["--data-dir".into(), (&self.data_dir).into()]);
        command.extend(["--run-dir".into(), (&self.run_dir).into()]);
        command.extend(["--cgroup".into(), (&self.cgroup).into()]);
        Ok(command)
    }
}

/// A folder, absolute: what is in it is named to other processes, which may be elsewhere.
fn folder() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(std::path::absolute)
}

/// Ends this process with a code that the keeper understands.
#[expect(clippy::exit, reason = "the exit code is how the daemon speaks to the keeper")]
fn end(code: i32) -> ! {
    std::process::exit(code)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        daemon: Daemon,
    }

    #[test]
    fn folders_may_be_named_from_where_the_daemon_is_started() {
        let line = ["bramble", "--data-dir", "watch", "--run-dir", "watch/run"];
        let daemon = Line::parse_from(line).daemon;
        let here = std::env::current_dir().unwrap();
        assert_eq!(daemon.data_dir, here.join("watch"));
        assert_eq!(daemon.run_dir, here.join("watch/run"));
    }
}
