//! Networks. Until overlay networks exist there are the four that every Docker engine has.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A network that exists without having been created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Builtin {
    /// Its name.
    pub name: &'static str,
    /// Its id, fixed so that every board says the same.
    pub id: &'static str,
    /// What makes it.
    pub driver: &'static str,
    /// Whether services may be attached to it.
    pub is_for_services: bool,
    /// What routes published ports.
    pub is_ingress: bool,
}

/// The networks that exist without having been created.
pub const BUILTIN: [Builtin; 4] = [
    Builtin {
        name: "bridge",
        id: "bramblebridge000000000001",
        driver: "bridge",
        is_for_services: false,
        is_ingress: false,
    },
    Builtin {
        name: "host",
        id: "bramblehost00000000000001",
        driver: "host",
        is_for_services: true,
        is_ingress: false,
    },
    Builtin {
        name: "ingress",
        id: "brambleingress00000000001",
        driver: "overlay",
        is_for_services: false,
        is_ingress: true,
    },
    Builtin {
        name: "none",
        id: "bramblenone00000000000001",
        driver: "null",
        is_for_services: false,
        is_ingress: false,
    },
];

/// The network of that name or id, or whose id alone begins so.
pub fn find(text: &str) -> Option<&'static Builtin> {
    let exact = BUILTIN.iter().find(|network| network.name == text || network.id == text);
    exact.or_else(|| {
        let mut candidates = BUILTIN.iter().filter(|network| network.id.starts_with(text));
        candidates.next().filter(|_| !text.is_empty() && candidates.next().is_none())
    })
}

impl Builtin {
    /// The scope a client sees. Services may name a network only if its scope is the swarm.
    pub fn scope(&self) -> &'static str {
        if self.is_for_services || self.is_ingress { "swarm" } else { "local" }
    }

    /// As Docker writes it.
    pub fn to_json(&self, created: &str) -> Value {
        json!({
            "Name": self.name,
            "Id": self.id,
            "Created": created,
            "Scope": self.scope(),
            "Driver": self.driver,
            "EnableIPv4": true,
            "EnableIPv6": false,
            "IPAM": {"Driver": "default", "Options": null, "Config": []},
            "Internal": false,
            "Attachable": false,
            "Ingress": self.is_ingress,
            "ConfigFrom": {"Network": ""},
            "ConfigOnly": false,
            "Containers": {},
            "Options": {},
            "Labels": {},
        })
    }
}

/// A network that a task is attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkAttachment {
    /// The network's name or id.
    pub target: String,
    /// Further names of the task there.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "super::nullable")]
    pub aliases: Vec<String>,
}

impl NetworkAttachment {
    /// As Docker writes it: with the id.
    pub fn from_cluster(attachment: &bramble_cluster::NetworkAttachment) -> Self {
        let target = find(&attachment.target).map_or(&*attachment.target, |network| network.id);
        Self { target: target.to_owned(), aliases: attachment.aliases.clone() }
    }

    /// As the cluster knows it: with the name.
    pub fn into_cluster(self) -> bramble_cluster::NetworkAttachment {
        let target = find(&self.target).map(|network| network.name.to_owned());
        bramble_cluster::NetworkAttachment {
            target: target.unwrap_or(self.target),
            aliases: self.aliases,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_found_by_name_id_and_unique_beginning() {
        for network in &BUILTIN {
            assert_eq!(network.id.len(), 25);
            assert_eq!(find(network.name), Some(network));
            assert_eq!(find(network.id), Some(network));
            assert_eq!(find(&network.id[..10]), Some(network));
        }
        assert_eq!(find("bramble"), None);
        assert_eq!(find(""), None);
        assert_eq!(find("web"), None);
    }
}
