//! `/services`

use std::sync::Arc;

use bramble_cluster::{
    ClusterState, Command, DesiredState, NetworkAttachment, NodeState, PublishMode, Rejection,
    Service, ServiceId, ServiceMode, ServiceSpec, TaskState, Version,
};
use serde_json::Value;

use crate::{
    body,
    error::ApiError,
    filters::Filters,
    lookup, rejection,
    types::{
        self, InvalidField, container::write_image, network, service::ServiceStatus, unsupported,
    },
};

const FILTERS: [&str; 5] = ["id", "label", "mode", "name", "runtime"];

/// Options that change what a service is or may do: asking for them is refused. All others are
/// ignored with a warning.
const REFUSED: [&str; 12] = [
    "TaskTemplate.ContainerSpec.Secrets",
    "TaskTemplate.ContainerSpec.Configs",
    "TaskTemplate.ContainerSpec.Privileges",
    "TaskTemplate.PluginSpec",
    "TaskTemplate.NetworkAttachmentSpec",
    "TaskTemplate.Resources.Reservations.GenericResources",
    "VolumeOptions.Subpath",
    "VolumeOptions.DriverConfig",
    "ClusterOptions",
    "ImageOptions",
    "DriverOpts",
    "BindOptions.Propagation",
];

/// What a person asked of a service, understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planned {
    /// What to propose.
    pub(crate) command: Command,
    /// What the person should know.
    pub(crate) warnings: Vec<String>,
}

/// `GET /services`
pub(crate) fn list(
    state: &ClusterState,
    filters: Option<&str>,
    has_status: bool,
) -> Result<Vec<types::service::Service>, ApiError> {
    let filters = Filters::parse(filters, &FILTERS)?;
    filters.check_words("mode", &["replicated", "global", "replicated-job", "global-job"])?;
    let services = state.services().values().filter(|service| is_admitted(&filters, service));
    Ok(services
        .map(|service| types::service::Service {
            service_status: has_status.then(|| status(state, service)),
            ..types::service::Service::from_cluster(service)
        })
        .collect())
}

fn is_admitted(filters: &Filters, service: &Service) -> bool {
    let mode = match service.spec.mode {
        ServiceMode::Replicated { .. } => "replicated",
        ServiceMode::Global => "global",
    };
    filters.admits("id", |value| lookup::begins(service.id, value))
        && filters.admits("name", |value| service.spec.name.starts_with(value))
        && filters.admits("mode", |value| value == mode)
        && filters.admits("runtime", |value| value == "container")
        && filters.admits_labels("label", &service.spec.labels)
}

/// How many of a service's tasks run, and how many should.
pub(crate) fn status(state: &ClusterState, service: &Service) -> ServiceStatus {
    let is_there = |task: &bramble_cluster::Task| {
        let node = task.node.and_then(|node| state.node(node));
        node.is_some_and(|node| node.status.state != NodeState::Down)
    };
    let wanted = || state.tasks_of(service.id).filter(|task| task.desired == DesiredState::Running);
    let running =
        wanted().filter(|task| task.status.state == TaskState::Running && is_there(task)).count();
    let desired = match service.spec.mode {
        ServiceMode::Replicated { replicas } => u64::from(replicas),
        ServiceMode::Global => count(wanted().count()),
    };
    ServiceStatus { running_tasks: count(running), desired_tasks: desired, completed_tasks: 0 }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// `GET /services/{id}`
pub(crate) fn inspect(
    state: &ClusterState,
    name: &str,
) -> Result<types::service::Service, ApiError> {
    Ok(types::service::Service::from_cluster(lookup::service(state, name)?))
}

/// `POST /services/create`
pub(crate) fn create(
    state: &ClusterState,
    id: ServiceId,
    request: Value,
) -> Result<Planned, ApiError> {
    let (mut spec, mut warnings) = understand(request, None)?;
    if spec.name.is_empty() {
        // Docker makes a name up as well; this one tells which service it is.
        spec.name = format!("service-{:.8}", id.to_string());
    }
    if let Some(service) = state.service_by_name(&spec.name) {
        let message = format!(
            "name conflicts with an existing object: service {} already exists ({})",
            spec.name, service.id
        );
        return Err(ApiError::Conflict(message));
    }
    let spec = resolve_image(state, spec, None)?;
    check(&spec)?;
    warnings.extend(port_warnings(&spec));
    Ok(Planned { command: Command::CreateService { id, spec: Box::new(spec) }, warnings })
}

/// `POST /services/{id}/update`
pub(crate) fn update(
    state: &ClusterState,
    name: &str,
    version: Version,
    request: Value,
) -> Result<Planned, ApiError> {
    let service = lookup::service(state, name)?;
    let (spec, mut warnings) = understand(request, Some(&service.spec))?;
    if spec.name != service.spec.name {
        let reason = format!("a service cannot be renamed: it is `{}`", service.spec.name);
        return Err(InvalidField::new("Name", reason).into());
    }
    let spec = resolve_image(state, spec, Some(&service.spec))?;
    check(&spec)?;
    warnings.extend(port_warnings(&spec));
    let command = Command::UpdateService { id: service.id, version, spec: Box::new(spec) };
    Ok(Planned { command, warnings })
}

/// `POST /services/{id}/update?rollback=previous`
pub(crate) fn rollback(
    state: &ClusterState,
    name: &str,
    version: Version,
) -> Result<Planned, ApiError> {
    let service = lookup::service(state, name)?;
    if service.previous_spec.is_none() {
        let message = format!(
            "service {} has no previous specification to go back to: it was never updated",
            service.spec.name
        );
        return Err(ApiError::BadRequest(message));
    }
    let message = "manually requested rollback".to_owned();
    let command = Command::RollbackService { id: service.id, version, message };
    Ok(Planned { command, warnings: Vec::new() })
}

/// `DELETE /services/{id}`
pub(crate) fn remove(state: &ClusterState, name: &str) -> Result<Command, ApiError> {
    Ok(Command::RemoveService { id: lookup::service(state, name)?.id })
}

/// Translates a specification and names what has no translation.
fn understand(
    request: Value,
    previous: Option<&ServiceSpec>,
) -> Result<(ServiceSpec, Vec<String>), ApiError> {
    let wire: types::service::ServiceSpec = body::read(request.clone())?;
    let spec = wire.into_cluster(previous)?;
    let echo = serde_json::to_value(types::service::ServiceSpec::from_cluster(&spec))
        .map_err(|error| ApiError::internal(&error))?;
    let mut warnings = Vec::new();
    for path in unsupported::leftovers(&request, &echo) {
        if path == "Networks" {
            continue; // Moved to `TaskTemplate.Networks` by the translation.
        }
        let is_refused = REFUSED
            .iter()
            .any(|refused| path.starts_with(refused) || path.contains(&format!(".{refused}")));
        if is_refused {
            return Err(InvalidField::new(path, "Bramble does not support this option").into());
        }
        warnings.push(format!("Bramble does not support {path}: it is ignored"));
    }
    Ok((spec, warnings))
}

/// Pins the image to what its name means now.
fn resolve_image(
    state: &ClusterState,
    mut spec: ServiceSpec,
    previous: Option<&ServiceSpec>,
) -> Result<ServiceSpec, ApiError> {
    let reference = &spec.task.container.image;
    let is_unchanged = previous.is_some_and(|previous| {
        reference.digest.is_some() && previous.task.container.image == *reference
    });
    if is_unchanged {
        return Ok(spec);
    }
    let images = state.images().values().map(AsRef::as_ref);
    let digest = lookup::image(images, &write_image(reference))?.digest;
    Arc::make_mut(&mut spec.task).container.image.digest = Some(digest);
    Ok(spec)
}

/// What can be refused before the cluster is asked, in the same words.
fn check(spec: &ServiceSpec) -> Result<(), ApiError> {
    for NetworkAttachment { target, .. } in &spec.task.networks {
        match network::find(target) {
            Some(network) if network.is_for_services => {}
            Some(_) => {
                let message =
                    format!("network {target} cannot be used by services: `--network host` can");
                return Err(ApiError::BadRequest(message));
            }
            None => {
                return Err(ApiError::NotFound { kind: "network", name: target.clone() });
            }
        }
    }
    bramble_cluster::validate::service_spec(spec).map_err(|rejection| match rejection {
        Rejection::Invalid { field, reason } if field == "name" => {
            InvalidField::new(format!("name `{}`", spec.name), reason).into()
        }
        other => rejection::to_error(&other),
    })
}

/// What published ports mean while containers have their board's own network.
fn port_warnings(spec: &ServiceSpec) -> Vec<String> {
    let mut warnings = Vec::new();
    for port in &spec.endpoint.ports {
        if port.published == 0 {
            warnings.push(format!(
                "port {} gets no published port of its own: containers have their board's network, \
                 it answers on {} there",
                port.target, port.target
            ));
        } else if port.published != port.target {
            warnings.push(format!(
                "port {} is not mapped to {}: containers have their board's network, what the \
                 service listens on answers there",
                port.published, port.target
            ));
        } else if port.mode == PublishMode::Ingress {
            warnings.push(format!(
                "port {} answers only on the boards that run a task of the service",
                port.published
            ));
        }
    }
    warnings
}
