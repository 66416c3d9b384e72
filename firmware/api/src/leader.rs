//! Bringing a request to the leader, from whichever board it arrives at.
//!
//! The leader answers from its state. Any other board passes the request on, as it is, and passes
//! the answer back. While there is no leader, a manager answers reads from its own state and says
//! how old that is; changes fail at once if the quorum is lost, and wait for the election otherwise.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    body::{Body, Bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bramble_cluster::NodeId;
use hyper_util::rt::TokioIo;

use crate::{body::JSON_BYTES, endpoints::swarm::SEEKING, error::ApiError, router::Api};

/// Says that a request was passed on, by whom. It is not passed on again.
pub const FORWARDED: HeaderName = HeaderName::from_static("bramble-forwarded-by");
/// Says how many seconds old the state is that an answer was made from.
pub const STATE_AGE: HeaderName = HeaderName::from_static("bramble-state-age");

/// How long a change waits for an election to end. Elections take less than a second; the leader's
/// loss is noticed in as much.
pub(crate) const ELECTION_WAIT: Duration = Duration::from_secs(3);
/// How long a read does, before the board answers by itself.
const READ_WAIT: Duration = Duration::from_secs(1);
/// How long the leader may take to begin its answer.
const ANSWER_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at who leads.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Why a request could not be passed on.
enum Lost {
    /// It never got there; it can be sent again.
    NotSent,
    /// It may have got there.
    NoAnswer,
}

/// The layer around all that needs the cluster's state.
pub(crate) async fn route(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    if api.cluster.leadership.borrow().is_leader_here {
        return next.run(request).await;
    }
    if request.headers().contains_key(FORWARDED) {
        return ApiError::Misdirected.into_response();
    }
    match pass_on(&api, request).await {
        Ok(Passed::Answered(response)) => response,
        Ok(Passed::Own(request)) => answer_by_itself(&api, request, next).await,
        Err(error) => error.into_response(),
    }
}

/// What became of a request.
enum Passed {
    /// The leader answered.
    Answered(Response),
    /// There is no leader; this board can answer it.
    Own(Request),
}

async fn pass_on(api: &Api, request: Request) -> Result<Passed, ApiError> {
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, JSON_BYTES).await.map_err(|_| {
        let message = format!("the body is incomplete or longer than {JSON_BYTES} bytes");
        ApiError::BadRequest(message)
    })?;
    let is_read = matches!(parts.method, Method::GET | Method::HEAD);
    let started = Instant::now();
    loop {
        if let Some(leader) = (api.cluster.leader)() {
            if leader == api.cluster.node {
                // Elected, and still applying what earlier leaders committed.
                if api.cluster.leadership.borrow().is_leader_here {
                    return Ok(Passed::Own(Request::from_parts(parts, Body::from(body))));
                }
            } else {
                let lost = until_deposed(api, leader);
                match forward(api, leader, &parts, Body::from(body.clone()), lost).await {
                    Ok(response) if response.status() != StatusCode::MISDIRECTED_REQUEST => {
                        return Ok(Passed::Answered(response));
                    }
                    Err(Lost::NoAnswer) if !is_read => {
                        return Err(ApiError::Unavailable(
                            "the leader was lost before it answered; the change may or may not \
                             have been made"
                                .to_owned(),
                        ));
                    }
                    Ok(_) | Err(_) => {}
                }
            }
        }
        let has_state = api.cluster.states.borrow().cluster().is_some();
        if is_read && has_state && started.elapsed() >= READ_WAIT {
            return Ok(Passed::Own(Request::from_parts(parts, Body::from(body))));
        }
        if let Some(error) = no_quorum(api) {
            return if is_read && has_state {
                Ok(Passed::Own(Request::from_parts(parts, Body::from(body))))
            } else {
                Err(error)
            };
        }
        if started.elapsed() >= ELECTION_WAIT {
            return Err(nobody_leads(api));
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// The error of changes while the quorum is lost; `None` while it is not, or nobody here can tell.
///
/// One that was lost a moment ago may be an election, or a board that has just started and not yet
/// heard of the others.
fn no_quorum(api: &Api) -> Option<ApiError> {
    let leadership = api.cluster.leadership.borrow();
    let is_lost = leadership.leader.is_none()
        && leadership.quorum_lost.is_some_and(|since| since.elapsed() >= READ_WAIT)
        && leadership.reachable.len() <= leadership.voters.len() / 2;
    is_lost.then(|| {
        ApiError::Unavailable(format!(
            "no quorum: {} of {} managers reachable",
            leadership.reachable.len(),
            leadership.voters.len()
        ))
    })
}

fn nobody_leads(api: &Api) -> ApiError {
    if !api.board.is_member() {
        return ApiError::Unavailable(SEEKING.to_owned());
    }
    let leadership = api.cluster.leadership.borrow();
    if leadership.voters.is_empty() {
        return ApiError::Unavailable(
            "no manager answers: this board is a worker and cannot tell what the cluster does"
                .to_owned(),
        );
    }
    ApiError::Unavailable(format!(
        "no quorum: {} of {} managers reachable",
        leadership.reachable.len(),
        leadership.voters.len()
    ))
}

/// Answers from this board's own state, and says how old it is.
async fn answer_by_itself(api: &Api, request: Request, next: Next) -> Response {
    let age = api.cluster.leadership.borrow().state_age();
    let is_leader = api.cluster.leadership.borrow().is_leader_here;
    let mut response = next.run(request).await;
    if !is_leader && let Ok(age) = HeaderValue::from_str(&age.as_secs().to_string()) {
        response.headers_mut().insert(STATE_AGE, age);
    }
    response
}

/// Ends when a board is no longer held for the leader: there is no use in waiting for it then.
async fn until_deposed(api: &Api, leader: NodeId) {
    while (api.cluster.leader)() == Some(leader) {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Sends a request to another board's API and hands back what it answers, unless the board is
/// `lost` before.
async fn forward(
    api: &Api,
    node: NodeId,
    parts: &Parts,
    body: Body,
    lost: impl Future<Output = ()>,
) -> Result<Response, Lost> {
    let mut lost = pin!(lost);
    let dialled = tokio::select! {
        dialled = (api.cluster.dial)(node) => dialled,
        () = &mut lost => return Err(Lost::NotSent),
    };
    let stream = dialled.map_err(|error| {
        tracing::debug!(%node, %error, "a request was not passed on");
        Lost::NotSent
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|_| Lost::NotSent)?;
    tokio::spawn(connection);
    let mut request = Request::new(body);
    *request.method_mut() = parts.method.clone();
    *request.uri_mut() = parts.uri.clone();
    *request.headers_mut() = forwarded_headers(&parts.headers, api.cluster.node);
    tokio::select! {
        answer = sender.send_request(request) => {
            answer.map(|response| response.map(Body::new)).map_err(|_| Lost::NoAnswer)
        }
        () = tokio::time::sleep(ANSWER_WAIT) => Err(Lost::NoAnswer),
        () = lost => Err(Lost::NoAnswer),
    }
}

fn forwarded_headers(headers: &HeaderMap, node: NodeId) -> HeaderMap {
    let mut forwarded = HeaderMap::new();
    for name in [header::CONTENT_TYPE, header::ACCEPT] {
        if let Some(value) = headers.get(&name) {
            forwarded.insert(name, value.clone());
        }
    }
    forwarded.insert(header::HOST, HeaderValue::from_static("bramble"));
    if let Ok(node) = HeaderValue::from_str(&node.to_string()) {
        forwarded.insert(FORWARDED, node);
    }
    forwarded
}

/// Reads from another board what only it knows, such as a log.
///
/// # Errors
/// In words that name the board.
pub(crate) async fn fetch(api: &Api, node: NodeId, uri: Uri) -> Result<Response, ApiError> {
    let (parts, ()) = axum::http::Request::builder()
        .uri(uri)
        .body(())
        .map_err(|error| ApiError::internal(&error))?
        .into_parts();
    pass_to(api, node, Request::from_parts(parts, Body::empty())).await
}

/// Sends a request to the one board that it is about, its body as it arrives, and hands back what
/// that board answers.
///
/// # Errors
/// In words that name the board.
pub(crate) async fn pass_to(
    api: &Api,
    node: NodeId,
    request: Request,
) -> Result<Response, ApiError> {
    let (parts, body) = request.into_parts();
    forward(api, node, &parts, body, std::future::pending()).await.map_err(|_| {
        let hostname = api.cluster.state().node(node).map(|node| node.description.hostname.clone());
        let name = hostname.unwrap_or_else(|| node.to_string());
        ApiError::Unavailable(format!("node {name} is not available"))
    })
}

/// Asks the leader, whichever board that is, on behalf of this board.
pub(crate) async fn ask(
    api: &Arc<Api>,
    method: Method,
    uri: Uri,
) -> Result<(StatusCode, Bytes), ApiError> {
    let mut request = Request::new(Body::empty());
    *request.method_mut() = method;
    *request.uri_mut() = uri;
    let router = crate::router::cluster_routes(api).with_state(Arc::clone(api));
    let answer = tower::ServiceExt::oneshot(router, request).await;
    let response = answer.unwrap_or_else(|never| match never {});
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), JSON_BYTES)
        .await
        .map_err(|error| ApiError::internal(&error))?;
    Ok((status, bytes))
}
