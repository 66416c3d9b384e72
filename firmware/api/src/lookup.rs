//! Finding what a request names: by id, by name, by the beginning of an id.

use std::sync::Arc;

use bramble_cluster::{
    ClusterState, Image, ImageName, Node, NodeId, Service, ServiceId, Task, TaskId,
};

use crate::error::ApiError;

/// The service of that id or name, or whose id alone begins so.
pub(crate) fn service<'a>(
    state: &'a ClusterState,
    name: &str,
) -> Result<&'a Arc<Service>, ApiError> {
    let by_id = name.parse().ok().and_then(|id: ServiceId| state.services().get(&id));
    let by_name = || state.services().get(&state.service_by_name(name)?.id);
    match by_id.or_else(by_name) {
        Some(service) => Ok(service),
        None => {
            let services = state.services().values();
            only("service", name, services.filter(|service| begins(service.id, name)).collect())
        }
    }
}

/// The node of that id or host name, or whose id alone begins so.
pub(crate) fn node<'a>(state: &'a ClusterState, name: &str) -> Result<&'a Arc<Node>, ApiError> {
    if let Some(node) = name.parse().ok().and_then(|id: NodeId| state.nodes().get(&id)) {
        return Ok(node);
    }
    let nodes = || state.nodes().values();
    let named: Vec<_> = nodes().filter(|node| node.description.hostname == name).collect();
    if !named.is_empty() {
        return only("node", name, named);
    }
    only("node", name, nodes().filter(|node| begins(node.id, name)).collect())
}

/// The task of that id, or whose id alone begins so, or whose name (`web.2`) the newest has.
pub(crate) fn task<'a>(state: &'a ClusterState, name: &str) -> Result<&'a Arc<Task>, ApiError> {
    if let Some(task) = name.parse().ok().and_then(|id: TaskId| state.tasks().get(&id)) {
        return Ok(task);
    }
    only("task", name, state.tasks().values().filter(|task| begins(task.id, name)).collect())
}

/// The image of that name or digest, or whose digest alone begins so.
pub(crate) fn image<'a>(
    images: impl Iterator<Item = &'a Image> + Clone,
    name: &str,
) -> Result<&'a Image, ApiError> {
    let missing = || ApiError::NoSuchImage { name: name.to_owned() };
    let hex = name.strip_prefix("sha256:").unwrap_or(name);
    if hex.len() >= 4 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        let found: Vec<_> =
            images.clone().filter(|image| image.digest.hex().starts_with(hex)).collect();
        if !found.is_empty() {
            return only("image", name, found);
        }
    }
    let wanted: ImageName =
        name.parse().map_err(|error| ApiError::BadRequest(format!("{error}")))?;
    let found = match wanted.digest() {
        Some(digest) => images.clone().find(|image| image.digest == digest),
        None => images
            .filter(|image| image.names.contains(&wanted.full()))
            .max_by_key(|image| (image.named_at, image.digest)),
    };
    found.ok_or_else(missing)
}

/// Whether an id begins with what the request gives, which must not be nothing.
pub(crate) fn begins(id: impl std::fmt::Display, beginning: &str) -> bool {
    !beginning.is_empty() && id.to_string().starts_with(beginning)
}

fn only<T>(kind: &'static str, name: &str, mut found: Vec<T>) -> Result<T, ApiError> {
    match found.len() {
        0 => Err(ApiError::NotFound { kind, name: name.to_owned() }),
        1 => Ok(found.remove(0)),
        count => Err(ApiError::Ambiguous { kind, name: name.to_owned(), count }),
    }
}
