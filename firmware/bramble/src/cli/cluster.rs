//! `bramble cluster …`

use std::io::Write as _;

use anyhow::{Context, Result, anyhow};
use bramble_api::types::swarm::Swarm;
use clap::{Subcommand, ValueEnum};
use http_body_util::BodyExt;
use hyper::Method;
use serde_json::Value;

use super::{
    client::{Client, Query, no_body},
    human::{binary_size, capitalized, duration},
    output::{InspectFormat, ListFormat, Table, fill, print, print_objects},
};

/// The cluster itself.
#[derive(Debug, Subcommand)]
pub(crate) enum Cluster {
    /// Show who leads, who votes and how the boards are
    Info {
        #[command(flatten)]
        format: InspectFormat,
    },
    /// Draw a new cluster key and print it: the same key on every board makes them one cluster
    Key,
    /// Show what happens as it happens, one line of JSON each time
    Watch,
    /// Show the cluster as `docker swarm` knows it
    Inspect {
        #[command(flatten)]
        format: InspectFormat,
    },
    /// Show or replace what a machine needs to join over a routed network
    JoinToken {
        /// As what it joins
        role: Role,
        /// Replace the token; the old one is refused from now on
        #[arg(long)]
        rotate: bool,
        /// Print only the token
        #[arg(short, long)]
        quiet: bool,
    },
    /// Change the cluster's settings
    Update {
        /// How many ended tasks of a slot are kept
        #[arg(long, value_name = "COUNT")]
        task_history_limit: Option<i64>,
    },
    /// Take the board out of its cluster
    Leave {
        /// Even if it is a manager
        #[arg(short, long)]
        force: bool,
    },
}

/// As what a machine joins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Runs tasks
    Worker,
    /// May vote and lead
    Manager,
}

impl Cluster {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::Info { format } => info(client, &format).await,
            Self::Key => draw_key(),
            Self::Watch => watch(client).await,
            Self::Inspect { format } => {
                let swarm: Value = client.get("/swarm", &Query::new()).await?;
                print_objects(&[swarm], &format)
            }
            Self::JoinToken { role, rotate, quiet } => {
                join_token(client, role, rotate, quiet).await
            }
            Self::Update { task_history_limit } => {
                let mut swarm: Swarm = client.get("/swarm", &Query::new()).await?;
                if task_history_limit.is_some() {
                    swarm.spec.orchestration.task_history_retention_limit = task_history_limit;
                }
                update(client, &swarm, Query::new()).await?;
                print("Cluster updated.\n")
            }
            Self::Leave { force } => {
                let query = Query::new().with_flag("force", force);
                let _: Value = client.post("/swarm/leave", &query, &Value::Null).await?;
                print("The board left its cluster.\n")
            }
        }
    }
}

/// 32 random bytes as `bramble.toml` takes them.
fn draw_key() -> Result<()> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| anyhow!("cannot draw a cluster key: {error}"))?;
    print(&format!("{}\n", hex::encode(key)))
}

async fn update(client: &Client, swarm: &Swarm, query: Query) -> Result<()> {
    let query = query.with("version", swarm.version.index.to_string());
    let _: Value = client.post("/swarm/update", &query, &swarm.spec).await?;
    Ok(())
}

async fn join_token(client: &Client, role: Role, rotate: bool, quiet: bool) -> Result<()> {
    let mut swarm: Swarm = client.get("/swarm", &Query::new()).await?;
    if rotate {
        let parameter = match role {
            Role::Worker => "rotateWorkerToken",
            Role::Manager => "rotateManagerToken",
        };
        update(client, &swarm, Query::new().with(parameter, "true")).await?;
        swarm = client.get("/swarm", &Query::new()).await?;
    }
    let tokens = swarm.join_tokens.context("the board did not say the tokens")?;
    let token = match role {
        Role::Worker => tokens.worker,
        Role::Manager => tokens.manager,
    };
    if quiet {
        return print(&format!("{token}\n"));
    }
    let overview: Value = client.get("/bramble/cluster", &Query::new()).await?;
    let nodes = overview["nodes"].as_array().cloned().unwrap_or_default();
    let leader = nodes.iter().find(|node| node["role"] == "leader");
    let address = leader.and_then(|node| node["addresses"][0].as_str()).unwrap_or("ADDRESS:7420");
    let role = if role == Role::Worker { "worker" } else { "manager" };
    print(&format!(
        "To let a board join as a {role}, put this into its bramble.toml:\n\n    [cluster]\n    \
         token = \"{token}\"\n    join = [\"{address}\"]\n\n"
    ))
}

async fn watch(client: &Client) -> Result<()> {
    let response = client.send(Method::GET, "/bramble/events", &Query::new(), no_body()).await?;
    let mut body = response.into_body();
    while let Some(piece) = body.frame().await {
        if let Ok(bytes) = piece.context("the stream broke off")?.into_data() {
            print(&String::from_utf8_lossy(&bytes))?;
            std::io::stdout().flush()?;
        }
    }
    Ok(())
}

async fn info(client: &Client, format: &InspectFormat) -> Result<()> {
    let board: Value = client.get("/bramble/board", &Query::new()).await?;
    let is_member = board["is_member"] == true;
    let cluster: Result<Value> = client.get("/bramble/cluster", &Query::new()).await;
    let (overview, error) = match cluster {
        Ok(overview) => (overview, None),
        Err(error) if !is_member => {
            return print(&format!("{error}\n"));
        }
        Err(error) => (Value::Null, Some(error)),
    };
    match format.format.as_deref() {
        Some("json") => return print(&format!("{overview}\n")),
        Some(template) => return print(&(fill(template, &overview)? + "\n")),
        None => {}
    }
    if let Some(error) = error {
        return Err(error);
    }
    print(&headline(&overview))?;
    boards(&overview).print(&ListFormat::default())
}

fn headline(overview: &Value) -> String {
    let consensus = &overview["consensus"];
    let nodes = overview["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    let hostname = |id: &Value| {
        let node = nodes.iter().find(|node| node["id"] == *id);
        node.and_then(|node| node["hostname"].as_str()).unwrap_or("nobody").to_owned()
    };
    let count = |list: &Value| list.as_array().map_or(0, Vec::len);
    let mut text = format!(
        "Cluster: {}\nLeader: {} (term {})\nManagers: {}, {} of them reachable\n",
        overview["id"].as_str().unwrap_or("none"),
        hostname(&consensus["leader"]),
        consensus["term"],
        count(&consensus["voters"]),
        count(&consensus["reachable"]),
    );
    if consensus["has_quorum"] == false {
        let age = consensus["state_age_seconds"].as_f64().unwrap_or_default();
        let age = duration(std::time::Duration::try_from_secs_f64(age).unwrap_or_default());
        text.push_str(&format!("No quorum. What follows is {} old.\n", age.to_lowercase()));
    }
    text.push('\n');
    text
}

fn boards(overview: &Value) -> Table {
    let mut table = Table::new(&[
        ("BOARD", "Hostname"),
        ("STATUS", "Status"),
        ("ROLE", "Role"),
        ("AVAILABILITY", "Availability"),
        ("TASKS", "Tasks"),
        ("CPU", "Cpu"),
        ("MEMORY", "Memory"),
        ("TEMPERATURE", "Temperature"),
    ]);
    for node in overview["nodes"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let text = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
        let vitals = &node["vitals"];
        let number = |key: &str, unit: &str| {
            vitals[key].as_f64().map_or_else(|| "-".to_owned(), |value| format!("{value:.1}{unit}"))
        };
        let memory = match (&vitals["memory_used_bytes"], &vitals["memory_total_bytes"]) {
            (Value::Number(used), Value::Number(total)) => format!(
                "{} / {}",
                binary_size(used.as_u64().unwrap_or(0)),
                binary_size(total.as_u64().unwrap_or(0))
            ),
            _ => "-".to_owned(),
        };
        table.row([
            ("ID", text("id")),
            ("Hostname", text("hostname")),
            ("Status", capitalized(&text("state"))),
            ("Role", capitalized(&text("role"))),
            ("Availability", capitalized(&text("availability"))),
            ("Tasks", node["tasks_running"].to_string()),
            ("Cpu", number("cpu_percent", "%")),
            ("Memory", memory),
            ("Temperature", number("temperature_celsius", " °C")),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_overview_names_the_leader_and_what_is_missing() -> Result<()> {
        let overview = json!({
            "id": "c",
            "consensus": {
                "leader": "n", "term": 4, "voters": ["n", "m", "o"], "reachable": ["n"],
                "has_quorum": false, "state_age_seconds": 61.5,
            },
            "nodes": [{
                "id": "n", "hostname": "pi-1", "state": "ready", "role": "leader",
                "availability": "active", "tasks_running": 3,
                "vitals": {"cpu_percent": 12.5, "temperature_celsius": null},
            }],
        });
        assert_eq!(
            headline(&overview),
            "Cluster: c\nLeader: pi-1 (term 4)\nManagers: 3, 1 of them reachable\nNo quorum. What \
             follows is about a minute old.\n\n"
        );
        let format = ListFormat {
            format: Some("{{.Hostname}} {{.Role}} {{.Tasks}} {{.Cpu}} {{.Temperature}}".into()),
            ..ListFormat::default()
        };
        assert_eq!(boards(&overview).render(&format)?, "pi-1 Leader 3 12.5% -\n");
        Ok(())
    }
}
