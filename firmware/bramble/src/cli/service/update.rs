//! `bramble service update`

use std::collections::BTreeMap;

use anyhow::Result;
use bramble_api::types::{
    container::ContainerSpec,
    service::{Port, ServiceSpec},
    task_spec::Placement,
};
use clap::Args;

use super::{convergence, create::each, fetch, options::Options, submit};
use crate::cli::{
    client::{Client, Query},
    output::print,
    values::{
        environment, host, labels, mount::mount, network, port::ports, preference, ulimit, words,
    },
};

/// Change a service.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Name or id
    service: String,
    /// The image that its tasks run
    #[arg(long)]
    image: Option<String>,
    /// Replaces the image's command
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    args: Option<String>,
    /// Start every task anew, even if nothing changed
    #[arg(long)]
    force: bool,
    /// Go back to what it was before its last change
    #[arg(long)]
    rollback: bool,
    #[command(flatten, next_help_heading = "Add")]
    added: Added,
    #[command(flatten, next_help_heading = "Remove")]
    removed: Removed,
    #[command(flatten)]
    options: Options,
    /// Do not wait for the tasks
    #[arg(short, long)]
    detach: bool,
    /// Do not show the progress
    #[arg(short, long)]
    quiet: bool,
}

/// What is added; what has the same key is replaced.
#[derive(Debug, Clone, Default, Args)]
struct Added {
    /// Add or change a label of the service
    #[arg(id = "label-add", long = "label-add", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Add or change a label of its containers
    #[arg(id = "container-label-add", long = "container-label-add", value_name = "KEY=VALUE")]
    container_labels: Vec<String>,
    /// Add or change an environment variable
    #[arg(id = "env-add", long = "env-add", value_name = "NAME=VALUE")]
    environment: Vec<String>,
    /// Add a group
    #[arg(id = "group-add", long = "group-add", value_name = "GROUP")]
    groups: Vec<String>,
    /// Add or change a mount (see `service create`)
    #[arg(id = "mount-add", long = "mount-add", value_name = "MOUNT")]
    mounts: Vec<String>,
    /// Publish a port, or publish it elsewhere
    #[arg(id = "publish-add", long = "publish-add", value_name = "PORT")]
    ports: Vec<String>,
    /// Attach to a network
    #[arg(id = "network-add", long = "network-add", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Add a constraint
    #[arg(id = "constraint-add", long = "constraint-add", value_name = "CONSTRAINT")]
    constraints: Vec<String>,
    /// Add a spread preference
    #[arg(id = "placement-pref-add", long = "placement-pref-add", value_name = "PREFERENCE")]
    preferences: Vec<String>,
    /// Add a line for /etc/hosts
    #[arg(id = "host-add", long = "host-add", value_name = "NAME:ADDRESS")]
    hosts: Vec<String>,
    /// Add a name server
    #[arg(id = "dns-add", long = "dns-add", value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Add a resolver option
    #[arg(id = "dns-option-add", long = "dns-option-add", value_name = "OPTION")]
    dns_options: Vec<String>,
    /// Add a search domain
    #[arg(id = "dns-search-add", long = "dns-search-add", value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Add or change a kernel parameter
    #[arg(id = "sysctl-add", long = "sysctl-add", value_name = "KEY=VALUE")]
    sysctls: Vec<String>,
    /// Add or change a resource limit
    #[arg(id = "ulimit-add", long = "ulimit-add", value_name = "LIMIT")]
    ulimits: Vec<String>,
    /// Add a capability
    #[arg(id = "cap-add", long = "cap-add", value_name = "CAPABILITY")]
    capabilities_added: Vec<String>,
    /// Take a capability away
    #[arg(id = "cap-drop", long = "cap-drop", value_name = "CAPABILITY")]
    capabilities_dropped: Vec<String>,
}

/// What is removed, by its key.
#[derive(Debug, Clone, Default, Args)]
struct Removed {
    /// Remove a label of the service
    #[arg(id = "label-rm", long = "label-rm", value_name = "KEY")]
    labels: Vec<String>,
    /// Remove a label of its containers
    #[arg(id = "container-label-rm", long = "container-label-rm", value_name = "KEY")]
    container_labels: Vec<String>,
    /// Remove an environment variable
    #[arg(id = "env-rm", long = "env-rm", value_name = "NAME")]
    environment: Vec<String>,
    /// Remove a group
    #[arg(id = "group-rm", long = "group-rm", value_name = "GROUP")]
    groups: Vec<String>,
    /// Remove a mount, by where it is in the container
    #[arg(id = "mount-rm", long = "mount-rm", value_name = "TARGET")]
    mounts: Vec<String>,
    /// Stop publishing a port, by the one in the container
    #[arg(id = "publish-rm", long = "publish-rm", value_name = "TARGET")]
    ports: Vec<String>,
    /// Detach from a network
    #[arg(id = "network-rm", long = "network-rm", value_name = "NETWORK")]
    networks: Vec<String>,
    /// Remove a constraint
    #[arg(id = "constraint-rm", long = "constraint-rm", value_name = "CONSTRAINT")]
    constraints: Vec<String>,
    /// Remove a spread preference
    #[arg(id = "placement-pref-rm", long = "placement-pref-rm", value_name = "PREFERENCE")]
    preferences: Vec<String>,
    /// Remove a line for /etc/hosts
    #[arg(id = "host-rm", long = "host-rm", value_name = "NAME:ADDRESS")]
    hosts: Vec<String>,
    /// Remove a name server
    #[arg(id = "dns-rm", long = "dns-rm", value_name = "ADDRESS")]
    dns: Vec<String>,
    /// Remove a resolver option
    #[arg(id = "dns-option-rm", long = "dns-option-rm", value_name = "OPTION")]
    dns_options: Vec<String>,
    /// Remove a search domain
    #[arg(id = "dns-search-rm", long = "dns-search-rm", value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// Remove a kernel parameter
    #[arg(id = "sysctl-rm", long = "sysctl-rm", value_name = "KEY")]
    sysctls: Vec<String>,
    /// Remove a resource limit
    #[arg(id = "ulimit-rm", long = "ulimit-rm", value_name = "NAME")]
    ulimits: Vec<String>,
}

impl Update {
    pub(super) async fn run(self, client: &Client) -> Result<()> {
        let mut service = fetch(client, &self.service).await?;
        let query = if self.rollback {
            Query::new().with("rollback", "previous")
        } else {
            self.apply(&mut service.spec)?;
            Query::new()
        };
        submit(client, &service, query).await?;
        print(&format!("{}\n", self.service))?;
        convergence::wait(client, &service.id, self.detach, self.quiet).await
    }

    fn apply(&self, spec: &mut ServiceSpec) -> Result<()> {
        let task = &mut spec.task_template;
        if let Some(image) = &self.image {
            task.container_spec.image.clone_from(image);
        }
        if let Some(args) = &self.args {
            task.container_spec.args = words(args)?;
        }
        if self.force {
            task.force_update += 1;
        }
        self.removed.apply(spec)?;
        self.added.apply(spec)?;
        self.options.apply(spec)
    }
}

impl Removed {
    fn apply(&self, spec: &mut ServiceSpec) -> Result<()> {
        remove_keys(&mut spec.labels, &self.labels);
        let mut endpoint = spec.endpoint_spec.take().unwrap_or_default();
        for text in &self.ports {
            let gone = ports(text)?;
            endpoint.ports.retain(|port| !gone.iter().any(|gone| is_same_port(gone, port)));
        }
        spec.endpoint_spec = Some(endpoint);
        let task = &mut spec.task_template;
        for text in &self.networks {
            let gone = bramble_api::types::network::find(text);
            task.networks.retain(|network| {
                network.target != *text && gone.is_none_or(|gone| gone.id != network.target)
            });
        }
        remove_placement(&mut task.placement, &self.constraints, &self.preferences)?;
        self.apply_container(&mut task.container_spec)
    }

    fn apply_container(&self, container: &mut ContainerSpec) -> Result<()> {
        remove_keys(&mut container.labels, &self.container_labels);
        remove_keys(&mut container.sysctls, &self.sysctls);
        let name = |variable: &str| variable.split('=').next().unwrap_or_default().to_owned();
        container.env.retain(|variable| !self.environment.contains(&name(variable)));
        container.groups.retain(|group| !self.groups.contains(group));
        container.mounts.retain(|mount| !self.mounts.contains(&mount.target));
        let hosts = each(&self.hosts, host)?;
        container.hosts.retain(|line| !hosts.contains(line));
        container.dns.nameservers.retain(|server| !self.dns.contains(server));
        container.dns.options.retain(|option| !self.dns_options.contains(option));
        container.dns.search.retain(|domain| !self.dns_search.contains(domain));
        container.ulimits.retain(|limit| !self.ulimits.contains(&limit.name));
        Ok(())
    }
}

fn remove_keys(map: &mut BTreeMap<String, String>, keys: &[String]) {
    map.retain(|key, _| !keys.contains(key));
}

fn remove_placement(
    placement: &mut Placement,
    constraints: &[String],
    preferences: &[String],
) -> Result<()> {
    let packed = |text: &str| text.replace(' ', "");
    let gone: Vec<String> = constraints.iter().map(|text| packed(text)).collect();
    placement.constraints.retain(|constraint| !gone.contains(&packed(constraint)));
    let gone = each(preferences, preference)?;
    placement.preferences.retain(|preference| !gone.contains(preference));
    Ok(())
}

/// `--publish-rm` gives the port in the container, and may give the other one as well.
fn is_same_port(gone: &Port, port: &Port) -> bool {
    gone.target_port == port.target_port
        && gone.protocol == port.protocol
        && (gone.published_port == 0 || gone.published_port == port.published_port)
}

impl Added {
    fn apply(&self, spec: &mut ServiceSpec) -> Result<()> {
        spec.labels.extend(labels(&self.labels));
        let endpoint = spec.endpoint_spec.get_or_insert_default();
        for text in &self.ports {
            for port in ports(text)? {
                endpoint.ports.retain(|old| !is_same_port(&port, old));
                endpoint.ports.push(port);
            }
        }
        let task = &mut spec.task_template;
        for attachment in each(&self.networks, network)? {
            task.networks.retain(|old| old.target != attachment.target);
            task.networks.push(attachment);
        }
        add_new(&mut task.placement.constraints, self.constraints.clone());
        add_new(&mut task.placement.preferences, each(&self.preferences, preference)?);
        self.apply_container(&mut task.container_spec)
    }

    fn apply_container(&self, container: &mut ContainerSpec) -> Result<()> {
        container.labels.extend(labels(&self.container_labels));
        container.sysctls.extend(labels(&self.sysctls));
        for variable in environment(&self.environment) {
            let name = variable.split('=').next().unwrap_or_default().to_owned() + "=";
            container.env.retain(|old| !old.starts_with(&name));
            container.env.push(variable);
        }
        for mount in each(&self.mounts, mount)? {
            container.mounts.retain(|old| old.target != mount.target);
            container.mounts.push(mount);
        }
        for limit in each(&self.ulimits, ulimit)? {
            container.ulimits.retain(|old| old.name != limit.name);
            container.ulimits.push(limit);
        }
        add_new(&mut container.groups, self.groups.clone());
        add_new(&mut container.hosts, each(&self.hosts, host)?);
        add_new(&mut container.dns.nameservers, self.dns.clone());
        add_new(&mut container.dns.options, self.dns_options.clone());
        add_new(&mut container.dns.search, self.dns_search.clone());
        let bare = |name: &String| name.to_ascii_uppercase().trim_start_matches("CAP_").to_owned();
        for name in &self.capabilities_added {
            container.capability_drop.retain(|old| bare(old) != bare(name));
        }
        for name in &self.capabilities_dropped {
            container.capability_add.retain(|old| bare(old) != bare(name));
        }
        add_new(&mut container.capability_add, self.capabilities_added.clone());
        add_new(&mut container.capability_drop, self.capabilities_dropped.clone());
        Ok(())
    }
}

/// Appends what is not there yet.
fn add_new<T: PartialEq>(list: &mut Vec<T>, items: Vec<T>) {
    for item in items {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        update: Update,
    }

    fn updated(spec: &ServiceSpec, line: &[&str]) -> Result<ServiceSpec> {
        let words = ["update", "web"].into_iter().chain(line.iter().copied());
        let mut spec = spec.clone();
        Line::try_parse_from(words)?.update.apply(&mut spec)?;
        Ok(spec)
    }

    /// What is added, and how it is removed again.
    const PAIRS: [(&str, &str, &str, &str); 15] = [
        ("--label-add", "a=1", "--label-rm", "a"),
        ("--container-label-add", "b=2", "--container-label-rm", "b"),
        ("--env-add", "C=3", "--env-rm", "C"),
        ("--group-add", "g", "--group-rm", "g"),
        ("--mount-add", "type=tmpfs,target=/t", "--mount-rm", "/t"),
        ("--publish-add", "8080:80", "--publish-rm", "80"),
        ("--network-add", "host", "--network-rm", "host"),
        ("--constraint-add", "node.role == worker", "--constraint-rm", "node.role==worker"),
        (
            "--placement-pref-add",
            "spread=engine.labels.z",
            "--placement-pref-rm",
            "spread=engine.labels.z",
        ),
        ("--host-add", "db:10.0.0.2", "--host-rm", "db:10.0.0.2"),
        ("--dns-add", "1.1.1.1", "--dns-rm", "1.1.1.1"),
        ("--dns-option-add", "ndots:1", "--dns-option-rm", "ndots:1"),
        ("--dns-search-add", "lan", "--dns-search-rm", "lan"),
        ("--sysctl-add", "net.a=1", "--sysctl-rm", "net.a"),
        ("--ulimit-add", "nofile=1:2", "--ulimit-rm", "nofile"),
    ];

    #[test]
    fn what_is_added_can_be_removed_again() -> Result<()> {
        let mut spec = ServiceSpec { name: "web".to_owned(), ..ServiceSpec::default() };
        spec.task_template.container_spec.image = "whoami".to_owned();
        let before = updated(&spec, &[])?;
        for (add, what, remove, key) in PAIRS {
            let with = updated(&before, &[add, what])?;
            assert_ne!(with, before, "{add} changes something");
            assert_eq!(updated(&with, &[add, what])?, with, "{add} twice is once");
            assert_eq!(updated(&with, &[remove, key])?, before, "{remove} takes it back");
        }
        Ok(())
    }

    #[test]
    fn what_has_the_same_key_is_replaced() -> Result<()> {
        let mut spec = ServiceSpec::default();
        spec.task_template.container_spec.env = vec!["A=1".to_owned(), "AB=2".to_owned()];
        let spec = updated(&spec, &["--env-add", "A=3", "--cap-drop", "ALL"])?;
        assert_eq!(spec.task_template.container_spec.env, ["AB=2", "A=3"]);
        let spec = updated(&spec, &["--cap-add", "cap_all", "--force", "--args", "a 'b c'"])?;
        let container = &spec.task_template.container_spec;
        assert_eq!(container.capability_drop, [""; 0]);
        assert_eq!(container.args, ["a", "b c"]);
        assert_eq!(spec.task_template.force_update, 1);
        Ok(())
    }
}
