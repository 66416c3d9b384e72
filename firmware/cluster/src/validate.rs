//! Whether what people ask for makes sense. The API refuses with the same words as the log does.

mod container;
mod text;

use std::collections::BTreeSet;

use crate::{
    ClusterSpec, EndpointSpec, Image, NodeDescription, NodeSpec, Placement, Rejection,
    ResourceLimits, RestartPolicy, ServiceMode, ServiceSpec, TaskSpec, UpdateConfig, limits,
};
use text::{duration, labels, list, optional_duration, text};

/// Checks what a person wants of a service.
pub fn service_spec(spec: &ServiceSpec) -> Result<(), Rejection> {
    name("name", &spec.name)?;
    labels("labels", &spec.labels)?;
    if let ServiceMode::Replicated { replicas } = spec.mode
        && replicas > limits::REPLICAS
    {
        return Err(Rejection::over("replicas", limits::REPLICAS as usize));
    }
    task_spec(&spec.task)?;
    update_config("update", &spec.update)?;
    update_config("rollback", &spec.rollback)?;
    endpoint(&spec.endpoint)?;
    let size = postcard::experimental::serialized_size(spec).unwrap_or(usize::MAX);
    if size > limits::SPEC_BYTES {
        return Err(Rejection::over("bytes of the service's specification", limits::SPEC_BYTES));
    }
    Ok(())
}

/// Checks what a person wants of a node.
pub fn node_spec(spec: &NodeSpec) -> Result<(), Rejection> {
    labels("node labels", &spec.labels)
}

/// Checks what a node says of itself.
pub fn node_description(description: &NodeDescription) -> Result<(), Rejection> {
    let short = |field: &str, value: &str| text::at_most(field, value, 253);
    short("hostname", &description.hostname)?;
    short("platform", &description.platform.os)?;
    short("platform", &description.platform.architecture)?;
    short("engine version", &description.engine_version)?;
    labels("engine labels", &description.engine_labels)?;
    list("addresses", description.addresses.len(), limits::NODE_ADDRESSES)
}

/// Checks what a person wants of the cluster.
pub fn cluster_spec(spec: &ClusterSpec) -> Result<(), Rejection> {
    if spec.task_history_limit > limits::TASK_HISTORY {
        return Err(Rejection::over("tasks kept as history", limits::TASK_HISTORY as usize));
    }
    Ok(())
}

/// Checks an image as a node reports it.
pub fn image(image: &Image) -> Result<(), Rejection> {
    list("image names", image.names.len(), limits::IMAGE_NAMES)?;
    image.names.iter().try_for_each(|name| text::at_most("image name", name, 512))
}

/// Checks a name that is a part of a host name: letters, digits, `-` and `_`, neither first nor last.
pub fn name(field: &str, name: &str) -> Result<(), Rejection> {
    let invalid = |reason: &str| Err(Rejection::invalid(field, reason));
    if name.is_empty() {
        return invalid("it is missing");
    }
    if name.len() > limits::NAME_BYTES {
        return Err(Rejection::over(format!("characters in the {field}"), limits::NAME_BYTES));
    }
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_outer = |byte: Option<char>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    if !name.bytes().all(is_inner)
        || !is_outer(name.chars().next())
        || !is_outer(name.chars().next_back())
    {
        return invalid(
            "it must be letters, digits, - and _, and begin and end with a letter or digit",
        );
    }
    Ok(())
}

fn task_spec(task: &TaskSpec) -> Result<(), Rejection> {
    container::container_spec(&task.container)?;
    resources(&task.resources)?;
    restart(&task.restart)?;
    placement(&task.placement)?;
    list("networks", task.networks.len(), limits::LIST)?;
    for network in &task.networks {
        text("network", &network.target)?;
        list("network aliases", network.aliases.len(), limits::LIST)?;
        network.aliases.iter().try_for_each(|alias| text("network alias", alias))?;
    }
    if let Some(driver) = &task.log_driver {
        text("log driver", &driver.name)?;
        labels("log options", &driver.options)?;
    }
    Ok(())
}

fn resources(resources: &ResourceLimits) -> Result<(), Rejection> {
    let memory = resources.limit_memory_bytes;
    if memory != 0 && memory < limits::MEMORY_BYTES_MIN {
        return Err(Rejection::invalid("memory limit", "it must be at least 4 MiB"));
    }
    let cpus = resources.limit_nano_cpus;
    if cpus != 0 && cpus < limits::NANO_CPUS_MIN {
        return Err(Rejection::invalid("cpu limit", "it must be at least 0.001"));
    }
    if memory != 0 && resources.reserved_memory_bytes > memory {
        return Err(Rejection::invalid("memory reservation", "it is over the memory limit"));
    }
    if cpus != 0 && resources.reserved_nano_cpus > cpus {
        return Err(Rejection::invalid("cpu reservation", "it is over the cpu limit"));
    }
    Ok(())
}

fn restart(policy: &RestartPolicy) -> Result<(), Rejection> {
    optional_duration("restart delay", policy.delay)?;
    optional_duration("restart window", policy.window)
}

fn placement(placement: &Placement) -> Result<(), Rejection> {
    list("constraints", placement.constraints.len(), limits::LIST)?;
    list("placement preferences", placement.preferences.len(), limits::LIST)?;
    list("platforms", placement.platforms.len(), limits::LIST)?;
    for constraint in &placement.constraints {
        if !is_constrainable(&constraint.attribute) {
            let reason = format!("there is no attribute {}", constraint.attribute);
            return Err(Rejection::invalid("constraint", reason));
        }
        text("constraint", &constraint.attribute)?;
        text("constraint", &constraint.value)?;
    }
    for preference in &placement.preferences {
        if !is_label(&preference.attribute) {
            let reason = format!(
                "spread is over node.labels.<name> or engine.labels.<name>, not {}",
                preference.attribute
            );
            return Err(Rejection::invalid("placement preference", reason));
        }
        text("placement preference", &preference.attribute)?;
    }
    for platform in &placement.platforms {
        text("platform", &platform.os)?;
        text("platform", &platform.architecture)?;
    }
    Ok(())
}

fn is_constrainable(attribute: &str) -> bool {
    matches!(
        attribute,
        "node.id" | "node.hostname" | "node.role" | "node.platform.os" | "node.platform.arch"
    ) || is_label(attribute)
}

fn is_label(attribute: &str) -> bool {
    ["node.labels.", "engine.labels."]
        .iter()
        .any(|prefix| attribute.strip_prefix(prefix).is_some_and(|name| !name.is_empty()))
}

fn update_config(field: &str, config: &UpdateConfig) -> Result<(), Rejection> {
    duration(&format!("{field} delay"), config.delay)?;
    duration(&format!("{field} monitor"), config.monitor)?;
    if config.max_failure_millionths > 1_000_000 {
        return Err(Rejection::invalid(
            format!("{field} max failure ratio"),
            "it must be between 0 and 1",
        ));
    }
    Ok(())
}

fn endpoint(endpoint: &EndpointSpec) -> Result<(), Rejection> {
    list("ports", endpoint.ports.len(), limits::LIST)?;
    let mut published = BTreeSet::new();
    for port in &endpoint.ports {
        text("port name", &port.name)?;
        if port.target == 0 {
            return Err(Rejection::invalid("target port", "it must be between 1 and 65535"));
        }
        if port.published != 0 && !published.insert((port.published, port.protocol)) {
            let reason = format!("{}/{} is published twice", port.published, port.protocol);
            return Err(Rejection::invalid("published port", reason));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
