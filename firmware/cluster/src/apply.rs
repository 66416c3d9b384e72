//! Applying entries: the only thing that changes a [`ClusterState`].

mod images;
mod nodes;
mod services;
mod tasks;

use std::sync::Arc;

use crate::{
    Applied, Cluster, ClusterSpec, ClusterState, Command, Entry, JoinSecrets, Kind, NodeAdmission,
    Outcome, Rejection, Timestamp, Version, limits, rejection::check_version, validate,
};

/// When and as which entry a change is made.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    at: Timestamp,
    version: Version,
}

impl ClusterState {
    /// Applies an entry: every command in order, each with an outcome of its own.
    ///
    /// The entry counts even if all of it is rejected: the version is the number of entries.
    pub fn apply(&mut self, entry: &Entry) -> Vec<Outcome> {
        self.version = Version(self.version.0.saturating_add(1));
        let stamp = Stamp { at: entry.at, version: self.version };
        let outcomes = entry.commands.iter().enumerate().map(|(index, command)| {
            if index < limits::COMMANDS {
                self.apply_command(command, stamp)
            } else {
                Err(Rejection::over("commands in one entry", limits::COMMANDS))
            }
        });
        outcomes.collect()
    }

    fn apply_command(&mut self, command: &Command, stamp: Stamp) -> Outcome {
        match command {
            Command::Found { cluster, node } => self.found(cluster, node, stamp),
            Command::AdmitNode(admission) => self.admit_node(admission, stamp),
            Command::UpdateNode { id, version, spec } => {
                self.update_node(*id, *version, spec, stamp)
            }
            Command::RemoveNode { id, is_forced } => self.remove_node(*id, *is_forced, stamp),
            Command::DescribeNode { id, description } => {
                self.describe_node(*id, description, stamp)
            }
            Command::SetNodeState { id, version, state, message } => {
                self.set_node_state(*id, *version, (*state, message), stamp)
            }
            Command::SetNodeRole { id, role } => self.set_node_role(*id, *role, stamp),
            Command::CreateService { id, spec } => self.create_service(*id, spec, stamp),
            Command::UpdateService { id, version, spec } => {
                self.update_service(*id, *version, spec, stamp)
            }
            Command::RollbackService { id, version, message } => {
                self.rollback_service(*id, *version, message, stamp)
            }
            Command::RemoveService { id } => match self.take_service(*id) {
                Some(_) => Ok(Applied::Done),
                None => Err(Rejection::not_found(Kind::Service, id)),
            },
            Command::SetUpdateStatus { id, version, status } => {
                self.set_update_status(*id, *version, status, stamp)
            }
            Command::CreateTask(new) => self.create_task(new, stamp),
            Command::AssignTask { id, version, node } => {
                self.assign_task(*id, *version, *node, stamp)
            }
            Command::ExplainTask { id, version, error } => {
                self.explain_task(*id, *version, error, stamp)
            }
            Command::SetDesiredState { id, desired } => {
                self.set_desired_state(*id, *desired, stamp)
            }
            Command::RemoveTask { id } => self.remove_task(*id),
            Command::ReportTasks { node, reports } => self.report_tasks(*node, reports, stamp),
            Command::OrphanTask { id, message } => self.orphan_task(*id, message, stamp),
            Command::ReportImages { node, images } => self.report_images(*node, images),
            Command::UpdateCluster { version, spec } => self.update_cluster(*version, spec, stamp),
            Command::RotateJoinSecrets { secrets } => self.rotate_join_secrets(secrets, stamp),
        }
    }

    fn found(&mut self, cluster: &Cluster, node: &NodeAdmission, stamp: Stamp) -> Outcome {
        if self.cluster.is_some() {
            return Err(Rejection::AlreadyFounded);
        }
        validate::cluster_spec(&cluster.spec)?;
        self.admit_node(node, stamp)?;
        self.set_node_role(node.id, crate::Role::Manager, stamp)?;
        self.cluster = Some(Arc::new(Cluster {
            founder: node.id,
            version: stamp.version,
            created_at: stamp.at,
            updated_at: stamp.at,
            ..cluster.clone()
        }));
        Ok(Applied::Done)
    }

    fn update_cluster(&mut self, version: Version, spec: &ClusterSpec, stamp: Stamp) -> Outcome {
        let cluster = self.cluster.as_mut().ok_or_else(no_cluster)?;
        check_version(Kind::Cluster, cluster.id, version, cluster.version)?;
        validate::cluster_spec(spec)?;
        if cluster.spec == *spec {
            return Ok(Applied::Unchanged);
        }
        let cluster = Arc::make_mut(cluster);
        cluster.spec = spec.clone();
        cluster.version = stamp.version;
        cluster.updated_at = stamp.at;
        Ok(Applied::Done)
    }

    fn rotate_join_secrets(&mut self, secrets: &JoinSecrets, stamp: Stamp) -> Outcome {
        let cluster = Arc::make_mut(self.cluster.as_mut().ok_or_else(no_cluster)?);
        cluster.join_secrets = secrets.clone();
        cluster.version = stamp.version;
        cluster.updated_at = stamp.at;
        Ok(Applied::Done)
    }
}

fn no_cluster() -> Rejection {
    Rejection::not_found(Kind::Cluster, "(none founded)")
}

/// Cuts a message that is over the limit, between two characters.
fn bounded(text: &str) -> String {
    let end = text.floor_char_boundary(limits::MESSAGE_BYTES);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests;
