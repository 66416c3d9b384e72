//! `bramble task …`

use anyhow::Result;
use clap::Subcommand;
use serde_json::Value;

use super::{
    client::{Client, Query, escape},
    logs::{LogOptions, Logs},
    output::{InspectFormat, print_objects},
    ps::{self, TaskFormat},
};

/// Tasks: the runs of services on boards.
#[derive(Debug, Subcommand)]
pub(crate) enum Task {
    /// List all tasks, history included
    #[command(alias = "list")]
    Ls {
        #[command(flatten)]
        format: TaskFormat,
    },
    /// Show everything about tasks
    Inspect {
        /// Ids
        #[arg(required = true, value_name = "TASK")]
        tasks: Vec<String>,
        #[command(flatten)]
        format: InspectFormat,
    },
    /// Show a task's log
    Logs {
        /// Id
        task: String,
        #[command(flatten)]
        options: LogOptions,
    },
}

impl Task {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        match self {
            Self::Ls { format } => ps::list(client, Vec::new(), &format).await,
            Self::Inspect { tasks, format } => {
                let mut objects: Vec<Value> = Vec::new();
                for task in &tasks {
                    let path = format!("/tasks/{}", escape(task));
                    objects.push(client.get(&path, &Query::new()).await?);
                }
                print_objects(&objects, &format)
            }
            Self::Logs { task, options } => Logs::new(task, options).run(client).await,
        }
    }
}
