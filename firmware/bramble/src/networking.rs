//! The board's network and its clock: runs the uplink, says in the log what becomes of it, and asks
//! for the time once there is an address. Nothing waits for either.

use std::{
    convert::Infallible,
    io,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use bramble_network::{
    sntp::{self, Policy},
    uplink::{self, Origin, Settings, Status},
};
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tracing::{info, warn};

/// Asked when neither the configuration nor the network names a time server.
const DEFAULT_SERVERS: &[&str] =
    &["0.pool.ntp.org", "1.pool.ntp.org", "2.pool.ntp.org", "time.cloudflare.com"];

/// Keeps the board on its network and its clock right.
///
/// # Errors
/// If the kernel does not let us at the network any more.
pub(crate) async fn run(
    settings: Settings,
    servers: Vec<String>,
    status: watch::Sender<Status>,
    set_clock: impl Fn(SystemTime) -> io::Result<()>,
) -> Result<Infallible> {
    let logged = status.subscribe();
    let asked = status.subscribe();
    tokio::select! {
        ended = uplink::run(settings, status) => ended.context("the board has lost its network"),
        never = log(logged) => match never {},
        never = keep_time(&servers, asked, set_clock) => match never {},
    }
}

/// Says what changes.
async fn log(mut status: watch::Receiver<Status>) -> Infallible {
    let mut known = Status::default();
    loop {
        let current = status.borrow_and_update().clone();
        for gone in known.addresses.iter().filter(|address| !current.addresses.contains(address)) {
            info!(interface = %gone.interface, address = %gone.address, "address gone");
        }
        for new in current.addresses.iter().filter(|address| !known.addresses.contains(address)) {
            let origin = describe(new.origin);
            let address = format!("{}/{}", new.address, new.prefix);
            info!(interface = %new.interface, %address, "address {origin}");
        }
        for problem in current.problems.iter().filter(|problem| !known.problems.contains(problem)) {
            warn!("network: {problem}");
        }
        known = current;
        if status.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

fn describe(origin: Origin) -> &'static str {
    match origin {
        Origin::Static => "as configured",
        Origin::Dhcp => "from DHCP",
        Origin::LinkLocal => "chosen, as no DHCP server answers",
        Origin::Autoconfiguration => "from a router",
    }
}

/// Asks for the time whenever it is due, at once when there is an address for the first time or the
/// way out changes.
async fn keep_time(
    servers: &[String],
    mut status: watch::Receiver<Status>,
    set_clock: impl Fn(SystemTime) -> io::Result<()>,
) -> Infallible {
    let mut policy = Policy::default();
    let mut is_known_wrong = false;
    loop {
        if status.wait_for(|status| !status.addresses.is_empty()).await.is_err() {
            std::future::pending::<()>().await;
        }
        let (way_out, servers) = {
            let status = status.borrow_and_update();
            (way_out(&status), choose(servers, &status.time_servers))
        };
        let outcome = sntp::ask(&servers).await;
        let verdict = policy.judge(&outcome);
        match outcome {
            Ok(sample) => {
                is_known_wrong = false;
                if let Some(to) = sample.correct(SystemTime::now()).filter(|_| verdict.is_step) {
                    step(to, sample.ahead_ns, &set_clock);
                }
            }
            // Said once: a home without a way out is no fault.
            Err(error) if !is_known_wrong => {
                is_known_wrong = true;
                info!(%error, "no time from the network yet");
            }
            Err(_) => {}
        }
        // A way out that was not there promises better answers.
        let changed = async {
            let is_other = |status: &Status| self::way_out(status) != way_out;
            if status.wait_for(is_other).await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        if timeout(verdict.pause, changed).await.is_ok() {
            policy = Policy::default();
            // Routes and resolvers of one change come in several reports.
            sleep(Duration::from_millis(200)).await;
        }
    }
}

fn step(to: SystemTime, ahead_ns: i128, set_clock: &impl Fn(SystemTime) -> io::Result<()>) {
    let seconds = ahead_ns / 1_000_000_000;
    match set_clock(to) {
        Ok(()) => info!(seconds, "clock set by the network's time"),
        Err(error) => warn!(%error, seconds, "the clock is wrong and cannot be set"),
    }
}

/// What decides whom we can ask.
fn way_out(status: &Status) -> (bool, Option<IpAddr>, Vec<IpAddr>) {
    (status.addresses.is_empty(), status.gateway.map(IpAddr::V4), status.dns.clone())
}

/// The owner's servers; else the network's; else the world's.
fn choose(configured: &[String], announced: &[IpAddr]) -> Vec<String> {
    if !configured.is_empty() {
        configured.to_vec()
    } else if !announced.is_empty() {
        announced.iter().map(IpAddr::to_string).collect()
    } else {
        DEFAULT_SERVERS.iter().map(|server| (*server).to_owned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::choose;

    #[test]
    fn the_owner_is_heard_before_the_network_before_the_world() {
        let own = ["ntp.home.arpa".to_owned()];
        let announced = ["192.0.2.1".parse().expect("an address")];
        assert_eq!(choose(&own, &announced), own);
        assert_eq!(choose(&[], &announced), ["192.0.2.1"]);
        assert_eq!(choose(&[], &[]).len(), 4);
    }
}
