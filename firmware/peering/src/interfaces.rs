//! Which of the board's interfaces lead to other boards.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};

/// Which interfaces lead to other boards. Bridges, containers' and virtual interfaces do not, unless
/// they are named.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Interfaces {
    /// Those with a device behind them: Ethernet, Wi-Fi. Read from `/sys`, which must be that of this
    /// network namespace.
    #[default]
    Physical,
    /// These.
    Named(Vec<String>),
    /// Those of this VLAN: `eth0.10`, or `vlan10` where the interface's own name is long.
    Tagged(u16),
}

impl Interfaces {
    /// Whether the interface is one of them. Asks the kernel, since interfaces come and go.
    pub fn contains(&self, name: &str) -> bool {
        match self {
            Self::Physical => {
                let is_plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
                is_plain && Path::new("/sys/class/net").join(name).join("device").exists()
            }
            Self::Named(names) => names.iter().any(|named| named == name),
            Self::Tagged(vlan) => {
                name == format!("vlan{vlan}") || name.ends_with(&format!(".{vlan}"))
            }
        }
    }

    /// Where other boards reach this one, on `port`: what a node says of itself. Without IPv6
    /// link-local addresses, which mean nothing elsewhere.
    pub fn addresses(&self, port: u16) -> Vec<SocketAddr> {
        let Ok(interfaces) = getifaddrs() else { return Vec::new() };
        let mut addresses = Vec::new();
        for interface in interfaces {
            let is_up = interface.flags.contains(InterfaceFlags::IFF_UP);
            let Some(storage) = interface.address else { continue };
            if !is_up || !self.contains(&interface.interface_name) {
                continue;
            }
            let v4 = storage.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
            let v6 = storage.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip()));
            let is_useful = |ip: &IpAddr| match ip {
                IpAddr::V4(_) => true,
                IpAddr::V6(ip) => !ip.is_unicast_link_local(),
            };
            if let Some(ip) = v4.or(v6).filter(is_useful) {
                addresses.push(SocketAddr::new(ip, port));
            }
        }
        // IPv4 first: it is what home networks route.
        addresses.sort_by_key(SocketAddr::is_ipv6);
        addresses.dedup();
        addresses
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interfaces_of_a_vlan_are_known_by_its_number() {
        let tagged = Interfaces::Tagged(10);
        assert!(tagged.contains("eth0.10") && tagged.contains("vlan10"));
        assert!(!tagged.contains("eth0") && !tagged.contains("eth0.110") && !tagged.contains("lo"));
    }

    #[test]
    fn loopback_is_not_physical_but_may_be_named() {
        assert!(!Interfaces::Physical.contains("lo"));
        assert!(!Interfaces::Physical.contains("../net/lo"));
        let named = Interfaces::Named(vec!["lo".to_owned()]);
        assert!(named.contains("lo"));
        let addresses = named.addresses(7420);
        assert_eq!(addresses.first(), Some(&SocketAddr::from(([127, 0, 0, 1], 7420))));
    }
}
