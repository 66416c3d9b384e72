//! Commands about services.

use std::mem;

use super::{Stamp, bounded};
use crate::{
    Applied, ClusterState, Kind, Outcome, PortConfig, PublishMode, Rejection, Service, ServiceId,
    ServiceMode, ServiceSpec, UpdateState, UpdateStatus, Version, limits, rejection::check_version,
    validate,
};

impl ClusterState {
    pub(super) fn create_service(
        &mut self,
        id: ServiceId,
        spec: &ServiceSpec,
        stamp: Stamp,
    ) -> Outcome {
        validate::service_spec(spec)?;
        if self.services.contains_key(&id) {
            return Err(Rejection::exists(Kind::Service, id));
        }
        if let Some(other) = self.service_by_name(&spec.name) {
            return Err(Rejection::NameTaken { name: spec.name.clone(), id: other.id });
        }
        if self.services.len() >= limits::SERVICES {
            return Err(Rejection::over("services", limits::SERVICES));
        }
        self.check_ports(id, spec)?;
        self.put_service(Service {
            id,
            version: stamp.version,
            created_at: stamp.at,
            updated_at: stamp.at,
            spec: spec.clone(),
            spec_version: stamp.version,
            previous_spec: None,
            update_status: None,
        });
        Ok(Applied::ServiceCreated(id))
    }

    pub(super) fn update_service(
        &mut self,
        id: ServiceId,
        version: Version,
        spec: &ServiceSpec,
        stamp: Stamp,
    ) -> Outcome {
        let mut service = self.service_for(id, version)?;
        validate::service_spec(spec)?;
        check_same_kind(&service.spec, spec)?;
        self.check_ports(id, spec)?;
        let is_changed = service.spec != *spec;
        let is_paused = matches!(
            service.update_status.as_ref().map(|status| status.state),
            Some(UpdateState::Paused | UpdateState::RollbackPaused)
        );
        if service.spec.task != spec.task {
            service.spec_version = stamp.version;
            service.update_status =
                Some(roll_out(UpdateState::Updating, "update in progress", stamp));
        } else if is_paused && service.spec.mode == spec.mode {
            // A person looked at it and said "go on"; scaling alone does not say that.
            service.update_status = Some(roll_out(UpdateState::Updating, "update resumed", stamp));
        } else if !is_changed {
            return Ok(Applied::Unchanged);
        }
        if is_changed {
            let old = mem::replace(&mut service.spec, spec.clone());
            service.previous_spec = Some(Box::new(old));
        }
        self.stamp_service(service, stamp)
    }

    pub(super) fn rollback_service(
        &mut self,
        id: ServiceId,
        version: Version,
        message: &str,
        stamp: Stamp,
    ) -> Outcome {
        let mut service = self.service_for(id, version)?;
        let Some(previous) = service.previous_spec.take() else {
            return Err(Rejection::NoPreviousSpec { service: service.spec.name });
        };
        self.check_ports(id, &previous)?;
        let is_same_task = previous.task == service.spec.task;
        let old = mem::replace(&mut service.spec, *previous);
        service.previous_spec = Some(Box::new(old));
        if is_same_task {
            let mut status = roll_out(UpdateState::RollbackCompleted, message, stamp);
            status.completed_at = Some(stamp.at);
            service.update_status = Some(status);
        } else {
            service.spec_version = stamp.version;
            service.update_status = Some(roll_out(UpdateState::RollbackStarted, message, stamp));
        }
        self.stamp_service(service, stamp)
    }

    pub(super) fn set_update_status(
        &mut self,
        id: ServiceId,
        version: Version,
        status: &UpdateStatus,
        stamp: Stamp,
    ) -> Outcome {
        let mut service = self.service_for(id, version)?;
        let status = UpdateStatus { message: bounded(&status.message), ..status.clone() };
        if service.update_status.as_ref() == Some(&status) {
            return Ok(Applied::Unchanged);
        }
        service.update_status = Some(status);
        self.stamp_service(service, stamp)
    }

    fn service_for(&self, id: ServiceId, version: Version) -> Result<Service, Rejection> {
        let service = self.service(id).ok_or_else(|| Rejection::not_found(Kind::Service, id))?;
        check_version(Kind::Service, id, version, service.version)?;
        Ok(service.clone())
    }

    fn stamp_service(&mut self, mut service: Service, stamp: Stamp) -> Outcome {
        service.version = stamp.version;
        service.updated_at = stamp.at;
        self.put_service(service);
        Ok(Applied::Done)
    }

    /// A port that answers on every board belongs to one service alone.
    fn check_ports(&self, id: ServiceId, spec: &ServiceSpec) -> Result<(), Rejection> {
        let wanted: Vec<_> =
            spec.endpoint.ports.iter().filter(|port| port.published != 0).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        for other in self.services.values().filter(|other| other.id != id) {
            let clash = other
                .spec
                .endpoint
                .ports
                .iter()
                .find(|theirs| wanted.iter().any(|ours| is_clash(ours, theirs)));
            if let Some(port) = clash {
                let port = format!("{}/{}", port.published, port.protocol);
                let service = other.spec.name.clone();
                return Err(Rejection::PortTaken { port, service });
            }
        }
        Ok(())
    }
}

/// Two host ports may clash: the scheduler puts them on different boards.
fn is_clash(one: &PortConfig, other: &PortConfig) -> bool {
    one.published == other.published
        && one.protocol == other.protocol
        && (one.mode == PublishMode::Ingress || other.mode == PublishMode::Ingress)
}

fn check_same_kind(old: &ServiceSpec, new: &ServiceSpec) -> Result<(), Rejection> {
    if old.name != new.name {
        return Err(Rejection::invalid("name", "renaming services is not supported"));
    }
    match (old.mode, new.mode) {
        (ServiceMode::Replicated { .. }, ServiceMode::Replicated { .. })
        | (ServiceMode::Global, ServiceMode::Global) => Ok(()),
        _ => Err(Rejection::invalid("mode", "service mode change is not allowed")),
    }
}

fn roll_out(state: UpdateState, message: &str, stamp: Stamp) -> UpdateStatus {
    UpdateStatus { state, started_at: stamp.at, completed_at: None, message: bounded(message) }
}

#[cfg(test)]
mod tests;
