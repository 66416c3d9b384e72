//! The daemon proper: starts every part of a board in order, watches over them, ends them in order.
//!
//! The order is the order of need: whom nobody needs starts last and ends first.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use bramble_agent::{Agent, AgentConfig, BoxedStream};
use bramble_api::{Cluster, Dial, Duplex, Power, Socket, types::swarm::JoinTokens};
use bramble_cluster::{NodeDescription, Timestamp, chain};
use bramble_containers::{
    Keeper,
    images::{ImageStore, ImageStoreOptions},
};
use bramble_host::{Sources, boot::Report, clock};
use bramble_manager::{Manager, ManagerConfig};
use bramble_network::uplink::Status;
use bramble_peering::{ClusterKey, Discovery, JoinToken, PORT, Peering, PeeringConfig, Protocol};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};
use tracing::{info, warn};

use crate::{
    appliance::services,
    board::{CurrentAgent, LEFT, ThisBoard, has_left},
    config::Config,
    daemon::Daemon,
    damage,
    problems::{self, Problems},
    reporting,
    seeking::{Invitation, Seeker, announce},
    updating::{self, PowerSwitch, Updating},
};

/// Threads that run the daemon's tasks. Two, so that one that computes delays no heartbeat.
pub(crate) const WORKERS: usize = 2;
/// Threads for what blocks: unpacking, file system calls.
pub(crate) const BLOCKING_THREADS: usize = 16;
/// An idle board keeps no idle threads.
pub(crate) const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long the cluster has to start replacements elsewhere when this board ends in order.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was asked to; the keeper ends too.
    Orderly,
    /// It left its cluster and starts afresh.
    Restart,
    /// The keeper ends too, and the board reboots.
    Reboot,
    /// The keeper ends too, and the board switches itself off.
    PowerOff,
}

/// The daemon cannot work with what it was given; starting it again would not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unusable(String);

/// Every part of a running board.
struct Parts {
    keeper: Keeper,
    images: ImageStore,
    peering: Peering,
    manager: Manager,
    agent: CurrentAgent,
    restart: Arc<Notify>,
    problems: Problems,
    power: PowerSwitch,
    updating: Updating,
}

/// Runs the board until it is asked to end, or a part of it fails.
///
/// # Errors
/// If a part fails. The keeper then starts another daemon, which finds the containers again.
pub(crate) async fn run(daemon: &Daemon, config: Config, problems: Problems) -> Result<End> {
    let report = load_report(daemon, &problems);
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut tasks = JoinSet::new();
    if daemon.appliance {
        services::protect_daemon();
    }
    let network = daemon.appliance.then(|| services::start_network(&config, &problems, &mut tasks));
    let parts = match start(daemon, &config, report.as_ref(), &problems).await {
        Err(error) if daemon.appliance => {
            // Nobody can mend it by hand, and without it the board is as good as a new one.
            damage::put_aside(&daemon.data_dir, &problems, error)?;
            start(daemon, &config, report.as_ref(), &problems).await?
        }
        started => started?,
    };
    spawn_seeker(daemon, &config, &parts, network.clone(), &mut tasks)?;
    let started = parts.updating.start().await;
    serve(daemon, report.as_ref(), &parts, &mut tasks).await?;
    if daemon.appliance {
        let Parts { peering, manager, problems, .. } = &parts;
        services::say_ready(report.as_ref());
        services::start_light(peering, manager, problems, &mut tasks);
    }
    if let Some(mqtt) = config.mqtt.clone() {
        let Parts { manager, agent, peering, problems, .. } = &parts;
        let (manager, agent) = (manager.clone(), agent.clone());
        tasks.spawn(reporting::run(mqtt, manager, agent, peering.clone(), problems.clone()));
    }
    let Parts { updating, manager, agent, peering, problems, .. } = &parts;
    tasks.spawn(problems::show(problems.clone(), peering.clone()));
    tasks.spawn(problems::cluster::watch(peering.clone(), manager.clone(), problems.clone()));
    let socket = daemon.run_dir.join("bramble.sock");
    let (manager, agent) = (manager.clone(), agent.clone());
    tasks.spawn(updating::watch(updating.clone(), started, manager, agent, network, socket));
    let mut power = parts.power.subscribe();
    let end = tokio::select! {
        _ = terminate.recv() => Ok(End::Orderly),
        _ = interrupt.recv() => Ok(End::Orderly),
        () = parts.restart.notified() => Ok(End::Restart),
        Ok(asked) = power.wait_for(Option::is_some) => Ok(match *asked {
            Some(Power::Reboot) => End::Reboot,
            Some(Power::Off) => End::PowerOff,
            None => End::Orderly,
        }),
        ended = belong(daemon, &parts) => ended,
        Some(ended) = tasks.join_next() => Err(match ended {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => error,
            Err(error) => anyhow!(error).context("a part of the daemon panicked"),
        }),
        error = parts.peering.failed() => Err(anyhow!(error).context("peering has ended")),
        reason = parts.manager.failed() => Err(anyhow!(reason).context("the manager has ended")),
    };
    if end.is_ok() {
        info!(?end, "ending");
        if let Some(agent) = parts.agent.get() {
            agent.leave(LEAVE_TIMEOUT).await;
        }
        tasks.shutdown().await;
        parts.manager.shutdown().await;
        parts.peering.shut_down().await;
    }
    end
}

/// How process 1 started the board, and what it found wrong; a machine has no such report.
fn load_report(daemon: &Daemon, problems: &Problems) -> Option<Report> {
    match Report::load(&daemon.run_dir) {
        Ok(report) => {
            let texts = report.iter().flat_map(|report| report.problems.clone());
            problems.set("boot", texts.collect());
            report
        }
        Err(error) => {
            let what = "the system cannot be updated until the board is started again";
            problems.add("boot", format!("{}: {what}", chain(&error)));
            None
        }
    }
}

async fn start(
    daemon: &Daemon,
    config: &Config,
    report: Option<&Report>,
    problems: &Problems,
) -> Result<Parts> {
    let description = describe(config)?;
    let keeper = Keeper::connect(&daemon.layout().socket()).await?;
    let options = ImageStoreOptions::new(daemon.data_dir.join("images"));
    let images = tokio::task::spawn_blocking(|| ImageStore::open(options)).await??;
    let peering = Peering::start(peering_config(daemon, config, &description)?)
        .await
        .context("this board cannot talk to others")?;
    info!(node = %peering.node_id(), hostname = %description.hostname, "this board starts");
    let folder = daemon.data_dir.join("consensus");
    let manager = match Manager::start(ManagerConfig { folder }, peering.clone()).await {
        Ok(manager) => manager,
        Err(error) => {
            // It would hold its port as long as this process lives.
            peering.shut_down().await;
            return Err(anyhow!(error).context("the manager cannot start"));
        }
    };
    let (agent, restart) = (CurrentAgent::default(), Arc::default());
    let power = PowerSwitch::default();
    let flag = if daemon.appliance { services::reboot_flag() } else { None };
    let (data_dir, run_dir) = (&daemon.data_dir, &daemon.run_dir);
    let updating = Updating::new(data_dir, run_dir, report, power.clone(), flag);
    let problems = problems.clone();
    Ok(Parts { keeper, images, peering, manager, agent, restart, problems, power, updating })
}

/// Runs the agent while this board is a member. A board that ceases to be one starts afresh.
async fn belong(daemon: &Daemon, parts: &Parts) -> Result<End> {
    let mut membership = parts.peering.membership();
    let member = membership.wait_for(|membership| membership.member().is_some()).await;
    let member = member.context("peering has ended")?.member().cloned();
    let cluster = member.context("this board is a member")?.cluster;
    let config = AgentConfig {
        run_dir: daemon.run_dir.clone(),
        data_dir: daemon.data_dir.clone(),
        cluster,
        node: parts.peering.node_id(),
        instance: parts.peering.instance().0,
        sources: Sources::default(),
    };
    let manager = parts.manager.clone();
    let own_session = Arc::new(move || Ok(Box::pin(manager.session()?) as BoxedStream));
    let (keeper, images) = (parts.keeper.clone(), parts.images.clone());
    let agent = Agent::start(config, &parts.peering, own_session, keeper, images)
        .context("the agent cannot start")?;
    parts.agent.set(agent.clone());
    tokio::select! {
        error = agent.failed() => {
            if has_left(&daemon.data_dir) {
                // Leaving the cluster ended it, and asks for a restart when all is forgotten.
                std::future::pending::<()>().await;
            }
            Err(anyhow!(error).context("the agent has ended"))
        }
        lost = membership.wait_for(|membership| {
            membership.member().is_none_or(|member| member.cluster != cluster)
        }) => {
            lost.context("peering has ended")?;
            Ok(End::Restart)
        }
    }
}

fn spawn_seeker(
    daemon: &Daemon,
    config: &Config,
    parts: &Parts,
    network: Option<watch::Receiver<Status>>,
    tasks: &mut JoinSet<Result<Infallible>>,
) -> Result<()> {
    let Parts { peering, manager, problems, .. } = parts;
    tasks.spawn(announce(peering.clone(), manager.clone()));
    if has_left(&daemon.data_dir) {
        warn!(
            "this board left its cluster and seeks no other: remove {} and restart to seek again",
            daemon.data_dir.join(LEFT).display()
        );
        return Ok(());
    }
    if daemon.appliance && !config.cluster.names_one() {
        // Two such boards would be two clusters for ever, and a card is easily forgotten.
        problems.add("configuration", problems::NO_CLUSTER);
        return Ok(());
    }
    let seeker = Seeker::new(peering.clone(), manager.clone(), invitation(config)?);
    tasks.spawn(async move {
        if let Some(network) = network {
            services::wait_for_address(network).await;
        }
        seeker.run().await
    });
    Ok(())
}

/// Serves the API on this board's socket, and to the other boards.
async fn serve(
    daemon: &Daemon,
    report: Option<&Report>,
    parts: &Parts,
    tasks: &mut JoinSet<Result<Infallible>>,
) -> Result<()> {
    let Parts { keeper, images, peering, manager, agent, restart, problems, updating, .. } = parts;
    let board = ThisBoard {
        data_dir: daemon.data_dir.clone(),
        report: report.cloned(),
        problems: problems.clone(),
        keeper: keeper.clone(),
        images: images.clone(),
        peering: peering.clone(),
        manager: manager.clone(),
        agent: agent.clone(),
        restart: Arc::clone(restart),
        updating: updating.clone(),
    };
    let dial: Dial = {
        let manager = manager.clone();
        Arc::new(move |node| {
            let manager = manager.clone();
            Box::pin(async move {
                let stream = manager.open(node, Protocol::Api).await;
                Ok(Box::new(stream.map_err(io::Error::other)?) as Box<dyn Duplex>)
            })
        })
    };
    let hearing = manager.clone();
    let vitals = move || hearing.hearing().map(|hearing| hearing.vitals).unwrap_or_default();
    let tokens = |cluster: &bramble_cluster::Cluster| {
        let tokens = bramble_peering::JoinTokens::of(cluster);
        JoinTokens { worker: tokens.worker.to_string(), manager: tokens.manager.to_string() }
    };
    let cluster = Cluster::new(manager, dial, Arc::new(vitals), Arc::new(tokens));
    let router = bramble_api::router(cluster, Arc::new(board));
    let socket = Socket::bind(&daemon.run_dir.join("bramble.sock")).await?;
    let mut incoming = peering.incoming(Protocol::Api).context("the API is served already")?;
    let others = router.clone();
    tasks.spawn(async move { Ok(socket.serve(router).await) });
    tasks.spawn(async move {
        let places = Arc::new(Semaphore::new(bramble_api::CONNECTIONS));
        loop {
            let place = Arc::clone(&places).acquire_owned().await?;
            let stream = incoming.recv().await.context("peering has ended")?;
            let router = others.clone();
            tokio::spawn(async move {
                bramble_api::connection(stream, router).await;
                drop(place);
            });
        }
    });
    Ok(())
}

/// What the board says of itself; its problems are a label that comes and goes.
fn describe(config: &Config) -> Result<NodeDescription> {
    let (hostname, labels) = (config.board.hostname.as_deref(), config.board.labels.clone());
    let version = env!("CARGO_PKG_VERSION");
    bramble_host::description(&Sources::default(), hostname, version, labels)
        .context("this machine cannot be described")
}

fn peering_config(
    daemon: &Daemon,
    config: &Config,
    description: &NodeDescription,
) -> Result<PeeringConfig> {
    let anywhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT));
    Ok(PeeringConfig {
        directory: daemon.data_dir.join("peering"),
        listen: config.board.listen.unwrap_or(anywhere),
        cluster_key: config.cluster.key.map(|key| ClusterKey::from_bytes(key.bytes())),
        discovery: Discovery::Mdns(config.seek_on()),
        description: description.clone(),
        // A machine without a clock starts from here.
        built_at: Timestamp::from_millis(clock::built_at().as_secs() * 1000),
    })
}

fn invitation(config: &Config) -> Result<Option<Invitation>> {
    let Some(token) = &config.cluster.token else { return Ok(None) };
    // The token itself is a secret and is not repeated.
    let token: JoinToken = token
        .parse()
        .map_err(|_| Unusable("[cluster] token: it is not a join token".to_owned()))?;
    Ok(Some(Invitation { token, addresses: config.cluster.join.clone() }))
}
