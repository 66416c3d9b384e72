//! Writes OCI runtime specifications: what Docker would run, from a task and an image.

mod capabilities;
mod linux;
mod mounts;
mod names;
mod process;
mod signal;
mod template;
mod user;

use std::path::PathBuf;

use bramble_cluster::{LogDriver, TaskId};
use serde_json::{Value, json};

use self::template::Facts;
pub(crate) use self::{capabilities::mask_of, mounts::NewVolume, names::HostFiles};
use crate::{ContainerRequest, ExecRequest, Layout, protocol::OrderV1};

/// How long a container has to stop if nobody says otherwise.
const GRACE_MILLISECONDS: u64 = 10_000;
/// Bytes of one segment of a log, and how many segments, if nobody says otherwise: 1 MiB in all.
const SEGMENT_BYTES: u64 = 128 * 1024;
const SEGMENTS: u32 = 8;
/// Bytes of all segments of one log at most: it is kept in memory.
const RING_BYTES: u64 = 64 * 1024 * 1024;
/// The annotation that tells the helper to leave the seccomp filter out.
pub(crate) const UNCONFINED: &str = "bramble.seccomp.unconfined";

/// The annotation that makes the helper put a tiny init before the container's program.
pub(crate) const WITH_INIT: &str = "bramble.init";

/// A container cannot be made of what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct SpecError {
    /// The field of the specification, by its name in the cluster's types.
    pub field: String,
    /// What is wrong, in a person's words.
    pub reason: String,
}

impl SpecError {
    pub(crate) fn new(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { field: field.into(), reason: reason.into() }
    }
}

/// Everything that the bundle is written from.
#[derive(Debug)]
pub(crate) struct Written {
    /// The OCI runtime specification.
    pub(crate) config: Value,
    /// What the keeper must know besides.
    pub(crate) order: OrderV1,
    /// `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
    pub(crate) files: HostFiles,
    /// Volumes that may have to be made.
    pub(crate) volumes: Vec<NewVolume>,
}

/// Writes the specification of a container.
pub(crate) fn write(layout: &Layout, request: &ContainerRequest) -> Result<Written, SpecError> {
    let task = &request.task;
    let spec = &task.spec.container;
    let facts = Facts::of(request);
    let hostname = names::hostname(spec, task.id, &facts)?;
    let (added, dropped) = (&spec.capabilities_added, &spec.capabilities_dropped);
    let capabilities = capabilities::effective(capabilities::own(), added, dropped)?;
    let process = process::write(request, &facts, &hostname, &capabilities)?;
    let mounts = mounts::write(layout, request, &facts)?;
    let files = names::files(spec, &hostname)?;
    let config = json!({
        "ociVersion": "1.2.0",
        "process": process,
        "root": { "path": request.rootfs, "readonly": spec.is_read_only },
        "hostname": hostname,
        "mounts": mounts.entries,
        "annotations": annotations(request),
        "linux": linux::write(layout, request)?,
    });
    Ok(Written { config, order: order(request)?, files, volumes: mounts.volumes })
}

/// Writes the process description of an exec, given the container's specification.
pub(crate) fn write_exec(config: &Value, request: &ExecRequest) -> Result<Value, SpecError> {
    process::write_exec(config, request)
}

fn annotations(request: &ContainerRequest) -> Value {
    let labels = request.image.labels().iter().flatten();
    let labels = labels.chain(&request.task.spec.container.labels);
    let mut all: serde_json::Map<String, Value> =
        labels.map(|(key, value)| (key.clone(), json!(value))).collect();
    // Only Bramble decides these, not a label.
    all.retain(|key, _| key != UNCONFINED && key != WITH_INIT);
    if request.task.spec.container.has_init == Some(true) {
        all.insert(WITH_INIT.to_owned(), json!("1"));
    }
    Value::Object(all)
}

fn order(request: &ContainerRequest) -> Result<OrderV1, SpecError> {
    let spec = &request.task.spec.container;
    let image_signal = request.image.stop_signal().clone().unwrap_or_default();
    let (field, text) = match spec.stop_signal.is_empty() {
        true => ("image.stop_signal", image_signal.as_str()),
        false => ("stop_signal", spec.stop_signal.as_str()),
    };
    let stop_signal = match text {
        "" => nix::libc::SIGTERM,
        text => signal::parse(text).ok_or_else(|| {
            SpecError::new(field, format!("`{text}` is no signal: SIGTERM or 15 is"))
        })?,
    };
    let grace = spec
        .stop_grace_period
        .map_or(GRACE_MILLISECONDS, |grace| u64::try_from(grace.as_millis()).unwrap_or(u64::MAX));
    let (segment_bytes, segments) = ring(request.task.spec.log_driver.as_ref())?;
    Ok(OrderV1 {
        stop_signal,
        grace_milliseconds: grace,
        segment_bytes,
        segments,
        has_terminal: spec.has_terminal,
        has_open_stdin: spec.has_open_stdin,
    })
}

/// The size of a log: the options of Docker's `json-file` and `local` drivers, in segments.
fn ring(driver: Option<&LogDriver>) -> Result<(u64, u32), SpecError> {
    let Some(driver) = driver else { return Ok((SEGMENT_BYTES, SEGMENTS)) };
    let option = |name: &str| driver.options.get(name).map(String::as_str);
    if driver.name == "none" {
        return Ok((0, 0));
    }
    let bytes = match option("max-size") {
        None => SEGMENT_BYTES * u64::from(SEGMENTS),
        Some(text) => parse_size(text).ok_or_else(|| {
            SpecError::new("log_driver.max-size", format!("`{text}` is no size: 512k or 10m is"))
        })?,
    };
    let files = match option("max-file") {
        None => 1,
        Some(text) => text.parse().ok().filter(|files| *files > 0).ok_or_else(|| {
            SpecError::new("log_driver.max-file", format!("`{text}` is no number of files"))
        })?,
    };
    let total = bytes.saturating_mul(files).clamp(4 * 1024, RING_BYTES);
    Ok((total.div_ceil(u64::from(SEGMENTS)), SEGMENTS))
}

fn parse_size(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let number = text.trim_end_matches('b');
    let (digits, unit) = match number.strip_suffix(['k', 'm', 'g']) {
        Some(digits) if number.ends_with('k') => (digits, 1 << 10),
        Some(digits) if number.ends_with('m') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (number, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

/// A path of a bundle's file, for the specification.
pub(crate) fn bundle_file(layout: &Layout, id: TaskId, name: &str) -> PathBuf {
    layout.bundle(id).join(name)
}

#[cfg(test)]
mod tests;
