//! What is said of boards, services and the cluster: JSON that a person can read too.

use bramble_cluster::{
    ClusterState, DesiredState, Node, NodeState, Role, Service, ServiceMode, TaskState, Vitals,
};
use serde_json::{Value, json};

/// What a board says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BoardReport {
    /// Its host name.
    pub hostname: String,
    /// The firmware's version.
    pub version: String,
    /// `leader`, `manager`, `worker` or `seeking`.
    pub role: &'static str,
    /// How many containers run on it.
    pub tasks_running: usize,
    /// What is wrong with it, each in words.
    pub problems: Vec<String>,
    /// What its sensors say.
    pub vitals: Vitals,
}

/// The payload of `bramble/board/<id>/state`. Temperatures are in degrees Celsius, sizes in bytes,
/// shares in percent, times in seconds; a board without a thermal sensor has no `temperature`.
pub fn board_state(report: &BoardReport) -> Value {
    let vitals = &report.vitals;
    let mut state = json!({
        "hostname": report.hostname,
        "version": report.version,
        "role": report.role,
        "tasks": report.tasks_running,
        "cpu_percent": f64::from(vitals.cpu_permille) / 10.0,
        "memory_used": vitals.memory_used_bytes,
        "memory_total": vitals.memory_total_bytes,
        "disk_used": vitals.disk_used_bytes,
        "disk_total": vitals.disk_total_bytes,
        "uptime": vitals.uptime.as_secs(),
        "has_problems": !report.problems.is_empty(),
        "problems": report.problems,
    });
    if let Some(temperature) = vitals.temperature_millicelsius {
        state["temperature"] = json!(f64::from(temperature) / 1000.0);
    }
    state
}

/// The payload of `bramble/cluster/<id>/state`.
pub fn cluster_state(state: &ClusterState, leader: &str) -> Value {
    let count =
        |holds: &dyn Fn(&Node) -> bool| state.nodes().values().filter(|node| holds(node)).count();
    json!({
        "leader": leader,
        "boards": state.nodes().len(),
        "boards_ready": count(&|node| node.status.state == NodeState::Ready),
        "boards_down": count(&|node| node.status.state == NodeState::Down),
        "managers": count(&|node| node.role == Role::Manager),
        "services": state.services().len(),
        "tasks_running": state
            .tasks()
            .values()
            .filter(|task| task.status.state == TaskState::Running && task.desired == DesiredState::Running)
            .count(),
    })
}

/// The payload of `bramble/cluster/<id>/service/<id>/state`.
pub fn service_state(state: &ClusterState, service: &Service) -> Value {
    let tasks = || state.tasks().values().filter(|task| task.service == service.id);
    let wanted = tasks().filter(|task| task.desired == DesiredState::Running);
    let running = wanted.clone().filter(|task| task.status.state == TaskState::Running).count();
    let (mode, desired) = match service.spec.mode {
        ServiceMode::Replicated { replicas } => ("replicated", replicas as usize),
        ServiceMode::Global => ("global", wanted.count()),
    };
    json!({
        "name": service.spec.name,
        "image": service.spec.task.container.image.name,
        "mode": mode,
        "replicas": desired,
        "running": running,
    })
}
