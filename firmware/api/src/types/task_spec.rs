//! What each task of a service runs: the container, its limits, where it may go.

use std::collections::BTreeMap;

use bramble_cluster::{
    Constraint, ConstraintOperator, LogDriver as ClusterLogDriver, Placement as ClusterPlacement,
    ResourceLimits, RestartPolicy as ClusterRestartPolicy, SpreadPreference,
    TaskSpec as ClusterTaskSpec,
};
use serde::{Deserialize, Serialize};

use super::{
    InvalidField, amount, container::ContainerSpec, integer, is_default, nanoseconds,
    network::NetworkAttachment, node::Platform, nullable, optional_duration, parse_word, word,
};

/// What each task runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct TaskSpec {
    /// The container.
    #[serde(deserialize_with = "nullable")]
    pub container_spec: ContainerSpec,
    /// What it may use.
    #[serde(deserialize_with = "nullable")]
    pub resources: Resources,
    /// What happens when it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy: Option<RestartPolicy>,
    /// Where it may go.
    #[serde(deserialize_with = "nullable")]
    pub placement: Placement,
    /// Its networks.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub networks: Vec<NetworkAttachment>,
    /// Where its log goes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_driver: Option<LogDriver>,
    /// Raised to roll an equal specification out again.
    pub force_update: u64,
    /// Always `container`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub runtime: String,
}

/// What a task may use at most, and what is kept free for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Resources {
    /// At most.
    #[serde(deserialize_with = "nullable")]
    pub limits: Limits,
    /// Kept free.
    #[serde(deserialize_with = "nullable")]
    pub reservations: Reservations,
}

/// What a task may use at most.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Limits {
    /// Processor time, in billionths of a core.
    #[serde(rename = "NanoCPUs", skip_serializing_if = "is_default")]
    pub nano_cpus: i64,
    /// Memory.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_bytes: i64,
    /// Processes and threads.
    #[serde(skip_serializing_if = "is_default")]
    pub pids: i64,
}

/// What a node must have free.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Reservations {
    /// Processor time, in billionths of a core.
    #[serde(rename = "NanoCPUs", skip_serializing_if = "is_default")]
    pub nano_cpus: i64,
    /// Memory.
    #[serde(skip_serializing_if = "is_default")]
    pub memory_bytes: i64,
}

/// What happens when a task ends; durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// `any`, `on-failure` or `none`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub condition: String,
    /// How long to wait before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<i64>,
    /// How many times; 0 is without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_attempts: Option<u64>,
    /// Endings longer ago than this do not count.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<i64>,
}

/// Where a task may go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Placement {
    /// `node.labels.room==kitchen` each.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub constraints: Vec<String>,
    /// Spread over these.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub preferences: Vec<Preference>,
    /// At most so many on a node.
    #[serde(skip_serializing_if = "is_default")]
    pub max_replicas: u64,
    /// The node must be one of these.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub platforms: Vec<Platform>,
}

/// A preference; spreading is the only kind there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Preference {
    /// Spread over the values of a label.
    #[serde(deserialize_with = "nullable")]
    pub spread: Spread,
}

/// Spread over the values of a label.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Spread {
    /// `node.labels.<name>` or `engine.labels.<name>`.
    pub spread_descriptor: String,
}

/// Where a log goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogDriver {
    /// The driver's name.
    pub name: String,
    /// Its options.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub options: BTreeMap<String, String>,
}

impl TaskSpec {
    /// As Docker writes it.
    pub fn from_cluster(spec: &ClusterTaskSpec) -> Self {
        let attachments = spec.networks.iter();
        Self {
            container_spec: ContainerSpec::from_cluster(&spec.container),
            resources: Resources::from_cluster(&spec.resources),
            restart_policy: Some(RestartPolicy::from_cluster(&spec.restart)),
            placement: Placement::from_cluster(&spec.placement),
            networks: attachments.map(NetworkAttachment::from_cluster).collect(),
            log_driver: spec.log_driver.as_ref().map(|driver| LogDriver {
                name: driver.name.clone(),
                options: driver.options.clone(),
            }),
            force_update: spec.force_update,
            runtime: "container".to_owned(),
        }
    }

    /// As the cluster knows it; what a cut-off node does with it is a label of the service.
    pub fn into_cluster(self, field: &str) -> Result<ClusterTaskSpec, InvalidField> {
        if !matches!(self.runtime.as_str(), "" | "container") {
            let reason = format!("`{}` is not supported: `container` is", self.runtime);
            return Err(InvalidField::new(format!("{field}.Runtime"), reason));
        }
        Ok(ClusterTaskSpec {
            container: self.container_spec.into_cluster(&format!("{field}.ContainerSpec"))?,
            resources: self.resources.into_cluster(&format!("{field}.Resources"))?,
            restart: self
                .restart_policy
                .map(|policy| policy.into_cluster(&format!("{field}.RestartPolicy")))
                .transpose()?
                .unwrap_or_default(),
            placement: self.placement.into_cluster(&format!("{field}.Placement"))?,
            networks: self.networks.into_iter().map(NetworkAttachment::into_cluster).collect(),
            log_driver: self
                .log_driver
                .map(|driver| ClusterLogDriver { name: driver.name, options: driver.options }),
            force_update: self.force_update,
            ..ClusterTaskSpec::default()
        })
    }
}

impl Resources {
    fn from_cluster(resources: &ResourceLimits) -> Self {
        Self {
            limits: Limits {
                nano_cpus: integer(resources.limit_nano_cpus),
                memory_bytes: integer(resources.limit_memory_bytes),
                pids: integer(resources.limit_pids),
            },
            reservations: Reservations {
                nano_cpus: integer(resources.reserved_nano_cpus),
                memory_bytes: integer(resources.reserved_memory_bytes),
            },
        }
    }

    fn into_cluster(self, field: &str) -> Result<ResourceLimits, InvalidField> {
        let Self { limits, reservations } = self;
        let at = |name: &str, value| amount(&format!("{field}.{name}"), value);
        Ok(ResourceLimits {
            limit_nano_cpus: at("Limits.NanoCPUs", limits.nano_cpus)?,
            limit_memory_bytes: at("Limits.MemoryBytes", limits.memory_bytes)?,
            // Docker writes "without limit" as 0 and as -1.
            limit_pids: at("Limits.Pids", limits.pids.max(0))?,
            reserved_nano_cpus: at("Reservations.NanoCPUs", reservations.nano_cpus)?,
            reserved_memory_bytes: at("Reservations.MemoryBytes", reservations.memory_bytes)?,
        })
    }
}

impl RestartPolicy {
    fn from_cluster(policy: &ClusterRestartPolicy) -> Self {
        Self {
            condition: word(policy.condition).to_owned(),
            delay: policy.delay.map(nanoseconds),
            max_attempts: Some(policy.max_attempts),
            window: policy.window.map(nanoseconds),
        }
    }

    fn into_cluster(self, field: &str) -> Result<ClusterRestartPolicy, InvalidField> {
        Ok(ClusterRestartPolicy {
            condition: parse_word(&format!("{field}.Condition"), &self.condition)?,
            delay: optional_duration(&format!("{field}.Delay"), self.delay)?,
            max_attempts: self.max_attempts.unwrap_or(0),
            window: optional_duration(&format!("{field}.Window"), self.window)?,
        })
    }
}

impl Placement {
    fn from_cluster(placement: &ClusterPlacement) -> Self {
        let spread = |preference: &SpreadPreference| Preference {
            spread: Spread { spread_descriptor: preference.attribute.clone() },
        };
        Self {
            constraints: placement.constraints.iter().map(write_constraint).collect(),
            preferences: placement.preferences.iter().map(spread).collect(),
            max_replicas: u64::from(placement.max_replicas_per_node),
            platforms: placement.platforms.iter().map(Platform::from_cluster).collect(),
        }
    }

    fn into_cluster(self, field: &str) -> Result<ClusterPlacement, InvalidField> {
        let constraints = self.constraints.iter().enumerate();
        let preferences = self.preferences.into_iter();
        Ok(ClusterPlacement {
            constraints: constraints
                .map(|(index, text)| {
                    read_constraint(text).ok_or_else(|| {
                        let reason = format!(
                            "`{text}` is not a constraint: write `<attribute>==<value>` or \
                             `<attribute>!=<value>`"
                        );
                        InvalidField::new(format!("{field}.Constraints[{index}]"), reason)
                    })
                })
                .collect::<Result<_, _>>()?,
            preferences: preferences
                .map(|preference| SpreadPreference {
                    attribute: preference.spread.spread_descriptor,
                })
                .collect(),
            platforms: self.platforms.into_iter().map(Platform::into_cluster).collect(),
            max_replicas_per_node: u32::try_from(self.max_replicas).map_err(|_| {
                InvalidField::new(format!("{field}.MaxReplicas"), "no node runs that many")
            })?,
        })
    }
}

/// `node.role==manager`.
pub(crate) fn write_constraint(constraint: &Constraint) -> String {
    let operator = match constraint.operator {
        ConstraintOperator::Equal => "==",
        ConstraintOperator::NotEqual => "!=",
    };
    format!("{}{operator}{}", constraint.attribute, constraint.value)
}

/// Reads `node.role == manager`; blanks around the parts do not count.
pub(crate) fn read_constraint(text: &str) -> Option<Constraint> {
    let equal = text.find("==").map(|at| (at, ConstraintOperator::Equal));
    let unequal = text.find("!=").map(|at| (at, ConstraintOperator::NotEqual));
    let (at, operator) = [equal, unequal].into_iter().flatten().min_by_key(|(at, _)| *at)?;
    let (attribute, value) = (text[..at].trim(), text[at + 2..].trim());
    let is_whole = !attribute.is_empty() && !value.is_empty();
    is_whole.then(|| Constraint {
        attribute: attribute.to_owned(),
        operator,
        value: value.to_owned(),
    })
}
