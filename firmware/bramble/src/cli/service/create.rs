//! `bramble service create`

use std::path::PathBuf;

use anyhow::Result;
use bramble_api::types::{
    container::DnsConfig,
    service::{EndpointSpec, Global, Replicated, ServiceMode, ServiceSpec},
    task_spec::TaskSpec,
};
use clap::{Args, ValueEnum};

use super::{convergence, options::Options, submit_new};
use crate::cli::{
    client::Client,
    output::print,
    values::{
        environment, environment_file, host, labels, mount::mount, network, port::ports,
        preference, ulimit,
    },
};

/// Create a service.
#[derive(Debug, Args)]
pub(crate) struct Create {
    /// The image that its tasks run
    image: String,
    /// Replaces the image's command
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
    /// Its name (one is made up)
    #[arg(long)]
    name: Option<String>,
    /// How many tasks, and where
    #[arg(long, value_enum, default_value_t = Mode::Replicated)]
    mode: Mode,
    /// Label of the service
    #[arg(short, long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    #[command(flatten)]
    lists: Lists,
    #[command(flatten)]
    options: Options,
    /// Do not wait for the tasks
    #[arg(short, long)]
    detach: bool,
    /// Do not show the progress
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    /// So many tasks, wherever they fit
    Replicated,
    /// One task on every board
    Global,
}

/// What can be said several times.
#[derive(Debug, Default, Args)]
struct Lists {
    /// Label of its containers
    #[arg(long = "container-label", value_name = "KEY=VALUE")]
    container_labels: Vec<String>,
    /// Environment variable
    #[arg(short, long = "env", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Read environment variables from a file
    #[arg(long = "env-file", value_name = "FILE")]
    environment_files: Vec<PathBuf>,
    /// Further group in the container
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Mount: type=volume|bind|tmpfs,source=…,target=…,readonly
    #[arg(long = "mount", value_name = "MOUNT")]
    mounts: Vec<String>,
    /// Publish a port: published:target[/protocol], or published=…,target=…,mode=host
    #[arg(short, long = "publish", value_name = "PORT")]
    ports: Vec<String>,
    /// Attach to a network; `host` is the board's own
    #[arg(long = "network", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Where its tasks may go: node.labels.room==kitchen
    #[arg(long = "constraint", value_name = "CONSTRAINT")]
    constraints: Vec<String>,
    /// Spread its tasks: spread=node.labels.room
    #[arg(long = "placement-pref", value_name = "PREFERENCE")]
    preferences: Vec<String>,
    /// Line for /etc/hosts: name:address
    #[arg(long = "host-add", alias = "add-host", value_name = "NAME:ADDRESS")]
    hosts: Vec<String>,
    /// Name server
    #[arg(long = "dns", value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Resolver option
    #[arg(long = "dns-option", value_name = "OPTION")]
    dns_options: Vec<String>,
    /// Search domain
    #[arg(long = "dns-search", value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Kernel parameter
    #[arg(long = "sysctl", value_name = "KEY=VALUE")]
    sysctls: Vec<String>,
    /// Resource limit of its processes: nofile=soft:hard
    #[arg(long = "ulimit", value_name = "LIMIT")]
    ulimits: Vec<String>,
    /// Add a capability
    #[arg(long = "cap-add", value_name = "CAPABILITY")]
    capabilities_added: Vec<String>,
    /// Take a capability away
    #[arg(long = "cap-drop", value_name = "CAPABILITY")]
    capabilities_dropped: Vec<String>,
}

impl Create {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        let (is_detached, is_quiet) = (self.detach, self.quiet);
        let id = submit_new(client, &self.into_spec()?).await?;
        print(&format!("{id}\n"))?;
        convergence::wait(client, &id, is_detached, is_quiet).await
    }

    fn into_spec(self) -> Result<ServiceSpec> {
        let mode = match self.mode {
            Mode::Replicated => {
                ServiceMode { replicated: Some(Replicated::default()), ..ServiceMode::default() }
            }
            Mode::Global => ServiceMode { global: Some(Global {}), ..ServiceMode::default() },
        };
        let mut spec = ServiceSpec {
            name: self.name.unwrap_or_default(),
            labels: labels(&self.labels),
            mode,
            ..ServiceSpec::default()
        };
        spec.task_template.container_spec.image = self.image;
        spec.task_template.container_spec.args = self.args;
        let mut published = Vec::new();
        for text in &self.lists.ports {
            published.extend(ports(text)?);
        }
        spec.endpoint_spec = Some(EndpointSpec { ports: published, ..EndpointSpec::default() });
        self.lists.apply(&mut spec.task_template)?;
        self.options.apply(&mut spec)?;
        Ok(spec)
    }
}

impl Lists {
    fn apply(self, task: &mut TaskSpec) -> Result<()> {
        let container = &mut task.container_spec;
        container.labels = labels(&self.container_labels);
        for file in &self.environment_files {
            container.env.extend(environment_file(file)?);
        }
        container.env.extend(environment(&self.environment));
        container.groups = self.groups;
        container.mounts = each(&self.mounts, mount)?;
        container.hosts = each(&self.hosts, host)?;
        container.dns =
            DnsConfig { nameservers: self.dns, search: self.dns_search, options: self.dns_options };
        container.sysctls = labels(&self.sysctls);
        container.ulimits = each(&self.ulimits, ulimit)?;
        container.capability_add = self.capabilities_added;
        container.capability_drop = self.capabilities_dropped;
        task.networks = each(&self.networks, network)?;
        task.placement.constraints = self.constraints;
        task.placement.preferences = each(&self.preferences, preference)?;
        Ok(())
    }
}

/// Reads every text, or says which is wrong.
pub(super) fn each<T>(texts: &[String], read: impl Fn(&str) -> Result<T>) -> Result<Vec<T>> {
    texts.iter().map(|text| read(text)).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn spec(line: &[&str]) -> Result<ServiceSpec> {
        let words = std::iter::once("create").chain(line.iter().copied());
        Line::try_parse_from(words)?.create.into_spec()
    }

    /// The flags that Docker's documentation shows, and the request that its client makes of them.
    #[test]
    fn flags_become_dockers_request() -> Result<()> {
        let spec = spec(&[
            "--name",
            "web",
            "--replicas",
            "3",
            "--limit-cpu",
            "0.5",
            "--limit-memory",
            "64m",
            "-p",
            "8080:80",
            "-e",
            "A=b",
            "--mount",
            "type=volume,source=v,target=/x,readonly",
            "--constraint",
            "node.role==manager",
            "--placement-pref",
            "spread=node.labels.z",
            "--health-cmd",
            "true",
            "--health-interval",
            "3s",
            "--update-parallelism",
            "2",
            "--update-monitor",
            "0s",
            "--restart-delay",
            "0",
            "--cap-add",
            "NET_ADMIN",
            "--entrypoint",
            "a 'b c'",
            "--network",
            "host",
            "--tty",
            "--read-only=false",
            "--ulimit",
            "nofile=10:20",
            "--stop-grace-period",
            "3s",
            "-l",
            "a=1",
            "whoami",
            "--flag",
            "x",
        ])?;
        let json = serde_json::to_value(&spec)?;
        let at = |pointer: &str| json.pointer(pointer).cloned().unwrap_or_default();
        assert_eq!(at("/Name"), "web");
        assert_eq!(at("/Labels/a"), "1");
        assert_eq!(at("/Mode/Replicated/Replicas"), 3);
        assert_eq!(at("/TaskTemplate/ContainerSpec/Image"), "whoami");
        assert_eq!(at("/TaskTemplate/ContainerSpec/Args"), serde_json::json!(["--flag", "x"]));
        assert_eq!(at("/TaskTemplate/ContainerSpec/Command"), serde_json::json!(["a", "b c"]));
        assert_eq!(at("/TaskTemplate/ContainerSpec/TTY"), true);
        assert_eq!(at("/TaskTemplate/ContainerSpec/Healthcheck/Interval"), 3_000_000_000_i64);
        assert_eq!(at("/TaskTemplate/ContainerSpec/StopGracePeriod"), 3_000_000_000_i64);
        assert_eq!(at("/TaskTemplate/Resources/Limits/NanoCPUs"), 500_000_000);
        assert_eq!(at("/TaskTemplate/Resources/Limits/MemoryBytes"), 67_108_864);
        assert_eq!(at("/TaskTemplate/RestartPolicy/Delay"), 0);
        assert_eq!(at("/TaskTemplate/Networks/0/Target"), "host");
        assert_eq!(at("/UpdateConfig/Parallelism"), 2);
        assert_eq!(at("/UpdateConfig/Monitor"), 0);
        assert_eq!(at("/EndpointSpec/Ports/0/PublishedPort"), 8080);
        spec.into_cluster(None)?;
        Ok(())
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(spec(&["--mode", "global", "--replicas", "2", "whoami"]).is_err());
        assert!(spec(&["--no-healthcheck", "--health-cmd", "true", "whoami"]).is_err());
        assert!(spec(&["--log-opt", "a=b", "whoami"]).is_err());
        assert!(spec(&["-p", "0:80", "whoami"]).is_err());
    }
}
