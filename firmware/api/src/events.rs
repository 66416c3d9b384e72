//! Events: what became different from one state to the next.

use std::sync::Arc;

use bramble_cluster::ClusterState;
use serde_json::{Value, json};

use crate::types::{update_state_word, word};

/// What happened to what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `service` or `node`.
    pub(crate) kind: &'static str,
    /// `create`, `update` or `remove`.
    pub(crate) action: &'static str,
    /// Its id.
    pub(crate) id: String,
    /// Its name.
    pub(crate) name: String,
    /// What changed and to what, as far as Docker tells: `state.new`, `replicas.new`, …
    pub(crate) attributes: Vec<(&'static str, String)>,
}

impl Event {
    /// As Docker writes it; `nanoseconds` is now.
    pub(crate) fn to_json(&self, nanoseconds: i64) -> Value {
        let mut attributes: serde_json::Map<String, Value> = self
            .attributes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone().into()))
            .collect();
        attributes.insert("name".to_owned(), self.name.clone().into());
        json!({
            "Type": self.kind,
            "Action": self.action,
            "Actor": {"ID": self.id, "Attributes": attributes},
            "scope": "swarm",
            "time": nanoseconds / 1_000_000_000,
            "timeNano": nanoseconds,
        })
    }
}

/// What happened between two states.
pub(crate) fn between(before: &ClusterState, after: &ClusterState) -> Vec<Event> {
    let mut events = Vec::new();
    services(before, after, &mut events);
    nodes(before, after, &mut events);
    events
}

fn services(before: &ClusterState, after: &ClusterState, events: &mut Vec<Event>) {
    let event = |action, service: &bramble_cluster::Service, attributes| Event {
        kind: "service",
        action,
        id: service.id.to_string(),
        name: service.spec.name.clone(),
        attributes,
    };
    for (id, service) in after.services() {
        match before.services().get(id) {
            None => events.push(event("create", service, Vec::new())),
            Some(old) if Arc::ptr_eq(old, service) || old.version == service.version => {}
            Some(old) => {
                let mut attributes = Vec::new();
                let state = |service: &bramble_cluster::Service| {
                    let status = service.update_status.as_ref();
                    status.map(|status| update_state_word(status.state))
                };
                if state(old) != state(service) {
                    attributes.push(("updatestate.old", state(old).unwrap_or_default().to_owned()));
                    attributes
                        .push(("updatestate.new", state(service).unwrap_or_default().to_owned()));
                }
                events.push(event("update", service, attributes));
            }
        }
    }
    for (id, service) in before.services() {
        if !after.services().contains_key(id) {
            events.push(event("remove", service, Vec::new()));
        }
    }
}

fn nodes(before: &ClusterState, after: &ClusterState, events: &mut Vec<Event>) {
    let event = |action, node: &bramble_cluster::Node, attributes| Event {
        kind: "node",
        action,
        id: node.id.to_string(),
        name: node.description.hostname.clone(),
        attributes,
    };
    for (id, node) in after.nodes() {
        match before.nodes().get(id) {
            None => events.push(event("create", node, Vec::new())),
            Some(old) if Arc::ptr_eq(old, node) || old.version == node.version => {}
            Some(old) => {
                let mut attributes = Vec::new();
                let mut changed = |name_old, name_new, old: &'static str, new: &'static str| {
                    if old != new {
                        attributes.push((name_old, old.to_owned()));
                        attributes.push((name_new, new.to_owned()));
                    }
                };
                changed("state.old", "state.new", word(old.status.state), word(node.status.state));
                changed(
                    "availability.old",
                    "availability.new",
                    word(old.spec.availability),
                    word(node.spec.availability),
                );
                changed("role.old", "role.new", word(old.role), word(node.role));
                events.push(event("update", node, attributes));
            }
        }
    }
    for (id, node) in before.nodes() {
        if !after.nodes().contains_key(id) {
            events.push(event("remove", node, Vec::new()));
        }
    }
}
