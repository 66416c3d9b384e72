//! One interface of the uplink: keeps its address and routes as DHCP, link-local or the
//! configuration will have them, for as long as the interface is there.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::{
    kernel::{Kernel, KernelError, Link},
    plan::Wanted,
    settings::{Method, Origin, Settings},
    socket::{ArpSocket, DhcpSocket},
};
use crate::{
    arp::Arp,
    dhcp::{
        client::{self, Client},
        lease::Lease,
        message::HardwareAddress,
    },
    link_local::{self, Claim},
};

/// How long servers have to answer before we look for an address of our own. Asking for one takes
/// some seconds itself.
const SERVERS_HAVE: Duration = Duration::from_millis(1500);
/// Two conflicts about a leased address within this time, and it is declined.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait when nothing is due.
const NOTHING_DUE: Duration = Duration::from_secs(3600);

/// Why a port ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum PortError {
    /// No socket for DHCP or ARP.
    #[error("cannot open the {protocol} socket of {interface}")]
    Socket {
        /// Which.
        protocol: &'static str,
        /// Of which interface.
        interface: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel refused a change.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Whoever watches the interface has ended.
    #[error("nobody watches the interface any more")]
    Unwatched,
}

/// What a port has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Report {
    /// Where its IPv4 address comes from, if it has one.
    pub(super) origin: Option<Origin>,
    /// The way out.
    pub(super) gateway: Option<Ipv4Addr>,
    /// Who answers for names.
    pub(super) dns: Vec<IpAddr>,
    /// Where names without a dot are looked for.
    pub(super) domain: Option<String>,
    /// Who knows the time.
    pub(super) time_servers: Vec<IpAddr>,
    /// What is wrong.
    pub(super) problem: Option<String>,
}

/// One interface at work.
#[derive(Debug)]
pub(super) struct Port {
    settings: Arc<Settings>,
    link: watch::Receiver<Link>,
    report: watch::Sender<Report>,
    kernel: Kernel,
    metric: u32,
    dhcp: DhcpSocket,
    arp: ArpSocket,
    hardware: HardwareAddress,
    client: Client,
    claim: Claim,
    lease: Option<(Lease, Instant)>,
    chosen: Option<Ipv4Addr>,
    has_carrier: bool,
    claim_at: Option<Instant>,
    defended: Option<Instant>,
    /// Who uses our address, too.
    conflict: Option<String>,
    /// Why servers could not be asked.
    silence: Option<String>,
}

impl Port {
    /// A port on an interface that is up.
    pub(super) fn open(
        settings: Arc<Settings>,
        link: watch::Receiver<Link>,
        report: watch::Sender<Report>,
        metric: u32,
    ) -> Result<Self, PortError> {
        let Link { index, name, hardware, .. } = link.borrow().clone();
        let failed = |protocol| {
            let interface = name.clone();
            move |source| PortError::Socket { protocol, interface, source }
        };
        let hardware = hardware.unwrap_or_default();
        let now = Instant::now();
        Ok(Self {
            dhcp: DhcpSocket::open(&name).map_err(failed("DHCP"))?,
            arp: ArpSocket::open(index).map_err(failed("ARP"))?,
            client: Client::new(hardware, &settings.hostname, seed(), now),
            claim: Claim::new(hardware),
            kernel: Kernel::open()?,
            settings,
            link,
            report,
            metric,
            hardware,
            lease: None,
            chosen: None,
            has_carrier: false,
            claim_at: None,
            defended: None,
            conflict: None,
            silence: None,
        })
    }

    /// Works until the interface is gone or the kernel refuses.
    pub(super) async fn run(mut self) -> Result<Infallible, PortError> {
        if let Method::Static { .. } = self.settings.method {
            self.apply().await?;
        }
        self.look_at_link();
        loop {
            if self.has_carrier {
                self.tick().await?;
            }
            let due = self.due(Instant::now());
            tokio::select! {
                changed = self.link.changed() => {
                    changed.map_err(|_| PortError::Unwatched)?;
                    self.look_at_link();
                }
                bytes = self.dhcp.receive() => {
                    if let Ok(bytes) = bytes {
                        self.hear_server(&bytes).await?;
                    }
                }
                bytes = self.arp.receive() => {
                    // An interface that goes down says so on its sockets, once.
                    if let Some(arp) = bytes.ok().and_then(|bytes| Arp::decode(&bytes)) {
                        self.hear_neighbour(&arp).await?;
                    }
                }
                () = tokio::time::sleep_until(due.into()) => {}
            }
        }
    }

    /// The cable was moved, or the interface got another hardware address.
    fn look_at_link(&mut self) {
        let link = self.link.borrow_and_update().clone();
        let now = Instant::now();
        if let Some(hardware) = link.hardware.filter(|hardware| *hardware != self.hardware) {
            self.hardware = hardware;
            self.client = Client::new(hardware, &self.settings.hostname, seed(), now);
            self.claim = Claim::new(hardware);
        }
        if link.has_carrier && !self.has_carrier && self.is_dynamic() {
            self.client.plugged_in(now);
            self.claim.plugged_in(now);
            self.claim_at = Some(now + SERVERS_HAVE);
        }
        self.has_carrier = link.has_carrier;
    }

    fn is_dynamic(&self) -> bool {
        self.settings.method == Method::Dhcp
    }

    /// When something is due at the latest. Without a cable nothing is: a lease that ends meanwhile
    /// is ended by the kernel.
    fn due(&self, now: Instant) -> Instant {
        let mut due = now + NOTHING_DUE;
        if !self.is_dynamic() || !self.has_carrier {
            return due;
        }
        due = due.min(self.client.wake_at());
        if self.lease.is_none() {
            let claim = if self.claim.is_made() { self.claim.wake_at() } else { self.claim_at };
            due = claim.map_or(due, |claim| due.min(claim));
        }
        due
    }

    async fn tick(&mut self) -> Result<(), PortError> {
        if !self.is_dynamic() {
            return Ok(());
        }
        let now = Instant::now();
        if self.client.wake_at() <= now {
            let orders = self.client.tick(now);
            self.obey_client(orders, now).await?;
        }
        if self.lease.is_none() {
            if self.claim_at.is_some_and(|at| at <= now) {
                self.claim.make(now);
            }
            let orders = self.claim.tick(now);
            self.obey_claim(orders).await?;
        }
        Ok(())
    }

    async fn hear_server(&mut self, bytes: &[u8]) -> Result<(), PortError> {
        if !self.is_dynamic() {
            return Ok(());
        }
        let now = Instant::now();
        let orders = self.client.hear(bytes, now);
        self.obey_client(orders, now).await
    }

    async fn hear_neighbour(&mut self, arp: &Arp) -> Result<(), PortError> {
        let now = Instant::now();
        if self.lease.is_none() && self.is_dynamic() {
            let orders = self.claim.hear(arp, now);
            return self.obey_claim(orders).await;
        }
        let Some((address, _)) = self.wanted(now).address else { return Ok(()) };
        if arp.sender == self.hardware || arp.sender_address != address {
            return Ok(());
        }
        let is_second =
            self.defended.is_some_and(|at| now.saturating_duration_since(at) < DEFEND_INTERVAL);
        if is_second && self.is_dynamic() {
            self.defended = None;
            let orders = self.client.conflict(now);
            return self.obey_client(orders, now).await;
        }
        if !is_second {
            self.defended = Some(now);
            self.tell_segment(&Arp::announcement(self.hardware, address));
        }
        let [a, b, c, d, e, f] = arp.sender;
        self.conflict = Some(format!(
            "another machine ({a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}) uses our address {address}, too"
        ));
        self.tell();
        Ok(())
    }

    async fn obey_client(
        &mut self,
        orders: Vec<client::Order>,
        now: Instant,
    ) -> Result<(), PortError> {
        for order in orders {
            match order {
                client::Order::Send { to, bytes } => self.send(to, &bytes).await,
                client::Order::Take { lease, until } => {
                    let is_new = self.lease.as_ref().is_none_or(|(held, _)| *held != lease);
                    self.lease = Some((lease, until));
                    self.claim.withdraw();
                    self.chosen = None;
                    if is_new {
                        self.conflict = None;
                    }
                    self.apply().await?;
                    let address = self.lease.as_ref().map(|(lease, _)| lease.address);
                    if let Some(address) = address.filter(|_| is_new) {
                        self.tell_segment(&Arp::announcement(self.hardware, address));
                    }
                }
                client::Order::GiveUp => {
                    self.lease = None;
                    self.claim_at = Some(now + SERVERS_HAVE);
                    self.apply().await?;
                }
            }
        }
        Ok(())
    }

    async fn obey_claim(&mut self, orders: Vec<link_local::Order>) -> Result<(), PortError> {
        for order in orders {
            match order {
                link_local::Order::Send(arp) => self.tell_segment(&arp),
                link_local::Order::Take(address) => {
                    self.chosen = Some(address);
                    self.apply().await?;
                }
                link_local::Order::GiveUp => {
                    self.chosen = None;
                    self.apply().await?;
                }
            }
        }
        Ok(())
    }

    /// Speaks to servers. What cannot be sent now is sent again later, as if it were lost.
    async fn send(&mut self, to: Option<Ipv4Addr>, bytes: &[u8]) {
        let sent = self.dhcp.send(to, bytes).await;
        self.silence = sent.err().map(|error| format!("cannot ask for an address: {error}"));
        self.tell();
    }

    /// Tells the segment. What is lost is lost, as on the wire.
    fn tell_segment(&self, arp: &Arp) {
        let _ = self.arp.send(&arp.encode());
    }

    /// Makes the kernel agree, then tells what we have.
    async fn apply(&mut self) -> Result<(), PortError> {
        let link = self.link.borrow().clone();
        let wanted = self.wanted(Instant::now());
        self.kernel.apply(&link, &wanted).await?;
        self.tell();
        Ok(())
    }

    fn wanted(&self, now: Instant) -> Wanted {
        let metric = self.metric;
        if let Method::Static { address, prefix, gateway } = self.settings.method {
            let routes = gateway.iter().map(|router| (Ipv4Addr::UNSPECIFIED, 0, *router)).collect();
            return Wanted { address: Some((address, prefix)), lifetime_s: None, routes, metric };
        }
        if let Some((lease, until)) = &self.lease {
            // The kernel takes the address away by itself should we not live to do it.
            let left = until.saturating_duration_since(now).as_secs() + 1;
            return Wanted {
                address: Some((lease.address, lease.prefix)),
                lifetime_s: u32::try_from(left).ok(),
                routes: lease.routes.clone(),
                metric,
            };
        }
        let address = self.chosen.map(|address| (address, link_local::PREFIX));
        Wanted { address, lifetime_s: None, routes: Vec::new(), metric }
    }

    fn tell(&self) {
        let addresses = |list: &[Ipv4Addr]| list.iter().copied().map(IpAddr::V4).collect();
        let mut report = Report {
            problem: self.conflict.clone().or_else(|| self.silence.clone()),
            ..Report::default()
        };
        if let Method::Static { gateway, .. } = self.settings.method {
            report.origin = Some(Origin::Static);
            report.gateway = gateway;
        } else if let Some((lease, _)) = &self.lease {
            report.origin = Some(Origin::Dhcp);
            let default = lease.routes.iter().find(|(_, prefix, _)| *prefix == 0);
            report.gateway = default.map(|(_, _, router)| *router);
            report.dns = addresses(&lease.dns);
            report.domain = lease.domain.clone();
            report.time_servers = addresses(&lease.time_servers);
        } else if self.chosen.is_some() {
            report.origin = Some(Origin::LinkLocal);
        }
        self.report.send_if_modified(|current| {
            let is_changed = *current != report;
            *current = report;
            is_changed
        });
    }
}

/// Something that differs between boards and boots. It guards nothing.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    match getrandom::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => u64::from(std::process::id()),
    }
}
