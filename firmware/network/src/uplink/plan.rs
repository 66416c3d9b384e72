//! What to change so that an interface has the address and the routes that it should have.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use crate::dhcp::message::mask;

/// What an interface should have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// The address, and how many of its bits name the network.
    pub(crate) address: Option<(Ipv4Addr, u8)>,
    /// For how long; for ever without.
    pub(crate) lifetime_s: Option<u32>,
    /// Destination, prefix and router.
    pub(crate) routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// How dear the routes are beside those of other interfaces.
    pub(crate) metric: u32,
}

/// A route of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct KernelRoute {
    pub(crate) destination: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) router: Ipv4Addr,
    pub(crate) metric: u32,
}

/// Which addresses are in the way.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct AddressPlan {
    pub(crate) remove: Vec<(Ipv4Addr, u8)>,
}

impl AddressPlan {
    /// Compares what an interface has with what it should have. IPv6 is the kernel's.
    pub(crate) fn new(current: &[(IpAddr, u8)], wanted: Option<(Ipv4Addr, u8)>) -> Self {
        let in_the_way = |(address, prefix): &(IpAddr, u8)| match address {
            IpAddr::V4(address) => Some((*address, *prefix)).filter(|pair| Some(*pair) != wanted),
            IpAddr::V6(_) => None,
        };
        Self { remove: current.iter().filter_map(in_the_way).collect() }
    }
}

/// Which routes are in the way and which are missing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RoutePlan {
    pub(crate) remove: Vec<KernelRoute>,
    /// With whether the router must be believed to be on the link, as no address says so. What
    /// others are reached by comes first.
    pub(crate) add: Vec<(KernelRoute, bool)>,
}

impl RoutePlan {
    /// Compares our routes through an interface with those that it should have.
    pub(crate) fn new(current: &[KernelRoute], wanted: &Wanted) -> Self {
        let metric = wanted.metric;
        let route = |(destination, prefix, router): &(Ipv4Addr, u8, Ipv4Addr)| KernelRoute {
            destination: *destination,
            prefix: *prefix,
            router: *router,
            metric,
        };
        let target: BTreeSet<KernelRoute> =
            wanted.address.iter().flat_map(|_| wanted.routes.iter().map(route)).collect();
        let remove = current.iter().filter(|route| !target.contains(route)).copied().collect();
        let missing = target.iter().filter(|route| !current.contains(route));
        let is_on_link = |route: &KernelRoute| {
            wanted.address.is_some_and(|(address, prefix)| {
                (address.to_bits() ^ route.router.to_bits()) & mask(prefix) != 0
            })
        };
        let mut add: Vec<_> = missing.map(|route| (*route, is_on_link(route))).collect();
        add.sort_by_key(|(route, _)| std::cmp::Reverse(route.prefix));
        Self { remove, add }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::{AddressPlan, KernelRoute, RoutePlan, Wanted};

    const ME: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 9);
    const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
    const ANYWHERE: Ipv4Addr = Ipv4Addr::UNSPECIFIED;

    fn wanted() -> Wanted {
        let routes = vec![(ANYWHERE, 0, ROUTER)];
        Wanted { address: Some((ME, 24)), lifetime_s: None, routes, metric: 100 }
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let current =
            [(IpAddr::V4(ME), 24), (IpAddr::V6([0xfe80, 0, 0, 0, 0, 0, 0, 1].into()), 64)];
        assert_eq!(AddressPlan::new(&current, wanted().address).remove, []);
        let route = KernelRoute { destination: ANYWHERE, prefix: 0, router: ROUTER, metric: 100 };
        let plan = RoutePlan::new(&[route], &wanted());
        assert_eq!(plan, RoutePlan { remove: vec![], add: vec![] });
    }

    #[test]
    fn an_old_address_and_its_route_go_and_the_new_ones_come() {
        let old = Ipv4Addr::new(10, 0, 0, 8);
        let current = [(IpAddr::V4(old), 24), (IpAddr::V4(ME), 16)];
        assert_eq!(AddressPlan::new(&current, wanted().address).remove, [(old, 24), (ME, 16)]);
        let gone = KernelRoute { destination: ANYWHERE, prefix: 0, router: old, metric: 100 };
        let plan = RoutePlan::new(&[gone], &wanted());
        assert_eq!(plan.remove, [gone]);
        assert_eq!(plan.add.len(), 1);
    }

    #[test]
    fn a_router_outside_the_network_is_believed_to_be_on_the_link() {
        let mut wanted = wanted();
        wanted.routes = vec![(ANYWHERE, 0, [192, 168, 0, 1].into()), (ANYWHERE, 0, ROUTER)];
        let add = RoutePlan::new(&[], &wanted).add;
        let flags: Vec<_> = add.iter().map(|(route, flag)| (route.router, *flag)).collect();
        assert_eq!(flags, [(ROUTER, false), ([192, 168, 0, 1].into(), true)]);
    }

    #[test]
    fn without_an_address_there_are_no_routes() {
        let none = Wanted { address: None, ..wanted() };
        assert_eq!(RoutePlan::new(&[], &none).add, []);
    }
}
