//! `bramble ps`, and the lists of tasks that `node ps` and `service ps` print.

use std::collections::BTreeMap;

use anyhow::Result;
use bramble_api::types;
use clap::Args;
use jiff::Timestamp;

use super::{
    client::{Client, Query},
    human::{ago, capitalized, image_without_digest, short_id},
    output::{ListFormat, Table},
};

/// Characters of an error that a table shows.
const ERROR_WIDTH: usize = 60;

/// How a list of tasks is narrowed and printed.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct TaskFormat {
    /// Narrow the list: id, name, node, service, desired-state (key=value)
    #[arg(short, long = "filter", value_name = "FILTER")]
    filters: Vec<String>,
    /// Print ids instead of names
    #[arg(long)]
    no_resolve: bool,
    #[command(flatten)]
    list: ListFormat,
}

/// List what runs in the cluster.
#[derive(Debug, Args)]
pub(crate) struct Ps {
    /// Ended tasks, too
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    format: TaskFormat,
}

impl Ps {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        let filters = if self.all { Vec::new() } else { vec!["desired-state=running".to_owned()] };
        list(client, filters, &self.format).await
    }
}

/// Prints the tasks that pass the filters, the newest of each slot first.
pub(super) async fn list(
    client: &Client,
    mut filters: Vec<String>,
    format: &TaskFormat,
) -> Result<()> {
    filters.extend(format.filters.iter().cloned());
    let query = Query::new().with_filters(&filters)?;
    let tasks: Vec<types::task::Task> = client.get("/tasks", &query).await?;
    let names = Names::fetch(client, format.no_resolve).await?;
    table(tasks, &names, &format.list, Timestamp::now()).print(&format.list)
}

/// Names of services and nodes by their ids.
#[derive(Debug, Default)]
pub(super) struct Names {
    services: BTreeMap<String, String>,
    nodes: BTreeMap<String, String>,
}

impl Names {
    /// Asks for the names, unless ids are wanted.
    pub(super) async fn fetch(client: &Client, is_unresolved: bool) -> Result<Self> {
        if is_unresolved {
            return Ok(Self::default());
        }
        let services: Vec<types::service::Service> = client.get("/services", &Query::new()).await?;
        let nodes: Vec<types::node::Node> = client.get("/nodes", &Query::new()).await?;
        let hostname = |node: types::node::Node| (node.id, node.description.hostname);
        Ok(Self {
            services: services.into_iter().map(|service| (service.id, service.spec.name)).collect(),
            nodes: nodes.into_iter().map(hostname).collect(),
        })
    }

    /// The node's host name, or its id.
    pub(super) fn node<'a>(&'a self, id: &'a str) -> &'a str {
        self.nodes.get(id).map_or(id, String::as_str)
    }

    /// `web.2`; a global service's tasks are named after their nodes.
    pub(super) fn task(&self, task: &types::task::Task) -> String {
        let service = self.services.get(&task.service_id).unwrap_or(&task.service_id);
        if task.slot == 0 {
            format!("{service}.{}", task.node_id)
        } else {
            format!("{service}.{}", task.slot)
        }
    }
}

fn table(
    mut tasks: Vec<types::task::Task>,
    names: &Names,
    format: &ListFormat,
    now: Timestamp,
) -> Table {
    let place = |task: &types::task::Task| {
        let node =
            if task.slot == 0 { names.node(&task.node_id).to_owned() } else { String::new() };
        (names.task(task), task.slot, node)
    };
    tasks.sort_by(|one, other| {
        let (one_name, one_slot, one_node) = place(one);
        let (other_name, other_slot, other_node) = place(other);
        let service = |name: &str| name.rsplit_once('.').map(|(name, _)| name.to_owned());
        (service(&one_name), one_slot, one_node)
            .cmp(&(service(&other_name), other_slot, other_node))
            .then_with(|| other.created_at.cmp(&one.created_at))
    });
    let mut table = Table::new(&[
        ("ID", "ShortID"),
        ("NAME", "Mark"),
        ("IMAGE", "Image"),
        ("NODE", "Node"),
        ("DESIRED STATE", "DesiredState"),
        ("CURRENT STATE", "CurrentState"),
        ("ERROR", "Error"),
    ]);
    let mut last = String::new();
    for task in &tasks {
        let name = names.task(task);
        let is_history = name == last;
        last.clone_from(&name);
        let image = &task.spec.container_spec.image;
        let image = if format.no_trunc { image } else { image_without_digest(image) };
        let state = capitalized(&task.status.state);
        let since = ago(&task.status.timestamp, now);
        let id = if format.no_trunc { task.id.as_str() } else { short_id(&task.id) };
        table.row([
            ("ShortID", id.to_owned()),
            ("ID", task.id.clone()),
            ("Mark", if is_history { format!(" \\_ {name}") } else { name.clone() }),
            ("Name", name),
            ("Image", image.to_owned()),
            ("Node", names.node(&task.node_id).to_owned()),
            ("DesiredState", capitalized(&task.desired_state)),
            ("CurrentState", format!("{state} {since}").trim_end().to_owned()),
            ("Error", error(&task.status.err, format.no_trunc)),
        ]);
    }
    table
}

fn error(text: &str, is_whole: bool) -> String {
    if text.is_empty() {
        return String::new();
    }
    if is_whole || text.chars().count() <= ERROR_WIDTH {
        return format!("\"{text}\"");
    }
    let cut: String = text.chars().take(ERROR_WIDTH - 1).collect();
    format!("\"{cut}…\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, slot: u32, created: &str, state: &str) -> types::task::Task {
        types::task::Task {
            id: id.to_owned(),
            service_id: "s".to_owned(),
            slot,
            created_at: created.to_owned(),
            node_id: "n".to_owned(),
            desired_state: "running".to_owned(),
            status: types::task::TaskStatus {
                state: state.to_owned(),
                timestamp: "2026-01-01T00:00:00Z".to_owned(),
                ..types::task::TaskStatus::default()
            },
            ..types::task::Task::default()
        }
    }

    #[test]
    fn the_newest_task_of_a_slot_comes_first_and_the_others_below_it() {
        let names = Names {
            services: BTreeMap::from([("s".to_owned(), "web".to_owned())]),
            nodes: BTreeMap::from([("n".to_owned(), "pi-1".to_owned())]),
        };
        let tasks = vec![
            task("old", 1, "2026-01-01T00:00:00Z", "failed"),
            task("two", 2, "2026-01-01T00:00:00Z", "running"),
            task("new", 1, "2026-01-01T00:00:01Z", "running"),
            task("ten", 10, "2026-01-01T00:00:01Z", "running"),
        ];
        let now = "2026-01-01T00:03:00Z".parse().expect("an instant");
        let format = ListFormat {
            format: Some("{{.ID}} {{.Mark}} {{.Node}} {{.CurrentState}}".to_owned()),
            ..ListFormat::default()
        };
        let table = table(tasks, &names, &format, now);
        assert_eq!(
            table.render(&format).expect("a list"),
            "new web.1 pi-1 Running 3 minutes ago\n\
             old  \\_ web.1 pi-1 Failed 3 minutes ago\n\
             two web.2 pi-1 Running 3 minutes ago\n\
             ten web.10 pi-1 Running 3 minutes ago\n"
        );
    }

    #[test]
    fn long_errors_are_cut_unless_wanted_whole() {
        let long = "e".repeat(100);
        assert_eq!(error(&long, true).len(), 102);
        assert_eq!(error(&long, false).chars().count(), ERROR_WIDTH + 2);
        assert_eq!(error("", false), "");
    }
}
