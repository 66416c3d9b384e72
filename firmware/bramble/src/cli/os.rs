//! `bramble os …`

mod download;
mod rollout;
mod send;

pub(crate) use rollout::activate;

use std::path::PathBuf;

use anyhow::{Result, bail};
use bramble_api::types::{node::Node, os::OsStatus};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    client::{Client, Query, no_body},
    human::short_id,
    output::{ListFormat, Table, print},
};

/// The boards' operating system.
#[derive(Debug, Subcommand)]
pub(crate) enum Os {
    /// List what the boards run, try, and hold ready
    Status {
        #[command(flatten)]
        format: ListFormat,
    },
    /// Send an update to the boards, and let one after the other try it
    Update(Update),
    /// Keep what a board runs on trial without waiting until it has proven healthy
    Commit {
        /// Id or host name; without one, the board that is talked to
        #[arg(value_name = "NODE", default_value = "self")]
        node: String,
    },
}

/// Send an update to the boards, and let one after the other try it.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// The update file (*.bup), or where it is: http://… or https://…
    #[arg(value_name = "FILE|URL")]
    source: String,
    /// Only this board; may be given several times
    #[arg(short, long = "board", value_name = "NODE")]
    boards: Vec<String>,
    /// Send it, and let no board try it yet
    #[arg(long)]
    send_only: bool,
}

impl Os {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::Status { format } => status(client, &format).await,
            Self::Update(update) => update.run(client).await,
            Self::Commit { node } => {
                let id = super::node::resolve(client, &node).await?;
                let node: Node = client.get(&format!("/nodes/{id}"), &Query::new()).await?;
                let query = Query::new().with("node", &node.id);
                let path = "/bramble/os/commit";
                client.send(hyper::Method::POST, path, &query, no_body()).await?;
                print(&format!("{}\n", node.description.hostname))
            }
        }
    }
}

/// A node and what it says of its system.
struct Entry {
    node: Node,
    /// `Err` while it does not answer.
    system: Result<OsStatus>,
}

impl Entry {
    fn name(&self) -> &str {
        &self.node.description.hostname
    }
}

/// All boards, by name.
async fn entries(client: &Client) -> Result<Vec<Entry>> {
    let mut nodes: Vec<Node> = client.get("/nodes", &Query::new()).await?;
    nodes.sort_by(|one, other| {
        (&one.description.hostname, &one.id).cmp(&(&other.description.hostname, &other.id))
    });
    let asked = nodes.into_iter().map(|node| async {
        let query = Query::new().with("node", &node.id);
        let system = client.get("/bramble/os", &query).await;
        Entry { node, system }
    });
    Ok(futures_util::future::join_all(asked).await)
}

async fn status(client: &Client, format: &ListFormat) -> Result<()> {
    let mut table = Table::new(&[
        ("ID", "ShortID"),
        ("HOSTNAME", "Hostname"),
        ("SLOT", "Slot"),
        ("VERSION", "Version"),
        ("TRIAL", "Trial"),
        ("READY", "Staged"),
        ("TRIED BY", "Backend"),
        ("NOTE", "Note"),
    ]);
    for entry in entries(client).await? {
        let id = entry.node.id.clone();
        let short = if format.no_trunc { id.clone() } else { short_id(&id).to_owned() };
        let hostname = entry.name().to_owned();
        let (system, note) = match entry.system {
            Ok(system) => {
                let failure = system.failure.as_ref();
                let failure = failure.map(|it| format!("{} failed: {}", it.version, it.reason));
                let note = system.problem.clone().or(failure).unwrap_or_default();
                (system, note)
            }
            Err(error) => (OsStatus::default(), format!("{error:#}")),
        };
        let trial = match (system.is_appliance, system.is_trial) {
            (false, _) => "",
            (_, true) => "yes",
            (_, false) => "no",
        };
        table.row([
            ("ID", id),
            ("ShortID", short),
            ("Hostname", hostname),
            ("Slot", system.slot),
            ("Version", system.version),
            ("Trial", trial.to_owned()),
            ("Staged", system.staged.unwrap_or_default()),
            ("Backend", system.backend),
            ("Counter", system.counter.to_string()),
            ("Note", note),
        ]);
    }
    table.print(format)
}

impl Update {
    async fn run(self, client: &Client) -> Result<()> {
        let downloaded;
        let file = match download::is_url(&self.source) {
            true => {
                downloaded = download::fetch(&self.source).await?;
                downloaded.path().to_owned()
            }
            false => PathBuf::from(&self.source),
        };
        let update = send::UpdateFile::open(&file).await?;
        let entries = entries(client).await?;
        let targets = self.targets(client, &entries).await?;
        for entry in &targets {
            update.send(client, &entry.node.id, entry.name(), entry.system.as_ref().ok()).await?;
        }
        let nodes: Vec<String> = targets.iter().map(|entry| entry.node.id.clone()).collect();
        match self.send_only {
            true => Ok(()),
            false => rollout::run(client, &update.header.version.to_string(), &nodes).await,
        }
    }

    /// The boards that are meant: those that were named, or all appliances.
    async fn targets<'all>(
        &self,
        client: &Client,
        entries: &'all [Entry],
    ) -> Result<Vec<&'all Entry>> {
        let mut named = Vec::new();
        for name in &self.boards {
            let id = super::node::resolve(client, name).await?;
            let node: Value = client.get(&format!("/nodes/{id}"), &Query::new()).await?;
            named.push(node["ID"].as_str().unwrap_or_default().to_owned());
        }
        let mut targets = Vec::new();
        for entry in entries {
            let is_named = named.contains(&entry.node.id);
            if !is_named && !named.is_empty() {
                continue;
            }
            match &entry.system {
                Ok(system) if system.is_appliance => targets.push(entry),
                Ok(system) => {
                    let problem = system.problem.as_deref().unwrap_or("it has no slots");
                    if is_named {
                        bail!("{}: {problem}", entry.name());
                    }
                    eprintln!("{}: left alone: {problem}", entry.name());
                }
                Err(error) => bail!("{}: {error:#}; no board is updated", entry.name()),
            }
        }
        if targets.is_empty() {
            bail!("no board of this cluster is an appliance");
        }
        Ok(targets)
    }
}
