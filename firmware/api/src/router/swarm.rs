//! `/swarm`.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, StatusCode},
};
use bramble_cluster::JoinSecrets;
use serde_json::Value;

use super::{Api, Parameters, flag, objects::random, version};
use crate::{
    body,
    endpoints::swarm::{self, Rotation},
    error::ApiError,
    leader,
};

/// How long whoever leaves has to read the answer.
pub(super) const FAREWELL: Duration = Duration::from_millis(200);

pub(super) async fn inspect(State(api): State<Arc<Api>>) -> Result<Json<Value>, ApiError> {
    swarm::inspect(&api.cluster.state(), &api.cluster.tokens).map(Json)
}

pub(super) async fn update(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, ApiError> {
    if flag(&parameters, "rotateManagerUnlockKey") {
        return Err(no_lock());
    }
    let request = body::json(&headers, body).await?;
    let rotation = Rotation {
        worker: flag(&parameters, "rotateWorkerToken"),
        manager: flag(&parameters, "rotateManagerToken"),
    };
    let fresh = JoinSecrets { worker: random()?, manager: random()? };
    let version = version(&parameters)?;
    let commands = swarm::update(&api.cluster.state(), version, request, rotation, fresh)?;
    for command in commands {
        api.cluster.change(command).await?;
    }
    Ok(StatusCode::OK)
}

pub(super) async fn init(State(api): State<Arc<Api>>) -> ApiError {
    swarm::init(api.board.is_member())
}

pub(super) async fn join(State(api): State<Arc<Api>>) -> ApiError {
    swarm::join(api.board.is_member())
}

pub(super) async fn leave(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
) -> Result<StatusCode, ApiError> {
    if !api.board.is_member() {
        let message = "this node is not part of a swarm";
        return Err(ApiError::Unavailable(message.to_owned()));
    }
    let is_forced = flag(&parameters, "force");
    let is_alone = api.cluster.state().nodes().len() == 1;
    if !(is_alone && is_forced) {
        let node = api.cluster.node;
        let path = format!("/bramble/nodes/{node}?force={}", u8::from(is_forced));
        let uri = path.parse().map_err(|_| ApiError::Internal(format!("no such path: {path}")))?;
        let (status, answer) = leader::ask(&api, Method::DELETE, uri).await?;
        if !status.is_success() {
            return Err(refusal(status, &answer));
        }
    }
    // The board starts afresh when it has left, and with it this very connection: answer first.
    tokio::spawn(async move {
        tokio::time::sleep(FAREWELL).await;
        if let Err(error) = api.board.leave().await {
            tracing::error!(%error, "the cluster let this board go, but it could not clean up");
        }
    });
    Ok(StatusCode::OK)
}

/// The leader's refusal, passed on.
fn refusal(status: StatusCode, answer: &[u8]) -> ApiError {
    let message = serde_json::from_slice::<Value>(answer)
        .ok()
        .and_then(|answer| answer.get("message")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| format!("the leader answered {status}"));
    match status {
        StatusCode::BAD_REQUEST => ApiError::BadRequest(message),
        StatusCode::CONFLICT => ApiError::Conflict(message),
        StatusCode::NOT_FOUND => ApiError::Missing(message),
        _ => ApiError::Unavailable(message),
    }
}

pub(super) async fn unlock() -> ApiError {
    ApiError::Conflict("swarm is not locked".to_owned())
}

pub(super) async fn unlock_key() -> ApiError {
    no_lock()
}

fn no_lock() -> ApiError {
    ApiError::BadRequest(
        "autolock is not supported: there is no unlock key, a board's keys lie on its own disk"
            .to_owned(),
    )
}
