//! What a daemon does on an appliance, because nobody else is there to do it: network, clock,
//! drivers for what is plugged in later, the light, a look at the power supply.

use std::{convert::Infallible, io, time::Duration};

use anyhow::{Context, Result};
use bramble_host::{
    Places, Sources,
    boot::Report,
    clock,
    led::Led,
    mailbox::Mailbox,
    modules,
    update::{Card, RebootFlag},
};
use bramble_manager::Manager;
use bramble_network::uplink::{Origin, Status};
use bramble_peering::Peering;
use tokio::{
    sync::watch,
    task::{JoinSet, spawn_blocking},
    time::{sleep, timeout},
};
use tracing::warn;

use super::lights;
use crate::{config::Config, networking, problems::Problems};

/// How long a board without an address waits before it seeks its cluster all the same: a cable may
/// be missing for ever, and what is on this board's disk should run.
const ADDRESS_WITHIN: Duration = Duration::from_secs(20);

/// What the kernel is told of the daemon for when memory runs out (proc(5), `oom_score_adj`):
/// containers go first. Process 1 never goes.
const OOM_SCORE_ADJUSTMENT: &str = "-500";

/// Between two questions to the firmware whether anything slows the board down.
const POWER_EVERY: Duration = Duration::from_secs(30);

/// The daemon's tasks.
type Tasks = JoinSet<Result<Infallible>>;

/// Has the daemon outlive containers when memory runs out.
pub(crate) fn protect_daemon() {
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", OOM_SCORE_ADJUSTMENT) {
        warn!(%error, "the daemon may be killed when memory runs out");
    }
}

/// Brings the network up, and says what becomes of it.
pub(crate) fn start_network(
    config: &Config,
    problems: &Problems,
    tasks: &mut Tasks,
) -> watch::Receiver<Status> {
    let hostname = bramble_host::hostname(&Sources::default()).unwrap_or_default();
    let settings = config.uplink(&hostname);
    let (sender, status) = watch::channel(Status::default());
    tasks.spawn(networking::run(settings, config.time.servers.clone(), sender, set_clock));
    tasks.spawn(report(status.clone(), problems.clone()));
    tasks.spawn(load_drivers());
    if let Ok(mailbox) = Mailbox::open(&Places::default()) {
        tasks.spawn(watch_power(mailbox, problems.clone()));
    }
    status
}

/// Waits until the board has an address, but not for ever. A board that seeks before it can hear
/// anybody believes that it is alone.
pub(crate) async fn wait_for_address(mut network: watch::Receiver<Status>) {
    let has_address = network.wait_for(|status| !status.addresses.is_empty());
    if timeout(ADDRESS_WITHIN, has_address).await.is_err() {
        warn!("no address after {} s: is the cable plugged in?", ADDRESS_WITHIN.as_secs());
    }
}

/// Shows the board's place in the cluster by its light, if it has one.
pub(crate) fn start_light(
    peering: &Peering,
    manager: &Manager,
    problems: &Problems,
    tasks: &mut Tasks,
) {
    if let Some(led) = Led::of_this_board(&Sources::default()) {
        tasks.spawn(lights::run(led, peering.clone(), manager.clone(), problems.clone()));
    }
}

/// The firmware's flag that tries the other slot once, on boards whose firmware can be reached.
pub(crate) fn reboot_flag() -> Option<fn() -> Box<dyn RebootFlag>> {
    Mailbox::open(&Places::default()).ok()?;
    Some(|| Box::new(FirmwareFlag))
}

/// The mailbox, opened anew each time: it is asked once in months.
struct FirmwareFlag;

impl RebootFlag for FirmwareFlag {
    fn set(&mut self, _: &mut Card) -> io::Result<()> {
        let mut mailbox = Mailbox::open(&Places::default()).map_err(io::Error::other)?;
        mailbox.try_other_slot_once().map_err(io::Error::other)
    }
}

/// Says on the console that the board can be talked to, and how long that took.
pub(crate) fn say_ready(report: Option<&Report>) {
    let kernel = report.map_or(0, |report| report.kernel_ms);
    let now = u64::try_from(clock::since_power_on().as_millis()).unwrap_or(u64::MAX);
    eprintln!("bramble: API ready after {} ms", now.saturating_sub(kernel));
}

async fn report(mut status: watch::Receiver<Status>, problems: Problems) -> Result<Infallible> {
    loop {
        let texts = network_problems(&status.borrow_and_update());
        problems.set("network", texts);
        status.changed().await.context("the board has lost its network")?;
    }
}

/// What is wrong with the network. An address of one's own choice is: only boards in the same plight
/// can be reached from it.
fn network_problems(status: &Status) -> Vec<String> {
    let chosen = status.addresses.iter().filter(|address| address.origin == Origin::LinkLocal);
    let chosen = chosen.map(|address| {
        format!(
            "{}: no DHCP server answers, so the board has chosen the address {}",
            address.interface, address.address
        )
    });
    status.problems.iter().cloned().chain(chosen).collect()
}

/// Asks the firmware for voltage and heat, as long as it answers.
async fn watch_power(mut mailbox: Mailbox, problems: Problems) -> Result<Infallible> {
    loop {
        // The firmware may take its time, and is waited for without sleeping.
        let asked = spawn_blocking(move || {
            let throttled = mailbox.throttled();
            (mailbox, throttled)
        });
        let throttled;
        (mailbox, throttled) = asked.await.context("the firmware cannot be asked")?;
        match throttled {
            Ok(throttled) => problems.set("power", throttled.problems()),
            Err(error) => {
                let error = bramble_cluster::chain(&error);
                warn!(%error, "nobody knows whether the board gets enough power and air");
                return std::future::pending().await;
            }
        }
        sleep(POWER_EVERY).await;
    }
}

/// The kernel announces devices to whoever listens; a thread listens.
async fn load_drivers() -> Result<Infallible> {
    let (ended, end) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("drivers".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            let Err(error) = modules::watch(&Places::default());
            // Nobody waits for it when the daemon ends.
            let _ = ended.send(error);
        })
        .context("cannot start the thread that loads drivers")?;
    if let Ok(error) = end.await {
        warn!(error = %bramble_cluster::chain(&error), "devices that are plugged in now find no driver");
    }
    std::future::pending().await
}

fn set_clock(to: std::time::SystemTime) -> io::Result<()> {
    let since = to.duration_since(std::time::UNIX_EPOCH).map_err(io::Error::other)?;
    clock::step(since).map_err(io::Error::other)?;
    // So that the next boot starts from here, even if it finds nobody to ask.
    clock::save(&Places::default().bramble()).map_err(io::Error::other)
}
