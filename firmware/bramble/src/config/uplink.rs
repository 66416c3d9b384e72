//! The board's settings, in the words of the network's code.

use bramble_network::uplink::{self, Settings, Wifi};
use bramble_peering::Interfaces;

use super::{Config, network::Method};

impl Config {
    /// How a board with these settings and this host name gets on its network.
    pub(crate) fn uplink(&self, hostname: &str) -> Settings {
        let mut settings = Settings::new(hostname);
        let network = &self.network;
        settings.method = match (network.method(), network.address) {
            (Method::Static, Some(own)) => uplink::Method::Static {
                address: own.address,
                prefix: own.prefix,
                gateway: network.gateway,
            },
            _ => uplink::Method::Dhcp,
        };
        settings.interface.clone_from(&network.interface);
        settings.vlan = network.vlan;
        settings.dns.clone_from(&network.dns);
        // An open network has no passphrase, and none is joined: anybody could be it.
        settings.wifi = self.wifi.as_ref().and_then(|wifi| {
            Some(Wifi {
                ssid: wifi.ssid.clone(),
                passphrase: wifi.password.clone()?,
                country: wifi.country.clone(),
                hidden: wifi.hidden,
            })
        });
        settings
    }

    /// The interfaces that other boards are looked for on.
    pub(crate) fn seek_on(&self) -> Interfaces {
        match (self.board.interfaces.as_slice(), self.network.vlan) {
            ([], None) => Interfaces::Physical,
            ([], Some(vlan)) => Interfaces::Tagged(vlan),
            (names, _) => Interfaces::Named(names.to_vec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Config {
        let (config, problems) = Config::read_lenient(text);
        assert!(problems.is_empty(), "{problems:?}");
        config
    }

    #[test]
    fn an_address_of_ones_own_reaches_the_network_with_its_prefix_and_gateway() {
        let config =
            read("[network]\naddress = \"10.0.0.7/16\"\ngateway = \"10.0.0.1\"\nvlan = 12\n");
        let settings = config.uplink("kitchen");
        let uplink::Method::Static { address, prefix, gateway } = settings.method else {
            panic!("{settings:?}");
        };
        assert_eq!((address.to_string().as_str(), prefix), ("10.0.0.7", 16));
        assert_eq!(gateway, Some([10, 0, 0, 1].into()));
        assert_eq!(config.seek_on(), Interfaces::Tagged(12));
    }

    #[test]
    fn without_settings_everything_is_by_dhcp_on_every_interface() {
        let config = read("");
        assert_eq!(config.uplink("kitchen"), Settings::new("kitchen"));
        assert_eq!(config.seek_on(), Interfaces::Physical);
    }
}
