//! What a task's container is made from.

use std::collections::BTreeMap;

use bramble_cluster::{
    ContainerSpec as ClusterContainer, Healthcheck as ClusterHealthcheck, ImageName,
    ImageReference, ParseImageNameError, Ulimit as ClusterUlimit,
};
use serde::{Deserialize, Serialize};

use super::{InvalidField, is_default, mount::Mount, nanoseconds, nullable, optional_duration};

/// A container as a service's specification describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ContainerSpec {
    /// `name[:tag][@digest]`.
    pub image: String,
    /// Labels on the container.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub labels: BTreeMap<String, String>,
    /// Replaces the image's entrypoint.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub command: Vec<String>,
    /// Replaces the image's command.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub args: Vec<String>,
    /// The host name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// `NAME=value` each.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub env: Vec<String>,
    /// The working directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub dir: String,
    /// `user[:group]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Further groups.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub groups: Vec<String>,
    /// Whether a tiny init runs first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// The signal that asks it to stop.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Whether it has a terminal.
    #[serde(rename = "TTY", skip_serializing_if = "is_default")]
    pub tty: bool,
    /// Whether its standard input stays open.
    #[serde(skip_serializing_if = "is_default")]
    pub open_stdin: bool,
    /// Whether its root file system is read-only.
    #[serde(skip_serializing_if = "is_default")]
    pub read_only: bool,
    /// What is mounted into it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub mounts: Vec<Mount>,
    /// How long it has to stop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_grace_period: Option<i64>,
    /// How to tell that it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<Healthcheck>,
    /// Lines for `/etc/hosts`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub hosts: Vec<String>,
    /// How it resolves names.
    #[serde(rename = "DNSConfig", deserialize_with = "nullable")]
    pub dns: DnsConfig,
    /// Always `default`: what Docker calls isolation only Windows has.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub isolation: String,
    /// Kernel parameters.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "nullable")]
    pub sysctls: BTreeMap<String, String>,
    /// Capabilities on top of the default set.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub capability_add: Vec<String>,
    /// Capabilities taken from it.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub capability_drop: Vec<String>,
    /// Resource limits of its processes.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub ulimits: Vec<Ulimit>,
    /// How willing the kernel is to kill it for memory.
    #[serde(skip_serializing_if = "is_default")]
    pub oom_score_adj: i64,
}

/// How a container resolves names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DnsConfig {
    /// Name servers.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub nameservers: Vec<String>,
    /// Search domains.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub options: Vec<String>,
}

/// How to tell that a container works; durations in nanoseconds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", line]`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "nullable")]
    pub test: Vec<String>,
    /// Between two tests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<i64>,
    /// For one test.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<i64>,
    /// Failures do not count for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_period: Option<i64>,
    /// Between two tests meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_interval: Option<i64>,
    /// How many failures mean it does not work.
    #[serde(skip_serializing_if = "is_default")]
    pub retries: u32,
}

/// A resource limit of processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// `nofile`.
    pub name: String,
    /// What a process may raise it to.
    pub hard: i64,
    /// What a process has.
    pub soft: i64,
}

impl ContainerSpec {
    /// As Docker writes it.
    pub fn from_cluster(spec: &ClusterContainer) -> Self {
        Self {
            image: write_image(&spec.image),
            labels: spec.labels.clone(),
            command: spec.entrypoint.clone(),
            args: spec.arguments.clone(),
            hostname: spec.hostname.clone(),
            env: spec.environment.clone(),
            dir: spec.directory.clone(),
            user: spec.user.clone(),
            groups: spec.groups.clone(),
            init: spec.has_init,
            stop_signal: spec.stop_signal.clone(),
            tty: spec.has_terminal,
            open_stdin: spec.has_open_stdin,
            read_only: spec.is_read_only,
            mounts: spec.mounts.iter().map(Mount::from_cluster).collect(),
            stop_grace_period: spec.stop_grace_period.map(nanoseconds),
            healthcheck: spec.healthcheck.as_ref().map(Healthcheck::from_cluster),
            hosts: spec.hosts.clone(),
            dns: DnsConfig {
                nameservers: spec.dns_servers.clone(),
                search: spec.dns_search.clone(),
                options: spec.dns_options.clone(),
            },
            isolation: "default".to_owned(),
            sysctls: spec.sysctls.clone(),
            capability_add: spec.capabilities_added.clone(),
            capability_drop: spec.capabilities_dropped.clone(),
            ulimits: spec.ulimits.iter().map(Ulimit::from_cluster).collect(),
            oom_score_adj: i64::from(spec.oom_score_adjustment),
        }
    }

    /// As the cluster knows it; `field` is where it stands in the request.
    pub fn into_cluster(self, field: &str) -> Result<ClusterContainer, InvalidField> {
        let at = |name: &str| format!("{field}.{name}");
        let image =
            read_image(&self.image).map_err(|error| InvalidField::new(at("Image"), error))?;
        if !matches!(self.isolation.as_str(), "" | "default") {
            return Err(InvalidField::new(at("Isolation"), "only `default` exists on Linux"));
        }
        let mounts = self.mounts.into_iter().enumerate();
        let oom_score = i32::try_from(self.oom_score_adj).ok();
        Ok(ClusterContainer {
            image,
            labels: self.labels,
            entrypoint: self.command,
            arguments: self.args,
            hostname: self.hostname,
            environment: self.env,
            directory: self.dir,
            user: self.user,
            groups: self.groups,
            has_terminal: self.tty,
            has_open_stdin: self.open_stdin,
            is_read_only: self.read_only,
            mounts: mounts
                .map(|(index, mount)| mount.into_cluster(&format!("{field}.Mounts[{index}]")))
                .collect::<Result<_, _>>()?,
            stop_signal: self.stop_signal,
            stop_grace_period: optional_duration(&at("StopGracePeriod"), self.stop_grace_period)?,
            healthcheck: self
                .healthcheck
                .map(|check| check.into_cluster(&at("Healthcheck")))
                .transpose()?,
            hosts: self.hosts,
            dns_servers: self.dns.nameservers,
            dns_search: self.dns.search,
            dns_options: self.dns.options,
            has_init: self.init,
            sysctls: self.sysctls,
            capabilities_added: self.capability_add.iter().map(|name| capability(name)).collect(),
            capabilities_dropped: self
                .capability_drop
                .iter()
                .map(|name| capability(name))
                .collect(),
            ulimits: self.ulimits.into_iter().map(Ulimit::into_cluster).collect(),
            oom_score_adjustment: oom_score
                .filter(|score| (-1_000..=1_000).contains(score))
                .ok_or_else(|| InvalidField::new(at("OomScoreAdj"), "it is from -1000 to 1000"))?,
        })
    }
}

impl Healthcheck {
    fn from_cluster(check: &ClusterHealthcheck) -> Self {
        Self {
            test: check.test.clone(),
            interval: check.interval.map(nanoseconds),
            timeout: check.timeout.map(nanoseconds),
            start_period: check.start_period.map(nanoseconds),
            start_interval: check.start_interval.map(nanoseconds),
            retries: check.retries,
        }
    }

    fn into_cluster(self, field: &str) -> Result<ClusterHealthcheck, InvalidField> {
        let at = |name: &str| format!("{field}.{name}");
        Ok(ClusterHealthcheck {
            test: self.test,
            interval: optional_duration(&at("Interval"), self.interval)?,
            timeout: optional_duration(&at("Timeout"), self.timeout)?,
            retries: self.retries,
            start_period: optional_duration(&at("StartPeriod"), self.start_period)?,
            start_interval: optional_duration(&at("StartInterval"), self.start_interval)?,
        })
    }
}

impl Ulimit {
    fn from_cluster(limit: &ClusterUlimit) -> Self {
        Self { name: limit.name.clone(), hard: limit.hard, soft: limit.soft }
    }

    fn into_cluster(self) -> ClusterUlimit {
        ClusterUlimit { name: self.name.to_ascii_lowercase(), soft: self.soft, hard: self.hard }
    }
}

/// `net_admin` and `CAP_NET_ADMIN` are the same capability; `ALL` is all of them.
fn capability(name: &str) -> String {
    let name = name.to_ascii_uppercase();
    if name == "ALL" || name.starts_with("CAP_") { name } else { format!("CAP_{name}") }
}

/// `name:tag@digest`, the digest once it is known.
pub fn write_image(image: &ImageReference) -> String {
    match image.digest {
        Some(digest) => format!("{}@{digest}", image.name),
        None => image.name.clone(),
    }
}

/// Reads `name[:tag][@digest]`, and makes the name complete in the short form that people know.
///
/// # Errors
/// The text does not name an image.
pub fn read_image(text: &str) -> Result<ImageReference, ParseImageNameError> {
    let name: ImageName = text.parse()?;
    Ok(ImageReference { name: name.familiar(), digest: name.digest() })
}
