//! What every board answers for itself.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use bramble_cluster::{Digest, Image, ImageName};
use futures_util::{StreamExt, TryStreamExt};
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::io::StreamReader;

use super::{Api, Parameters, flag, parameter, without_suffix};
use crate::{
    board::{BoardError, ImageRemoval},
    endpoints::{containers as container_endpoints, networks as network_endpoints},
    error::ApiError,
    filters::Filters,
    leader, lookup,
    types::{
        image::{self, ImageSummary, LocalImage},
        rfc3339, system,
    },
};

/// Messages of a load that may wait for the client to read them.
const MESSAGES: usize = 64;
/// How long a loaded image may take until the whole cluster knows it.
const ANNOUNCE_WAIT: Duration = Duration::from_secs(3);
/// Between two looks whether it does.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub(super) async fn ping(State(api): State<Arc<Api>>) -> Response {
    let swarm = if api.board.is_member() { "active/manager" } else { "inactive" };
    let headers = [
        ("Swarm", HeaderValue::from_static(swarm)),
        ("Cache-Control", HeaderValue::from_static("no-cache, no-store, must-revalidate")),
        ("Pragma", HeaderValue::from_static("no-cache")),
        ("Content-Type", HeaderValue::from_static("text/plain; charset=utf-8")),
    ];
    (headers, "OK").into_response()
}

pub(super) async fn version(State(api): State<Arc<Api>>) -> Json<Value> {
    Json(system::version(&board(&api)))
}

pub(super) async fn info(State(api): State<Arc<Api>>) -> Json<Value> {
    let swarm = swarm_info(&api).await;
    Json(system::info(&board(&api), &swarm))
}

fn board(api: &Api) -> system::Board {
    let facts = api.board.facts();
    let containers = api.board.containers();
    let running = containers.iter().filter(|container| container.exit_code.is_none()).count();
    let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
    let label = |(name, value): (&String, &String)| format!("{name}={value}");
    system::Board {
        node: api.cluster.node.to_string(),
        containers_running: count(running),
        containers_stopped: count(containers.len() - running),
        images: count(api.board.images().len()),
        system_time: jiff::Timestamp::now().to_string(),
        labels: facts.labels.iter().map(label).collect(),
        hostname: facts.hostname,
        firmware_version: facts.firmware_version,
        kernel: facts.kernel,
        machine: facts.machine,
        cpus: facts.cpus,
        memory_bytes: facts.memory_bytes,
        data_dir: facts.data_dir.display().to_string(),
        address: facts.address,
        cgroup_version: facts.cgroup_version,
    }
}

/// The swarm's part of `/info`: from this board's state, or from the leader if it has none.
async fn swarm_info(api: &Arc<Api>) -> system::SwarmInfo {
    let is_member = api.board.is_member();
    let own = system::SwarmInfo {
        node_id: if is_member { api.cluster.node.to_string() } else { String::new() },
        node_addr: api.board.facts().address,
        local_node_state: if is_member { "active" } else { "pending" }.to_owned(),
        control_available: is_member,
        ..system::SwarmInfo::default()
    };
    if !is_member {
        return own;
    }
    let uri = axum::http::Uri::from_static("/bramble/swarm-info");
    let answered = leader::ask(api, Method::GET, uri).await;
    let known = answered.and_then(|(status, answer)| {
        let read = status.is_success().then(|| serde_json::from_slice(&answer).ok()).flatten();
        read.ok_or_else(|| ApiError::Unavailable(String::from_utf8_lossy(&answer).into_owned()))
    });
    match known {
        Ok(known) => {
            let known: system::SwarmInfo = known;
            system::SwarmInfo {
                node_id: own.node_id,
                node_addr: own.node_addr,
                local_node_state: own.local_node_state,
                control_available: own.control_available,
                ..known
            }
        }
        Err(error) => system::SwarmInfo { error: error.to_string(), ..own },
    }
}

/// Registries ask for passwords; there is no registry.
pub(super) async fn auth() -> ApiError {
    ApiError::Unsupported("Bramble has no registry client yet".to_owned())
}

pub(super) async fn disk_usage(State(api): State<Arc<Api>>) -> Json<Value> {
    let images: Vec<_> = api.board.images().iter().map(ImageSummary::from_local).collect();
    let size: i64 = images.iter().map(|image| image.size).sum();
    Json(json!({
        "LayersSize": size, "Images": images, "Containers": [], "Volumes": [], "BuildCache": [],
    }))
}

pub(super) async fn images(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
) -> Result<Json<Vec<ImageSummary>>, ApiError> {
    let known = ["reference", "dangling", "label", "before", "since", "until"];
    let filters = Filters::parse(parameter(&parameters, "filters"), &known)?;
    let images = api.board.images();
    let mut summaries: Vec<_> = images
        .iter()
        .map(ImageSummary::from_local)
        .filter(|image| {
            filters.admits("reference", |value| {
                image.repo_tags.iter().any(|tag| {
                    tag == value || tag.rsplit_once(':').is_some_and(|(name, _)| name == value)
                })
            }) && filters.admits("dangling", |value| {
                matches!(value, "true" | "1") == image.repo_tags.is_empty()
            }) && filters.admits_labels("label", &image.labels)
        })
        .collect();
    summaries.sort_by_key(|image| std::cmp::Reverse(image.created));
    Ok(Json(summaries))
}

/// `GET /images/{name}/json` and `…/history`
pub(super) async fn image(
    State(api): State<Arc<Api>>,
    Path(path): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let Some(name) = without_suffix(&path, "/json") else {
        let message = format!("GET /images/{path} is not supported");
        return Err(ApiError::Unsupported(message));
    };
    let images = api.board.images();
    let digest = lookup::image(images.iter().map(|local| &local.image), name)?.digest;
    let found = images.into_iter().find(|local| local.image.digest == digest);
    let Some(found) = found else {
        return Err(ApiError::NoSuchImage { name: name.to_owned() });
    };
    let config = api.board.image_config(digest).await?;
    Ok(Json(image::inspect(&LocalImage { config, ..found })))
}

/// `POST /images/{name}/tag`
pub(super) async fn tag_image(
    State(api): State<Arc<Api>>,
    Path(path): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let Some(name) = without_suffix(&path, "/tag") else {
        let advice = "`docker load` or `bramble image load` brings images in";
        let message = format!("POST /images/{path} is not supported: {advice}");
        return Err(ApiError::Unsupported(message));
    };
    let images = api.board.images();
    let digest = lookup::image(images.iter().map(|local| &local.image), name)?.digest;
    let repository = parameter(&parameters, "repo").unwrap_or_default();
    let tag = parameter(&parameters, "tag").filter(|tag| !tag.is_empty()).unwrap_or("latest");
    api.board.tag_image(digest, &format!("{repository}:{tag}")).await?;
    Ok(StatusCode::CREATED)
}

/// `DELETE /images/{name}`
pub(super) async fn remove_image(
    State(api): State<Arc<Api>>,
    Path(name): Path<String>,
    parameters: Parameters,
) -> Result<Json<Value>, ApiError> {
    let removed = api.board.remove_image(&name, flag(&parameters, "force")).await?;
    let entry = |removal: &ImageRemoval| match removal {
        ImageRemoval::Untagged(name) => {
            let familiar = name.parse::<ImageName>().map(|name| name.familiar());
            json!({"Untagged": familiar.unwrap_or_else(|_| name.clone())})
        }
        ImageRemoval::Deleted(digest) => json!({"Deleted": digest.to_string()}),
    };
    Ok(Json(Value::Array(removed.iter().map(entry).collect())))
}

/// Loads images and streams what happens, as lines of JSON. The answer begins with the first
/// message, so that an archive that is none is refused with a status code of its own.
pub(super) async fn load_images(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
    body: Body,
) -> Result<Response, ApiError> {
    let is_quiet = flag(&parameters, "quiet");
    let archive = body.into_data_stream().map_err(std::io::Error::other);
    let archive = Box::new(StreamReader::new(Box::pin(archive)));
    let (messages, mut received) = mpsc::channel::<Value>(MESSAGES);
    let (told, mut telling) = mpsc::channel::<String>(MESSAGES);
    let progress = messages.clone();
    tokio::spawn(async move {
        while let Some(status) = telling.recv().await {
            if !is_quiet && progress.send(working(&status)).await.is_err() {
                return;
            }
        }
    });
    let loading = tokio::spawn(async move {
        let loaded = api.board.load_images(archive, told).await?;
        for image in &loaded {
            wait_until_known(&api, image.digest).await;
            for line in announcements(image) {
                // A client that has gone away changes nothing for the image.
                let _ = messages.send(json!({"stream": line})).await;
            }
        }
        Ok::<(), BoardError>(())
    });
    let first = received.recv().await;
    let Some(first) = first else {
        return match loading.await {
            Ok(Ok(())) => Ok(stream_of(Vec::new())),
            Ok(Err(error)) => Err(error.into()),
            Err(error) => Err(ApiError::internal(&error)),
        };
    };
    let rest = futures_util::stream::unfold(
        (received, Some(loading)),
        |(mut received, loading)| async move {
            if let Some(message) = received.recv().await {
                return Some((message, (received, loading)));
            }
            match loading?.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some((failure(&error.to_string()), (received, None))),
                Err(error) => Some((failure(&error.to_string()), (received, None))),
            }
        },
    );
    let lines = futures_util::stream::iter([first]).chain(rest);
    let lines = lines.map(|message| Ok::<_, std::convert::Infallible>(message.to_string() + "\n"));
    let content_type = [(header::CONTENT_TYPE, "application/json")];
    Ok((content_type, Body::from_stream(lines)).into_response())
}

fn stream_of(messages: Vec<Value>) -> Response {
    let lines: String = messages.iter().map(|message| message.to_string() + "\n").collect();
    ([(header::CONTENT_TYPE, "application/json")], lines).into_response()
}

/// A line that Docker's client overwrites with the next one of its id.
fn working(status: &str) -> Value {
    json!({"id": "archive", "status": status, "progressDetail": {}})
}

fn failure(message: &str) -> Value {
    json!({"errorDetail": {"message": message}, "error": message})
}

fn announcements(image: &Image) -> Vec<String> {
    let names: Vec<String> = image
        .names
        .iter()
        .filter_map(|name| name.parse::<ImageName>().ok())
        .map(|name| format!("Loaded image: {}\n", name.familiar()))
        .collect();
    if names.is_empty() { vec![format!("Loaded image ID: {}\n", image.digest)] } else { names }
}

/// Whoever loads an image wants to use it: waits until a service may name it on any board.
async fn wait_until_known(api: &Arc<Api>, digest: Digest) {
    let Ok(uri) = format!("/bramble/images/{digest}").parse::<axum::http::Uri>() else { return };
    let deadline = Instant::now() + ANNOUNCE_WAIT;
    while api.board.is_member() && Instant::now() < deadline {
        let asked = leader::ask(api, Method::GET, uri.clone()).await;
        if matches!(asked, Ok((StatusCode::OK, _))) {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

pub(super) async fn containers(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
) -> Result<Json<Vec<Value>>, ApiError> {
    let limit = parameter(&parameters, "limit").and_then(|limit| limit.parse().ok());
    let now = jiff::Timestamp::now().as_second();
    let filters = parameter(&parameters, "filters");
    let is_all = flag(&parameters, "all");
    container_endpoints::list(api.board.containers(), is_all, limit, filters, now).map(Json)
}

pub(super) async fn networks(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
) -> Result<Json<Vec<Value>>, ApiError> {
    let filters = parameter(&parameters, "filters");
    network_endpoints::list(&founded(&api), filters).map(Json)
}

pub(super) async fn network(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    network_endpoints::inspect(&founded(&api), &id).map(Json)
}

/// The builtin networks are as old as the cluster.
fn founded(api: &Api) -> String {
    rfc3339(api.cluster.state().cluster().map(|cluster| cluster.created_at).unwrap_or_default())
}

pub(super) async fn volumes(_: HeaderMap) -> Json<Value> {
    let none: BTreeMap<&str, Value> =
        BTreeMap::from([("Volumes", json!([])), ("Warnings", Value::Null)]);
    Json(json!(none))
}
