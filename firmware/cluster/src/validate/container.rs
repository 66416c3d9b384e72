//! Whether a container's specification makes sense.

use std::collections::BTreeSet;

use super::text::{at_most, labels, list, optional_duration, text};
use crate::{ContainerSpec, Healthcheck, ImageName, Mount, MountKind, Rejection, Ulimit, limits};

pub(super) fn container_spec(container: &ContainerSpec) -> Result<(), Rejection> {
    image_name(&container.image.name)?;
    labels("container labels", &container.labels)?;
    labels("sysctls", &container.sysctls)?;
    let texts = [
        ("hostname", &container.hostname),
        ("working directory", &container.directory),
        ("user", &container.user),
    ];
    texts.into_iter().try_for_each(|(field, value)| text(field, value))?;
    let lists = [
        ("entrypoint", &container.entrypoint),
        ("arguments", &container.arguments),
        ("environment", &container.environment),
        ("groups", &container.groups),
        ("hosts", &container.hosts),
        ("dns servers", &container.dns_servers),
        ("dns search domains", &container.dns_search),
        ("dns options", &container.dns_options),
        ("added capabilities", &container.capabilities_added),
        ("dropped capabilities", &container.capabilities_dropped),
    ];
    for (field, values) in lists {
        list(field, values.len(), limits::LIST)?;
        values.iter().try_for_each(|value| text(field, value))?;
    }
    if container.environment.iter().any(|line| line.is_empty() || line.starts_with('=')) {
        return Err(Rejection::invalid("environment", "a variable has no name"));
    }
    let capabilities =
        || container.capabilities_added.iter().chain(&container.capabilities_dropped);
    if let Some(name) = capabilities().find(|name| !is_capability(name)) {
        return Err(Rejection::invalid("capability", format!("there is none named {name}")));
    }
    if !(-1000..=1000).contains(&container.oom_score_adjustment) {
        return Err(Rejection::invalid("OOM score", "it must be between -1000 and 1000"));
    }
    optional_duration("stop grace period", container.stop_grace_period)?;
    stop_signal(&container.stop_signal)?;
    mounts(&container.mounts)?;
    ulimits(&container.ulimits)?;
    container.healthcheck.as_ref().map_or(Ok(()), healthcheck)
}

fn image_name(name: &str) -> Result<(), Rejection> {
    if name.is_empty() {
        return Err(Rejection::invalid("image", "it is missing"));
    }
    match name.parse::<ImageName>() {
        Ok(_) => Ok(()),
        Err(error) => Err(Rejection::invalid("image", error.to_string())),
    }
}

/// `CAP_` and the name, or `ALL`; with or without the prefix, as Docker takes it.
fn is_capability(name: &str) -> bool {
    let name = name.strip_prefix("CAP_").unwrap_or(name);
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'_')
}

fn stop_signal(signal: &str) -> Result<(), Rejection> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'-';
    if signal.len() > 16 || !signal.bytes().all(is_plain) {
        return Err(Rejection::invalid("stop signal", "it must be like SIGTERM or 15"));
    }
    Ok(())
}

fn mounts(mounts: &[Mount]) -> Result<(), Rejection> {
    list("mounts", mounts.len(), limits::LIST)?;
    let mut targets = BTreeSet::new();
    for mount in mounts {
        absolute("mount target", &mount.target)?;
        if mount.target.trim_end_matches('/').is_empty() {
            return Err(Rejection::invalid("mount target", "it can't be /"));
        }
        if !targets.insert(mount.target.trim_end_matches('/')) {
            let reason = format!("{} is mounted twice", mount.target);
            return Err(Rejection::invalid("mount target", reason));
        }
        match &mount.kind {
            MountKind::Bind { source } => absolute("bind source", source)?,
            MountKind::Volume { name, labels: given, .. } => {
                labels("volume labels", given)?;
                volume_name(name)?;
            }
            MountKind::Tmpfs { mode, .. } if *mode > 0o7777 => {
                return Err(Rejection::invalid("tmpfs mode", "it must be at most 7777 (octal)"));
            }
            MountKind::Tmpfs { .. } => {}
        }
    }
    Ok(())
}

/// A volume's name becomes the name of a folder.
fn volume_name(name: &str) -> Result<(), Rejection> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    let is_led = name.bytes().next().is_none_or(|byte| byte.is_ascii_alphanumeric());
    if !is_led || !name.bytes().all(is_plain) {
        return Err(Rejection::invalid(
            "volume name",
            "it must be letters, digits, _, . and -, and begin with a letter or digit",
        ));
    }
    at_most("volume name", name, 255)
}

fn absolute(field: &str, path: &str) -> Result<(), Rejection> {
    at_most(field, path, 4_096)?;
    if !path.starts_with('/') {
        return Err(Rejection::invalid(field, format!("`{path}` is not an absolute path")));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(Rejection::invalid(field, format!("`{path}` goes back with ..")));
    }
    Ok(())
}

fn ulimits(ulimits: &[Ulimit]) -> Result<(), Rejection> {
    list("ulimits", ulimits.len(), limits::LIST)?;
    for ulimit in ulimits {
        text("ulimit", &ulimit.name)?;
        let (soft, hard) = (ulimit.soft, ulimit.hard);
        if hard != -1 && (soft > hard || soft == -1) {
            let reason = format!("{}: the soft limit is over the hard limit", ulimit.name);
            return Err(Rejection::invalid("ulimit", reason));
        }
    }
    Ok(())
}

fn healthcheck(check: &Healthcheck) -> Result<(), Rejection> {
    list("healthcheck", check.test.len(), limits::LIST)?;
    check.test.iter().try_for_each(|word| text("healthcheck", word))?;
    let times = [
        ("healthcheck interval", check.interval),
        ("healthcheck timeout", check.timeout),
        ("healthcheck start period", check.start_period),
        ("healthcheck start interval", check.start_interval),
    ];
    times.into_iter().try_for_each(|(field, time)| optional_duration(field, time))
}
