//! The process of a container: arguments, environment, identity, what it may do.

use bramble_cluster::Ulimit;
use nix::sys::resource::{Resource, getrlimit};
use serde_json::{Value, json};

use super::{
    SpecError, UNCONFINED, capabilities,
    template::Facts,
    user::{Identity, Tables},
};
use crate::{ContainerRequest, ExecRequest};

/// Where programs are looked for unless the image says otherwise.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Open files of a process unless a ulimit says otherwise. What the kernel gives its first
/// process (1024, 4096) is too little for many servers.
const DEFAULT_FILES: (u64, u64) = (65_536, 524_288);

pub(super) fn write(
    request: &ContainerRequest,
    facts: &Facts,
    hostname: &str,
    capabilities: &[&str],
) -> Result<Value, SpecError> {
    let spec = &request.task.spec.container;
    let image = &request.image;
    let tables = Tables::read(&request.rootfs);
    let mut identity = match spec.user.is_empty() {
        true => tables.find("image.user", image.user().as_deref().unwrap_or_default())?,
        false => tables.find("user", &spec.user)?,
    };
    for (index, group) in spec.groups.iter().enumerate() {
        let group = tables.group(&format!("groups[{index}]"), group)?;
        identity.further_groups.push(group);
    }
    if !(-1000..=1000).contains(&spec.oom_score_adjustment) {
        let reason = format!("{} is not in -1000 to 1000", spec.oom_score_adjustment);
        return Err(SpecError::new("oom_score_adjustment", reason));
    }
    let directory = match spec.directory.as_str() {
        "" => image.working_dir().as_deref().unwrap_or_default(),
        directory => directory,
    };
    let mut process = json!({
        "terminal": spec.has_terminal,
        "user": user(&identity),
        "args": arguments(request)?,
        "env": environment(request, facts, hostname, &identity)?,
        "cwd": absolute("directory", directory)?,
        "capabilities": capability_sets(capabilities),
        "rlimits": limits(&spec.ulimits)?,
        "noNewPrivileges": true,
    });
    // A container that says nothing is not to inherit what protects the keeper. It is raised where
    // that is so, and otherwise left alone: a keeper without privileges may not lower anything.
    if spec.oom_score_adjustment != 0 || own_oom_score_adjustment() < 0 {
        process["oomScoreAdj"] = json!(spec.oom_score_adjustment);
    }
    Ok(process)
}

fn own_oom_score_adjustment() -> i32 {
    let text = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// An exec's process: the container's, with what the request says.
pub(super) fn write_exec(config: &Value, request: &ExecRequest) -> Result<Value, SpecError> {
    if request.command.is_empty() {
        return Err(SpecError::new("command", "is empty"));
    }
    let mut process = config["process"].clone();
    process["terminal"] = json!(request.has_terminal);
    process["args"] = json!(checked("command", &request.command)?);
    let mut environment: Vec<String> =
        serde_json::from_value(process["env"].take()).unwrap_or_default();
    for entry in checked("environment", &request.environment)? {
        set(&mut environment, entry);
    }
    process["env"] = json!(environment);
    if !request.directory.is_empty() {
        process["cwd"] = json!(absolute("directory", &request.directory)?);
    }
    if !request.user.is_empty() {
        let rootfs = config["root"]["path"].as_str().unwrap_or_default();
        let tables = Tables::read(std::path::Path::new(rootfs));
        process["user"] = user(&tables.find("user", &request.user)?);
    }
    if request.is_privileged {
        process["capabilities"] = capability_sets(&capabilities::all());
        process[UNCONFINED] = json!(true);
    }
    Ok(process)
}

fn user(identity: &Identity) -> Value {
    let mut user = json!({ "uid": identity.user, "gid": identity.group });
    if !identity.further_groups.is_empty() {
        user["additionalGids"] = json!(identity.further_groups);
    }
    user
}

fn capability_sets(names: &[&str]) -> Value {
    json!({ "bounding": names, "effective": names, "permitted": names })
}

/// Entrypoint and command: an entrypoint that replaces the image's drops the image's command too.
fn arguments(request: &ContainerRequest) -> Result<Vec<String>, SpecError> {
    let spec = &request.task.spec.container;
    let image = &request.image;
    let of_image = |list: &Option<Vec<String>>| list.clone().unwrap_or_default();
    let entrypoint = match spec.entrypoint.is_empty() {
        true => of_image(image.entrypoint()),
        false => checked("entrypoint", &spec.entrypoint)?,
    };
    let command = match (spec.arguments.is_empty(), spec.entrypoint.is_empty()) {
        (true, true) => of_image(image.cmd()),
        _ => checked("arguments", &spec.arguments)?,
    };
    let all: Vec<String> = entrypoint.into_iter().chain(command).collect();
    match all.first() {
        Some(program) if !program.is_empty() => Ok(all),
        _ => Err(SpecError::new("arguments", "neither the service nor the image names a command")),
    }
}

/// As Docker: what every container has, then the image's, then the service's.
fn environment(
    request: &ContainerRequest,
    facts: &Facts,
    hostname: &str,
    identity: &Identity,
) -> Result<Vec<String>, SpecError> {
    let spec = &request.task.spec.container;
    let mut all = vec![format!("PATH={DEFAULT_PATH}"), format!("HOSTNAME={hostname}")];
    if spec.has_terminal {
        all.push("TERM=xterm".to_owned());
    }
    for entry in checked("image.env", request.image.env().as_deref().unwrap_or_default())? {
        set(&mut all, entry);
    }
    for (index, entry) in checked("environment", &spec.environment)?.into_iter().enumerate() {
        set(&mut all, facts.fill(&format!("environment[{index}]"), &entry)?);
    }
    if !all.iter().any(|entry| entry.starts_with("HOME=")) {
        all.push(format!("HOME={}", identity.home));
    }
    Ok(all)
}

/// Sets `NAME=value`; a mere `NAME` takes the variable away.
fn set(all: &mut Vec<String>, entry: String) {
    let name = entry.split('=').next().unwrap_or_default().to_owned();
    let is_same = |other: &String| other.split('=').next() == Some(name.as_str());
    let position = all.iter().position(is_same);
    match (position, entry.contains('=')) {
        (Some(position), true) => all[position] = entry,
        (Some(position), false) => drop(all.remove(position)),
        (None, true) => all.push(entry),
        (None, false) => {}
    }
}

fn limits(ulimits: &[Ulimit]) -> Result<Value, SpecError> {
    const NAMES: [&str; 16] = [
        "as",
        "core",
        "cpu",
        "data",
        "fsize",
        "locks",
        "memlock",
        "msgqueue",
        "nice",
        "nofile",
        "nproc",
        "rss",
        "rtprio",
        "rttime",
        "sigpending",
        "stack",
    ];
    // Not more than the keeper has: raising it again is not everybody's right.
    let (soft, hard) = DEFAULT_FILES;
    let own = getrlimit(Resource::RLIMIT_NOFILE).map_or(hard, |(_, hard)| hard);
    let (soft, hard) = (soft.min(own), hard.min(own));
    let mut all = vec![json!({ "type": "RLIMIT_NOFILE", "soft": soft, "hard": hard })];
    for (index, ulimit) in ulimits.iter().enumerate() {
        let field = || format!("ulimits[{index}]");
        if !NAMES.contains(&ulimit.name.as_str()) {
            return Err(SpecError::new(field(), format!("`{}` is no limit", ulimit.name)));
        }
        // -1 is without limit, which the kernel writes as all bits set.
        let bound = |value: i64| match value {
            -1 => Ok(u64::MAX),
            value => u64::try_from(value)
                .map_err(|_| SpecError::new(field(), format!("{value} is no bound"))),
        };
        let (soft, hard) = (bound(ulimit.soft)?, bound(ulimit.hard)?);
        if soft > hard {
            return Err(SpecError::new(field(), "its soft bound is above its hard bound"));
        }
        let name = format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase());
        all.retain(|limit| limit["type"] != json!(name));
        all.push(json!({ "type": name, "soft": soft, "hard": hard }));
    }
    Ok(Value::Array(all))
}

/// An absolute directory; nothing said is the root.
fn absolute(field: &str, directory: &str) -> Result<String, SpecError> {
    match directory {
        "" => Ok("/".to_owned()),
        directory if directory.starts_with('/') && !directory.contains('\0') => {
            Ok(directory.to_owned())
        }
        directory => Err(SpecError::new(field, format!("`{directory}` is not absolute"))),
    }
}

/// Texts that can be passed to a program: without zero bytes.
fn checked(field: &str, texts: &[String]) -> Result<Vec<String>, SpecError> {
    match texts.iter().position(|text| text.contains('\0')) {
        Some(index) => Err(SpecError::new(format!("{field}[{index}]"), "holds a zero byte")),
        None => Ok(texts.to_vec()),
    }
}
