//! Commands about tasks.

use super::{Stamp, bounded};
use crate::{
    Applied, ClusterState, DesiredState, Kind, NewTask, NodeId, NodeState, Outcome, Rejection,
    ResourceLimits, ServiceMode, Slot, Task, TaskId, TaskReport, TaskState, TaskStatus, Version,
    limits, rejection::check_version,
};

impl ClusterState {
    pub(super) fn create_task(&mut self, new: &NewTask, stamp: Stamp) -> Outcome {
        let service = self
            .service(new.service)
            .ok_or_else(|| Rejection::not_found(Kind::Service, new.service))?;
        check_version(Kind::Service, new.service, new.service_version, service.version)?;
        if self.tasks.contains_key(&new.id) {
            return Err(Rejection::exists(Kind::Task, new.id));
        }
        if self.tasks.len() >= limits::TASKS {
            return Err(Rejection::over("tasks", limits::TASKS));
        }
        match (service.spec.mode, new.slot) {
            (ServiceMode::Replicated { .. }, Slot::Replica(1..=limits::REPLICAS))
            | (ServiceMode::Global, Slot::Node(_)) => {}
            _ => return Err(Rejection::invalid("slot", "the service has no such slot")),
        }
        let others = self.tasks_in(new.service, new.slot);
        if let Some(other) = others.filter(|task| task.created > new.planned_at).last()
            && new.planned_at != Version(0)
        {
            return Err(Rejection::Stale {
                kind: Kind::Task,
                id: other.id.to_string(),
                planned: new.planned_at,
                current: other.created,
            });
        }
        if let (Slot::Node(slot), Some(node)) = (new.slot, new.node)
            && slot != node
        {
            return Err(Rejection::invalid("node", "the slot is of another node"));
        }
        if let Some(node) = new.node {
            self.check_room(node, &service.spec.task.resources)?;
        }
        let state = if new.node.is_some() { TaskState::Assigned } else { TaskState::Pending };
        let status = TaskStatus { state, since: stamp.at, ..TaskStatus::default() };
        let task = Task {
            id: new.id,
            version: stamp.version,
            created_at: stamp.at,
            updated_at: stamp.at,
            service: new.service,
            service_name: service.spec.name.clone(),
            slot: new.slot,
            node: new.node,
            spec: service.spec.task.clone(),
            spec_version: service.spec_version,
            desired: DesiredState::Running,
            status,
            created: stamp.version,
            started_at: None,
            cause: new.cause,
            restarts: new.restarts,
        };
        self.put_task(task);
        Ok(Applied::Done)
    }

    pub(super) fn assign_task(
        &mut self,
        id: TaskId,
        version: Version,
        node: NodeId,
        stamp: Stamp,
    ) -> Outcome {
        let task = self.waiting_task(id, version)?;
        if task.desired != DesiredState::Running {
            return Err(Rejection::Backwards { id });
        }
        if matches!(task.slot, Slot::Node(slot) if slot != node) {
            return Err(Rejection::invalid("node", "the slot is of another node"));
        }
        self.check_room(node, &task.spec.resources)?;
        self.change_task(id, stamp, |task| {
            task.node = Some(node);
            task.status =
                TaskStatus { state: TaskState::Assigned, since: stamp.at, ..TaskStatus::default() };
        });
        Ok(Applied::Done)
    }

    pub(super) fn explain_task(
        &mut self,
        id: TaskId,
        version: Version,
        error: &str,
        stamp: Stamp,
    ) -> Outcome {
        let task = self.waiting_task(id, version)?;
        let error = bounded(error);
        if task.status.error == error {
            return Ok(Applied::Unchanged);
        }
        self.change_task(id, stamp, |task| task.status.error = error);
        Ok(Applied::Done)
    }

    pub(super) fn set_desired_state(
        &mut self,
        id: TaskId,
        desired: DesiredState,
        stamp: Stamp,
    ) -> Outcome {
        let task = self.task(id).ok_or_else(|| Rejection::not_found(Kind::Task, id))?;
        if task.desired > desired {
            return Err(Rejection::Backwards { id });
        }
        if task.desired == desired {
            return Ok(Applied::Unchanged);
        }
        self.change_task(id, stamp, |task| task.desired = desired);
        Ok(Applied::Done)
    }

    pub(super) fn remove_task(&mut self, id: TaskId) -> Outcome {
        let task = self.task(id).ok_or_else(|| Rejection::not_found(Kind::Task, id))?;
        if task.node.is_some() && !task.status.state.is_terminal() {
            return Err(Rejection::NotEnded { id });
        }
        self.take_task(id);
        Ok(Applied::Done)
    }

    /// Takes over what a node says of its tasks. What does not apply is left out: the node speaks
    /// of a task that is forgotten or another's, or says late what the cluster knows better.
    pub(super) fn report_tasks(
        &mut self,
        node: NodeId,
        reports: &[TaskReport],
        stamp: Stamp,
    ) -> Outcome {
        if !self.nodes.contains_key(&node) {
            return Err(self.no_node(node));
        }
        if reports.len() > limits::REPORTS {
            return Err(Rejection::over("reports", limits::REPORTS));
        }
        let mut applied = Applied::Unchanged;
        for report in reports {
            let Some(task) = self.task(report.id) else { continue };
            let status = next_status(task, &report.status, stamp);
            if task.node != Some(node) || !is_forward(&task.status, &status) {
                continue;
            }
            self.change_task(report.id, stamp, |task| {
                let has_run = status.state == TaskState::Running;
                if has_run && task.started_at.is_none() {
                    task.started_at = Some(status.since);
                }
                task.status = status;
            });
            applied = Applied::Done;
        }
        Ok(applied)
    }

    pub(super) fn orphan_task(&mut self, id: TaskId, message: &str, stamp: Stamp) -> Outcome {
        let task = self.task(id).ok_or_else(|| Rejection::not_found(Kind::Task, id))?;
        if task.status.state.is_terminal() {
            return Ok(Applied::Unchanged);
        }
        let node = task.node.and_then(|node| self.node(node));
        if let Some(node) = node.filter(|node| node.status.state != NodeState::Down) {
            let hostname = node.description.hostname.clone();
            return Err(Rejection::NodeNotDown { id: node.id, hostname });
        }
        self.change_task(id, stamp, |task| {
            task.status.state = TaskState::Orphaned;
            task.status.since = stamp.at;
            task.status.error = bounded(message);
        });
        Ok(Applied::Done)
    }

    /// Makes a change to a task that exists, and stamps it.
    pub(super) fn change_task(&mut self, id: TaskId, stamp: Stamp, change: impl FnOnce(&mut Task)) {
        let Some(task) = self.task(id) else { return };
        let mut task = task.clone();
        change(&mut task);
        task.version = stamp.version;
        task.updated_at = stamp.at;
        self.put_task(task);
    }

    fn waiting_task(&self, id: TaskId, version: Version) -> Result<&Task, Rejection> {
        let task = self.task(id).ok_or_else(|| Rejection::not_found(Kind::Task, id))?;
        check_version(Kind::Task, id, version, task.version)?;
        if task.status.state > TaskState::Pending {
            return Err(Rejection::invalid("task", "it has a node already"));
        }
        Ok(task)
    }

    /// The last word on capacity: whatever a plan was made from, a node never gets more than it has.
    fn check_room(&self, id: NodeId, needs: &ResourceLimits) -> Result<(), Rejection> {
        let node = self.node(id).ok_or_else(|| self.no_node(id))?;
        let reserved = self.reserved_on(id);
        let has = node.description.resources;
        let fits = |used: u64, need: u64, has: u64| {
            need == 0 || used.checked_add(need).is_some_and(|sum| sum <= has)
        };
        if !fits(reserved.memory_bytes, needs.reserved_memory_bytes, has.memory_bytes) {
            return Err(Rejection::NoRoom { node: id, what: "memory".to_owned() });
        }
        if !fits(reserved.nano_cpus, needs.reserved_nano_cpus, has.nano_cpus) {
            return Err(Rejection::NoRoom { node: id, what: "cpu".to_owned() });
        }
        Ok(())
    }
}

/// What a report makes of a task's status. Its time is never later than the entry's: back-off and
/// roll-outs count from it, and a board's clock may be ahead.
fn next_status(task: &Task, reported: &TaskStatus, stamp: Stamp) -> TaskStatus {
    let since = if task.status.state == reported.state {
        task.status.since
    } else {
        reported.since.clamp(task.created_at.min(stamp.at), stamp.at)
    };
    TaskStatus {
        since,
        message: bounded(&reported.message),
        error: bounded(&reported.error),
        ..reported.clone()
    }
}

/// Whether a status may follow another: the state goes forward, or stays while its details change.
/// An ended task stays as it ended.
fn is_forward(current: &TaskStatus, next: &TaskStatus) -> bool {
    if current.state.is_terminal() {
        return false;
    }
    next.state > current.state || (next.state == current.state && next != current)
}

#[cfg(test)]
mod tests;
