//! Finding other boards, and being found, by mDNS.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr, SocketAddrV6},
    sync::Arc,
    time::Duration,
};

use bramble_cluster::NodeId;
use mdns_sd::{
    DaemonEvent, IfKind, IfPredicate, Receiver, ResolvedService, ScopedIp, ServiceDaemon,
    ServiceEvent, ServiceInfo,
};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};

use crate::{
    Announcement, ClusterFacts, ClusterTag, Directory, Instance, Interfaces, Membership, Neighbour,
    Neighbours,
    directory::HINTS,
    problems::{Problem, Problems},
    situation::Situation,
    trust::Trust,
};

/// What boards are found by.
const SERVICE: &str = "_bramble._tcp.local.";
/// What the leader is found by; it carries the name `bramble.local`.
const LEADER_SERVICE: &str = "_bramble-leader._tcp.local.";
const LEADER_HOST: &str = "bramble.local.";
/// How many neighbours are remembered; a home has fewer boards.
const NEIGHBOURS: usize = 256;
/// How often interfaces are looked at, in seconds: a new lease is announced as soon.
const INTERFACES_EVERY: u32 = 1;
/// How long to wait before mDNS is started again.
const RESTART: Duration = Duration::from_secs(1);
/// How long a doubted neighbour has to say that it is there.
const DOUBT: Duration = Duration::from_secs(2);
/// How long the farewell may take.
const FAREWELL: Duration = Duration::from_millis(500);

/// Finds other boards, and announces this one.
#[derive(Debug)]
pub(crate) struct Mdns {
    pub(crate) interfaces: Interfaces,
    pub(crate) listen: SocketAddr,
    pub(crate) tag: Option<ClusterTag>,
    pub(crate) instance: Instance,
    pub(crate) trust: Trust,
    pub(crate) directory: Directory,
    pub(crate) problems: Problems,
    pub(crate) situation: watch::Receiver<Situation>,
    pub(crate) neighbours: watch::Sender<Arc<Neighbours>>,
    /// Nodes that should answer and do not.
    pub(crate) doubts: mpsc::Receiver<NodeId>,
    pub(crate) farewell: mpsc::Receiver<tokio::sync::oneshot::Sender<()>>,
}

impl Mdns {
    pub(crate) async fn run(mut self) -> Infallible {
        loop {
            if let Err(error) = self.run_daemon().await {
                tracing::warn!(%error, "mDNS is started again");
            }
            self.neighbours.send_replace(Arc::default());
            sleep(RESTART).await;
        }
    }

    async fn run_daemon(&mut self) -> Result<(), mdns_sd::Error> {
        let daemon = ServiceDaemon::new()?;
        let _guard = Guard(daemon.clone());
        daemon.set_ip_check_interval(INTERFACES_EVERY)?;
        daemon.disable_interface(IfKind::All)?;
        daemon.enable_interface(self.selection())?;
        let monitor = daemon.monitor()?;
        let mut membership = self.trust.membership();
        let mut events = daemon.browse(SERVICE)?;
        self.announce(&daemon, &membership.borrow_and_update().clone())?;
        loop {
            tokio::select! {
                event = events.recv_async() => match event {
                    Ok(event) => self.take(event),
                    // We were too slow for it once; what is known comes again.
                    Err(_) => events = daemon.browse(SERVICE)?,
                },
                _ = membership.changed() => {
                    let membership = membership.borrow_and_update().clone();
                    self.announce(&daemon, &membership)?;
                }
                _ = self.situation.changed() => {
                    let membership = membership.borrow().clone();
                    self.announce(&daemon, &membership)?;
                }
                Some(node) = self.doubts.recv() => {
                    daemon.verify(format!("{node}.{SERVICE}"), DOUBT)?;
                }
                Some(done) = self.farewell.recv() => {
                    bid_farewell(&daemon, self.trust.node()).await;
                    let _ = done.send(());
                    std::future::pending::<()>().await;
                }
                event = monitor.recv_async() => match event {
                    Ok(event) => note(&event),
                    Err(_) => return Err(mdns_sd::Error::DaemonShutdown),
                },
            }
        }
    }

    /// The interfaces to use; asked anew whenever they change.
    fn selection(&self) -> IfKind {
        let interfaces = self.interfaces.clone();
        let is_v4_only = self.listen.is_ipv4();
        IfKind::Predicate(IfPredicate::new(move |interface| {
            let is_reachable = interface.ip().is_ipv4() || !is_v4_only;
            is_reachable && interfaces.contains(&interface.name)
        }))
    }

    /// Announces this board, or announces it anew.
    fn announce(
        &mut self,
        daemon: &ServiceDaemon,
        membership: &Membership,
    ) -> Result<(), mdns_sd::Error> {
        let situation = *self.situation.borrow_and_update();
        let node = self.trust.node();
        let announcement = Announcement {
            node,
            instance: self.instance,
            tag: self.tag,
            cluster: membership.member().map(|member| ClusterFacts {
                id: member.cluster,
                founded_at: member.founded_at,
                is_used: situation.is_used,
                is_manager: situation.is_manager,
            }),
        };
        let properties = announcement.properties();
        let host = format!("{node}.local.");
        daemon.register(service(SERVICE, node, &host, self.listen.port(), &properties)?)?;
        let is_leader = situation.is_leader && membership.member().is_some();
        if is_leader {
            let port = self.listen.port();
            daemon.register(service(LEADER_SERVICE, node, LEADER_HOST, port, &[])?)?;
        } else {
            daemon.unregister(&format!("{node}.{LEADER_SERVICE}"))?;
        }
        Ok(())
    }

    fn take(&self, event: ServiceEvent) {
        match event {
            ServiceEvent::ServiceResolved(service) => self.found(&service),
            ServiceEvent::ServiceRemoved(_, name) => {
                let node = name.split('.').next().and_then(|node| node.parse().ok());
                let Some(node) = node else { return };
                self.change(|neighbours| neighbours.remove(&node).is_some());
            }
            _ => {}
        }
    }

    fn found(&self, service: &ResolvedService) {
        let property = |name: &str| service.get_property_val(name).flatten();
        let Some(announcement) = Announcement::parse(property) else { return };
        let addresses = addresses(service);
        let node = announcement.node;
        if node == self.trust.node() {
            if announcement.instance != self.instance
                && let Some(address) = self.elsewhere(&addresses)
            {
                self.problems.report(Some(Problem::SameIdentity { address }));
            }
            return;
        }
        let ours = self.trust.member().map(|member| member.cluster);
        let theirs = announcement.cluster.map(|cluster| cluster.id);
        let is_of_our_cluster = ours.is_some() && ours == theirs;
        let has_our_tag = self.tag.is_some() && self.tag == announcement.tag;
        if !is_of_our_cluster && !has_our_tag {
            return;
        }
        if is_of_our_cluster {
            self.directory.announced(node, &addresses);
        }
        let neighbour = Neighbour { announcement, addresses };
        self.change(|neighbours| {
            let is_full = neighbours.len() >= NEIGHBOURS && !neighbours.contains_key(&node);
            let is_new = neighbours.get(&node) != Some(&neighbour);
            if is_new && !is_full {
                neighbours.insert(node, neighbour);
            }
            is_new && !is_full
        });
    }

    /// Where the other board with our identity is: an address that is not ours.
    fn elsewhere(&self, addresses: &[SocketAddr]) -> Option<SocketAddr> {
        let ours = self.interfaces.addresses(self.listen.port());
        addresses.iter().find(|address| !ours.contains(address)).copied()
    }

    fn change(&self, change: impl FnOnce(&mut Neighbours) -> bool) {
        self.neighbours.send_if_modified(|neighbours| change(Arc::make_mut(neighbours)));
    }
}

/// A service of this board. Node ids are unique, so nobody is asked whether the name is free: a
/// second board with the same identity is noticed by its instance.
fn service(
    kind: &str,
    node: NodeId,
    host: &str,
    port: u16,
    properties: &[(&'static str, String)],
) -> Result<ServiceInfo, mdns_sd::Error> {
    let mut service = ServiceInfo::new(kind, &node.to_string(), host, (), port, properties)?;
    service.set_requires_probe(false);
    Ok(service.enable_addr_auto())
}

/// Where a service is, IPv4 first, as many as are of use.
fn addresses(service: &ResolvedService) -> Vec<SocketAddr> {
    let address = |scoped: &ScopedIp| match scoped {
        ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.addr(), service.port, 0, v6.scope_id().index).into()
        }
        other => SocketAddr::new(other.to_ip_addr(), service.port),
    };
    let rank = |address: &SocketAddr| match address.ip() {
        IpAddr::V4(_) => 0,
        IpAddr::V6(ip) if !ip.is_unicast_link_local() => 1,
        IpAddr::V6(_) => 2,
    };
    let mut addresses: Vec<_> = service.addresses.iter().map(address).collect();
    addresses.sort_by_key(|address| (rank(address), *address));
    addresses.truncate(HINTS);
    addresses
}

/// Ends the daemon's thread, which would go on without us.
struct Guard(ServiceDaemon);

impl Drop for Guard {
    fn drop(&mut self) {
        // Nobody waits for it, and there is nobody left to tell if it has ended already.
        let _ = self.0.shutdown();
    }
}

/// Tells the others that this board goes.
async fn bid_farewell(daemon: &ServiceDaemon, node: NodeId) {
    let said = [SERVICE, LEADER_SERVICE].map(|kind| daemon.unregister(&format!("{node}.{kind}")));
    for status in said.into_iter().flatten() {
        let _ = timeout(FAREWELL, status.recv_async()).await;
    }
    if let Ok(stopped) = daemon.shutdown() {
        wait_for(&stopped).await;
    }
}

async fn wait_for<T>(receiver: &Receiver<T>) {
    let _ = timeout(FAREWELL, receiver.recv_async()).await;
}

fn note(event: &DaemonEvent) {
    match event {
        DaemonEvent::Error(error) => tracing::debug!(%error, "mDNS"),
        DaemonEvent::NameChange(change) => {
            tracing::warn!(
                original = change.original,
                new = change.new_name,
                interface = change.intf_name,
                "another board announces the same name"
            );
        }
        other => tracing::trace!(?other, "mDNS"),
    }
}
