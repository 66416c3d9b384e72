//! Templates in environment, host name and mounts: the placeholders that Docker Swarm knows.

use bramble_cluster::Slot;

use super::SpecError;
use crate::ContainerRequest;

/// What templates may name, and its values.
#[derive(Debug)]
pub(super) struct Facts {
    values: [(&'static str, String); 9],
}

impl Facts {
    pub(super) fn of(request: &ContainerRequest) -> Self {
        let task = &request.task;
        let slot = match task.slot {
            Slot::Replica(number) => number.to_string(),
            Slot::Node(node) => node.to_string(),
        };
        let board = &request.board;
        Self {
            values: [
                (".Service.ID", task.service.to_string()),
                (".Service.Name", task.service_name.clone()),
                (".Node.ID", board.id.to_string()),
                (".Node.Hostname", board.hostname.clone()),
                (".Node.Platform.OS", board.platform.os.clone()),
                (".Node.Platform.Architecture", board.platform.architecture.clone()),
                (".Task.ID", task.id.to_string()),
                (".Task.Name", format!("{}.{slot}.{}", task.service_name, task.id)),
                (".Task.Slot", slot),
            ],
        }
    }

    /// Replaces the placeholders in the text of a field.
    pub(super) fn fill(&self, field: &str, text: &str) -> Result<String, SpecError> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("{{") {
            filled.push_str(before);
            let Some((name, after)) = after.split_once("}}") else {
                return Err(SpecError::new(field, "a `{{` without its `}}`"));
            };
            let name = name.trim();
            match self.values.iter().find(|(known, _)| *known == name) {
                Some((_, value)) => filled.push_str(value),
                None => {
                    let known: Vec<&str> = self.values.iter().map(|(known, _)| *known).collect();
                    let reason = format!("`{{{{{name}}}}}` is not known; {} are", known.join(", "));
                    return Err(SpecError::new(field, reason));
                }
            }
            rest = after;
        }
        filled.push_str(rest);
        Ok(filled)
    }
}
