//! Services.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bramble_cluster::{
    EndpointSpec as ClusterEndpointSpec, OnPartition, PortConfig, Service as ClusterService,
    ServiceMode as ClusterServiceMode, ServiceSpec as ClusterServiceSpec,
    UpdateConfig as ClusterUpdateConfig, limits,
};
use serde::{Deserialize, Serialize};

use super::{
    InvalidField, Version, duration, is_default, nanoseconds, nullable, parse_word, rfc3339,
    task_spec::TaskSpec, word, words::update_state_word,
};

/// The label that says what a node does with a task when it is cut off from the quorum (`keep` or
/// `stop`). A label, because clients of the Docker API pass labels on and drop unknown fields.
pub const ON_PARTITION_LABEL: &str = "bramble.on-partition";

/// The label that `docker stack deploy` puts on every service.
const STACK_LABEL: &str = "com.docker.stack.namespace";

/// A service as `docker service inspect` shows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Service {
    /// Its id.
    #[serde(rename = "ID")]
    pub id: String,
    /// The change it is at.
    pub version: Version,
    /// When it was created.
    pub created_at: String,
    /// When it was last changed.
    pub updated_at: String,
    /// What is wanted now.
    pub spec: ServiceSpec,
    /// What was wanted before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_spec: Option<ServiceSpec>,
    /// How it is reached.
    pub endpoint: Endpoint,
    /// How the last roll-out goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_status: Option<UpdateStatus>,
    /// How many tasks run; only if asked for with `status=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_status: Option<ServiceStatus>,
}

/// What a person wants of a service.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Labels on the service.
    #[serde(deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// What each task runs.
    #[serde(deserialize_with = "nullable")]
    pub task_template: TaskSpec,
    /// How many tasks.
    #[serde(deserialize_with = "nullable")]
    pub mode: ServiceMode,
    /// How a change reaches the tasks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_config: Option<UpdateConfig>,
    /// How a change is taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rollback_config: Option<UpdateConfig>,
    /// Its networks, where old clients write them.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub networks: Vec<super::network::NetworkAttachment>,
    /// How it is reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint_spec: Option<EndpointSpec>,
}

/// How many tasks a service has; at most one field is set.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceMode {
    /// So many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated: Option<Replicated>,
    /// One a node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global: Option<Global>,
    /// So many that run to their end; not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicated_job: Option<serde_json::Value>,
    /// One a node that runs to its end; not supported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub global_job: Option<serde_json::Value>,
}

/// So many tasks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Replicated {
    /// How many; 1 if it is not said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replicas: Option<u64>,
}

/// One task a node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Global {}

/// How a change reaches the tasks; durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateConfig {
    /// How many at a time; 0 is all.
    pub parallelism: u64,
    /// Between two batches.
    #[serde(skip_serializing_if = "is_default")]
    pub delay: i64,
    /// `pause`, `continue` or `rollback`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub failure_action: String,
    /// How long a failure counts. Go clients leave 0 out, so absent may be 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<i64>,
    /// Which part may fail.
    pub max_failure_ratio: f64,
    /// `stop-first` or `start-first`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub order: String,
}

/// How a service is reached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSpec {
    /// `vip` or `dnsrr`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mode: String,
    /// The ports it is reached at from outside.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub ports: Vec<Port>,
}

/// How a service is reached now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Endpoint {
    /// As wanted.
    pub spec: EndpointSpec,
    /// The ports.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub ports: Vec<Port>,
}

/// A published port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Port {
    /// A name for people.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// `tcp`, `udp` or `sctp`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub protocol: String,
    /// In the container.
    #[serde(skip_serializing_if = "is_default")]
    pub target_port: u64,
    /// On the boards.
    #[serde(skip_serializing_if = "is_default")]
    pub published_port: u64,
    /// `ingress` or `host`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub publish_mode: String,
}

/// How a roll-out goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct UpdateStatus {
    /// How far it is.
    pub state: String,
    /// When it began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    /// Why it is where it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// How many tasks run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ServiceStatus {
    /// Running now.
    pub running_tasks: u64,
    /// Wanted.
    pub desired_tasks: u64,
    /// Ended as they should; only jobs have those.
    pub completed_tasks: u64,
}

/// What creating a service answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceCreated {
    /// The new service's id.
    #[serde(rename = "ID")]
    pub id: String,
    /// What the person should know.
    #[serde(rename = "Warnings", skip_serializing_if = "Vec::is_empty", default)]
    pub warnings: Vec<String>,
}

impl Service {
    /// As Docker writes it.
    pub fn from_cluster(service: &ClusterService) -> Self {
        let spec = ServiceSpec::from_cluster(&service.spec);
        let endpoint = spec.endpoint_spec.clone().unwrap_or_default();
        let previous = service.previous_spec.as_deref();
        Self {
            id: service.id.to_string(),
            version: service.version.into(),
            created_at: rfc3339(service.created_at),
            updated_at: rfc3339(service.updated_at),
            spec,
            previous_spec: previous.map(ServiceSpec::from_cluster),
            endpoint: Endpoint { ports: endpoint.ports.clone(), spec: endpoint },
            update_status: service.update_status.as_ref().map(|status| UpdateStatus {
                state: update_state_word(status.state).to_owned(),
                started_at: Some(rfc3339(status.started_at)),
                completed_at: status.completed_at.map(rfc3339),
                message: status.message.clone(),
            }),
            service_status: None,
        }
    }
}

impl ServiceSpec {
    /// As Docker writes it.
    pub fn from_cluster(spec: &ClusterServiceSpec) -> Self {
        let mut labels = spec.labels.clone();
        if spec.task.on_partition == OnPartition::Stop {
            labels.insert(ON_PARTITION_LABEL.to_owned(), "stop".to_owned());
        }
        Self {
            name: spec.name.clone(),
            labels,
            task_template: TaskSpec::from_cluster(&spec.task),
            mode: ServiceMode::from_cluster(spec.mode),
            update_config: Some(UpdateConfig::from_cluster(&spec.update)),
            rollback_config: Some(UpdateConfig::from_cluster(&spec.rollback)),
            networks: Vec::new(),
            endpoint_spec: Some(EndpointSpec::from_cluster(&spec.endpoint)),
        }
    }

    /// As the cluster knows it. `previous` is what an update changes: it decides where the request
    /// cannot say (a monitoring time of zero, see [`UpdateConfig::monitor`]).
    pub fn into_cluster(
        self,
        previous: Option<&ClusterServiceSpec>,
    ) -> Result<ClusterServiceSpec, InvalidField> {
        let mut template = self.task_template;
        if template.networks.is_empty() {
            template.networks = self.networks;
        }
        let mut task = template.into_cluster("TaskTemplate")?;
        task.on_partition = read_on_partition(&self.labels)?;
        let is_of_stack = self.labels.contains_key(STACK_LABEL);
        let update = completed(self.update_config, previous.map(|spec| &spec.update), is_of_stack);
        let rollback =
            completed(self.rollback_config, previous.map(|spec| &spec.rollback), is_of_stack);
        Ok(ClusterServiceSpec {
            name: self.name,
            labels: self.labels,
            mode: self.mode.into_cluster()?,
            task: Arc::new(task),
            update: update.into_cluster("UpdateConfig")?,
            rollback: rollback.into_cluster("RollbackConfig")?,
            endpoint: self.endpoint_spec.unwrap_or_default().into_cluster()?,
        })
    }
}

/// What a request means that leaves (parts of) a roll-out's settings out.
///
/// Docker's Go clients cannot write a monitoring time of zero: they leave it out. `docker service`
/// writes every other setting, and 5 s unless it was told otherwise; so a monitor that alone is
/// missing was asked to be zero. What `docker stack` leaves out was not said, and is Docker's default.
fn completed(
    config: Option<UpdateConfig>,
    previous: Option<&ClusterUpdateConfig>,
    is_of_stack: bool,
) -> UpdateConfig {
    let defaults = ClusterUpdateConfig::default();
    let Some(mut config) = config else { return UpdateConfig::from_cluster(&defaults) };
    let is_alone_missing =
        !is_of_stack && !config.failure_action.is_empty() && !config.order.is_empty();
    let was_zero = previous.is_some_and(|previous| previous.monitor == Duration::ZERO);
    let is_zero = is_alone_missing || was_zero;
    let monitor = if is_zero { Duration::ZERO } else { defaults.monitor };
    config.monitor.get_or_insert_with(|| nanoseconds(monitor));
    config
}

fn read_on_partition(labels: &BTreeMap<String, String>) -> Result<OnPartition, InvalidField> {
    match labels.get(ON_PARTITION_LABEL).map(String::as_str) {
        None | Some("keep") => Ok(OnPartition::Keep),
        Some("stop") => Ok(OnPartition::Stop),
        Some(other) => {
            let reason = format!("`{other}` is none of keep, stop");
            Err(InvalidField::new(format!("Labels.{ON_PARTITION_LABEL}"), reason))
        }
    }
}

impl ServiceMode {
    fn from_cluster(mode: ClusterServiceMode) -> Self {
        match mode {
            ClusterServiceMode::Replicated { replicas } => Self {
                replicated: Some(Replicated { replicas: Some(u64::from(replicas)) }),
                ..Self::default()
            },
            ClusterServiceMode::Global => Self { global: Some(Global {}), ..Self::default() },
        }
    }

    fn into_cluster(self) -> Result<ClusterServiceMode, InvalidField> {
        if self.replicated_job.is_some() || self.global_job.is_some() {
            let reason = "jobs are not supported: `replicated` and `global` services are";
            return Err(InvalidField::new("Mode", reason));
        }
        match (self.replicated, self.global) {
            (Some(_), Some(_)) => {
                Err(InvalidField::new("Mode", "a service is replicated or global, not both"))
            }
            (None, Some(_)) => Ok(ClusterServiceMode::Global),
            (replicated, None) => {
                let asked = replicated.and_then(|mode| mode.replicas).unwrap_or(1);
                let replicas = u32::try_from(asked).ok().filter(|count| *count <= limits::REPLICAS);
                let replicas = replicas.ok_or_else(|| {
                    let reason =
                        format!("{asked} are too many: a service has at most {}", limits::REPLICAS);
                    InvalidField::new("Mode.Replicated.Replicas", reason)
                })?;
                Ok(ClusterServiceMode::Replicated { replicas })
            }
        }
    }
}

impl UpdateConfig {
    /// As Docker writes it.
    pub fn from_cluster(config: &ClusterUpdateConfig) -> Self {
        Self {
            parallelism: u64::from(config.parallelism),
            delay: nanoseconds(config.delay),
            failure_action: word(config.failure_action).to_owned(),
            monitor: Some(nanoseconds(config.monitor)),
            max_failure_ratio: f64::from(config.max_failure_millionths) / 1e6,
            order: word(config.order).to_owned(),
        }
    }

    fn into_cluster(self, field: &str) -> Result<ClusterUpdateConfig, InvalidField> {
        let at = |name: &str| format!("{field}.{name}");
        let monitor = self.monitor.unwrap_or(0);
        Ok(ClusterUpdateConfig {
            parallelism: u32::try_from(self.parallelism)
                .map_err(|_| InvalidField::new(at("Parallelism"), "it is far too large"))?,
            delay: duration(&at("Delay"), self.delay)?,
            failure_action: parse_word(&at("FailureAction"), &self.failure_action)?,
            monitor: duration(&at("Monitor"), monitor)?,
            max_failure_millionths: millionths(self.max_failure_ratio)
                .ok_or_else(|| InvalidField::new(at("MaxFailureRatio"), "it is from 0 to 1"))?,
            order: parse_word(&at("Order"), &self.order)?,
        })
    }
}

/// A ratio from 0 to 1 in millionths.
fn millionths(ratio: f64) -> Option<u32> {
    if !(0.0..=1.0).contains(&ratio) {
        return None;
    }
    // The range was checked above: at most 1,000,000, and not negative.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "range checked")]
    let millionths = (ratio * 1e6).round() as u32;
    Some(millionths)
}

impl EndpointSpec {
    fn from_cluster(endpoint: &ClusterEndpointSpec) -> Self {
        Self {
            mode: word(endpoint.mode).to_owned(),
            ports: endpoint.ports.iter().map(Port::from_cluster).collect(),
        }
    }

    fn into_cluster(self) -> Result<ClusterEndpointSpec, InvalidField> {
        let ports = self.ports.into_iter().enumerate();
        Ok(ClusterEndpointSpec {
            mode: parse_word("EndpointSpec.Mode", &self.mode)?,
            ports: ports
                .map(|(index, port)| port.into_cluster(&format!("EndpointSpec.Ports[{index}]")))
                .collect::<Result<_, _>>()?,
        })
    }
}

impl Port {
    fn from_cluster(port: &PortConfig) -> Self {
        Self {
            name: port.name.clone(),
            protocol: word(port.protocol).to_owned(),
            target_port: u64::from(port.target),
            published_port: u64::from(port.published),
            publish_mode: word(port.mode).to_owned(),
        }
    }

    fn into_cluster(self, field: &str) -> Result<PortConfig, InvalidField> {
        let number = |name: &str, value: u64, is_needed: bool| {
            let port = u16::try_from(value).ok().filter(|port| !is_needed || *port != 0);
            port.ok_or_else(|| {
                let reason = format!("{value} is out of range: ports go from 1 to 65535");
                InvalidField::new(format!("{field}.{name}"), reason)
            })
        };
        Ok(PortConfig {
            target: number("TargetPort", self.target_port, true)?,
            published: number("PublishedPort", self.published_port, false)?,
            protocol: parse_word(&format!("{field}.Protocol"), &self.protocol)?,
            mode: parse_word(&format!("{field}.PublishMode"), &self.publish_mode)?,
            name: self.name,
        })
    }
}
