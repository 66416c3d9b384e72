//! Reading the logs of several tasks, from the boards that have them, into one stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
};
use bramble_cluster::{NodeState, TaskId};
use futures_util::StreamExt;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Source, Style, Subject, WAITING, line::read_timed};
use crate::{
    board::{BoardError, LogLine, LogQuery},
    error::ApiError,
    frames::{Channel, HEADER_BYTES, Header},
    leader,
    router::Api,
};

/// Bytes of a line from another board at most; a board cuts longer ones.
const LINE_BYTES: usize = 1 << 20;

/// A line and where it is from.
type Entry = (Source, LogLine);

/// What is there now, the oldest line first.
pub(super) async fn once(
    api: &Arc<Api>,
    subject: Subject,
    style: Style,
    query: LogQuery,
    frames: mpsc::Sender<Bytes>,
) {
    let sources = subject.sources(&api.cluster.state());
    let mut readers = JoinSet::new();
    let mut heads: Vec<(Option<Entry>, mpsc::Receiver<Entry>)> = Vec::new();
    for source in sources {
        let (entries, received) = mpsc::channel(WAITING);
        readers.spawn(read(Arc::clone(api), source, query, entries));
        heads.push((None, received));
    }
    loop {
        for (head, received) in &mut heads {
            if head.is_none() {
                *head = received.recv().await;
            }
        }
        heads.retain(|(head, _)| head.is_some());
        let oldest =
            heads.iter_mut().min_by_key(|(head, _)| head.as_ref().map(|(_, line)| line.at));
        let Some((source, line)) = oldest.and_then(|(head, _)| head.take()) else { break };
        if let Some(frame) = style.write(&source, &line)
            && frames.send(frame.into()).await.is_err()
        {
            return;
        }
    }
    let problems = problems(readers).await;
    if !problems.is_empty() {
        let message = format!(
            "warning: incomplete log stream. some logs could not be retrieved for the following \
             reasons: {}\n",
            problems.join(", ")
        );
        // The client may have gone; then nobody misses it.
        let _ = frames.send(style.complain(&message).into()).await;
    }
}

async fn problems(mut readers: JoinSet<Result<(), ApiError>>) -> Vec<String> {
    let mut problems = BTreeSet::new();
    while let Some(ended) = readers.join_next().await {
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                problems.insert(error.to_string());
            }
            Err(error) => {
                problems.insert(error.to_string());
            }
        }
    }
    problems.into_iter().collect()
}

/// What happened while a log is followed.
enum News {
    Entry(Entry),
    Changed,
    ReaderEnded(Source, Result<(), ApiError>),
    Over,
}

/// What is there now and what comes, also from tasks that start later. A board that was lost is
/// read on from where it was, when it is back.
pub(super) async fn follow(
    api: &Arc<Api>,
    subject: Subject,
    style: Style,
    query: LogQuery,
    frames: mpsc::Sender<Bytes>,
) {
    let mut states = api.cluster.states.clone();
    let (entries, mut received) = mpsc::channel::<Entry>(WAITING);
    let mut readers = JoinSet::new();
    let mut started = Started { known: BTreeSet::new(), seen: BTreeMap::new(), first: Some(query) };
    loop {
        let state = Arc::clone(&states.borrow_and_update());
        for source in subject.sources(&state) {
            if let Some(query) = started.begin(source.task, query) {
                let reading = read(Arc::clone(api), source, query, entries.clone());
                readers.spawn(async move { (source, reading.await) });
            }
        }
        started.first = None;
        let may_come = match subject {
            Subject::Service(_) => subject.is_there(&state),
            Subject::Task(task) => !started.known.contains(&task) && subject.is_there(&state),
        };
        loop {
            if readers.is_empty() && received.is_empty() && !may_come {
                return;
            }
            let news = tokio::select! {
                Some(entry) = received.recv() => News::Entry(entry),
                Some(Ok((source, ended))) = readers.join_next(), if !readers.is_empty() => {
                    News::ReaderEnded(source, ended)
                }
                changed = states.changed() => changed.map_or(News::Over, |()| News::Changed),
                () = frames.closed() => News::Over,
            };
            match news {
                News::Entry((source, line)) => {
                    started.seen.insert(source.task, line.at);
                    if let Some(frame) = style.write(&source, &line)
                        && frames.send(frame.into()).await.is_err()
                    {
                        return;
                    }
                }
                News::ReaderEnded(source, Err(_)) => {
                    started.known.remove(&source.task);
                }
                News::ReaderEnded(_, Ok(())) => {}
                News::Changed => break,
                News::Over => return,
            }
        }
    }
}

/// Which logs are read, and how far.
struct Started {
    /// The tasks whose log is read, or was read to its end.
    known: BTreeSet<TaskId>,
    /// The time of the last line of each.
    seen: BTreeMap<TaskId, u64>,
    /// What was asked for, until the first tasks are known.
    first: Option<LogQuery>,
}

impl Started {
    /// Which part of a task's log is to be read now; `None` if it is read already.
    fn begin(&mut self, task: TaskId, query: LogQuery) -> Option<LogQuery> {
        if !self.known.insert(task) {
            return None;
        }
        if let Some(seen) = self.seen.get(&task) {
            return Some(LogQuery { tail: None, since: Some(seen.saturating_add(1)), ..query });
        }
        // What started after the question is shown from its beginning.
        Some(self.first.unwrap_or(LogQuery { tail: None, ..query }))
    }
}

/// Reads one task's log. That there is none (any more) is no error.
async fn read(
    api: Arc<Api>,
    source: Source,
    query: LogQuery,
    entries: mpsc::Sender<Entry>,
) -> Result<(), ApiError> {
    if source.node == api.cluster.node {
        let mut log = match api.board.log(source.task, query).await {
            Err(BoardError::NotFound(_)) => return Ok(()),
            other => other?,
        };
        while let Some(line) = log.next().await {
            if entries.send((source, line?)).await.is_err() {
                return Ok(());
            }
        }
        return Ok(());
    }
    let state = api.cluster.state();
    let node = state.node(source.node);
    if node.is_none_or(|node| node.status.state == NodeState::Down) {
        let hostname = node.map(|node| node.description.hostname.clone());
        let name = hostname.unwrap_or_else(|| source.node.to_string());
        return Err(ApiError::Unavailable(format!("node {name} is not available")));
    }
    let response = leader::fetch(&api, source.node, uri(&source, query)?).await?;
    match response.status() {
        StatusCode::OK => relay(source, response.into_body(), &entries).await,
        StatusCode::NOT_FOUND => Ok(()),
        status => Err(ApiError::Unavailable(format!("node {} answered {status}", source.node))),
    }
}

fn uri(source: &Source, query: LogQuery) -> Result<axum::http::Uri, ApiError> {
    let mut path = format!("/bramble/tasks/{}/log?", source.task);
    if query.is_followed {
        path.push_str("follow=1&");
    }
    if let Some(tail) = query.tail {
        path.push_str(&format!("tail={tail}&"));
    }
    for (name, instant) in [("since", query.since), ("until", query.until)] {
        if let Some(at) = instant {
            let (seconds, rest) = (at / 1_000_000_000, at % 1_000_000_000);
            path.push_str(&format!("{name}={seconds}.{rest:09}&"));
        }
    }
    path.trim_end_matches(['?', '&'])
        .parse()
        .map_err(|_| ApiError::Internal(format!("no such path: {path}")))
}

/// Passes another board's frames on as entries.
async fn relay(source: Source, body: Body, entries: &mpsc::Sender<Entry>) -> Result<(), ApiError> {
    let broken = |reason: String| {
        ApiError::Unavailable(format!("the log of task {} broke off: {reason}", source.task))
    };
    let mut pieces = body.into_data_stream();
    let mut buffer: Vec<u8> = Vec::new();
    while let Some(piece) = pieces.next().await {
        buffer.extend_from_slice(&piece.map_err(|error| broken(error.to_string()))?);
        let mut used = 0;
        while let Some(head) = buffer[used..].first_chunk::<HEADER_BYTES>() {
            let header = Header::parse(*head).ok_or_else(|| broken("it is not one".to_owned()))?;
            let length = usize::try_from(header.length).unwrap_or(usize::MAX);
            if length > LINE_BYTES {
                return Err(broken(format!("a line of {length} bytes")));
            }
            let Some(content) = buffer.get(used + HEADER_BYTES..used + HEADER_BYTES + length)
            else {
                break;
            };
            if header.channel == Channel::Engine {
                return Err(broken(String::from_utf8_lossy(content).into_owned()));
            }
            let line = read_timed(header.channel, content)
                .ok_or_else(|| broken("a line without its time".to_owned()))?;
            if entries.send((source, line)).await.is_err() {
                return Ok(());
            }
            used += HEADER_BYTES + length;
        }
        buffer.drain(..used);
    }
    Ok(())
}
