//! `/containers/json`: the containers of this board's tasks.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use crate::{board::Container, error::ApiError, filters::Filters};

const FILTERS: [&str; 8] =
    ["id", "name", "label", "status", "ancestor", "exited", "health", "network"];

/// `GET /containers/json`
pub(crate) fn list(
    containers: Vec<Container>,
    is_all: bool,
    limit: Option<usize>,
    filters: Option<&str>,
    now: i64,
) -> Result<Vec<Value>, ApiError> {
    let filters = Filters::parse(filters, &FILTERS)?;
    let is_all = is_all || filters.values("status").next().is_some();
    let mut admitted: Vec<_> = containers
        .into_iter()
        .filter(|container| is_all || container.exit_code.is_none())
        .filter(|container| is_admitted(&filters, container))
        .collect();
    admitted.sort_by_key(|container| std::cmp::Reverse(container.created));
    admitted.truncate(limit.filter(|limit| *limit > 0).unwrap_or(usize::MAX));
    Ok(admitted.iter().map(|container| summary(container, now)).collect())
}

fn is_admitted(filters: &Filters, container: &Container) -> bool {
    filters.admits("id", |value| container.task.to_string().starts_with(value))
        && filters.admits("name", |value| container.name.contains(value.trim_start_matches('/')))
        && filters.admits("ancestor", |value| {
            container.image == value
                || container.image.split(':').next() == Some(value)
                || container.image_digest.is_some_and(|digest| digest.to_string() == value)
        })
        && filters.admits("status", |value| state(container) == value)
        && filters.admits("exited", |value| {
            container.exit_code.is_some_and(|code| code.to_string() == value)
        })
        && filters.admits("network", |value| value == "host")
        && filters.admits_labels("label", &container.labels)
}

fn state(container: &Container) -> &'static str {
    if container.exit_code.is_some() { "exited" } else { "running" }
}

fn summary(container: &Container, now: i64) -> Value {
    let elapsed = u64::try_from(now.saturating_sub(container.since)).unwrap_or(0);
    let elapsed = ago(Duration::from_secs(elapsed));
    let status = match container.exit_code {
        None => format!("Up {elapsed}"),
        Some(code) => format!("Exited ({code}) {elapsed} ago"),
    };
    let digest = container.image_digest.map(|digest| digest.to_string()).unwrap_or_default();
    let networks: BTreeMap<&str, Value> = BTreeMap::from([("host", json!({}))]);
    json!({
        "Id": container.task.to_string(),
        "Names": [format!("/{}", container.name)],
        "Image": container.image,
        "ImageID": digest,
        "Command": container.command,
        "Created": container.created,
        "Ports": [],
        "Labels": container.labels,
        "State": state(container),
        "Status": status,
        "HostConfig": {"NetworkMode": "host"},
        "NetworkSettings": {"Networks": networks},
        "Mounts": [],
    })
}

/// As Docker says it in `docker ps`.
fn ago(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    match seconds {
        0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..3_600 => format!("{} minutes", seconds / 60),
        3_600..7_200 => "About an hour".to_owned(),
        7_200..172_800 => format!("{} hours", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}
