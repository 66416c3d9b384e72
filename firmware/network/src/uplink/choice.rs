//! Which of a board's interfaces lead to its network.

use super::{kernel::Link, settings::Settings};

/// The longest name that the kernel gives an interface.
const NAME_MAX: usize = 15;

/// The interfaces that are used, and what is wrong with the choice.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// Their indexes.
    pub(super) wired: Vec<u32>,
    /// The index of the one radio that is used.
    pub(super) wireless: Option<u32>,
    /// In words for the board's owner.
    pub(super) problems: Vec<String>,
}

impl Choice {
    /// Chooses among the interfaces there are. `is_wireless` tells radios by their names.
    pub(super) fn new(
        links: &[Link],
        settings: &Settings,
        is_wireless: impl Fn(&str) -> bool,
    ) -> Self {
        let mut choice = Self::default();
        for link in links {
            let is_named = settings.interface.as_deref() == Some(&link.name);
            let is_hardware = link.hardware.is_some() && link.kind.is_none() && !link.is_loopback;
            if is_wireless(&link.name) {
                if settings.wifi.is_some() && choice.wireless.is_none() {
                    choice.wireless = Some(link.index);
                }
            } else if is_named || (settings.interface.is_none() && is_hardware) {
                // What belongs to a bridge has no address of its own.
                if link.hardware.is_some() && link.master.is_none() {
                    choice.wired.push(link.index);
                }
            }
        }
        if let Some(name) = settings.interface.as_deref()
            && choice.wired.is_empty()
        {
            choice.problems.push(format!(
                "there is no wired interface \"{name}\" as [network] interface says; there is {}",
                names(links)
            ));
        }
        if settings.wifi.is_some() && choice.wireless.is_none() {
            choice
                .problems
                .push("this board has no radio that works, so [wifi] is not used".into());
        }
        choice
    }
}

fn names(links: &[Link]) -> String {
    let names: Vec<_> = links
        .iter()
        .filter(|link| link.hardware.is_some() && link.kind.is_none())
        .map(|link| link.name.as_str())
        .collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// What the interface of a VLAN is called.
pub(super) fn vlan_name(parent: &str, vlan: u16) -> String {
    let name = format!("{parent}.{vlan}");
    if name.len() <= NAME_MAX { name } else { format!("vlan{vlan}") }
}

#[cfg(test)]
mod tests {
    use super::{Choice, vlan_name};
    use crate::uplink::{
        kernel::Link,
        settings::{Settings, Wifi},
    };

    fn link(index: u32, name: &str, kind: Option<&str>) -> Link {
        Link {
            index,
            name: name.to_owned(),
            hardware: (name != "lo").then_some([2, 0, 0, 0, 0, 1]),
            is_up: true,
            has_carrier: true,
            is_loopback: name == "lo",
            kind: kind.map(str::to_owned),
            parent: None,
            master: None,
        }
    }

    fn board() -> Vec<Link> {
        vec![
            link(1, "lo", None),
            link(2, "eth0", None),
            link(3, "wlan0", None),
            link(4, "bramble0", Some("bridge")),
            link(5, "eth1", None),
        ]
    }

    fn choose(settings: &Settings) -> Choice {
        Choice::new(&board(), settings, |name| name.starts_with("wlan"))
    }

    #[test]
    fn every_wired_interface_is_used_unless_one_is_named() {
        let mut settings = Settings::new("board");
        assert_eq!(choose(&settings).wired, [2, 5]);
        settings.interface = Some("eth1".to_owned());
        assert_eq!(choose(&settings).wired, [5]);
        settings.interface = Some("bramble0".to_owned());
        assert_eq!(choose(&settings).wired, [4], "whoever names an interface means it");
    }

    #[test]
    fn an_interface_that_is_not_there_is_a_problem() {
        let settings = Settings { interface: Some("enp3s0".into()), ..Settings::new("board") };
        let choice = choose(&settings);
        assert_eq!(choice.wired, []);
        assert!(choice.problems[0].contains("enp3s0"));
        assert!(choice.problems[0].ends_with("there is eth0, wlan0, eth1"));
    }

    #[test]
    fn a_radio_is_used_only_when_a_wireless_network_is_named() {
        let mut settings = Settings::new("board");
        assert_eq!(choose(&settings).wireless, None);
        settings.wifi = Some(Wifi {
            ssid: "home".into(),
            passphrase: "long enough".into(),
            country: None,
            hidden: false,
        });
        assert_eq!(choose(&settings).wireless, Some(3));
        let without = Choice::new(&board()[..2], &settings, |_| false);
        assert_eq!(without.problems.len(), 1);
    }

    #[test]
    fn a_vlan_is_called_after_its_parent_if_that_fits() {
        assert_eq!(vlan_name("eth0", 10), "eth0.10");
        assert_eq!(vlan_name("enx001122334455", 4094), "vlan4094");
    }
}
