//! Nodes, services, tasks and the images that services name.

use std::sync::Arc;

use axum::{
    Json,
    body::Body,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use bramble_cluster::{Applied, ServiceId};
use serde_json::{Value, json};

use super::{Api, Parameters, flag, parameter, version, without_suffix};
use crate::{
    body,
    endpoints::{nodes as node_endpoints, services as service_endpoints, tasks as task_endpoints},
    error::ApiError,
    lookup,
    types::{image, node::Node, service::Service, service::ServiceCreated, task::Task},
};

type Answer<T> = Result<Json<T>, ApiError>;

pub(super) async fn nodes(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
) -> Answer<Vec<Node>> {
    let filters = parameter(&parameters, "filters");
    node_endpoints::list(&api.cluster.state(), &api.cluster.standings(), filters).map(Json)
}

pub(super) async fn node(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Answer<Node> {
    node_endpoints::inspect(&api.cluster.state(), &api.cluster.standings(), &id).map(Json)
}

pub(super) async fn update_node(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    let request = body::json(&headers, body).await?;
    let version = version(&parameters)?;
    let command = node_endpoints::update(&api.cluster.state(), &id, version, request)?;
    api.cluster.change(command).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn remove_node(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    let is_forced = flag(&parameters, "force");
    let command = node_endpoints::remove(&api.cluster.state(), &id, is_forced)?;
    api.cluster.change(command).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn services(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
) -> Answer<Vec<Service>> {
    let filters = parameter(&parameters, "filters");
    let has_status = flag(&parameters, "status");
    service_endpoints::list(&api.cluster.state(), filters, has_status).map(Json)
}

pub(super) async fn service(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Answer<Service> {
    service_endpoints::inspect(&api.cluster.state(), &id).map(Json)
}

pub(super) async fn create_service(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ServiceCreated>), ApiError> {
    let request = body::json(&headers, body).await?;
    let id = ServiceId::from_random(u128::from_le_bytes(random()?));
    let planned = service_endpoints::create(&api.cluster.state(), id, request)?;
    let id = match api.cluster.change(planned.command).await? {
        Applied::ServiceCreated(id) => id,
        Applied::Done | Applied::Unchanged => id,
    };
    let created = ServiceCreated { id: id.to_string(), warnings: planned.warnings };
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn update_service(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Answer<Value> {
    let version = version(&parameters)?;
    let request = body::json(&headers, body).await?;
    let state = api.cluster.state();
    let planned = match parameter(&parameters, "rollback") {
        Some("previous") => service_endpoints::rollback(&state, &id, version)?,
        None | Some("") => service_endpoints::update(&state, &id, version, request)?,
        Some(other) => {
            let message =
                format!("invalid rollback `{other}`: only `previous` can be gone back to");
            return Err(ApiError::BadRequest(message));
        }
    };
    api.cluster.change(planned.command).await?;
    Ok(Json(json!({"Warnings": planned.warnings})))
}

pub(super) async fn remove_service(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let command = service_endpoints::remove(&api.cluster.state(), &id)?;
    api.cluster.change(command).await?;
    Ok(StatusCode::OK)
}

pub(super) async fn tasks(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
) -> Answer<Vec<Task>> {
    task_endpoints::list(&api.cluster.state(), parameter(&parameters, "filters")).map(Json)
}

pub(super) async fn task(State(api): State<Arc<Api>>, Path(id): Path<String>) -> Answer<Task> {
    task_endpoints::inspect(&api.cluster.state(), &id).map(Json)
}

/// What Docker asks the registry for, to pin a service to a digest.
pub(super) async fn distribution(
    State(api): State<Arc<Api>>,
    Path(path): Path<String>,
) -> Answer<Value> {
    let name = without_suffix(&path, "/json")
        .ok_or_else(|| ApiError::Missing(format!("page not found: /distribution/{path}")))?;
    let state = api.cluster.state();
    let image = lookup::image(state.images().values().map(AsRef::as_ref), name)?;
    Ok(Json(image::distribution(image.digest, image.size)))
}

/// Secrets and configs: there are none.
pub(super) async fn empty_list() -> Json<Value> {
    Json(json!([]))
}

/// Random bytes of the operating system.
pub(super) fn random<const N: usize>() -> Result<[u8; N], ApiError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| ApiError::Internal(format!("no random numbers: {error}")))?;
    Ok(bytes)
}
