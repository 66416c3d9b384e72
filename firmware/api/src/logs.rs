//! Logs of services and tasks, gathered from the boards that run them.
//!
//! A board hands out the logs of its own containers (`/bramble/log`); whoever answers the request for
//! a service's log reads from every board that has a part of it, over one connection each, and
//! merges the lines: by their time as far as they are there, as they come when they are followed.

mod gather;
mod line;
mod merge;
mod relay;

use std::sync::Arc;

use axum::{
    body::{Body, Bytes},
    extract::{Path, State},
    http::header,
    response::{IntoResponse, Response},
};
use bramble_cluster::{ClusterState, NodeId, ServiceId, Task, TaskId, TaskState};
use futures_util::StreamExt;
use tokio::sync::mpsc;

use crate::{
    board::LogQuery,
    error::ApiError,
    frames::{Channel, frame},
    lookup,
    router::{Api, Parameters, flag, parameter},
};

pub(crate) use line::Style;

/// Frames that may wait for a slow client, and lines that may wait for their merger.
const WAITING: usize = 256;

/// A task with a log, and where that is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Source {
    /// Its service.
    service: ServiceId,
    /// Which.
    task: TaskId,
    /// Where it runs or ran.
    node: NodeId,
}

/// Whose log is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    /// All tasks of a service, those to come included.
    Service(ServiceId),
    /// One task.
    Task(TaskId),
}

impl Subject {
    /// The tasks that have a log now.
    fn sources(self, state: &ClusterState) -> Vec<Source> {
        match self {
            Self::Service(service) => {
                state.tasks_of(service).filter_map(|task| source(task)).collect()
            }
            Self::Task(task) => state.task(task).and_then(source).into_iter().collect(),
        }
    }

    /// Whether it is still there, so that more may come.
    fn is_there(self, state: &ClusterState) -> bool {
        match self {
            Self::Service(service) => state.service(service).is_some(),
            Self::Task(task) => state.task(task).is_some(),
        }
    }
}

/// A task has a log once its container was started.
fn source(task: &Task) -> Option<Source> {
    let has_run = task.started_at.is_some() || task.status.state >= TaskState::Running;
    let node = task.node.filter(|_| has_run)?;
    Some(Source { service: task.service, task: task.id, node })
}

/// `GET /services/{id}/logs`
pub(crate) async fn service(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let state = api.cluster.state();
    let service = lookup::service(&state, &id)?;
    let style = Style::parse(&parameters, service.spec.task.container.has_terminal)?;
    Ok(answer(&api, Subject::Service(service.id), style, query(&parameters)?))
}

/// `GET /tasks/{id}/logs`
pub(crate) async fn task(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let state = api.cluster.state();
    let task = lookup::task(&state, &id)?;
    let style = Style::parse(&parameters, task.spec.container.has_terminal)?;
    Ok(answer(&api, Subject::Task(task.id), style, query(&parameters)?))
}

fn answer(api: &Arc<Api>, subject: Subject, style: Style, query: LogQuery) -> Response {
    let (frames, written) = mpsc::channel(WAITING);
    let api = Arc::clone(api);
    tokio::spawn(async move {
        if query.is_followed {
            gather::follow(&api, subject, style, query, frames).await;
        } else {
            gather::once(&api, subject, style, query, frames).await;
        }
    });
    let content_type = if style.is_raw {
        "application/vnd.docker.raw-stream"
    } else {
        "application/vnd.docker.multiplexed-stream"
    };
    ([(header::CONTENT_TYPE, content_type)], body(written)).into_response()
}

fn body(frames: mpsc::Receiver<Bytes>) -> Body {
    let stream = futures_util::stream::unfold(frames, |mut frames| async move {
        let frame = frames.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), frames))
    });
    Body::from_stream(stream)
}

/// `GET /bramble/log?tasks=…`: the logs of containers of this board, those that it has. Frames as
/// Docker's, each line behind its task and its time.
pub(crate) async fn local(
    State(api): State<Arc<Api>>,
    parameters: Parameters,
) -> Result<Response, ApiError> {
    let tasks = parameter(&parameters, "tasks").unwrap_or_default();
    let tasks: Result<Vec<TaskId>, _> = tasks.split(',').map(str::parse).collect();
    let tasks = tasks.map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let entries = gather::of_this_board(&api, &tasks, query(&parameters)?).await?;
    let frames = entries.map(|entry| {
        let bytes = match entry {
            Ok((task, line)) => line::passed_on(task, &line),
            Err(error) => frame(Channel::Engine, error.to_string().as_bytes()),
        };
        Ok::<_, std::convert::Infallible>(Bytes::from(bytes))
    });
    Ok(Body::from_stream(frames).into_response())
}

/// Which part of a log a request wants.
fn query(parameters: &Parameters) -> Result<LogQuery, ApiError> {
    let tail = parameter(parameters, "tail").filter(|tail| !matches!(*tail, "" | "all"));
    let tail = tail.map(|tail| {
        tail.parse()
            .map_err(|_| ApiError::BadRequest(format!("invalid tail `{tail}`: a number, or `all`")))
    });
    Ok(LogQuery {
        is_followed: flag(parameters, "follow"),
        tail: tail.transpose()?,
        since: instant(parameters, "since")?,
        until: instant(parameters, "until")?,
    })
}

/// Seconds and parts of one since 1970, or RFC 3339, in nanoseconds; 0 is never.
pub(crate) fn instant(parameters: &Parameters, name: &str) -> Result<Option<u64>, ApiError> {
    let text = parameter(parameters, name).unwrap_or_default();
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    line::nanoseconds(text).map(Some).ok_or_else(|| {
        let message = format!("invalid {name} `{text}`: seconds since 1970 are expected");
        ApiError::BadRequest(message)
    })
}
