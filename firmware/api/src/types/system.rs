//! The engine itself: `docker version` and `docker info`.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The newest version of the Docker Engine API whose shapes these are.
pub const API_VERSION: &str = "1.47";
/// The oldest version whose clients are understood.
pub const MIN_API_VERSION: &str = "1.24";

/// What a board says of itself to `docker version` and `docker info`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Board {
    /// Its node's id.
    pub node: String,
    /// Its host name.
    pub hostname: String,
    /// The firmware's version.
    pub firmware_version: String,
    /// The kernel's release.
    pub kernel: String,
    /// `x86_64`, `aarch64`: the machine as the kernel names it.
    pub machine: String,
    /// Processors.
    pub cpus: u64,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// Where it keeps its data.
    pub data_dir: String,
    /// Its address as the others see it.
    pub address: String,
    /// Containers that run.
    pub containers_running: u64,
    /// Containers that ended and are kept.
    pub containers_stopped: u64,
    /// Images.
    pub images: u64,
    /// What time it is there, RFC 3339.
    pub system_time: String,
    /// `1` or `2`.
    pub cgroup_version: &'static str,
    /// Labels from its configuration file, `key=value`.
    pub labels: Vec<String>,
}

/// What the cluster adds to `docker info`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SwarmInfo {
    /// This board's node.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// This board's address.
    pub node_addr: String,
    /// `active`, or `pending` while the board looks for its cluster.
    pub local_node_state: String,
    /// Whether this board takes commands; every one does.
    pub control_available: bool,
    /// Why not, if there is no quorum.
    pub error: String,
    /// The managers.
    pub remote_managers: Option<Vec<RemoteManager>>,
    /// How many nodes there are.
    #[serde(skip_serializing_if = "super::is_default")]
    pub nodes: u64,
    /// How many of them are managers.
    #[serde(skip_serializing_if = "super::is_default")]
    pub managers: u64,
    /// The swarm object.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<Value>,
}

/// A manager and where it listens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RemoteManager {
    /// Its node.
    #[serde(rename = "NodeID")]
    pub node_id: String,
    /// Where it listens.
    pub addr: String,
}

/// The architecture as Go names it, where the kernel says it otherwise.
pub fn go_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" => "arm",
        other => other,
    }
}

/// `GET /version`
pub fn version(board: &Board) -> Value {
    let architecture = go_architecture(&board.machine);
    let details = json!({
        "ApiVersion": API_VERSION,
        "Arch": architecture,
        "Experimental": "false",
        "KernelVersion": board.kernel,
        "MinAPIVersion": MIN_API_VERSION,
        "Os": "linux",
    });
    let component =
        json!({"Name": "Engine", "Version": board.firmware_version, "Details": details});
    json!({
        "Platform": {"Name": "Bramble"},
        "Components": [component],
        "Version": board.firmware_version,
        "ApiVersion": API_VERSION,
        "MinAPIVersion": MIN_API_VERSION,
        "GitCommit": "",
        "GoVersion": "",
        "Os": "linux",
        "Arch": architecture,
        "KernelVersion": board.kernel,
        "BuildTime": "",
    })
}

/// `GET /info`
pub fn info(board: &Board, swarm: &SwarmInfo) -> Value {
    let parts = [engine(board), machine(board), kernel_features(), registries(), swarm_part(swarm)];
    let mut info = serde_json::Map::new();
    for part in parts {
        if let Value::Object(part) = part {
            info.extend(part);
        }
    }
    Value::Object(info)
}

fn engine(board: &Board) -> Value {
    json!({
        "ID": board.node,
        "Name": board.hostname,
        "ServerVersion": board.firmware_version,
        "Containers": board.containers_running + board.containers_stopped,
        "ContainersRunning": board.containers_running,
        "ContainersPaused": 0,
        "ContainersStopped": board.containers_stopped,
        "Images": board.images,
        "Driver": "overlayfs",
        "DriverStatus": [],
        "LoggingDriver": "bramble",
        "DockerRootDir": board.data_dir,
        "Labels": board.labels,
        "SystemTime": board.system_time,
        "Debug": false,
        "ExperimentalBuild": false,
        "LiveRestoreEnabled": true,
        "NFd": 0,
        "NGoroutines": 0,
        "NEventsListener": 0,
        "Warnings": null,
    })
}

fn machine(board: &Board) -> Value {
    json!({
        "KernelVersion": board.kernel,
        "OperatingSystem": format!("Bramble {}", board.firmware_version),
        "OSVersion": board.firmware_version,
        "OSType": "linux",
        "Architecture": board.machine,
        "NCPU": board.cpus,
        "MemTotal": board.memory_bytes,
        "CgroupDriver": "cgroupfs",
        "CgroupVersion": board.cgroup_version,
    })
}

fn kernel_features() -> Value {
    json!({
        "MemoryLimit": true,
        "SwapLimit": false,
        "CpuCfsPeriod": true,
        "CpuCfsQuota": true,
        "CPUShares": true,
        "CPUSet": true,
        "PidsLimit": true,
        "OomKillDisable": false,
        "IPv4Forwarding": true,
        "SecurityOptions": ["name=seccomp,profile=builtin"],
    })
}

fn registries() -> Value {
    json!({
        "HttpProxy": "",
        "HttpsProxy": "",
        "NoProxy": "",
        "IndexServerAddress": "",
        "RegistryConfig": {"InsecureRegistryCIDRs": [], "IndexConfigs": {}, "Mirrors": []},
    })
}

fn swarm_part(swarm: &SwarmInfo) -> Value {
    json!({
        "Swarm": swarm,
        "Plugins": {
            "Volume": ["local"], "Network": ["host"], "Authorization": null, "Log": ["bramble"],
        },
        "Runtimes": {"bramble": {"path": "bramble"}},
        "DefaultRuntime": "bramble",
        "InitBinary": "",
        "ContainerdCommit": {"ID": ""},
        "RuncCommit": {"ID": ""},
        "InitCommit": {"ID": ""},
        "GenericResources": null,
        "CDISpecDirs": [],
    })
}
