//! What the owner of a board said about its network, and what the board made of it.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

/// How a board gets on its network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where its address comes from.
    pub method: Method,
    /// The one wired interface to use; without it, every one that has a cable.
    pub interface: Option<String>,
    /// The VLAN (IEEE 802.1Q) that the board lives on.
    pub vlan: Option<u16>,
    /// Who answers for names, instead of whom DHCP names.
    pub dns: Vec<IpAddr>,
    /// The name by which the board is known to DHCP servers.
    pub hostname: String,
    /// The wireless network to join, if any.
    pub wifi: Option<Wifi>,
    /// Where to write who answers for names.
    pub resolv_conf: PathBuf,
}

impl Settings {
    /// Everything by DHCP, on every cable.
    pub fn new(hostname: &str) -> Self {
        Self {
            method: Method::Dhcp,
            interface: None,
            vlan: None,
            dns: Vec::new(),
            hostname: hostname.to_owned(),
            wifi: None,
            resolv_conf: PathBuf::from("/etc/resolv.conf"),
        }
    }
}

/// Where a board's IPv4 address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// From a DHCP server, or link-local while there is none.
    Dhcp,
    /// From the board's configuration.
    Static {
        /// The board's address.
        address: Ipv4Addr,
        /// How many of its bits name the network.
        prefix: u8,
        /// The way out.
        gateway: Option<Ipv4Addr>,
    },
}

/// A wireless network protected by WPA2 with a passphrase.
#[derive(Clone, PartialEq, Eq)]
pub struct Wifi {
    /// Its name.
    pub ssid: String,
    /// Its passphrase, or its key in 64 hexadecimal digits.
    pub passphrase: String,
    /// The country whose rules for radios hold, as two letters.
    pub country: Option<String>,
    /// Whether it does not announce its name.
    pub hidden: bool,
}

impl std::fmt::Debug for Wifi {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wifi")
            .field("ssid", &self.ssid)
            .field("country", &self.country)
            .field("hidden", &self.hidden)
            .finish_non_exhaustive()
    }
}

/// What a board has of its network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// The interface that the way out leads through, else the first with an address.
    pub interface: Option<String>,
    /// Its addresses: those of interfaces with a carrier, the way out's first.
    pub addresses: Vec<Address>,
    /// The way out.
    pub gateway: Option<Ipv4Addr>,
    /// Who answers for names.
    pub dns: Vec<IpAddr>,
    /// Who knows the time, says the network.
    pub time_servers: Vec<IpAddr>,
    /// What is wrong, in words for the board's owner.
    pub problems: Vec<String>,
}

/// An address of the board.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// The interface it belongs to.
    pub interface: String,
    /// The address.
    pub address: IpAddr,
    /// How many of its bits name the network.
    pub prefix: u8,
    /// Where it came from.
    pub origin: Origin,
}

/// Where an address came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The board's configuration.
    Static,
    /// A DHCP server.
    Dhcp,
    /// Nobody: the board chose it.
    LinkLocal,
    /// The kernel, from what routers announce.
    Autoconfiguration,
}
