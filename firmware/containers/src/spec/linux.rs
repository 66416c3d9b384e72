//! The Linux part of a specification: namespaces, cgroup and limits, what is hidden.

use bramble_cluster::{Labels, ResourceLimits};
use serde_json::{Value, json};

use super::SpecError;
use crate::{ContainerRequest, Layout, NetworkMode, cgroups};

/// Microseconds over which processor time is counted out.
const CPU_PERIOD: u64 = 100_000;
/// The least memory that a container can start with.
const LEAST_MEMORY: u64 = 6 * 1024 * 1024;
/// The kernel counts out processor time in no less than this many microseconds.
const LEAST_QUOTA: u64 = 1_000;

/// What a container must not see, as Docker hides it.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// What a container must not write, as Docker guards it.
const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

pub(super) fn write(layout: &Layout, request: &ContainerRequest) -> Result<Value, SpecError> {
    let task = &request.task;
    let mut namespaces =
        vec![json!({ "type": "pid" }), json!({ "type": "mount" }), json!({ "type": "ipc" })];
    namespaces.push(json!({ "type": "uts" }));
    if cgroups::is_unified() {
        namespaces.push(json!({ "type": "cgroup" }));
    }
    if let NetworkMode::Namespace(path) = &request.network {
        namespaces.push(json!({ "type": "network", "path": path }));
    }
    let has_network = request.network != NetworkMode::Board;
    Ok(json!({
        "cgroupsPath": layout.container_cgroup(task.id),
        "namespaces": namespaces,
        "resources": resources(&task.spec.resources, has_swap())?,
        "sysctl": sysctls(&task.spec.container.sysctls, has_network)?,
        "maskedPaths": MASKED,
        "readonlyPaths": READ_ONLY,
    }))
}

/// Whether containers can swap, and be kept from it: cgroup v1 often cannot.
fn has_swap() -> bool {
    let swaps = std::fs::read_to_string("/proc/swaps").unwrap_or_default();
    swaps.lines().count() > 1 && std::path::Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

fn resources(limits: &ResourceLimits, has_swap: bool) -> Result<Value, SpecError> {
    // Nothing but the devices that every container has: on v1 by libcgroups, which adds them to
    // this one rule; on v2 by the program that the helper attaches.
    let mut resources = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    if limits.limit_memory_bytes != 0 {
        if limits.limit_memory_bytes < LEAST_MEMORY {
            let reason = format!("{} is below 6 MiB", limits.limit_memory_bytes);
            return Err(SpecError::new("resources.limit_memory_bytes", reason));
        }
        let limit = i64::try_from(limits.limit_memory_bytes).unwrap_or(i64::MAX);
        resources["memory"] = json!({ "limit": limit });
        if has_swap {
            // Memory and swap together, as Docker has it: a limit that swap undoes is none.
            resources["memory"]["swap"] = json!(limit.saturating_mul(2));
        }
    }
    if limits.limit_nano_cpus != 0 {
        let quota = (limits.limit_nano_cpus / (1_000_000_000 / CPU_PERIOD)).max(LEAST_QUOTA);
        let quota = i64::try_from(quota).unwrap_or(i64::MAX);
        resources["cpu"] = json!({ "quota": quota, "period": CPU_PERIOD });
    }
    if limits.limit_pids != 0 {
        let limit = i64::try_from(limits.limit_pids).unwrap_or(i64::MAX);
        resources["pids"] = json!({ "limit": limit });
    }
    Ok(resources)
}

/// Kernel parameters of the container's own namespaces; others are the board's.
fn sysctls(asked: &Labels, has_network: bool) -> Result<Value, SpecError> {
    const IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    for (name, value) in asked {
        let field = format!("sysctls.{name}");
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let is_known = IPC.contains(&name.as_str()) || name.starts_with("fs.mqueue.");
        if !name.bytes().all(is_plain) || name.contains("..") {
            return Err(SpecError::new(field, "is no kernel parameter"));
        }
        if name.starts_with("net.") && !has_network {
            let reason = "belongs to the board's network, which this container shares";
            return Err(SpecError::new(field, reason));
        }
        if !is_known && !name.starts_with("net.") {
            return Err(SpecError::new(field, "belongs to the board, not to a container"));
        }
        if value.contains('\0') {
            return Err(SpecError::new(field, "holds a zero byte"));
        }
    }
    Ok(json!(asked))
}
