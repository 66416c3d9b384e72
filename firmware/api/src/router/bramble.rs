//! Bramble's own endpoints, and the stream of events.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use bramble_cluster::{ClusterState, Digest, Entry, NodeId, Role, Timestamp, Vitals};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{Api, Parameters, flag, parameter, swarm::FAREWELL};
use crate::{
    endpoints::{
        nodes as node_endpoints, services as service_endpoints, swarm as swarm_endpoints,
        tasks as task_endpoints,
    },
    error::ApiError,
    events,
    filters::Filters,
    leader::FORWARDED,
    logs::instant,
    rejection,
    types::{
        image::ImageSummary,
        system::{RemoteManager, SwarmInfo},
        word,
    },
};

/// Between two messages of the live stream: a person sees no more.
const LIVE_EVERY: Duration = Duration::from_millis(100);
/// For so long nothing needs to happen before the live stream repeats itself, so that ages grow.
const LIVE_AT_LEAST: Duration = Duration::from_secs(1);

/// `GET /bramble/board`: this board and the cluster as it sees it, whoever leads.
pub(super) async fn board(State(api): State<Arc<Api>>) -> Json<Value> {
    let (facts, health) = (api.board.facts(), api.board.health());
    Json(json!({
        "node": api.cluster.node.to_string(),
        "hostname": facts.hostname,
        "address": facts.address,
        "firmware_version": facts.firmware_version,
        "is_member": api.board.is_member(),
        "leader": (api.cluster.leader)().map(|leader| leader.to_string()),
        "consensus": consensus(&api),
        "containers": api.board.containers().len(),
        "problems": health.problems,
        "profile": health.boot["board"],
        "boot": health.boot,
    }))
}

/// `GET /bramble/cluster`
pub(super) async fn cluster(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(overview(&api))
}

fn consensus(api: &Api) -> Value {
    let leadership = api.cluster.leadership.borrow();
    let names = |nodes: &std::collections::BTreeSet<NodeId>| -> Vec<String> {
        nodes.iter().map(ToString::to_string).collect()
    };
    json!({
        "leader": leadership.leader.map(|leader| leader.to_string()),
        "is_leader_here": leadership.is_leader_here,
        "former_leader": leadership.former_leader.map(|leader| leader.to_string()),
        "term": leadership.term,
        "voters": names(&leadership.voters),
        "reachable": names(&leadership.reachable),
        "has_quorum": leadership.quorum_lost.is_none(),
        "state_age_seconds": leadership.state_age().as_secs_f64(),
    })
}

/// The cluster at a glance: who leads, which boards are there, how many tasks run.
fn overview(api: &Api) -> Value {
    let state = api.cluster.state();
    let vitals = (api.cluster.vitals)();
    let leader = api.cluster.leadership.borrow().leader;
    let nodes: Vec<Value> = state
        .nodes()
        .values()
        .map(|node| {
            let tasks = state.tasks_on(node.id);
            let running = tasks
                .filter(|task| task.status.state == bramble_cluster::TaskState::Running)
                .count();
            json!({
                "id": node.id.to_string(),
                "hostname": node.description.hostname,
                "addresses": node.description.addresses,
                "role": if leader == Some(node.id) { "leader" } else { word(node.role) },
                "pinned_role": node.spec.role.map(word),
                "availability": word(node.spec.availability),
                "state": word(node.status.state),
                "message": node.status.message,
                "tasks_running": running,
                "vitals": vitals.get(&node.id).map(readings),
            })
        })
        .collect();
    let services: Vec<Value> = state
        .services()
        .values()
        .map(|service| {
            let status = service_endpoints::status(&state, service);
            json!({
                "id": service.id.to_string(),
                "name": service.spec.name,
                "running": status.running_tasks,
                "desired": status.desired_tasks,
            })
        })
        .collect();
    json!({
        "id": state.cluster().map(|cluster| cluster.id.to_string()),
        "founded_at": state.cluster().map(|cluster| crate::types::rfc3339(cluster.created_at)),
        "version": state.version().0,
        "consensus": consensus(api),
        "nodes": nodes,
        "services": services,
    })
}

/// `GET /bramble/state`: every object there is, in Docker's words.
pub(super) async fn state(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    let state = api.cluster.state();
    let images: Vec<_> =
        state.images().values().map(|image| ImageSummary::from_cluster(image)).collect();
    Ok(Json(json!({
        "version": state.version().0,
        "cluster": swarm_endpoints::summary(&state),
        "nodes": node_endpoints::list(&state, &api.cluster.standings(), None)?,
        "services": service_endpoints::list(&state, None, true)?,
        "tasks": task_endpoints::list(&state, None)?,
        "images": images,
    })))
}

/// `GET /bramble/vitals`: what the boards' sensors say, by node.
pub(super) async fn vitals(State(api): State<Arc<Api>>) -> Json<BTreeMap<String, Value>> {
    let vitals = (api.cluster.vitals)();
    Json(vitals.iter().map(|(node, vitals)| (node.to_string(), readings(vitals))).collect())
}

fn readings(vitals: &Vitals) -> Value {
    json!({
        "cpu_percent": f64::from(vitals.cpu_permille) / 10.0,
        "memory_used_bytes": vitals.memory_used_bytes,
        "memory_total_bytes": vitals.memory_total_bytes,
        "temperature_celsius":
            vitals.temperature_millicelsius.map(|degrees| f64::from(degrees) / 1_000.0),
        "disk_used_bytes": vitals.disk_used_bytes,
        "disk_total_bytes": vitals.disk_total_bytes,
        "uptime_seconds": vitals.uptime.as_secs(),
    })
}

/// `GET /bramble/events`: the overview, again whenever it changed and each second; one a line.
pub(super) async fn events(State(api): State<Arc<Api>>) -> Response {
    let states = api.cluster.states.clone();
    let lines = stream::unfold((api, states, None), |(api, mut states, last)| async move {
        if let Some(last) = last {
            let quiet = LIVE_AT_LEAST.saturating_sub(Instant::elapsed(&last));
            // Whether it changed or time passed, the answer is the same.
            let _ = tokio::time::timeout(quiet, states.changed()).await;
            tokio::time::sleep(LIVE_EVERY.saturating_sub(Instant::elapsed(&last))).await;
        }
        states.borrow_and_update();
        let line = overview(&api).to_string() + "\n";
        Some((Ok::<_, Infallible>(line), (api, states, Some(Instant::now()))))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

/// `GET /events`: what happens to services and nodes from now on. Nothing is kept of the past.
pub(super) async fn docker_events(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let known = [
        "type",
        "event",
        "scope",
        "service",
        "node",
        "container",
        "image",
        "volume",
        "network",
        "label",
        "daemon",
        "plugin",
        "config",
        "secret",
    ];
    let filters = Filters::parse(parameter(&parameters, "filters"), &known)?;
    let now = || i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let left = instant(&parameters, "until")?
        .map(|until| Duration::from_nanos(until.saturating_sub(u64::try_from(now()).unwrap_or(0))));
    let deadline = left.map(|left| tokio::time::Instant::now() + left);
    let states = api.cluster.states.clone();
    let before = api.cluster.state();
    let lines = stream::unfold((states, before), move |(mut states, before)| async move {
        let over = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = states.changed() => changed.ok()?,
            () = over => return None,
        }
        let after = Arc::clone(&states.borrow_and_update());
        let events = events::between(&before, &after);
        Some((events, (states, after)))
    });
    let lines = lines.flat_map(stream::iter).filter_map(move |event| {
        let passes = filters.admits("type", |value| value == event.kind)
            && filters.admits("event", |value| value == event.action)
            && filters.admits("scope", |value| value == "swarm")
            && filters.admits(event.kind, |value| value == event.id || value == event.name);
        let line = passes.then(|| Ok::<_, Infallible>(event.to_json(now()).to_string() + "\n"));
        std::future::ready(line)
    });
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(lines)).into_response())
}

/// `GET /bramble/swarm-info`: the cluster's part of `/info`, for boards without its state.
pub(super) async fn swarm_info(State(api): State<Arc<Api>>) -> Json<SwarmInfo> {
    let state = api.cluster.state();
    let managers = || state.nodes().values().filter(|node| node.role == Role::Manager);
    let remote = managers().map(|node| RemoteManager {
        node_id: node.id.to_string(),
        addr: node.description.addresses.first().map(ToString::to_string).unwrap_or_default(),
    });
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    Json(SwarmInfo {
        remote_managers: Some(remote.collect()),
        nodes: count(state.nodes().len()),
        managers: count(managers().count()),
        cluster: swarm_endpoints::summary(&state),
        ..SwarmInfo::default()
    })
}

/// `GET /bramble/images/{digest}`: whether the cluster knows an image, and who holds it.
pub(super) async fn image(
    State(api): State<Arc<Api>>,
    Path(digest): Path<String>,
) -> Result<Json<ImageSummary>, ApiError> {
    let state = api.cluster.state();
    let known = digest.parse().ok().and_then(|digest: Digest| state.images().get(&digest));
    let known = known.ok_or(ApiError::NoSuchImage { name: digest })?;
    Ok(Json(ImageSummary::from_cluster(known)))
}

/// `DELETE /bramble/nodes/{id}`: a board leaves.
///
/// A node that is removed is refused from that moment on, so the board that leaves would never read
/// the answer. It is therefore answered first, after a rehearsal on a copy of the state.
pub(super) async fn remove_leaving(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let node: NodeId =
        id.parse().map_err(|_| ApiError::NotFound { kind: "node", name: id.clone() })?;
    let state = api.cluster.state();
    let command = swarm_endpoints::leave(&state, node, flag(&parameters, "force"))?;
    if !headers.contains_key(FORWARDED) {
        api.cluster.change(command).await?;
        return Ok(StatusCode::OK);
    }
    let entry = Entry { at: Timestamp::default(), commands: vec![command.clone()] };
    for outcome in ClusterState::clone(&state).apply(&entry) {
        outcome.map_err(|rejection| rejection::to_error(&rejection))?;
    }
    tokio::spawn(async move {
        tokio::time::sleep(FAREWELL).await;
        if let Err(error) = api.cluster.change(command).await {
            tracing::warn!(%node, %error, "a board left, but its node could not be removed");
        }
    });
    Ok(StatusCode::OK)
}
