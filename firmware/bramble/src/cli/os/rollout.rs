//! One board after the other: looks at the boards, does what the planner decides, tells why.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bramble_cluster::NodeId;
use bramble_planner::os_update::{Board, DRAINED_LABEL, Goal, Step, System, next_step};
use hyper::Method;
use serde_json::Value;

use super::{Entry, entries};
use crate::cli::{
    client::{Client, Query, no_body},
    node,
    output::print,
};

/// Between two looks at the boards.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long the cluster may not answer: its leader may be the board that reboots.
const SILENCE: Duration = Duration::from_secs(180);

/// Lets the boards try a version until all of them run it, or something is wrong.
pub(super) async fn run(client: &Client, version: &str, nodes: &[String]) -> Result<()> {
    let boards = nodes.iter().map(|id| id.parse::<NodeId>().context("a node's id"));
    let goal = Goal { version: version.to_owned(), boards: boards.collect::<Result<_>>()? };
    let (mut clock, mut told) = (Clock::default(), String::new());
    let mut heard = Instant::now();
    loop {
        let boards = match look(client).await {
            Ok(boards) => boards,
            Err(error) if heard.elapsed() < SILENCE => {
                told = tell(told, format!("the cluster does not answer: {error:#}"))?;
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            Err(error) => return Err(error),
        };
        heard = Instant::now();
        let decision = next_step(&goal, &clock.date(boards));
        if decision.step == Step::Stopped {
            bail!("{}", decision.reason);
        }
        told = tell(told, decision.reason)?;
        if decision.step == Step::Finished {
            return Ok(());
        }
        // What did not go through is decided again: nothing here is done twice.
        if let Err(error) = act(client, &decision.step).await {
            told = tell(told, format!("{error:#}"))?;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Says something, unless it was said last.
fn tell(last: String, text: String) -> Result<String> {
    if last != text {
        print(&format!("{text}\n"))?;
    }
    Ok(text)
}

async fn act(client: &Client, step: &Step) -> Result<()> {
    match step {
        Step::Drain(board) => {
            node::update(client, &board.to_string(), |spec| {
                "drain".clone_into(&mut spec.availability);
                spec.labels.insert(DRAINED_LABEL.to_owned(), "draining".to_owned());
            })
            .await
        }
        Step::Activate(board) => activate(client, &board.to_string()).await,
        Step::Try(board) => {
            let query = Query::new().with("node", board.to_string());
            client.send(Method::POST, "/bramble/os/try", &query, no_body()).await.map(|_| ())
        }
        Step::Wait | Step::Finished | Step::Stopped => Ok(()),
    }
}

/// Lets a board take tasks again that was drained for its update; leaves others alone.
pub(crate) async fn activate(client: &Client, board: &str) -> Result<()> {
    node::update(client, board, |spec| {
        if spec.labels.remove(DRAINED_LABEL).is_some() {
            "active".clone_into(&mut spec.availability);
        }
    })
    .await
}

/// The boards as they are now.
async fn look(client: &Client) -> Result<Vec<Board>> {
    let overview: Value = client.get("/bramble/cluster", &Query::new()).await?;
    let own: Value = client.get("/bramble/board", &Query::new()).await?;
    let own = own["node"].as_str().unwrap_or_default();
    let entries = entries(client).await?;
    let running = |id: &str| {
        let nodes = overview["nodes"].as_array().map_or(&[][..], Vec::as_slice);
        let node = nodes.iter().find(|node| node["id"] == *id);
        node.and_then(|node| node["tasks_running"].as_u64()).unwrap_or(0)
    };
    let boards = entries.into_iter().map(|entry| {
        let tasks = usize::try_from(running(&entry.node.id)).unwrap_or(usize::MAX);
        Ok(Board { is_driver: entry.node.id == own, tasks, ..board(entry)? })
    });
    boards.collect()
}

fn board(entry: Entry) -> Result<Board> {
    let manager = entry.node.manager_status.as_ref();
    Ok(Board {
        node: entry.node.id.parse().context("a node's id")?,
        name: entry.name().to_owned(),
        is_ready: entry.node.status.state == "ready",
        is_voter: manager.is_some(),
        is_leader: manager.is_some_and(|manager| manager.leader),
        is_driver: false,
        is_drained_for_us: entry.node.spec.labels.contains_key(DRAINED_LABEL),
        tasks: 0,
        system: entry.system.ok().map(|system| System {
            version: system.version,
            slot: system.slot,
            is_trial: system.is_trial,
            staged: system.staged,
            failure: system.failure.map(|failure| (failure.version, failure.reason)),
        }),
        since: Duration::ZERO,
    })
}

/// Remembers since when each board is as it is.
#[derive(Default)]
struct Clock(BTreeMap<NodeId, (Board, Instant)>);

impl Clock {
    fn date(&mut self, boards: Vec<Board>) -> Vec<Board> {
        let dated = boards.into_iter().map(|board| {
            // Tasks that go, one by one, are no news.
            let news = Board { tasks: board.tasks.min(1), ..board.clone() };
            let (last, since) =
                self.0.entry(board.node).or_insert_with(|| (news.clone(), Instant::now()));
            if *last != news {
                (*last, *since) = (news, Instant::now());
            }
            Board { since: since.elapsed(), ..board }
        });
        dated.collect()
    }
}
