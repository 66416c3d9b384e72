//! `bramble node …`

use anyhow::Result;
use bramble_api::types;
use clap::{Subcommand, ValueEnum};
use hyper::Method;
use serde_json::Value;

use super::{
    client::{Client, Query, escape, no_body},
    human::short_id,
    output::{InspectFormat, ListFormat, Table, print, print_objects},
    ps::{self, TaskFormat},
    values::labels,
};

/// Boards of the cluster.
#[derive(Debug, Subcommand)]
pub(crate) enum Node {
    /// List the boards
    #[command(alias = "list")]
    Ls {
        /// Narrow the list: id, name, role, membership, label, node.label (key=value)
        #[arg(short, long = "filter", value_name = "FILTER")]
        filters: Vec<String>,
        #[command(flatten)]
        format: ListFormat,
    },
    /// Show everything about boards
    Inspect {
        /// Ids or host names; `self` is the board that is talked to
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        #[command(flatten)]
        format: InspectFormat,
    },
    /// List the tasks on boards
    Ps {
        /// Ids or host names; without one, the board that is talked to
        #[arg(value_name = "NODE", default_value = "self")]
        nodes: Vec<String>,
        #[command(flatten)]
        format: TaskFormat,
    },
    /// Change a board's labels, availability or role
    Update {
        /// Id or host name
        node: String,
        /// Whether it takes tasks
        #[arg(long)]
        availability: Option<Availability>,
        /// Pin its role
        #[arg(long)]
        role: Option<Role>,
        /// Add or change a label
        #[arg(long = "label-add", value_name = "KEY=VALUE")]
        labels_added: Vec<String>,
        /// Remove a label
        #[arg(long = "label-rm", value_name = "KEY")]
        labels_removed: Vec<String>,
    },
    /// Pin boards as managers
    Promote {
        /// Ids or host names
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Pin boards as workers
    Demote {
        /// Ids or host names
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Start boards again, in order: their tasks find another board first
    Reboot {
        /// Ids or host names; `self` is the board that is talked to
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Switch boards off, in order: their tasks find another board first
    PowerOff {
        /// Ids or host names; `self` is the board that is talked to
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
    },
    /// Remove boards from the cluster for ever
    #[command(alias = "remove")]
    Rm {
        /// Ids or host names
        #[arg(required = true, value_name = "NODE")]
        nodes: Vec<String>,
        /// Even if they are not down
        #[arg(short, long)]
        force: bool,
    },
}

/// Whether a board takes tasks.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Availability {
    /// Takes tasks
    Active,
    /// Keeps its tasks and takes no more
    Pause,
    /// Gives its tasks away
    Drain,
}

/// What a board is in the consensus.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Role {
    /// Runs tasks, holds no log
    Worker,
    /// Votes and may lead
    Manager,
}

impl Node {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::Ls { filters, format } => list(client, &filters, &format).await,
            Self::Inspect { nodes, format } => {
                let mut objects: Vec<Value> = Vec::new();
                for node in &nodes {
                    let node = resolve(client, node).await?;
                    objects.push(client.get(&path(&node), &Query::new()).await?);
                }
                print_objects(&objects, &format)
            }
            Self::Ps { nodes, format } => {
                let mut filters = Vec::new();
                for node in &nodes {
                    filters.push(format!("node={}", resolve(client, node).await?));
                }
                ps::list(client, filters, &format).await
            }
            Self::Update { node, availability, role, labels_added, labels_removed } => {
                let change = |spec: &mut types::node::NodeSpec| {
                    if let Some(availability) = availability {
                        spec.availability = format!("{availability:?}").to_lowercase();
                    }
                    if let Some(role) = role {
                        spec.role = format!("{role:?}").to_lowercase();
                    }
                    spec.labels.extend(labels(&labels_added));
                    spec.labels.retain(|name, _| !labels_removed.contains(name));
                };
                update(client, &node, change).await?;
                print(&format!("{node}\n"))
            }
            Self::Promote { nodes } => pin(client, &nodes, "manager").await,
            Self::Demote { nodes } => pin(client, &nodes, "worker").await,
            Self::Reboot { nodes } => power(client, &nodes, "reboot").await,
            Self::PowerOff { nodes } => power(client, &nodes, "off").await,
            Self::Rm { nodes, force } => {
                for node in &nodes {
                    let resolved = resolve(client, node).await?;
                    let query = Query::new().with_flag("force", force);
                    client.delete(&path(&resolved), &query).await?;
                    print(&format!("{node}\n"))?;
                }
                Ok(())
            }
        }
    }
}

/// Boards end in the order they were named in.
async fn power(client: &Client, nodes: &[String], what: &str) -> Result<()> {
    for name in nodes {
        let resolved = resolve(client, name).await?;
        // A board is reached by its id; the one that is talked to may have no cluster to ask.
        let id = match name.as_str() {
            "self" => resolved,
            _ => {
                let node: types::node::Node = client.get(&path(&resolved), &Query::new()).await?;
                node.id
            }
        };
        let query = Query::new().with("node", id);
        client.send(Method::POST, &format!("/bramble/power/{what}"), &query, no_body()).await?;
        print(&format!("{name}\n"))?;
    }
    Ok(())
}

async fn pin(client: &Client, nodes: &[String], role: &str) -> Result<()> {
    for node in nodes {
        let mut was_so = false;
        update(client, node, |spec| {
            was_so = spec.role == role;
            role.clone_into(&mut spec.role);
        })
        .await?;
        let deed = if role == "manager" { "promoted to a manager" } else { "demoted to a worker" };
        let text = if was_so { format!("is already a {role}") } else { deed.to_owned() };
        print(&format!("Node {node} {text} in the swarm.\n"))?;
    }
    Ok(())
}

/// Changes what is wanted of a node.
pub(super) async fn update(
    client: &Client,
    name: &str,
    change: impl FnOnce(&mut types::node::NodeSpec),
) -> Result<()> {
    let name = resolve(client, name).await?;
    let mut node: types::node::Node = client.get(&path(&name), &Query::new()).await?;
    change(&mut node.spec);
    let query = Query::new().with("version", node.version.index.to_string());
    let _: Value = client.post(&format!("{}/update", path(&node.id)), &query, &node.spec).await?;
    Ok(())
}

fn path(node: &str) -> String {
    format!("/nodes/{}", escape(node))
}

/// `self` is the node of the board that is talked to.
pub(super) async fn resolve(client: &Client, name: &str) -> Result<String> {
    if name != "self" {
        return Ok(name.to_owned());
    }
    own_id(client).await
}

async fn own_id(client: &Client) -> Result<String> {
    let info: Value = client.get("/info", &Query::new()).await?;
    let id = info.pointer("/Swarm/NodeID").and_then(Value::as_str);
    Ok(id.unwrap_or_default().to_owned())
}

async fn list(client: &Client, filters: &[String], format: &ListFormat) -> Result<()> {
    let query = Query::new().with_filters(filters)?;
    let mut nodes: Vec<types::node::Node> = client.get("/nodes", &query).await?;
    let own = own_id(client).await?;
    nodes.sort_by(|one, other| one.description.hostname.cmp(&other.description.hostname));
    let mut table = Table::new(&[
        ("ID", "Mark"),
        ("HOSTNAME", "Hostname"),
        ("STATUS", "Status"),
        ("AVAILABILITY", "Availability"),
        ("MANAGER STATUS", "ManagerStatus"),
        ("ADDRESS", "Address"),
        ("ENGINE VERSION", "EngineVersion"),
    ]);
    for node in nodes {
        let manager = node
            .manager_status
            .as_ref()
            .map(|status| if status.leader { "leader" } else { status.reachability.as_str() });
        let is_own = node.id == own;
        let id = if format.no_trunc { node.id.as_str() } else { short_id(&node.id) };
        table.row([
            ("Mark", format!("{id}{}", if is_own { " *" } else { "" })),
            ("ID", node.id.clone()),
            ("Self", is_own.to_string()),
            ("Hostname", node.description.hostname),
            ("Status", super::human::capitalized(&node.status.state)),
            ("Availability", super::human::capitalized(&node.spec.availability)),
            ("ManagerStatus", super::human::capitalized(manager.unwrap_or_default())),
            ("Address", node.status.addr),
            ("EngineVersion", node.description.engine.engine_version),
        ]);
    }
    table.print(format)
}
