//! The daemon proper: starts every part of a board in order, watches over them, ends them in order.
//!
//! The order is the order of need: whom nobody needs starts last and ends first.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use bramble_agent::{Agent, AgentConfig};
use bramble_api::{Api, Socket};
use bramble_cluster::{NodeDescription, Timestamp};
use bramble_containers::{
    Keeper,
    images::{ImageStore, ImageStoreOptions},
};
use bramble_host::Sources;
use bramble_manager::{Manager, ManagerConfig};
use bramble_peering::{
    ClusterKey, Discovery, Interfaces, JoinToken, PORT, Peering, PeeringConfig, Protocol,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::Notify,
    task::JoinSet,
};
use tracing::info;

use crate::{
    board::ThisBoard,
    config::Config,
    daemon::Daemon,
    reporting,
    seeking::{Invitation, Seeker, announce},
};

/// Threads that run the daemon's tasks. Two, so that one that computes delays no heartbeat.
pub const WORKERS: usize = 2;
/// Threads for what blocks: unpacking, file system calls.
pub const BLOCKING_THREADS: usize = 16;
/// An idle board keeps no idle threads.
pub const BLOCKING_KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long the cluster has to start replacements elsewhere when this board ends in order.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);

/// How the daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was asked to; the keeper ends too.
    Orderly,
    /// It left its cluster and starts afresh.
    Restart,
}

/// The daemon cannot work with what it was given; starting it again would not help.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(String);

/// Every part of a running board.
struct Parts {
    agent: Agent,
    manager: Manager,
    peering: Peering,
    restart: Arc<Notify>,
}

/// Runs the board until it is asked to end, or a part of it fails.
///
/// # Errors
/// If a part fails. The keeper then starts another daemon, which finds the containers again.
pub async fn run(daemon: &Daemon, config: Config) -> Result<End> {
    start_log();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut tasks = JoinSet::new();
    let parts = start(daemon, config, &mut tasks).await?;
    let end = tokio::select! {
        _ = terminate.recv() => Ok(End::Orderly),
        _ = interrupt.recv() => Ok(End::Orderly),
        () = parts.restart.notified() => Ok(End::Restart),
        Some(ended) = tasks.join_next() => Err(match ended {
            Ok(Ok(never)) => match never {},
            Ok(Err(error)) => error,
            Err(error) => anyhow!(error).context("a part of the daemon panicked"),
        }),
        error = parts.peering.failed() => Err(anyhow!(error).context("peering has ended")),
        reason = parts.manager.failed() => Err(anyhow!(reason).context("the manager has ended")),
    };
    if end.is_ok() {
        info!("ending");
        parts.agent.leave(LEAVE_TIMEOUT).await;
        tasks.shutdown().await;
        parts.manager.shutdown().await;
        parts.peering.shut_down().await;
    }
    end
}

async fn start(
    daemon: &Daemon,
    config: Config,
    tasks: &mut JoinSet<Result<Infallible>>,
) -> Result<Parts> {
    let layout = daemon.layout();
    let description = describe(&config)?;
    let keeper = Keeper::connect(&layout.socket()).await?;
    let options = ImageStoreOptions::new(daemon.data_dir.join("images"));
    let images = tokio::task::spawn_blocking(|| ImageStore::open(options)).await??;
    let peering = Peering::start(peering_config(daemon, &config, &description)?)
        .await
        .context("this board cannot talk to others")?;
    info!(node = %peering.node_id(), hostname = %description.hostname, "this board starts");
    let manager = Manager::start(
        ManagerConfig { folder: daemon.data_dir.join("consensus") },
        peering.clone(),
    )
    .await
    .context("the manager cannot start")?;
    let agent = Agent::start(AgentConfig {
        peering: peering.clone(),
        keeper: keeper.clone(),
        images: images.clone(),
        own_session: {
            let manager = manager.clone();
            Arc::new(move || manager.session())
        },
        data_dir: daemon.data_dir.clone(),
        run_dir: daemon.run_dir.clone(),
    })
    .await
    .context("the agent cannot start")?;
    let restart = Arc::new(Notify::new());
    let seeker = Seeker::new(peering.clone(), manager.clone(), invitation(&config)?);
    tasks.spawn(seeker.run());
    tasks.spawn(announce(peering.clone(), manager.clone()));
    let board = ThisBoard {
        description,
        data_dir: daemon.data_dir.clone(),
        keeper,
        images,
        peering: peering.clone(),
        manager: manager.clone(),
        agent: agent.clone(),
        restart: Arc::clone(&restart),
    };
    serve(daemon, board, &peering, &manager, tasks).await?;
    if let Some(mqtt) = config.mqtt {
        tasks.spawn(reporting::run(mqtt, manager.clone(), agent.clone(), peering.clone()));
    }
    Ok(Parts { agent, manager, peering, restart })
}

/// Serves the API on this board's socket, and to the other boards.
async fn serve(
    daemon: &Daemon,
    board: ThisBoard,
    peering: &Peering,
    manager: &Manager,
    tasks: &mut JoinSet<Result<Infallible>>,
) -> Result<()> {
    let _ = (daemon, board, peering, manager, tasks);
    Ok(())
}

fn describe(config: &Config) -> Result<NodeDescription> {
    let hostname = config.board.hostname.as_deref();
    let labels = config.board.labels.clone();
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
    let interfaces = match config.board.interfaces.as_slice() {
        [] => Interfaces::Physical,
        names => Interfaces::Named(names.iter().cloned().collect()),
    };
    Ok(PeeringConfig {
        directory: daemon.data_dir.join("peering"),
        listen: config.board.listen.unwrap_or(anywhere),
        cluster_key: config.cluster.key.map(|key| ClusterKey::from_bytes(key.bytes())),
        discovery: Discovery::Mdns(interfaces),
        description: description.clone(),
        built_at: Timestamp::from_millis(BUILT_AT),
    })
}

/// No firmware with this source was made earlier: a machine without a clock starts from here.
const BUILT_AT: u64 = 1_795_219_200_000;

fn invitation(config: &Config) -> Result<Option<Invitation>> {
    let Some(token) = &config.cluster.token else { return Ok(None) };
    // The token itself is a secret and is not repeated.
    let token: JoinToken =
        token.parse().map_err(|_| Unusable("[cluster] token: it is not a join token".to_owned()))?;
    Ok(Some(Invitation { token, addresses: config.cluster.join.clone() }))
}

/// Logs to the standard error; `RUST_LOG` says what.
fn start_log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,openraft=error,mdns_sd=error"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).compact().init();
}
