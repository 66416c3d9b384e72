//! Reading the logs of several tasks, from the boards that have them, into one stream.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use axum::{body::Bytes, http::StatusCode};
use bramble_cluster::{NodeId, NodeState, TaskId};
use futures_util::{
    StreamExt, future,
    stream::{self, BoxStream},
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{Source, Style, Subject, WAITING, merge::by_time, relay};
use crate::{
    board::{BoardError, LogLine, LogQuery},
    error::ApiError,
    leader,
    router::Api,
};

/// Tasks in one request to another board; their ids must fit into its path.
const BATCH: usize = 500;

/// A line and whose it is.
pub(super) type Entry = (TaskId, LogLine);

/// Lines of one or more tasks.
pub(super) type Entries = BoxStream<'static, Result<Entry, ApiError>>;

/// Tasks whose logs lie on the same board.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch {
    node: NodeId,
    tasks: Vec<TaskId>,
}

impl Batch {
    fn of(sources: impl IntoIterator<Item = Source>) -> Vec<Self> {
        let mut by_node: BTreeMap<NodeId, Vec<TaskId>> = BTreeMap::new();
        for source in sources {
            by_node.entry(source.node).or_default().push(source.task);
        }
        by_node
            .into_iter()
            .flat_map(|(node, tasks)| {
                let chunks = tasks.chunks(BATCH);
                chunks.map(|tasks| Self { node, tasks: tasks.to_vec() }).collect::<Vec<_>>()
            })
            .collect()
    }
}

/// What is there now, the oldest line first.
pub(super) async fn once(
    api: &Arc<Api>,
    subject: Subject,
    style: Style,
    query: LogQuery,
    frames: mpsc::Sender<Bytes>,
) {
    let sources: BTreeMap<TaskId, Source> =
        subject.sources(&api.cluster.state()).into_iter().map(|it| (it.task, it)).collect();
    let batches = Batch::of(sources.values().copied());
    let opened = future::join_all(batches.iter().map(|batch| open(api, batch, query))).await;
    let mut problems = BTreeSet::new();
    let mut streams = Vec::new();
    for stream in opened {
        match stream {
            Ok(stream) => streams.push(stream),
            Err(error) => drop(problems.insert(error.to_string())),
        }
    }
    let mut merged = std::pin::pin!(by_time(streams));
    while let Some(entry) = merged.next().await {
        let frame = match entry {
            Ok((task, line)) => sources.get(&task).and_then(|source| style.write(source, &line)),
            Err(error) => {
                problems.insert(error.to_string());
                None
            }
        };
        if let Some(frame) = frame
            && frames.send(frame.into()).await.is_err()
        {
            return;
        }
    }
    if !problems.is_empty() {
        let problems: Vec<_> = problems.into_iter().collect();
        let message = format!(
            "warning: incomplete log stream. some logs could not be retrieved for the following \
             reasons: {}\n",
            problems.join(", ")
        );
        // The client may have gone; then nobody misses it.
        let _ = frames.send(style.complain(&message).into()).await;
    }
}

/// What happened while a log is followed.
enum News {
    Entry(Entry),
    Changed,
    ReaderEnded(Batch, Result<(), ApiError>),
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
    let mut progress = Progress::default();
    loop {
        let state = Arc::clone(&states.borrow_and_update());
        for (batch, query) in progress.begin(subject.sources(&state), query) {
            let (api, entries) = (Arc::clone(api), entries.clone());
            readers.spawn(async move {
                let ended = read(&api, &batch, query, &entries).await;
                (batch, ended)
            });
        }
        let may_come = match subject {
            Subject::Service(_) => subject.is_there(&state),
            Subject::Task(task) => {
                !progress.sources.contains_key(&task) && subject.is_there(&state)
            }
        };
        loop {
            if readers.is_empty() && received.is_empty() && !may_come {
                return;
            }
            let news = tokio::select! {
                Some(entry) = received.recv() => News::Entry(entry),
                Some(Ok((batch, ended))) = readers.join_next(), if !readers.is_empty() => {
                    News::ReaderEnded(batch, ended)
                }
                changed = states.changed() => changed.map_or(News::Over, |()| News::Changed),
                () = frames.closed() => News::Over,
            };
            match news {
                News::Entry((task, line)) => {
                    progress.seen.insert(task, line.at);
                    let source = progress.sources.get(&task);
                    if let Some(frame) = source.and_then(|source| style.write(source, &line))
                        && frames.send(frame.into()).await.is_err()
                    {
                        return;
                    }
                }
                News::ReaderEnded(batch, Err(_)) => progress.lost.extend(batch.tasks),
                News::ReaderEnded(_, Ok(())) => {}
                News::Changed => break,
                News::Over => return,
            }
        }
    }
}

/// Which logs are read, and how far.
#[derive(Default)]
struct Progress {
    /// The tasks whose log is read, or was.
    sources: BTreeMap<TaskId, Source>,
    /// Those of them whose board was lost while they were read.
    lost: BTreeSet<TaskId>,
    /// The time of the last line of each.
    seen: BTreeMap<TaskId, u64>,
    /// Whether the first tasks were asked for; those get the tail that was asked for.
    has_begun: bool,
}

impl Progress {
    /// What is to be read now: new tasks together, lost ones each from where it was.
    fn begin(&mut self, now: Vec<Source>, query: LogQuery) -> Vec<(Batch, LogQuery)> {
        let mut fresh = Vec::new();
        let mut reads = Vec::new();
        for source in now {
            if self.sources.insert(source.task, source).is_none() {
                fresh.push(source);
            } else if self.lost.remove(&source.task) {
                let seen = self.seen.get(&source.task);
                let since = seen.map_or(query.since, |seen| Some(seen.saturating_add(1)));
                let batch = Batch { node: source.node, tasks: vec![source.task] };
                reads.push((batch, LogQuery { tail: None, since, ..query }));
            }
        }
        // What starts after the question is shown from its beginning.
        let tail = query.tail.filter(|_| !self.has_begun);
        self.has_begun = true;
        let fresh = Batch::of(fresh).into_iter();
        reads.extend(fresh.map(|batch| (batch, LogQuery { tail, ..query })));
        reads
    }
}

/// Passes on what a board says until it has no more to say.
async fn read(
    api: &Arc<Api>,
    batch: &Batch,
    query: LogQuery,
    entries: &mpsc::Sender<Entry>,
) -> Result<(), ApiError> {
    let mut log = open(api, batch, query).await?;
    while let Some(entry) = log.next().await {
        if entries.send(entry?).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Opens the logs of tasks, wherever they are.
async fn open(api: &Arc<Api>, batch: &Batch, query: LogQuery) -> Result<Entries, ApiError> {
    if batch.node == api.cluster.node {
        return of_this_board(api, &batch.tasks, query).await;
    }
    let state = api.cluster.state();
    let node = state.node(batch.node);
    if node.is_none_or(|node| node.status.state == NodeState::Down) {
        let hostname = node.map(|node| node.description.hostname.clone());
        let name = hostname.unwrap_or_else(|| batch.node.to_string());
        return Err(ApiError::Unavailable(format!("node {name} is not available")));
    }
    let response = leader::fetch(api, batch.node, uri(batch, query)?).await?;
    match response.status() {
        StatusCode::OK => Ok(relay::entries(response.into_body())),
        status => Err(ApiError::Unavailable(format!("node {} answered {status}", batch.node))),
    }
}

/// The logs of tasks of this board. That it has none of a task (any more) is no error.
pub(super) async fn of_this_board(
    api: &Api,
    tasks: &[TaskId],
    query: LogQuery,
) -> Result<Entries, ApiError> {
    let mut streams: Vec<Entries> = Vec::new();
    for task in tasks.iter().copied() {
        let log = match api.board.log(task, query).await {
            Err(BoardError::NotFound(_)) => continue,
            log => log?,
        };
        let entries = log.map(move |line| line.map(|line| (task, line)).map_err(ApiError::from));
        streams.push(entries.boxed());
    }
    Ok(if query.is_followed {
        stream::select_all(streams).boxed()
    } else {
        by_time(streams).boxed()
    })
}

fn uri(batch: &Batch, query: LogQuery) -> Result<axum::http::Uri, ApiError> {
    let tasks: Vec<String> = batch.tasks.iter().map(ToString::to_string).collect();
    let mut path = format!("/bramble/log?tasks={}", tasks.join(","));
    if query.is_followed {
        path.push_str("&follow=1");
    }
    if let Some(tail) = query.tail {
        path.push_str(&format!("&tail={tail}"));
    }
    for (name, instant) in [("since", query.since), ("until", query.until)] {
        if let Some(at) = instant {
            let (seconds, rest) = (at / 1_000_000_000, at % 1_000_000_000);
            path.push_str(&format!("&{name}={seconds}.{rest:09}"));
        }
    }
    path.parse().map_err(|_| ApiError::Internal(format!("no such path: {path}")))
}
