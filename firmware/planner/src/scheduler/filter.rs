//! Which boards can take a task, and for those that can not, why, in the operator's words.

use std::collections::BTreeMap;

use bramble_cluster::{
    Availability, Constraint, ConstraintOperator, Node, NodeState, Placement, Platform,
    PortProtocol, Resources, Role, Service, Slot, TaskSpec,
};

use crate::view::{Board, host_ports};

/// Why a board can not take a task. The order is that of the explanation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    Down,
    NotReady,
    Leaving,
    Drained,
    Paused,
    /// The constraint with this index does not hold.
    Constraint(usize),
    Platform,
    Memory,
    Cpu,
    TooMany,
    Port(u16, PortProtocol),
}

/// Why a board can not take a task of the service; `None` if it can. `alive` are the slots of the
/// service's tasks there that did not end; a task and its successor count as one.
pub(crate) fn refusal(
    board: &Board<'_>,
    service: &Service,
    spec: &TaskSpec,
    slot: Slot,
    alive: &[Slot],
) -> Option<Refusal> {
    if matches!(slot, Slot::Node(node) if node != board.node.id) {
        return Some(Refusal::NotReady);
    }
    condition(board).or_else(|| unfitness(board.node, &spec.placement)).or_else(|| {
        let free = board.free();
        let limit = usize::try_from(spec.placement.max_replicas_per_node).unwrap_or(usize::MAX);
        if spec.resources.reserved_memory_bytes > free.memory_bytes {
            Some(Refusal::Memory)
        } else if spec.resources.reserved_nano_cpus > free.nano_cpus {
            Some(Refusal::Cpu)
        } else if limit != 0 && alive.iter().filter(|other| **other != slot).count() >= limit {
            Some(Refusal::TooMany)
        } else {
            let mut ports = host_ports(service);
            let taken = ports.find(|port| board.ports.contains(port));
            taken.map(|(port, protocol)| Refusal::Port(port, protocol))
        }
    })
}

/// Whether a board has room for a task of the service once another one of it is gone from there.
pub(crate) fn fits_in_place_of(board: &Board<'_>, spec: &TaskSpec, old: &TaskSpec) -> bool {
    let free = board.free();
    let (new, old) = (&spec.resources, &old.resources);
    condition(board).is_none()
        && meets(board.node, &spec.placement)
        && new.reserved_memory_bytes <= free.memory_bytes.saturating_add(old.reserved_memory_bytes)
        && new.reserved_nano_cpus <= free.nano_cpus.saturating_add(old.reserved_nano_cpus)
}

fn condition(board: &Board<'_>) -> Option<Refusal> {
    match board.state {
        NodeState::Down => return Some(Refusal::Down),
        NodeState::Unknown => return Some(Refusal::NotReady),
        NodeState::Ready => {}
    }
    match board.node.spec.availability {
        Availability::Drain => Some(Refusal::Drained),
        Availability::Pause => Some(Refusal::Paused),
        Availability::Active => board.is_leaving.then_some(Refusal::Leaving),
    }
}

fn unfitness(node: &Node, placement: &Placement) -> Option<Refusal> {
    let unmet = placement.constraints.iter().position(|constraint| !holds(node, constraint));
    if let Some(index) = unmet {
        return Some(Refusal::Constraint(index));
    }
    let is_for = placement.platforms.is_empty()
        || placement.platforms.iter().any(|platform| is_platform(node, platform));
    (!is_for).then_some(Refusal::Platform)
}

/// Whether a node meets the constraints and is of a platform that a task is for.
pub(crate) fn meets(node: &Node, placement: &Placement) -> bool {
    unfitness(node, placement).is_none()
}

/// The value of a label attribute, `node.labels.<name>` or `engine.labels.<name>`.
pub(crate) fn label<'n>(node: &'n Node, attribute: &str) -> Option<&'n str> {
    let value = if let Some(name) = attribute.strip_prefix("node.labels.") {
        node.spec.labels.get(name)
    } else {
        node.description.engine_labels.get(attribute.strip_prefix("engine.labels.")?)
    };
    value.map(String::as_str)
}

fn holds(node: &Node, constraint: &Constraint) -> bool {
    let value = constraint.value.as_str();
    let description = &node.description;
    // Letter case does not matter, as in Swarm.
    let is_equal = match constraint.attribute.as_str() {
        "node.id" => node.id.to_string().eq_ignore_ascii_case(value),
        "node.hostname" => description.hostname.eq_ignore_ascii_case(value),
        "node.role" => role(node.role).eq_ignore_ascii_case(value),
        "node.platform.os" => description.platform.os.eq_ignore_ascii_case(value),
        "node.platform.arch" => architecture(&description.platform.architecture)
            .eq_ignore_ascii_case(architecture(value)),
        attribute => label(node, attribute).is_some_and(|label| label.eq_ignore_ascii_case(value)),
    };
    is_equal == (constraint.operator == ConstraintOperator::Equal)
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Manager => "manager",
        Role::Worker => "worker",
    }
}

fn is_platform(node: &Node, wanted: &Platform) -> bool {
    let has = &node.description.platform;
    let is_os = wanted.os.is_empty() || wanted.os == has.os;
    let is_architecture = wanted.architecture.is_empty()
        || architecture(&wanted.architecture) == architecture(&has.architecture);
    is_os && is_architecture
}

/// One name for each architecture; kernels and container images differ in theirs.
fn architecture(name: &str) -> &str {
    match name {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "armv7l" | "armv6l" | "armhf" => "arm",
        _ => name,
    }
}

/// Says in one line why no board takes a task.
pub(crate) fn explain(
    boards: &[Board<'_>],
    service: &Service,
    spec: &TaskSpec,
    slot: Slot,
    alive: &[Vec<Slot>],
) -> String {
    let mut refused: BTreeMap<Refusal, (usize, Resources)> = BTreeMap::new();
    for (board, alive) in boards.iter().zip(alive) {
        if matches!(slot, Slot::Node(node) if node != board.node.id) {
            continue;
        }
        let Some(refusal) = refusal(board, service, spec, slot, alive) else { continue };
        let (count, free) = refused.entry(refusal).or_default();
        *count += 1;
        free.memory_bytes = free.memory_bytes.max(board.free().memory_bytes);
        free.nano_cpus = free.nano_cpus.max(board.free().nano_cpus);
    }
    if refused.is_empty() {
        return "no suitable board: there is none".to_owned();
    }
    let parts: Vec<String> = refused
        .into_iter()
        .map(|(refusal, (count, free))| clause(refusal, count, free, spec))
        .collect();
    format!("no suitable board: {}", parts.join(", "))
}

fn clause(refusal: Refusal, count: usize, free: Resources, spec: &TaskSpec) -> String {
    let boards = if count == 1 { "board" } else { "boards" };
    let at_most = if count == 1 { "" } else { "at most " };
    match refusal {
        Refusal::Down => format!("{count} down"),
        Refusal::NotReady => format!("{count} not ready yet"),
        Refusal::Leaving => format!("{count} leaving"),
        Refusal::Drained => format!("{count} drained"),
        Refusal::Paused => format!("{count} paused"),
        Refusal::Constraint(index) => match spec.placement.constraints.get(index) {
            Some(constraint) => format!("{count} {}", unmet(constraint, count == 1)),
            None => format!("{count} unfit"),
        },
        Refusal::Platform => {
            let platforms: Vec<String> = spec.placement.platforms.iter().map(platform).collect();
            format!("{count} not {}", platforms.join(" or "))
        }
        Refusal::Memory => format!(
            "memory: {count} {boards} full (needs {}, {at_most}{} free)",
            bytes(spec.resources.reserved_memory_bytes),
            bytes(free.memory_bytes),
        ),
        Refusal::Cpu => format!(
            "cpu: {count} {boards} full (needs {}, {at_most}{} free)",
            cores(spec.resources.reserved_nano_cpus),
            cores(free.nano_cpus),
        ),
        Refusal::TooMany => {
            let limit = spec.placement.max_replicas_per_node;
            format!("{count} at the limit of {limit} a board")
        }
        Refusal::Port(port, protocol) => {
            format!("port {port}/{protocol} is taken on {count}")
        }
    }
}

/// What of a node does not meet a constraint.
fn unmet(constraint: &Constraint, is_one: bool) -> String {
    let value = &constraint.value;
    let is_wanted = constraint.operator == ConstraintOperator::Equal;
    let named = constraint
        .attribute
        .strip_prefix("node.labels.")
        .or_else(|| constraint.attribute.strip_prefix("engine.labels."));
    if let Some(name) = named {
        let verb = match (is_wanted, is_one) {
            (true, true) => "does not have",
            (true, false) => "do not have",
            (false, true) => "has",
            (false, false) => "have",
        };
        return format!("{verb} label {name}={value}");
    }
    let verb = match (is_wanted, is_one) {
        (true, true) => "is not",
        (true, false) => "are not",
        (false, true) => "is",
        (false, false) => "are",
    };
    let what = match constraint.attribute.as_str() {
        "node.hostname" => "named ",
        "node.id" => "node ",
        "node.role" => "of role ",
        _ => "",
    };
    format!("{verb} {what}{value}")
}

fn platform(platform: &Platform) -> String {
    match (platform.os.as_str(), platform.architecture.as_str()) {
        ("", name) | (name, "") => name.to_owned(),
        (os, architecture) => format!("{os}/{architecture}"),
    }
}

/// Bytes for people: `512 MiB`, `1.5 GiB`.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = (1..UNITS.len()).rev().find(|unit| count >> (10 * unit) != 0).unwrap_or(0);
    let tenths = u128::from(count) * 10 / (1 << (10 * unit));
    decimal(tenths, 1, UNITS[unit])
}

/// Billionths of a core for people: `1.5 cores`.
fn cores(billionths: u64) -> String {
    let hundredths = u128::from(billionths / 10_000_000);
    decimal(hundredths, 2, if hundredths == 100 { "core" } else { "cores" })
}

fn decimal(value: u128, places: u32, unit: &str) -> String {
    let scale = 10u128.pow(places);
    let (whole, part) = (value / scale, value % scale);
    if part == 0 {
        return format!("{whole} {unit}");
    }
    let width = usize::try_from(places).unwrap_or(0);
    let digits = format!("{part:0width$}");
    format!("{whole}.{} {unit}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests;
