//! `/bramble/os` and `/bramble/power`: the operating system and the power of this board, or of
//! another one by `?node=`.

use std::{convert::Infallible, sync::Arc};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bramble_cluster::NodeId;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::mpsc;
use tokio_util::io::StreamReader;

use super::{Api, Parameters, parameter};
use crate::{
    board::Power,
    error::ApiError,
    leader::{self, FORWARDED},
    types::os::{OsProgress, OsStatus},
};

/// Lines of progress that may wait for the client to read them.
const LINES: usize = 64;

/// Brings what is meant for another board there, its body as it arrives.
pub(super) async fn to_its_board(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
    request: Request,
    next: Next,
) -> Response {
    let Some(name) = parameter(&parameters, "node") else { return next.run(request).await };
    let Ok(node) = name.parse::<NodeId>() else {
        return ApiError::NotFound { kind: "node", name: name.to_owned() }.into_response();
    };
    if node == api.cluster.node {
        return next.run(request).await;
    }
    if request.headers().contains_key(FORWARDED) {
        return ApiError::Misdirected.into_response();
    }
    leader::pass_to(&api, node, request).await.unwrap_or_else(IntoResponse::into_response)
}

/// `GET /bramble/os`
pub(super) async fn status(State(api): State<Arc<Api>>) -> Json<OsStatus> {
    Json(api.board.os_status().await)
}

/// `POST /bramble/os`: an update file on its way into the slot that does not run. The answer begins
/// at once and tells how it goes, a line of JSON each; the last one says how it ended.
pub(super) async fn install(State(api): State<Arc<Api>>, body: Body) -> Result<Response, ApiError> {
    let status = api.board.os_status().await;
    if !status.is_appliance {
        return Err(ApiError::Unsupported(status.problem.unwrap_or_default()));
    }
    let (tell, mut told) = mpsc::channel(LINES);
    let file = body.into_data_stream().map_err(std::io::Error::other);
    let file = Box::new(StreamReader::new(Box::pin(file)));
    tokio::spawn(async move {
        let installed = api.board.os_install(file, tell.clone()).await;
        let last = match installed {
            Ok(version) => OsProgress::Staged { version },
            Err(error) => OsProgress::Failed(error.to_string()),
        };
        // A client that has gone away changes nothing for the slot.
        let _ = tell.send(last).await;
    });
    let lines = stream::poll_fn(move |context| told.poll_recv(context)).map(|progress| {
        let line = serde_json::to_string(&progress).unwrap_or_default();
        Ok::<_, Infallible>(line + "\n")
    });
    // The first line is empty: it carries the head of the answer past everything that waits for it.
    let lines = stream::iter([Ok("\n".to_owned())]).chain(lines);
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::from_stream(lines)).into_response())
}

/// `POST /bramble/os/try`: reboots into the slot that an update was written to.
pub(super) async fn try_once(State(api): State<Arc<Api>>) -> Result<StatusCode, ApiError> {
    api.board.os_try().await?;
    Ok(StatusCode::ACCEPTED)
}

/// `POST /bramble/os/commit`: keeps what runs on trial without waiting until it has proven healthy.
pub(super) async fn commit(State(api): State<Arc<Api>>) -> Result<StatusCode, ApiError> {
    api.board.os_commit().await?;
    Ok(StatusCode::OK)
}

/// `POST /bramble/power/reboot`
pub(super) async fn reboot(State(api): State<Arc<Api>>) -> Result<StatusCode, ApiError> {
    api.board.end(Power::Reboot).await?;
    Ok(StatusCode::ACCEPTED)
}

/// `POST /bramble/power/off`
pub(super) async fn power_off(State(api): State<Arc<Api>>) -> Result<StatusCode, ApiError> {
    api.board.end(Power::Off).await?;
    Ok(StatusCode::ACCEPTED)
}

#[cfg(test)]
mod tests;
