//! `[network]`, `[wifi]` and `[time]`: how a board reaches the others and learns what time it is.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    str::FromStr,
};

use serde::Deserialize;

use super::soundness::{country, interface, passphrase, servers, ssid, vlan};

/// `[network]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NetworkConfig {
    /// Where the address comes from. By default from the router, or from `address` if there is one.
    pub(crate) method: Option<Method>,
    /// The board's own address.
    pub(crate) address: Option<Prefixed>,
    /// The router's.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Name servers, in place of those that the router names.
    pub(crate) dns: Vec<IpAddr>,
    /// The interface that is used; by default the first with a cable.
    #[serde(deserialize_with = "interface")]
    pub(crate) interface: Option<String>,
    /// The tagged virtual network that the board is in.
    #[serde(deserialize_with = "vlan")]
    pub(crate) vlan: Option<u16>,
}

/// Where a board's address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Method {
    /// From the router.
    Dhcp,
    /// From the configuration.
    Static,
}

impl NetworkConfig {
    /// Where the address comes from, all told. When it is [`Method::Static`] there is an address.
    pub(crate) fn method(&self) -> Method {
        let by_default = if self.address.is_some() { Method::Static } else { Method::Dhcp };
        self.method.unwrap_or(by_default)
    }

    /// Drops what cannot be used because of what else is said, and tells what that was.
    pub(super) fn settle(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.method == Some(Method::Static) && self.address.is_none() {
            problems.push("[network] address: it must be set when method is static".to_owned());
            self.method = None;
        }
        if self.method() == Method::Dhcp && self.address.take().is_some() {
            problems.push("[network] address: it is not used when method is dhcp".to_owned());
        }
        if let Some(gateway) = self.gateway {
            let message = match self.address {
                None => Some("it is not used without an address"),
                Some(address) if !address.reaches(gateway) => {
                    Some("it is not in the network of the address")
                }
                Some(_) => None,
            };
            if let Some(message) = message {
                problems.push(format!("[network] gateway: {message}"));
                self.gateway = None;
            }
        }
        problems
    }
}

/// An IPv4 address with the length of its network's prefix: `192.168.1.10/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Prefixed {
    /// The address.
    pub(crate) address: Ipv4Addr,
    /// Bits of it that name the network, 1 to 32.
    pub(crate) prefix: u8,
}

impl Prefixed {
    /// Whether `other` is another host of the same network.
    fn reaches(self, other: Ipv4Addr) -> bool {
        let mask = u32::MAX << (32 - u32::from(self.prefix));
        other != self.address && (other.to_bits() ^ self.address.to_bits()) & mask == 0
    }

    /// Whether a host can have this address: it is no group's, and not its network's first or last.
    fn is_a_hosts(self) -> bool {
        let host_bits = 32 - u32::from(self.prefix);
        let host = self.address.to_bits() & !(u32::MAX << host_bits);
        let is_edge = host_bits > 1 && (host == 0 || host == !(u32::MAX << host_bits));
        let address = self.address;
        let is_special =
            address.is_unspecified() || address.is_loopback() || address.octets()[0] >= 224;
        !is_edge && !is_special
    }
}

/// The text is not an address with its prefix.
#[derive(Debug, thiserror::Error)]
#[error("it is not a host's address with the length of its prefix, as 192.168.1.10/24 is")]
pub(crate) struct ParsePrefixedError;

impl FromStr for Prefixed {
    type Err = ParsePrefixedError;

    fn from_str(text: &str) -> Result<Self, ParsePrefixedError> {
        let (address, prefix) = text.split_once('/').ok_or(ParsePrefixedError)?;
        let address = address.parse().map_err(|_| ParsePrefixedError)?;
        let prefix = prefix.parse().map_err(|_| ParsePrefixedError)?;
        let prefixed = Self { address, prefix };
        // The prefix first: the rest reckons with it.
        if (1..=32).contains(&prefix) && prefixed.is_a_hosts() {
            Ok(prefixed)
        } else {
            Err(ParsePrefixedError)
        }
    }
}

impl TryFrom<String> for Prefixed {
    type Error = ParsePrefixedError;

    fn try_from(text: String) -> Result<Self, ParsePrefixedError> {
        text.parse()
    }
}

/// `[wifi]`
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct WifiConfig {
    /// The network's name, 1 to 32 bytes.
    #[serde(deserialize_with = "ssid")]
    pub(crate) ssid: String,
    /// Its WPA2 password: 8 to 63 characters, or the key itself as 64 hexadecimal digits. Without
    /// one the network is open.
    #[serde(deserialize_with = "passphrase")]
    pub(crate) password: Option<String>,
    /// The country, by two letters: it says which channels are allowed.
    #[serde(deserialize_with = "country")]
    pub(crate) country: Option<String>,
    /// Whether the network does not announce its name.
    pub(crate) hidden: bool,
}

impl fmt::Debug for WifiConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("WifiConfig").field("ssid", &self.ssid).finish_non_exhaustive()
    }
}

/// `[time]`
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TimeConfig {
    /// Names or addresses of time servers; by default some public ones.
    #[serde(deserialize_with = "servers")]
    pub(crate) servers: Vec<String>,
}
