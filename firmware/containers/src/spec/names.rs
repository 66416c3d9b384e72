//! What a container is called, and whom it knows: hostname, hosts, resolv.conf.

use std::fmt::Write;

use bramble_cluster::{ContainerSpec, TaskId};

use super::{SpecError, template::Facts};

/// Bytes in a host name (the kernel's limit).
const HOSTNAME_BYTES: usize = 64;

/// The files that Bramble writes for a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostFiles {
    /// `/etc/hosts`
    pub(crate) hosts: String,
    /// `/etc/hostname`
    pub(crate) hostname: String,
    /// `/etc/resolv.conf`; `None` takes the board's.
    pub(crate) resolv_conf: Option<String>,
}

/// The host name: the one asked for, or the first 12 characters of the task's id.
pub(super) fn hostname(
    spec: &ContainerSpec,
    id: TaskId,
    facts: &Facts,
) -> Result<String, SpecError> {
    if spec.hostname.is_empty() {
        return Ok(id.to_string().chars().take(12).collect());
    }
    let hostname = facts.fill("hostname", &spec.hostname)?;
    let is_good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.';
    if hostname.len() > HOSTNAME_BYTES || !hostname.bytes().all(is_good) {
        return Err(SpecError::new("hostname", format!("`{hostname}` is no host name")));
    }
    Ok(hostname)
}

pub(super) fn files(spec: &ContainerSpec, hostname: &str) -> Result<HostFiles, SpecError> {
    let mut hosts = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\n\
         ff02::2\tip6-allrouters\n",
    );
    for line in &spec.hosts {
        let mut words = line.split_whitespace();
        let address = words.next().and_then(|word| word.parse::<std::net::IpAddr>().ok());
        let names: Vec<&str> = words.collect();
        match address {
            Some(address) if !names.is_empty() => {
                let _ = writeln!(hosts, "{address}\t{}", names.join(" "));
            }
            _ => {
                let reason = format!("`{line}` is no line of hosts: `10.0.0.1 name` is");
                return Err(SpecError::new("hosts", reason));
            }
        }
    }
    if !spec.hosts.iter().any(|line| line.split_whitespace().skip(1).any(|name| name == hostname)) {
        let _ = writeln!(hosts, "127.0.1.1\t{hostname}");
    }
    Ok(HostFiles { hosts, hostname: format!("{hostname}\n"), resolv_conf: resolv_conf(spec)? })
}

fn resolv_conf(spec: &ContainerSpec) -> Result<Option<String>, SpecError> {
    let lists = [&spec.dns_servers, &spec.dns_search, &spec.dns_options];
    if lists.iter().all(|list| list.is_empty()) {
        return Ok(None);
    }
    let mut text = String::new();
    for server in &spec.dns_servers {
        if server.parse::<std::net::IpAddr>().is_err() {
            return Err(SpecError::new("dns_servers", format!("`{server}` is no address")));
        }
        let _ = writeln!(text, "nameserver {server}");
    }
    for (field, word, list) in
        [("dns_search", "search", &spec.dns_search), ("dns_options", "options", &spec.dns_options)]
    {
        if let Some(bad) = list.iter().find(|item| item.contains(char::is_whitespace)) {
            return Err(SpecError::new(field, format!("`{bad}` holds white space")));
        }
        if !list.is_empty() {
            let _ = writeln!(text, "{word} {}", list.join(" "));
        }
    }
    Ok(Some(text))
}
