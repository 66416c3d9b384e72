//! The demonstration: a cluster of virtual boards, a service, a lost board, recovery.

use std::{
    collections::BTreeMap,
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{Query, load_image},
    lab::{self, Board, LabFolder},
};

/// Where the demonstration's lab lives.
const FOLDER: &str = "/run/bramble-demo";
/// How many replicas the service has.
const REPLICAS: usize = 6;
/// How long a step may take before the demonstration gives up.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often the table is drawn.
const REDRAW: Duration = Duration::from_millis(250);
/// How often recovery is looked at.
const GLANCE: Duration = Duration::from_millis(10);
/// For how long a table stands between two steps, on a terminal.
const PAUSE: Duration = Duration::from_secs(4);

/// Show three virtual boards, a service, a lost board and recovery
#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// How many boards
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(2..=20))]
    boards: u8,
    /// End after the recovery instead of waiting for Ctrl-C
    #[arg(long)]
    once: bool,
    /// Where the demonstration's boards keep their files
    #[arg(long, default_value = FOLDER, value_name = "DIR")]
    dir: PathBuf,
}

impl Demo {
    /// Runs the demonstration and leaves nothing behind.
    ///
    /// # Errors
    /// If a step fails; the boards are removed all the same.
    pub(crate) fn run(self) -> Result<()> {
        if !nix::unistd::geteuid().is_root() {
            bail!(
                "the demo makes network namespaces and containers, so it needs root: run it with sudo"
            );
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(self.run_until_interrupted())
    }

    async fn run_until_interrupted(self) -> Result<()> {
        let folder = LabFolder::new(&self.dir);
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let result = tokio::select! {
            result = self.show(&folder) => result,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        println!("\nremoving the boards");
        lab::down(&folder).await?;
        result
    }

    async fn show(&self, folder: &LabFolder) -> Result<()> {
        println!(
            "starting {} boards; they have the same key, and nothing else is told them",
            self.boards
        );
        let took = lab::up(folder, self.boards).await?;
        println!("they found each other and are one cluster, after {:.1} s", took.as_secs_f64());
        let boards = folder.boards()?;
        let (_, witness) = boards.split_first().context("there are boards")?;
        let witness = witness.first().context("there are two boards")?;
        deploy(&boards, folder.path()).await?;
        println!("{REPLICAS} replicas of the built-in service `whoami`:");
        self.watch(&boards, &boards, PAUSE).await?;

        let leader = leader(witness).await?;
        let victim = find(&boards, leader)?;
        let rest: Vec<Board> =
            boards.iter().filter(|board| board.number() != leader).cloned().collect();
        println!("pulling the cable of {}, the leader", victim.hostname());
        let cut = Instant::now();
        victim.set_cable(false).await?;
        let recovered = recovery(&rest, victim).await?;
        let took = recovered.duration_since(cut).as_secs_f64();
        println!(
            "all {REPLICAS} replicas run on the other boards {took:.2} s after the cable was pulled"
        );
        self.watch(&boards, &rest, PAUSE).await?;

        println!("plugging it in again");
        victim.set_cable(true).await?;
        until("the board is back", || async { boards_ready(&rest).await == Some(boards.len()) })
            .await?;
        println!("{} is a member again; it takes load back gently", victim.hostname());
        if self.once || !std::io::stdout().is_terminal() {
            return print_table(&boards, &boards).await;
        }
        println!("Ctrl-C ends the demonstration");
        self.watch(&boards, &boards, Duration::MAX).await
    }

    /// Shows the live table for a while; prints it once where there is no terminal.
    async fn watch(&self, boards: &[Board], witnesses: &[Board], pause: Duration) -> Result<()> {
        if !std::io::stdout().is_terminal() {
            return print_table(boards, witnesses).await;
        }
        let began = Instant::now();
        loop {
            let table = table(boards, witnesses).await?;
            print!("{table}");
            std::io::stdout().flush()?;
            if began.elapsed() >= pause {
                return Ok(());
            }
            tokio::time::sleep(REDRAW).await;
            // Back up to the table's first line and clear from there.
            print!("\x1b[{}A\x1b[J", table.lines().count());
        }
    }
}

/// Loads the image made of this very binary and creates the service.
async fn deploy(boards: &[Board], folder: &Path) -> Result<()> {
    let board = boards.first().context("there is a board")?;
    let client = board.client()?;
    let archive = folder.join("whoami.tar");
    crate::whoami::write_image(&archive).context("cannot make the whoami image")?;
    load_image(&client, &archive).await.context("cannot load the whoami image")?;
    let service = json!({
        "Name": "whoami",
        "TaskTemplate": {
            "ContainerSpec": {"Image": "whoami"},
            "Networks": [{"Target": "host"}],
        },
        "Mode": {"Replicated": {"Replicas": REPLICAS}},
    });
    client.post::<Value>("/services/create", &Query::new(), &service).await?;
    until("the replicas run", || async {
        running(board).await.is_some_and(|tasks| tasks.values().sum::<usize>() == REPLICAS)
    })
    .await
}

/// When all replicas run on boards other than `victim`.
async fn recovery(rest: &[Board], victim: &Board) -> Result<Instant> {
    let witness = rest.first().context("a board stays")?;
    until("the replicas run elsewhere", || async {
        running(witness).await.is_some_and(|tasks| {
            !tasks.contains_key(&victim.hostname()) && tasks.values().sum::<usize>() == REPLICAS
        })
    })
    .await?;
    Ok(Instant::now())
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) -> Result<()> {
    let began = Instant::now();
    while !holds().await {
        if began.elapsed() > PATIENCE {
            bail!("{what}: not after {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(GLANCE).await;
    }
    Ok(())
}

/// How many tasks run on each board that should, by host name, as `board` sees it.
async fn running(board: &Board) -> Option<BTreeMap<String, usize>> {
    let client = board.client().ok()?;
    let nodes: Value = client.get("/nodes", &Query::new()).await.ok()?;
    let tasks: Value = client.get("/tasks", &Query::new()).await.ok()?;
    let mut running = BTreeMap::new();
    for task in tasks.as_array()? {
        if task["DesiredState"] == "running" && task["Status"]["State"] == "running" {
            let node = nodes.as_array()?.iter().find(|node| node["ID"] == task["NodeID"])?;
            let hostname = node["Description"]["Hostname"].as_str()?.to_owned();
            *running.entry(hostname).or_insert(0) += 1;
        }
    }
    Some(running)
}

async fn boards_ready(witnesses: &[Board]) -> Option<usize> {
    witnesses.first()?.ready_nodes().await.ok()
}

/// The number of the board that leads.
async fn leader(witness: &Board) -> Result<u8> {
    let nodes: Value = witness.client()?.get("/nodes", &Query::new()).await?;
    let nodes = nodes.as_array().context("the answer is a list")?;
    let leader = nodes.iter().find(|node| node["ManagerStatus"]["Leader"] == true);
    let hostname = leader.context("there is a leader")?["Description"]["Hostname"].as_str();
    hostname
        .and_then(|name| name.strip_prefix("board")?.parse().ok())
        .context("the leader has a name")
}

fn find(boards: &[Board], number: u8) -> Result<&Board> {
    boards.iter().find(|board| board.number() == number).context("the leader is one of the boards")
}

async fn print_table(boards: &[Board], witnesses: &[Board]) -> Result<()> {
    print!("{}", table(boards, witnesses).await?);
    Ok(())
}

/// The cluster as the first board that answers sees it.
async fn table(boards: &[Board], witnesses: &[Board]) -> Result<String> {
    let mut lines = vec![format!(
        "  {:<10}{:<12}{:<10}{:<12}{:<8}TEMPERATURE",
        "BOARD", "ADDRESS", "STATUS", "ROLE", "TASKS"
    )];
    for witness in witnesses {
        let client = witness.client()?;
        let nodes = client.get::<Value>("/nodes", &Query::new()).await;
        let (Ok(nodes), Some(tasks)) = (nodes, running(witness).await) else { continue };
        let vitals =
            client.get::<Value>("/bramble/vitals", &Query::new()).await.unwrap_or_default();
        for board in boards {
            lines.push(row(board, &nodes, &tasks, &vitals));
        }
        break;
    }
    Ok(lines.join("\n") + "\n")
}

fn row(board: &Board, nodes: &Value, tasks: &BTreeMap<String, usize>, vitals: &Value) -> String {
    let hostname = board.hostname();
    let is_it = |node: &&Value| node["Description"]["Hostname"] == hostname.as_str();
    let node = nodes.as_array().and_then(|nodes| nodes.iter().find(is_it));
    let node = node.cloned().unwrap_or_default();
    let status = node["Status"]["State"].as_str().unwrap_or("unknown").to_owned();
    let role = match (&node["ManagerStatus"]["Leader"], node["Spec"]["Role"].as_str()) {
        (Value::Bool(true), _) => "leader",
        (_, Some("manager")) => "manager",
        _ => "worker",
    };
    let id = node["ID"].as_str().unwrap_or_default();
    let temperature = match vitals[id]["temperature_celsius"].as_f64() {
        Some(degrees) => format!("{degrees:.1} °C"),
        None => "no sensor".to_owned(),
    };
    let count = tasks.get(&hostname).copied().unwrap_or(0);
    format!(
        "  {hostname:<10}{:<12}{status:<10}{role:<12}{count:<8}{temperature}",
        board.address().to_string()
    )
}
