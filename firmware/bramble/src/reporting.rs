//! Telemetry's wiring: what the reporter reads, and where it reports to.

use std::{convert::Infallible, sync::Arc};

use anyhow::{Context, Result};
use bramble_agent::{Agent, LocalContainer};
use bramble_cluster::{NodeId, chain};
use bramble_containers::ContainerState;
use bramble_manager::Manager;
use bramble_peering::{Membership, Peering};
use bramble_telemetry::{BoardReport, BrokerConfig, Reporter, Sources};
use tokio::sync::{Notify, oneshot, watch};

use crate::{board::CurrentAgent, config::MqttConfig, problems::Problems};

/// Reports for ever. Dropping it is the goodbye. Settings that cannot be used are a problem: the
/// board is none the worse without a broker.
///
/// # Errors
/// Only when another part of the board has ended.
pub(crate) async fn run(
    mqtt: MqttConfig,
    manager: Manager,
    agent: CurrentAgent,
    peering: Peering,
    problems: Problems,
) -> Result<Infallible> {
    let broker = BrokerConfig {
        url: mqtt.url,
        username: mqtt.username,
        password: mqtt.password,
        ca: mqtt.ca,
    };
    let (leader, watched) = watch::channel(None);
    let follow = follow_leader(manager.clone(), leader);
    let news = Arc::new(Notify::new());
    let follow_problems = follow_problems(problems.clone(), Arc::clone(&news));
    let sources = Sources {
        node: peering.node_id(),
        state: manager.state(),
        leader: watched,
        news,
        board: {
            let problems = problems.clone();
            Box::new(move || report(&manager, &agent, &peering, &problems))
        },
    };
    let (_never, goodbye) = oneshot::channel::<Infallible>();
    tokio::select! {
        ended = Reporter::new(broker, sources).run(goodbye) => {
            let Err(error) = ended else { anyhow::bail!("telemetry has ended") };
            problems.add("telemetry", chain(&error));
            std::future::pending().await
        }
        ended = follow => ended,
        ended = follow_problems => ended,
    }
}

/// Has new problems told at once.
async fn follow_problems(problems: Problems, news: Arc<Notify>) -> Result<Infallible> {
    let mut watch = problems.watch();
    loop {
        watch.changed().await.context("the list of problems has ended")?;
        news.notify_one();
    }
}

/// Repeats who leads, as the reporter needs no more of the leadership.
async fn follow_leader(
    manager: Manager,
    leader: watch::Sender<Option<NodeId>>,
) -> Result<Infallible> {
    let mut leadership = manager.leadership();
    loop {
        let known = leadership.borrow_and_update().leader;
        leader.send_if_modified(|told| std::mem::replace(told, known) != known);
        leadership.changed().await.context("the manager has ended")?;
    }
}

fn report(
    manager: &Manager,
    agent: &CurrentAgent,
    peering: &Peering,
    problems: &Problems,
) -> BoardReport {
    let leadership = manager.leadership().borrow().clone();
    let role = match *peering.membership().borrow() {
        Membership::Seeking => "seeking",
        Membership::Member(_) if leadership.is_leader_here => "leader",
        Membership::Member(_) if leadership.is_voter(peering.node_id()) => "manager",
        Membership::Member(_) => "worker",
    };
    let containers = agent.get().map(Agent::containers).unwrap_or_default();
    let is_running =
        |local: &&LocalContainer| matches!(local.status.state, ContainerState::Running { .. });
    let running = containers.iter().filter(is_running).count();
    BoardReport {
        hostname: peering.description().hostname,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        role,
        tasks_running: running,
        problems: problems.texts(),
        vitals: agent.get().map(Agent::vitals).unwrap_or_default(),
    }
}
