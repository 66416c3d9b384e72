//! The kernel's side of an uplink: links, addresses and routes, looked at and changed by netlink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use nlink::{
    Ipv4Address, Ipv4Route, Route,
    netlink::{Connection, link::VlanLink, types::route::RouteProtocol},
};

use super::plan::{AddressPlan, KernelRoute, RoutePlan, Wanted};
use crate::dhcp::message::HardwareAddress;

/// The routing table that everything is routed by.
const MAIN_TABLE: u32 = 254;

/// The kernel did not do what an uplink needs.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action}")]
pub struct KernelError {
    /// What was tried.
    action: String,
    /// What the kernel said.
    #[source]
    source: nlink::netlink::Error,
}

/// One interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `None` if it is no Ethernet.
    pub(crate) hardware: Option<HardwareAddress>,
    pub(crate) is_up: bool,
    pub(crate) has_carrier: bool,
    pub(crate) is_loopback: bool,
    /// What kind of virtual interface it is; `None` for hardware.
    pub(crate) kind: Option<String>,
    /// The interface below it.
    pub(crate) parent: Option<u32>,
    /// The bridge or bond that it is a port of.
    pub(crate) master: Option<u32>,
}

/// A conversation with the kernel.
pub(crate) struct Kernel(Connection<Route>);

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kernel").finish_non_exhaustive()
    }
}

impl Kernel {
    /// Begins one, in the network namespace of this thread.
    pub(crate) fn open() -> Result<Self, KernelError> {
        Connection::<Route>::new().map(Self).map_err(explain("open a netlink socket"))
    }

    /// All interfaces.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, KernelError> {
        let links = self.0.get_links().await.map_err(explain("list the network interfaces"))?;
        let link = |link: nlink::netlink::messages::LinkMessage| Link {
            index: link.ifindex(),
            name: link.name_or("?").to_owned(),
            hardware: link
                .address()
                .filter(|_| link.is_broadcast() && !link.is_loopback())
                .and_then(|address| address.try_into().ok()),
            is_up: link.is_up(),
            has_carrier: link.is_up() && link.has_carrier(),
            is_loopback: link.is_loopback(),
            kind: link.kind().map(str::to_owned),
            parent: link.link(),
            master: link.master(),
        };
        Ok(links.into_iter().map(link).collect())
    }

    /// Switches an interface on.
    pub(crate) async fn bring_up(&self, link: &Link) -> Result<(), KernelError> {
        let up = self.0.set_link_up_by_index(link.index).await;
        up.map_err(explain(&format!("bring up {}", link.name)))
    }

    /// Makes an interface of a VLAN on top of another.
    pub(crate) async fn add_vlan(
        &self,
        name: &str,
        parent: u32,
        vlan: u16,
    ) -> Result<(), KernelError> {
        let link = VlanLink::with_parent_index(name, parent, vlan);
        self.0.add_link(link).await.map_err(explain(&format!("make {name} for VLAN {vlan}")))
    }

    /// The addresses of an interface that others may use, with how many bits name the network.
    pub(crate) async fn addresses(&self, index: u32) -> Result<Vec<(IpAddr, u8)>, KernelError> {
        let addresses = self.0.get_addresses_by_index(index).await;
        let addresses = addresses.map_err(explain("list a network interface's addresses"))?;
        let sound = addresses.iter().filter(|address| {
            !(address.is_ipv6()
                && (address.is_tentative() || address.is_dad_failed() || address.is_deprecated()))
        });
        let pair = |address: &nlink::netlink::messages::AddressMessage| {
            address.primary_address().map(|primary| (*primary, address.prefix_len()))
        };
        Ok(sound.filter_map(pair).collect())
    }

    /// Makes an interface's IPv4 addresses and our routes through it what is wanted, and nothing
    /// else. Doing it twice changes nothing.
    pub(crate) async fn apply(&self, link: &Link, wanted: &Wanted) -> Result<(), KernelError> {
        let name = &link.name;
        let plan = AddressPlan::new(&self.addresses(link.index).await?, wanted.address);
        for (address, prefix) in plan.remove {
            let action = format!("take {address} from {name}");
            let removed = self.0.del_address_by_index(link.index, address.into(), prefix).await;
            absent_is_fine(removed).map_err(explain(&action))?;
        }
        if let Some((address, prefix)) = wanted.address {
            let broadcast = address | Ipv4Addr::from_bits(!crate::dhcp::message::mask(prefix));
            let mut config = Ipv4Address::with_index(link.index, address, prefix);
            if prefix < 31 {
                config = config.broadcast(broadcast);
            }
            if let Some(seconds) = wanted.lifetime_s {
                config = config.valid_lifetime(seconds).preferred_lifetime(seconds);
            }
            let replaced = self.0.replace_address(config).await;
            replaced.map_err(explain(&format!("give {name} the address {address}")))?;
        }
        let plan = RoutePlan::new(&self.routes(link.index).await?, wanted);
        for route in plan.remove {
            let config = route_config(link.index, &route, false);
            let removed = self.0.del_route(config).await;
            let action = format!("remove the route to {} by {name}", route.destination);
            absent_is_fine(removed).map_err(explain(&action))?;
        }
        for (route, is_on_link) in plan.add {
            let added = self.0.replace_route(route_config(link.index, &route, is_on_link)).await;
            let action = format!("route to {} by {} on {name}", route.destination, route.router);
            added.map_err(explain(&action))?;
        }
        Ok(())
    }

    /// The routes through an interface that are ours.
    async fn routes(&self, index: u32) -> Result<Vec<KernelRoute>, KernelError> {
        let routes = self.0.get_routes_for_table(MAIN_TABLE).await;
        let routes = routes.map_err(explain("list the routes"))?;
        let ours = |route: &nlink::netlink::messages::RouteMessage| {
            if route.oif() != Some(index) || route.protocol() != RouteProtocol::Dhcp {
                return None;
            }
            let Some(IpAddr::V4(router)) = route.gateway() else { return None };
            let destination = match route.destination() {
                Some(IpAddr::V4(destination)) => *destination,
                Some(IpAddr::V6(_)) => return None,
                None => Ipv4Addr::UNSPECIFIED,
            };
            Some(KernelRoute {
                destination,
                prefix: route.dst_len(),
                router: *router,
                metric: route.priority().unwrap_or(0),
            })
        };
        Ok(routes.iter().filter_map(ours).collect())
    }
}

/// Whether an address is only good on its own segment, or chosen by the kernel for good.
pub(crate) fn is_global(address: &Ipv6Addr) -> bool {
    !address.is_unicast_link_local() && !address.is_loopback()
}

/// All routes that Bramble makes bear DHCP's mark, so that they are found again and no other is
/// touched.
fn route_config(index: u32, route: &KernelRoute, is_on_link: bool) -> Ipv4Route {
    let config = Ipv4Route::new(route.destination, route.prefix)
        .gateway(route.router)
        .dev_index(index)
        .metric(route.metric)
        .protocol(RouteProtocol::Dhcp);
    if is_on_link { config.onlink() } else { config }
}

fn absent_is_fine(result: Result<(), nlink::netlink::Error>) -> Result<(), nlink::netlink::Error> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        result => result,
    }
}

fn explain(action: &str) -> impl FnOnce(nlink::netlink::Error) -> KernelError {
    let action = action.to_owned();
    move |source| KernelError { action, source }
}
