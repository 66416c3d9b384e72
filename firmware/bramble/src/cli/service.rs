//! `bramble service …`

mod convergence;
mod create;
mod options;
mod update;

use anyhow::{Context, Result, anyhow};
use bramble_api::types::{self, service::ServiceCreated};
use clap::Subcommand;
use serde::Deserialize;
use serde_json::Value;

use super::{
    client::{Client, Query, escape},
    human::{image_without_digest, short_id},
    logs::{LogOptions, Logs},
    output::{InspectFormat, ListFormat, Table, print, print_objects},
    ps::{self, TaskFormat},
};

/// Services: what the cluster runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Service {
    /// Create a service
    Create(Box<create::Create>),
    /// List the services
    #[command(alias = "list")]
    Ls {
        /// Narrow the list: id, name, mode, label (key=value)
        #[arg(short, long = "filter", value_name = "FILTER")]
        filters: Vec<String>,
        #[command(flatten)]
        format: ListFormat,
    },
    /// List the tasks of services
    Ps {
        /// Names or ids
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
        #[command(flatten)]
        format: TaskFormat,
    },
    /// Show everything about services
    Inspect {
        /// Names or ids
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
        #[command(flatten)]
        format: InspectFormat,
    },
    /// Change how many replicas services have
    Scale {
        /// How many of which
        #[arg(required = true, value_name = "SERVICE=REPLICAS")]
        scales: Vec<String>,
        /// Do not wait for the tasks
        #[arg(short, long)]
        detach: bool,
    },
    /// Change a service
    Update(Box<update::Update>),
    /// Go back to what a service was before its last change
    Rollback {
        /// Name or id
        service: String,
        /// Do not wait for the tasks
        #[arg(short, long)]
        detach: bool,
        /// Do not show the progress
        #[arg(short, long)]
        quiet: bool,
    },
    /// Remove services
    #[command(alias = "remove")]
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Show the log of a service or a task
    Logs {
        /// A service's name or id, or a task's id
        #[arg(value_name = "SERVICE|TASK")]
        name: String,
        #[command(flatten)]
        options: LogOptions,
    },
}

impl Service {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::Create(create) => create.run(client).await,
            Self::Ls { filters, format } => list(client, &filters, &format).await,
            Self::Ps { services, format } => {
                let mut filters = Vec::new();
                for name in &services {
                    filters.push(format!("service={}", fetch(client, name).await?.id));
                }
                ps::list(client, filters, &format).await
            }
            Self::Inspect { services, format } => {
                let mut objects: Vec<Value> = Vec::new();
                for name in &services {
                    objects.push(client.get(&path(name), &Query::new()).await?);
                }
                print_objects(&objects, &format)
            }
            Self::Scale { scales, detach } => scale(client, &scales, detach).await,
            Self::Update(update) => update.run(client).await,
            Self::Rollback { service, detach, quiet } => {
                let current = fetch(client, &service).await?;
                let query = Query::new().with("rollback", "previous");
                submit(client, &current, query).await?;
                print(&format!("{service}\n"))?;
                convergence::wait(client, &current.id, detach, quiet).await
            }
            Self::Rm { services } => {
                for name in &services {
                    client.delete(&path(name), &Query::new()).await?;
                    print(&format!("{name}\n"))?;
                }
                Ok(())
            }
            Self::Logs { name, options } => Logs::new(name, options).run(client).await,
        }
    }
}

/// What an update answers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Updated {
    warnings: Option<Vec<String>>,
}

fn path(service: &str) -> String {
    format!("/services/{}", escape(service))
}

async fn fetch(client: &Client, name: &str) -> Result<types::service::Service> {
    client.get(&path(name), &Query::new()).await
}

/// Creates a service and prints what the person should know.
async fn submit_new(client: &Client, spec: &types::service::ServiceSpec) -> Result<String> {
    let created: ServiceCreated = client.post("/services/create", &Query::new(), spec).await?;
    warn(&created.warnings);
    Ok(created.id)
}

/// Sends a changed service back, made for the version it was read at.
async fn submit(client: &Client, service: &types::service::Service, query: Query) -> Result<()> {
    let query = query.with("version", service.version.index.to_string());
    let path = format!("{}/update", path(&service.id));
    let updated: Option<Updated> = client.post(&path, &query, &service.spec).await?;
    warn(&updated.unwrap_or_default().warnings.unwrap_or_default());
    Ok(())
}

fn warn(warnings: &[String]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

async fn scale(client: &Client, scales: &[String], is_detached: bool) -> Result<()> {
    let mut wanted = Vec::new();
    for text in scales {
        let (name, replicas) = text
            .split_once('=')
            .ok_or_else(|| anyhow!("invalid scale `{text}`: write service=replicas"))?;
        let replicas: u64 = replicas
            .parse()
            .with_context(|| format!("invalid scale `{text}`: `{replicas}` is not a number"))?;
        wanted.push((name, replicas));
    }
    let mut scaled = Vec::new();
    for (name, replicas) in wanted {
        let mut service = fetch(client, name).await?;
        let Some(mode) = &mut service.spec.mode.replicated else {
            anyhow::bail!("service {name} is global: it has a task on every board");
        };
        mode.replicas = Some(replicas);
        submit(client, &service, Query::new()).await?;
        print(&format!("{name} scaled to {replicas}\n"))?;
        scaled.push(service.id);
    }
    for id in scaled {
        convergence::wait(client, &id, is_detached, false).await?;
    }
    Ok(())
}

async fn list(client: &Client, filters: &[String], format: &ListFormat) -> Result<()> {
    let query = Query::new().with_filters(filters)?.with("status", "true");
    let mut services: Vec<types::service::Service> = client.get("/services", &query).await?;
    services.sort_by(|one, other| one.spec.name.cmp(&other.spec.name));
    let mut table = Table::new(&[
        ("ID", "ShortID"),
        ("NAME", "Name"),
        ("MODE", "Mode"),
        ("REPLICAS", "Replicas"),
        ("IMAGE", "Image"),
        ("PORTS", "Ports"),
    ]);
    for service in services {
        let spec = &service.spec;
        let id = if format.no_trunc { service.id.as_str() } else { short_id(&service.id) };
        let mode = if spec.mode.global.is_some() { "global" } else { "replicated" };
        table.row([
            ("ShortID", id.to_owned()),
            ("ID", service.id.clone()),
            ("Name", spec.name.clone()),
            ("Mode", mode.to_owned()),
            ("Replicas", replicas(&service)),
            ("Image", image_without_digest(&spec.task_template.container_spec.image).to_owned()),
            ("Ports", ports(&service.endpoint.ports)),
        ]);
    }
    table.print(format)
}

/// `3/3`, or `3/3 (max 1 per node)`.
fn replicas(service: &types::service::Service) -> String {
    let status = service.service_status.unwrap_or_default();
    let count = format!("{}/{}", status.running_tasks, status.desired_tasks);
    match service.spec.task_template.placement.max_replicas {
        0 => count,
        max => format!("{count} (max {max} per node)"),
    }
}

/// `*:8080->80/tcp`, the ports that answer on every board.
fn ports(ports: &[types::service::Port]) -> String {
    let texts: Vec<_> = ports
        .iter()
        .filter(|port| port.publish_mode != "host")
        .map(|port| format!("*:{}->{}/{}", port.published_port, port.target_port, port.protocol))
        .collect();
    texts.join(", ")
}
