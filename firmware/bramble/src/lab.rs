//! The lab: a cluster of virtual boards on one Linux machine.
//!
//! A virtual board is a process tree in namespaces of its own (network, mounts, host name, process
//! ids), started with the very command that an appliance boots with, on a segment whose cables can
//! be pulled. As the board's keeper is process 1 of its namespace, killing it ends everything on
//! the board at once, as a power cut does.

mod board;
mod cgroup;
mod folder;
mod power;
mod table;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

pub(crate) use board::Board;
pub(crate) use folder::LabFolder;

/// Where a lab lives unless it is told otherwise.
pub(crate) const DEFAULT_FOLDER: &str = "/run/bramble-lab";
/// How many boards a lab may have: its network has room for more, a machine hardly.
const BOARDS_MAX: u8 = 50;
/// How long `lab up` waits for the cluster before it says what is missing.
const UP_TIMEOUT: Duration = Duration::from_secs(60);

/// `bramble lab …`
#[derive(Debug, Args)]
pub(crate) struct Lab {
    /// The lab's folder
    #[arg(long, global = true, default_value = DEFAULT_FOLDER, value_name = "DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a cluster of virtual boards; returns when every board is Ready
    Up {
        /// How many boards
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(BOARDS_MAX)))]
        boards: u8,
        /// Do not print where the boards can be reached from this machine
        #[arg(long)]
        no_dashboard: bool,
    },
    /// List the boards
    Ls {
        /// `table` or `json`
        #[arg(long, default_value = "table")]
        format: table::Format,
    },
    /// Stop all boards and remove the lab with its data
    Down,
    /// Print the shell command that points `docker` at a board
    Env {
        /// Which board
        board: u8,
    },
    /// Pull a board's network cable
    Cut {
        /// Which board
        board: u8,
    },
    /// Plug a board's network cable in again
    Heal {
        /// Which board
        board: u8,
    },
    /// Cut a board's power: ends all its processes at once, keeps its data
    Kill {
        /// Which board
        board: u8,
    },
    /// Give a board power again
    Start {
        /// Which board
        board: u8,
    },
    /// Kill a board's daemon only; its containers stay up
    Crash {
        /// Which board
        board: u8,
    },
    /// Run a command on a board's network (`bramble lab exec 1 -- curl http://10.67.0.2:8000`)
    Exec {
        /// Which board
        board: u8,
        /// What to run
        #[arg(required = true, last = true)]
        command: Vec<String>,
    },
    /// What a board's process 1 does before it becomes the keeper
    #[command(hide = true)]
    Boot {
        /// Which board
        board: u8,
    },
    /// Enters the namespaces of a board and starts its process 1
    #[command(hide = true)]
    PowerOn {
        /// Which board
        board: u8,
    },
}

impl Lab {
    /// Does what the command line says.
    ///
    /// # Errors
    /// In the words of the person at the keyboard.
    pub(crate) fn run(self) -> Result<()> {
        let folder = LabFolder::new(&self.dir);
        match self.verb {
            Verb::PowerOn { board } => return power::power_on(&folder, board),
            Verb::Boot { board } => return power::boot(&folder, board),
            _ => {}
        }
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "the lab makes network namespaces and containers, so it needs root: run it with sudo"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(dispatch(self.verb, &folder))
    }
}

async fn dispatch(verb: Verb, folder: &LabFolder) -> Result<()> {
    match verb {
        Verb::Up { boards, no_dashboard } => {
            let took = up(folder, boards).await?;
            println!("{boards} boards are one cluster, after {:.1} s", took.as_secs_f64());
            if !no_dashboard {
                println!("  eval $(bramble lab env 1) && docker node ls");
            }
            Ok(())
        }
        Verb::Ls { format } => table::print(folder, format).await,
        Verb::Down => down(folder).await,
        Verb::Env { board } => {
            let socket = folder.board(board)?.socket();
            println!("export DOCKER_HOST=unix://{}", socket.display());
            Ok(())
        }
        Verb::Cut { board } => folder.board(board)?.set_cable(false).await,
        Verb::Heal { board } => folder.board(board)?.set_cable(true).await,
        Verb::Kill { board } => folder.board(board)?.kill().await,
        Verb::Start { board } => folder.board(board)?.start().await,
        Verb::Crash { board } => folder.board(board)?.crash(),
        Verb::Exec { board, command } => folder.board(board)?.exec(&command),
        Verb::Boot { .. } | Verb::PowerOn { .. } => Ok(()),
    }
}

/// Starts a lab and waits until it is one cluster. Returns how long that took, from the start of
/// the boards' processes.
///
/// # Errors
/// If there is a lab already, or the cluster does not come up; what was started is then removed.
pub(crate) async fn up(folder: &LabFolder, boards: u8) -> Result<Duration> {
    if folder.exists() {
        bail!(
            "there is a lab in {0}: `bramble lab down --dir {0}` removes it",
            folder.path().display()
        );
    }
    let result = bring_up(folder, boards).await;
    if result.is_err() {
        let kept = folder.keep_logs();
        down(folder).await.context("the lab did not come up, and could not be removed")?;
        if let Some(logs) = kept {
            eprintln!("the boards' logs are in {}", logs.display());
        }
    }
    result
}

async fn bring_up(folder: &LabFolder, count: u8) -> Result<Duration> {
    let boards = folder.create(count).await?;
    let started = std::time::Instant::now();
    for board in &boards {
        board.start().await?;
    }
    wait_until_ready(&boards, started).await?;
    Ok(started.elapsed())
}

/// Waits until every board answers and counts all of them Ready.
async fn wait_until_ready(boards: &[Board], started: std::time::Instant) -> Result<()> {
    for board in boards {
        loop {
            let ready = board.ready_nodes().await;
            if matches!(ready, Ok(ready) if ready == boards.len()) {
                break;
            }
            if started.elapsed() > UP_TIMEOUT {
                let seen = match ready {
                    Ok(ready) => format!("sees {ready} of {} boards Ready", boards.len()),
                    Err(error) => format!("does not answer: {error:#}"),
                };
                bail!(
                    "no cluster after {} s: board {} {seen}",
                    UP_TIMEOUT.as_secs(),
                    board.number()
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    Ok(())
}

/// Ends every board and removes all of the lab.
///
/// # Errors
/// If something cannot be removed; it is named.
pub(crate) async fn down(folder: &LabFolder) -> Result<()> {
    for board in folder.boards()? {
        board.kill().await?;
    }
    cgroup::remove(&folder.cgroup())?;
    folder.remove()
}
