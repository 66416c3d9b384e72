//! The uplink: what joins a board to its owner's network.
//!
//! It brings up `lo` and the interfaces that lead to the network, gives each an address (DHCP,
//! link-local while no server answers, or the configured one), lets the kernel configure IPv6,
//! writes `resolv.conf`, and follows cables as they are pulled and plugged in. Everything is
//! looked at again whenever the kernel reports a change: there is no other path for start-up.
//!
//! # Terms
//! - **port**: one interface of the uplink at work.
//! - **carrier**: that the other end of the cable, or the access point, is there.

mod choice;
pub(crate) mod kernel;
mod plan;
mod port;
mod resolvers;
mod settings;
mod socket;
mod sysctl;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bramble_cluster::chain;
use nlink::{
    Route,
    netlink::{Connection, NetworkEvent, OwnedEventStream, RtnetlinkGroup},
};
use tokio::{
    sync::{Notify, watch},
    task::{Id, JoinError, JoinSet},
};

use crate::wifi;
use choice::{Choice, vlan_name};
use kernel::{Kernel, Link, is_global};
use port::{Port, PortError, Report};

pub use kernel::KernelError;
pub use settings::{Address, Method, Origin, Settings, Status, Wifi};

/// How long a port that ended is left alone before another is opened.
const REOPEN_AFTER: Duration = Duration::from_secs(3);
/// Routes by cable are preferred to those by radio; the first cable to the others.
const WIRED_METRIC: u32 = 100;
const WIRELESS_METRIC: u32 = 600;
const METRIC_STEPS: u32 = 99;

/// The uplink cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The kernel does not answer or refuses.
    #[error("cannot keep the uplink")]
    Kernel(#[from] KernelError),
    /// The kernel does not tell what changes.
    #[error("cannot follow what happens to the network interfaces")]
    Events(#[source] nlink::netlink::Error),
    /// It has stopped telling.
    #[error("the kernel has stopped telling what happens to the network interfaces")]
    EventsEnded,
}

/// Runs the uplink for ever, and tells what the board has of its network.
///
/// Nothing but netlink itself can end it: whatever is wrong with a cable, a server or the settings
/// becomes a problem of the status.
///
/// # Errors
/// If the kernel does not answer, or this process may not change the network.
pub async fn run(
    settings: Settings,
    status: watch::Sender<Status>,
) -> Result<Infallible, UplinkError> {
    Uplink::open(settings, status)?.run().await
}

/// All ports, and what is known of them.
struct Uplink {
    settings: Arc<Settings>,
    kernel: Kernel,
    status: watch::Sender<Status>,
    ports: BTreeMap<u32, Handle>,
    running: JoinSet<Result<Infallible, PortError>>,
    radio: Option<RadioHandle>,
    changed: Arc<Notify>,
}

/// The radio that is kept in its network. Dropped, it is left alone.
struct RadioHandle {
    index: u32,
    problem: watch::Receiver<Option<String>>,
    _running: JoinSet<Infallible>,
}

/// A port, as seen by the one who keeps it.
struct Handle {
    task: Option<Id>,
    link: watch::Sender<Link>,
    report: watch::Receiver<Report>,
    failure: Option<(String, Instant)>,
    tuning: Option<String>,
}

impl Uplink {
    fn open(settings: Settings, status: watch::Sender<Status>) -> Result<Self, UplinkError> {
        Ok(Self {
            settings: Arc::new(settings),
            kernel: Kernel::open()?,
            status,
            ports: BTreeMap::new(),
            running: JoinSet::new(),
            radio: None,
            changed: Arc::new(Notify::new()),
        })
    }

    async fn run(mut self) -> Result<Infallible, UplinkError> {
        let mut events = subscribe().await?;
        loop {
            let again_at = self.look().await?;
            let again = async {
                match again_at {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = events.recv() => event?,
                () = self.changed.notified() => {}
                Some(ended) = self.running.join_next_with_id() => self.port_ended(ended),
                () = again => {}
            }
        }
    }

    /// Looks at everything, does what is missing and tells the outcome. Returns when to look again
    /// even if nothing changes.
    async fn look(&mut self) -> Result<Option<Instant>, UplinkError> {
        let mut links = self.kernel.links().await?;
        let mut choice = Choice::new(&links, &self.settings, is_wireless);
        if self.bring_up(&links, &mut choice).await {
            links = self.kernel.links().await?;
        }
        let carriers = self.carriers(&links, &choice);
        self.ports.retain(|index, handle| {
            // Its task ends as soon as nobody tells it of its link.
            carriers
                .iter()
                .any(|(link, _)| link.index == *index && link.name == handle.link.borrow().name)
        });
        self.keep_radio(links.iter().find(|link| choice.wireless == Some(link.index)));
        let mut again_at = None;
        for (link, metric) in &carriers {
            if let Some(at) = self.keep_port(link, *metric) {
                again_at = Some(again_at.map_or(at, |known: Instant| known.min(at)));
            }
        }
        self.tell(&carriers, choice.problems).await?;
        Ok(again_at)
    }

    /// Switches on what is off and makes what is missing. Says whether anything was.
    async fn bring_up(&self, links: &[Link], choice: &mut Choice) -> bool {
        let mut has_changed = false;
        let chosen: Vec<u32> = choice.wired.iter().chain(&choice.wireless).copied().collect();
        for link in links {
            let is_vlan = link.kind.as_deref() == Some("vlan")
                && self.settings.vlan.is_some()
                && link.parent.is_some_and(|parent| chosen.contains(&parent));
            if link.is_up || !(link.is_loopback || is_vlan || chosen.contains(&link.index)) {
                continue;
            }
            match self.kernel.bring_up(link).await {
                Ok(()) => has_changed = true,
                Err(error) => choice.problems.push(chain(&error)),
            }
        }
        let Some(vlan) = self.settings.vlan else { return has_changed };
        for link in links.iter().filter(|link| choice.wired.contains(&link.index)) {
            let name = vlan_name(&link.name, vlan);
            if links.iter().any(|link| link.name == name) {
                continue;
            }
            match self.kernel.add_vlan(&name, link.index, vlan).await {
                Ok(()) => has_changed = true,
                Err(error) => choice.problems.push(chain(&error)),
            }
        }
        has_changed
    }

    /// The interfaces that carry our addresses: those chosen, or their VLANs. With the metric of
    /// their routes.
    fn carriers(&self, links: &[Link], choice: &Choice) -> Vec<(Link, u32)> {
        let mut carriers = Vec::new();
        let chosen = links.iter().filter(|link| choice.wired.contains(&link.index));
        for (position, link) in (0..METRIC_STEPS).chain(std::iter::repeat(METRIC_STEPS)).zip(chosen)
        {
            let carrier = match self.settings.vlan {
                None => Some(link),
                Some(vlan) => {
                    let name = vlan_name(&link.name, vlan);
                    links.iter().find(|other| other.name == name)
                }
            };
            carriers.extend(carrier.map(|carrier| (carrier.clone(), WIRED_METRIC + position)));
        }
        let radio = links.iter().find(|link| choice.wireless == Some(link.index));
        carriers.extend(radio.map(|radio| (radio.clone(), WIRELESS_METRIC)));
        carriers
    }

    /// Has a radio join its network, if that has not begun.
    fn keep_radio(&mut self, link: Option<&Link>) {
        let (Some(link), Some(wifi)) = (link.filter(|link| link.is_up), &self.settings.wifi) else {
            self.radio = None;
            return;
        };
        if self.radio.as_ref().is_some_and(|radio| radio.index == link.index) {
            return;
        }
        let told = watch::Sender::new(None);
        let problem = told.subscribe();
        let mut running = JoinSet::new();
        running.spawn(wifi::run(wifi.clone(), link.index, link.name.clone(), told));
        let (mut problems, changed) = (problem.clone(), Arc::clone(&self.changed));
        running.spawn(async move {
            while problems.changed().await.is_ok() {
                changed.notify_one();
            }
            std::future::pending().await
        });
        self.radio = Some(RadioHandle { index: link.index, problem, _running: running });
    }

    /// Tells a port of its link, and opens it if it is not. Returns when to try again.
    fn keep_port(&mut self, link: &Link, metric: u32) -> Option<Instant> {
        if !link.is_up {
            return None;
        }
        let handle = self.ports.entry(link.index).or_insert_with(|| Handle {
            task: None,
            link: watch::Sender::new(link.clone()),
            report: watch::channel(Report::default()).1,
            failure: None,
            tuning: sysctl::tune(&link.name).err().map(|error| chain(&error)),
        });
        handle.link.send_if_modified(|known| {
            let is_changed = known != link;
            *known = link.clone();
            is_changed
        });
        if handle.task.is_some() {
            return None;
        }
        if let Some((_, at)) = &handle.failure
            && *at > Instant::now()
        {
            return Some(*at);
        }
        let report = watch::Sender::new(Report::default());
        handle.report = report.subscribe();
        match Port::open(Arc::clone(&self.settings), handle.link.subscribe(), report, metric) {
            Ok(port) => {
                let mut reports = handle.report.clone();
                let changed = Arc::clone(&self.changed);
                let task = self.running.spawn(async move {
                    let follow = async {
                        while reports.changed().await.is_ok() {
                            changed.notify_one();
                        }
                        std::future::pending::<Infallible>().await
                    };
                    tokio::select! {
                        ended = port.run() => ended,
                        never = follow => match never {},
                    }
                });
                handle.task = Some(task.id());
                None
            }
            Err(error) => {
                let at = Instant::now() + REOPEN_AFTER;
                handle.failure = Some((chain(&error), at));
                Some(at)
            }
        }
    }

    fn port_ended(&mut self, ended: Result<(Id, Result<Infallible, PortError>), JoinError>) {
        let (id, failure) = match ended {
            Ok((_, Ok(never))) => match never {},
            Ok((id, Err(error))) => (id, chain(&error)),
            Err(error) => (error.id(), chain(&error)),
        };
        for handle in self.ports.values_mut().filter(|handle| handle.task == Some(id)) {
            handle.task = None;
            handle.failure = Some((failure.clone(), Instant::now() + REOPEN_AFTER));
        }
    }

    /// Tells the status, and writes who answers for names.
    async fn tell(
        &self,
        carriers: &[(Link, u32)],
        mut problems: Vec<String>,
    ) -> Result<(), UplinkError> {
        problems.extend(self.radio.iter().filter_map(|radio| radio.problem.borrow().clone()));
        let mut status = Status::default();
        let mut domain = None;
        let mut reports = Vec::new();
        for (link, _) in carriers {
            let Some(handle) = self.ports.get(&link.index) else { continue };
            let report = handle.report.borrow().clone();
            let failure = handle.failure.as_ref().filter(|_| handle.task.is_none());
            let failure = failure.map(|(failure, _)| failure.clone());
            for problem in report.problem.iter().chain(&failure).chain(&handle.tuning) {
                problems.push(format!("{}: {problem}", link.name));
            }
            if link.has_carrier {
                reports.push((link, report));
            }
        }
        // The way out comes first: its resolvers and its address are those that lead anywhere.
        reports.sort_by_key(|(_, report)| report.gateway.is_none());
        for (link, report) in reports {
            let addresses = self.kernel.addresses(link.index).await?;
            status
                .addresses
                .extend(addresses.iter().filter_map(|pair| address(link, &report, pair)));
            status.gateway = status.gateway.or(report.gateway);
            status.dns.extend(report.dns.iter().filter(|_| self.settings.dns.is_empty()));
            status.time_servers.extend(&report.time_servers);
            domain = domain.or(report.domain);
        }
        status.dns.extend(&self.settings.dns);
        status.interface = status.addresses.first().map(|address| address.interface.clone());
        let written = resolvers::write(&self.settings.resolv_conf, &status.dns, domain.as_deref());
        problems.extend(written.err().map(|error| chain(&error)));
        status.problems = problems;
        self.status.send_if_modified(|known| {
            let is_changed = *known != status;
            *known = status;
            is_changed
        });
        Ok(())
    }
}

/// What the kernel reports: that something happened, never what.
struct Events(OwnedEventStream<Route>);

impl Events {
    async fn recv(&mut self) -> Result<(), UplinkError> {
        match std::future::poll_fn(|context| {
            futures_util::Stream::poll_next(std::pin::Pin::new(&mut self.0), context)
        })
        .await
        {
            Some(Ok::<NetworkEvent, _>(_)) => Ok(()),
            Some(Err(error)) => Err(UplinkError::Events(error)),
            None => Err(UplinkError::EventsEnded),
        }
    }
}

async fn subscribe() -> Result<Events, UplinkError> {
    let connection = Connection::<Route>::new().map_err(UplinkError::Events)?;
    let groups = [RtnetlinkGroup::Link, RtnetlinkGroup::Ipv4Addr, RtnetlinkGroup::Ipv6Addr];
    connection.subscribe(&groups).map_err(UplinkError::Events)?;
    Ok(Events(connection.into_events().await))
}

fn address(link: &Link, report: &Report, (address, prefix): &(IpAddr, u8)) -> Option<Address> {
    let origin = match address {
        IpAddr::V4(_) => report.origin?,
        IpAddr::V6(address) if is_global(address) => Origin::Autoconfiguration,
        IpAddr::V6(_) => return None,
    };
    Some(Address { interface: link.name.clone(), address: *address, prefix: *prefix, origin })
}

fn is_wireless(interface: &str) -> bool {
    Path::new("/sys/class/net").join(interface).join("phy80211").exists()
}
