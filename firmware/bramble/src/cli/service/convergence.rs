//! Waiting until a service runs as it is wanted, and showing how far it is.

use std::{
    collections::BTreeSet,
    io::IsTerminal,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use bramble_api::types;
use indicatif::{ProgressBar, ProgressStyle};

use super::{fetch, path};
use crate::cli::client::{Client, Query};

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
/// For so long all tasks must run before they count as running.
const STEADY: Duration = Duration::from_secs(1);

/// How far a service is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Progress {
    /// So many tasks run of so many, and why it does not go on, if a task says.
    Going { running: u64, wanted: u64, trouble: Option<String> },
    /// Every task runs and is of the newest specification.
    There { wanted: u64 },
    /// Somebody has to look.
    Stuck { reason: String },
}

/// Waits until the service runs as it is wanted, unless nobody wants to wait.
pub(super) async fn wait(
    client: &Client,
    id: &str,
    is_detached: bool,
    is_quiet: bool,
) -> Result<()> {
    if is_detached {
        return Ok(());
    }
    let bar = if is_quiet || !std::io::stderr().is_terminal() {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(0)
    };
    bar.set_style(
        ProgressStyle::with_template("{spinner} {pos} of {len} tasks run  {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    let mut there_since: Option<Instant> = None;
    loop {
        match look(client, id).await? {
            Progress::Stuck { reason } => {
                bar.abandon();
                bail!(reason);
            }
            Progress::Going { running, wanted, trouble } => {
                there_since = None;
                bar.set_length(wanted);
                bar.set_position(running);
                bar.set_message(trouble.unwrap_or_default());
            }
            Progress::There { wanted } => {
                bar.set_length(wanted);
                bar.set_position(wanted);
                bar.set_message("");
                if there_since.get_or_insert_with(Instant::now).elapsed() >= STEADY {
                    break;
                }
            }
        }
        bar.tick();
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    bar.finish_and_clear();
    if !is_quiet {
        eprintln!("service {} converged", fetch(client, id).await?.spec.name);
    }
    Ok(())
}

async fn look(client: &Client, id: &str) -> Result<Progress> {
    let query = Query::new().with_filters(&[format!("service={id}")])?;
    let tasks: Vec<types::task::Task> = client.get("/tasks", &query).await?;
    let current =
        Query::new().with_filters(&[format!("service={id}"), "_up-to-date=true".to_owned()])?;
    let current: Vec<types::task::Task> = client.get("/tasks", &current).await?;
    let current = current.into_iter().map(|task| task.id).collect();
    // Read last: if it says that a roll-out is over, the tasks above are as it left them.
    let service: types::service::Service = client.get(&path(id), &Query::new()).await?;
    Ok(judge(&service, &tasks, &current))
}

fn judge(
    service: &types::service::Service,
    tasks: &[types::task::Task],
    current: &BTreeSet<String>,
) -> Progress {
    let status = service.update_status.as_ref();
    let (state, message) =
        status.map_or(("", ""), |status| (status.state.as_str(), status.message.as_str()));
    if matches!(state, "paused" | "rollback_paused") {
        let state = state.replace('_', " ");
        return Progress::Stuck {
            reason: format!("service {} is {state}: {message}", service.spec.name),
        };
    }
    let is_wanted = |task: &&types::task::Task| task.desired_state == "running";
    let running = tasks
        .iter()
        .filter(is_wanted)
        .filter(|task| task.status.state == "running" && current.contains(&task.id));
    let running = running.count() as u64;
    let leftover =
        tasks.iter().any(|task| task.desired_state != "running" && task.status.state == "running");
    let wanted = match service.spec.mode.replicated {
        Some(mode) => mode.replicas.unwrap_or(1),
        None => tasks.iter().filter(is_wanted).count() as u64,
    };
    let is_rolling = matches!(state, "updating" | "rollback_started");
    if running == wanted && !is_rolling && !leftover {
        return Progress::There { wanted };
    }
    let trouble = tasks
        .iter()
        .filter(|task| !task.status.err.is_empty() && task.status.state != "running")
        .max_by(|one, other| one.created_at.cmp(&other.created_at))
        .map(|task| task.status.err.clone());
    Progress::Going { running, wanted, trouble }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, desired: &str, state: &str, error: &str) -> types::task::Task {
        types::task::Task {
            id: id.to_owned(),
            desired_state: desired.to_owned(),
            status: types::task::TaskStatus {
                state: state.to_owned(),
                err: error.to_owned(),
                ..types::task::TaskStatus::default()
            },
            ..types::task::Task::default()
        }
    }

    fn service(replicas: u64, state: &str) -> types::service::Service {
        let mut service = types::service::Service::default();
        service.spec.name = "web".to_owned();
        service.spec.mode.replicated =
            Some(types::service::Replicated { replicas: Some(replicas) });
        service.update_status = Some(types::service::UpdateStatus {
            state: state.to_owned(),
            message: "too many failed".to_owned(),
            ..types::service::UpdateStatus::default()
        });
        service
    }

    #[test]
    fn only_new_tasks_that_run_count() {
        let tasks = [task("a", "running", "running", ""), task("b", "running", "running", "")];
        let both = BTreeSet::from(["a".to_owned(), "b".to_owned()]);
        let one = BTreeSet::from(["a".to_owned()]);
        let there = Progress::There { wanted: 2 };
        assert_eq!(judge(&service(2, "completed"), &tasks, &both), there);
        let going = Progress::Going { running: 1, wanted: 2, trouble: None };
        assert_eq!(judge(&service(2, "completed"), &tasks, &one), going);
        let rolling = judge(&service(2, "updating"), &tasks, &both);
        assert!(matches!(rolling, Progress::Going { running: 2, .. }));
        let scaled_down = judge(&service(1, ""), &tasks, &both);
        assert!(matches!(scaled_down, Progress::Going { .. }));
    }

    #[test]
    fn trouble_is_told() {
        let tasks = [task("a", "running", "pending", "no board has room")];
        let trouble = Some("no board has room".to_owned());
        let going = Progress::Going { running: 0, wanted: 1, trouble };
        assert_eq!(judge(&service(1, ""), &tasks, &BTreeSet::new()), going);
        let reason = "service web is paused: too many failed".to_owned();
        let stuck = judge(&service(1, "paused"), &tasks, &BTreeSet::new());
        assert_eq!(stuck, Progress::Stuck { reason });
    }
}
