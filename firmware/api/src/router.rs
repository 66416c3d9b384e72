//! Which path means what. The only place that touches the world: each route looks, lets an endpoint
//! decide, proposes what it decided and writes the answer.

mod bramble;
mod local;
mod objects;
mod os;
mod swarm;

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Router,
    extract::{Query, Request},
    http::{HeaderValue, Method, Uri, header},
    middleware::{self, Next},
    response::Response,
    routing::{delete, get, post},
};
use bramble_cluster::Version;

use crate::{
    board::Board,
    cluster::Cluster,
    error::ApiError,
    leader, logs,
    types::{InvalidField, system::API_VERSION},
};

/// What every route can use.
#[derive(Clone)]
pub(crate) struct Api {
    /// The cluster.
    pub(crate) cluster: Cluster,
    /// The board that this runs on.
    pub(crate) board: Arc<dyn Board>,
}

/// Parameters behind the `?`.
pub(crate) type Parameters = Query<BTreeMap<String, String>>;

/// The whole API of a board.
pub fn router(cluster: Cluster, board: Arc<dyn Board>) -> Router {
    let api = Arc::new(Api { cluster, board });
    Router::new()
        .merge(local_routes())
        .merge(os_routes(&api))
        .merge(cluster_routes(&api))
        .fallback(unknown)
        .method_not_allowed_fallback(unknown)
        .layer(middleware::from_fn(sign))
        .with_state(api)
}

/// What every board answers for itself.
fn local_routes() -> Router<Arc<Api>> {
    Router::new()
        .route("/_ping", get(local::ping))
        .route("/version", get(local::version))
        .route("/info", get(local::info))
        .route("/auth", post(local::auth))
        .route("/system/df", get(local::disk_usage))
        .route("/images/json", get(local::images))
        .route("/images/load", post(local::load_images))
        .route(
            "/images/{*path}",
            get(local::image).post(local::tag_image).delete(local::remove_image),
        )
        .route("/containers/json", get(local::containers))
        .route("/networks", get(local::networks))
        .route("/networks/{id}", get(local::network))
        .route("/volumes", get(local::volumes))
        .route("/swarm/init", post(swarm::init))
        .route("/swarm/join", post(swarm::join))
        .route("/swarm/leave", post(swarm::leave))
        .route("/swarm/unlock", post(swarm::unlock))
        .route("/swarm/unlockkey", get(swarm::unlock_key))
        .route("/bramble/board", get(bramble::board))
        .route("/bramble/log", get(logs::local))
}

/// What every board answers about its operating system, and fetches about another's.
fn os_routes(api: &Arc<Api>) -> Router<Arc<Api>> {
    Router::new()
        .route("/bramble/os", get(os::status).post(os::install))
        .route("/bramble/os/try", post(os::try_once))
        .route("/bramble/os/commit", post(os::commit))
        .route("/bramble/power/reboot", post(os::reboot))
        .route("/bramble/power/off", post(os::power_off))
        .route_layer(middleware::from_fn_with_state(Arc::clone(api), os::to_its_board))
}

/// What needs the cluster's state: the leader answers it.
pub(crate) fn cluster_routes(api: &Arc<Api>) -> Router<Arc<Api>> {
    Router::new()
        .route("/nodes", get(objects::nodes))
        .route("/nodes/{id}", get(objects::node).delete(objects::remove_node))
        .route("/nodes/{id}/update", post(objects::update_node))
        .route("/services", get(objects::services))
        .route("/services/create", post(objects::create_service))
        .route("/services/{id}", get(objects::service).delete(objects::remove_service))
        .route("/services/{id}/update", post(objects::update_service))
        .route("/services/{id}/logs", get(logs::service))
        .route("/tasks", get(objects::tasks))
        .route("/tasks/{id}", get(objects::task))
        .route("/tasks/{id}/logs", get(logs::task))
        .route("/distribution/{*path}", get(objects::distribution))
        .route("/secrets", get(objects::empty_list))
        .route("/configs", get(objects::empty_list))
        .route("/swarm", get(swarm::inspect))
        .route("/swarm/update", post(swarm::update))
        .route("/events", get(bramble::docker_events))
        .route("/bramble/cluster", get(bramble::cluster))
        .route("/bramble/state", get(bramble::state))
        .route("/bramble/vitals", get(bramble::vitals))
        .route("/bramble/events", get(bramble::events))
        .route("/bramble/swarm-info", get(bramble::swarm_info))
        .route("/bramble/images/{digest}", get(bramble::image))
        .route("/bramble/nodes/{id}", delete(bramble::remove_leaving))
        .route_layer(middleware::from_fn_with_state(Arc::clone(api), leader::route))
}

/// Puts Docker's headers on every answer.
async fn sign(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert("Api-Version", HeaderValue::from_static(API_VERSION));
    headers.insert("Docker-Experimental", HeaderValue::from_static("false"));
    headers.insert("Ostype", HeaderValue::from_static("linux"));
    headers.insert(header::SERVER, HeaderValue::from_static("Bramble"));
    response
}

/// What Docker has and Bramble has not; or nobody has.
async fn unknown(method: Method, uri: Uri) -> ApiError {
    let path = uri.path();
    let advice = match path.split('/').nth(1).unwrap_or_default() {
        "containers" | "exec" => {
            "containers are run by services here: `docker service create` starts some"
        }
        "build" | "session" | "grpc" => {
            "Bramble does not build images: build elsewhere, then `docker load` the archive"
        }
        "images" => "Bramble has no registry client yet: `docker load` or `bramble image load`",
        "networks" => "overlay networks are not supported yet: `--network host` is",
        "volumes" => "volumes are made by the services that mount them",
        "secrets" | "configs" | "plugins" | "swarm" => "Bramble does not support this",
        _ => return ApiError::Missing(format!("page not found: {method} {path}")),
    };
    ApiError::Unsupported(format!("{method} {path} is not supported: {advice}"))
}

/// Whether a parameter says yes, as Docker reads it.
pub(crate) fn flag(parameters: &Parameters, name: &str) -> bool {
    parameters.get(name).is_some_and(|value| {
        !matches!(value.to_ascii_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
    })
}

/// A parameter, if it is there.
pub(crate) fn parameter<'a>(parameters: &'a Parameters, name: &str) -> Option<&'a str> {
    parameters.get(name).map(String::as_str)
}

/// The version that a change was made for; it must be there.
pub(crate) fn version(parameters: &Parameters) -> Result<Version, ApiError> {
    let text = parameter(parameters, "version").unwrap_or_default();
    text.parse().map(Version).map_err(|_| {
        let reason = format!("`{text}` is not the version of an object: its Version.Index is");
        InvalidField::new("version", reason).into()
    })
}

/// `name/json` without its end, for names that hold slashes.
pub(crate) fn without_suffix<'a>(path: &'a str, suffix: &str) -> Option<&'a str> {
    path.strip_suffix(suffix).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests;
