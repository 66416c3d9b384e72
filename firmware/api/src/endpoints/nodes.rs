//! `/nodes`

use bramble_cluster::{ClusterState, Command, Node, NodeId, Version};
use serde_json::Value;

use crate::{
    error::ApiError,
    filters::Filters,
    lookup,
    standing::Standings,
    types::{self, node::shown_role, word},
};

const FILTERS: [&str; 7] =
    ["id", "label", "node.label", "membership", "name", "role", "engine.label"];

/// `GET /nodes`
pub(crate) fn list(
    state: &ClusterState,
    standings: &Standings,
    filters: Option<&str>,
) -> Result<Vec<types::node::Node>, ApiError> {
    let filters = Filters::parse(filters, &FILTERS)?;
    filters.check_words("role", &["worker", "manager"])?;
    filters.check_words("membership", &["accepted", "pending"])?;
    let nodes = state.nodes().values().filter(|node| is_admitted(&filters, node));
    Ok(nodes.map(|node| types::node::Node::from_cluster(node, standings.of(node))).collect())
}

fn is_admitted(filters: &Filters, node: &Node) -> bool {
    filters.admits("id", |value| lookup::begins(node.id, value))
        && filters.admits("name", |value| node.description.hostname.starts_with(value))
        && filters.admits("role", |value| word(shown_role(node)) == value)
        // Whoever is a node was accepted: a board that was not has no node.
        && filters.admits("membership", |value| value == "accepted")
        && filters.admits_labels("node.label", &node.spec.labels)
        && filters.admits_labels("label", &node.description.engine_labels)
        && filters.admits_labels("engine.label", &node.description.engine_labels)
}

/// `GET /nodes/{id}`
pub(crate) fn inspect(
    state: &ClusterState,
    standings: &Standings,
    name: &str,
) -> Result<types::node::Node, ApiError> {
    let node = lookup::node(state, name)?;
    Ok(types::node::Node::from_cluster(node, standings.of(node)))
}

/// `POST /nodes/{id}/update`
pub(crate) fn update(
    state: &ClusterState,
    name: &str,
    version: Version,
    body: Value,
) -> Result<Command, ApiError> {
    let node = lookup::node(state, name)?;
    let spec: types::node::NodeSpec = crate::body::read(body)?;
    Ok(Command::UpdateNode { id: node.id, version, spec: spec.into_cluster(node)? })
}

/// `DELETE /nodes/{id}`
pub(crate) fn remove(
    state: &ClusterState,
    name: &str,
    is_forced: bool,
) -> Result<Command, ApiError> {
    let id: NodeId = lookup::node(state, name)?.id;
    Ok(Command::RemoveNode { id, is_forced })
}
