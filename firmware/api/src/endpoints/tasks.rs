//! `/tasks`

use bramble_cluster::{ClusterState, DesiredState, Labels, Slot, Task};

use crate::{
    error::ApiError,
    filters::Filters,
    lookup,
    types::{self, word},
};

const FILTERS: [&str; 8] =
    ["id", "label", "name", "node", "service", "desired-state", "_up-to-date", "runtime"];

/// `GET /tasks`
pub(crate) fn list(
    state: &ClusterState,
    filters: Option<&str>,
) -> Result<Vec<types::task::Task>, ApiError> {
    let filters = Filters::parse(filters, &FILTERS)?;
    filters.check_words("desired-state", &["running", "shutdown", "accepted", "remove"])?;
    let tasks = state.tasks().values().filter(|task| is_admitted(state, &filters, task));
    Ok(tasks.map(|task| types::task::Task::from_cluster(task)).collect())
}

/// `GET /tasks/{id}`
pub(crate) fn inspect(state: &ClusterState, name: &str) -> Result<types::task::Task, ApiError> {
    Ok(types::task::Task::from_cluster(lookup::task(state, name)?))
}

fn is_admitted(state: &ClusterState, filters: &Filters, task: &Task) -> bool {
    let hostname = || Some(&state.node(task.node?)?.description.hostname);
    let is_current = || {
        state.service(task.service).is_some_and(|service| service.spec_version == task.spec_version)
    };
    filters.admits("id", |value| lookup::begins(task.id, value))
        && filters.admits("name", |value| short_name(task).starts_with(value))
        && filters.admits("service", |value| {
            task.service_name == value || lookup::begins(task.service, value)
        })
        && filters.admits("node", |value| {
            hostname().is_some_and(|name| name == value)
                || task.node.is_some_and(|node| lookup::begins(node, value))
        })
        && filters.admits("desired-state", |value| is_desired(task.desired, value))
        && filters.admits("_up-to-date", |value| (value == "true") == is_current())
        && filters.admits("runtime", |value| value == "container")
        // Tasks have no labels of their own; only a request for none admits them.
        && filters.admits_labels("label", &Labels::new())
}

fn is_desired(desired: DesiredState, asked: &str) -> bool {
    // Docker's `accepted` is a step on the way to running that Bramble's planner does not need.
    word(desired) == asked || (asked == "accepted" && desired == DesiredState::Running)
}

/// `web.2`; a global service's tasks are named after their nodes.
pub(crate) fn short_name(task: &Task) -> String {
    match task.slot {
        Slot::Replica(number) => format!("{}.{number}", task.service_name),
        Slot::Node(node) => format!("{}.{node}", task.service_name),
    }
}
