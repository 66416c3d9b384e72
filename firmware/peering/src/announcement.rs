//! What a board announces of itself by mDNS, and what is made of what others announce.
//!
//! Anybody on the network can announce anything: this is for finding boards, never for trusting them.

use std::{collections::BTreeMap, net::SocketAddr};

use bramble_cluster::{ClusterId, NodeId, Peer, Timestamp};

use crate::{ClusterTag, Instance};

/// The version of the records, and the only one understood.
const VERSION: &str = "1";

/// What a board announces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announcement {
    /// Which board.
    pub node: NodeId,
    /// Which run of its firmware.
    pub instance: Instance,
    /// The tag of its cluster key, if it has one.
    pub tag: Option<ClusterTag>,
    /// The cluster it is a member of; `None` while it seeks one.
    pub cluster: Option<ClusterFacts>,
}

/// What a member announces of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Which cluster.
    pub id: ClusterId,
    /// When it was founded.
    pub founded_at: Timestamp,
    /// Whether anything was ever created in it. Only a manager knows: from others, false means
    /// nothing.
    pub is_used: bool,
    /// Whether the board manages it.
    pub is_manager: bool,
}

/// A board that was found, with our tag or of our cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Neighbour {
    /// What it announces.
    pub announcement: Announcement,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
}

impl Neighbour {
    /// The board and where to reach it.
    pub fn peer(&self) -> Peer {
        Peer { id: self.announcement.node, addresses: self.addresses.clone() }
    }
}

/// The boards that were found, this one not among them.
pub type Neighbours = BTreeMap<NodeId, Neighbour>;

impl Announcement {
    /// As TXT properties.
    pub(crate) fn properties(&self) -> Vec<(&'static str, String)> {
        let flag = |is_true: bool| if is_true { "1" } else { "0" }.to_owned();
        let mut properties = vec![
            ("v", VERSION.to_owned()),
            ("id", self.node.to_string()),
            ("in", format!("{:032x}", self.instance.0)),
            ("st", if self.cluster.is_some() { "member" } else { "seeking" }.to_owned()),
        ];
        properties.extend(self.tag.map(|tag| ("cl", tag.to_string())));
        if let Some(cluster) = &self.cluster {
            properties.push(("ci", cluster.id.to_string()));
            properties.push(("mg", flag(cluster.is_manager)));
            properties.push(("us", flag(cluster.is_used)));
            properties.push(("fo", cluster.founded_at.as_millis().to_string()));
        }
        properties
    }

    /// From TXT properties; `None` if they are not ours.
    pub(crate) fn parse<'a>(property: impl Fn(&str) -> Option<&'a [u8]>) -> Option<Self> {
        let text = |name| property(name).and_then(|value| std::str::from_utf8(value).ok());
        if text("v")? != VERSION {
            return None;
        }
        let instance = text("in").filter(|text| text.len() == 32)?;
        let flag = |name| text(name) == Some("1");
        let cluster = match text("st")? {
            "seeking" => None,
            "member" => Some(ClusterFacts {
                id: text("ci")?.parse().ok()?,
                founded_at: Timestamp::from_millis(text("fo")?.parse().ok()?),
                is_used: flag("us"),
                is_manager: flag("mg"),
            }),
            _ => return None,
        };
        Some(Self {
            node: text("id")?.parse().ok()?,
            instance: Instance(u128::from_str_radix(instance, 16).ok()?),
            tag: property("cl").and_then(ClusterTag::parse),
            cluster,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::{
        option,
        prelude::{Strategy, any, prop_assert_eq, proptest},
    };

    use super::*;
    use crate::ClusterKey;

    fn announcements() -> impl Strategy<Value = Announcement> {
        let cluster = (any::<u128>(), any::<u64>(), any::<bool>(), any::<bool>());
        let cluster = cluster.prop_map(|(id, founded_at, is_used, is_manager)| ClusterFacts {
            id: ClusterId::from_random(id),
            founded_at: Timestamp::from_millis(founded_at),
            is_used,
            is_manager,
        });
        (any::<u128>(), any::<u128>(), option::of(any::<[u8; 32]>()), option::of(cluster)).prop_map(
            |(node, instance, key, cluster)| Announcement {
                node: NodeId::from_random(node),
                instance: Instance(instance),
                tag: key.map(|key| ClusterKey::from_bytes(key).tag()),
                cluster,
            },
        )
    }

    fn parse(properties: &[(String, Vec<u8>)]) -> Option<Announcement> {
        Announcement::parse(|name| {
            let property = properties.iter().find(|(key, _)| key == name);
            property.map(|(_, value)| value.as_slice())
        })
    }

    proptest! {
        #[test]
        fn every_announcement_reads_back_as_itself(announcement in announcements()) {
            let properties = announcement.properties().into_iter();
            let properties: Vec<_> =
                properties.map(|(key, value)| (key.to_owned(), value.into_bytes())).collect();
            // One TXT record of at most 400 bytes: a packet holds several boards.
            let bytes: usize = properties.iter().map(|(key, value)| 2 + key.len() + value.len()).sum();
            proptest::prop_assert!(bytes < 400, "{}", bytes);
            prop_assert_eq!(parse(&properties), Some(announcement));
        }

        #[test]
        fn no_records_make_the_parser_panic(
            announcement in announcements(),
            damaged in 0usize..8,
            value in proptest::collection::vec(any::<u8>(), 0..255),
            others in proptest::collection::vec(
                ("(v|id|in|st|cl|ci|mg|us|fo)", proptest::collection::vec(any::<u8>(), 0..60)), 0..12,
            ),
        ) {
            let properties = announcement.properties().into_iter();
            let mut properties: Vec<_> =
                properties.map(|(key, value)| (key.to_owned(), value.into_bytes())).collect();
            let damaged = damaged % properties.len();
            properties[damaged].1 = value;
            let _ = parse(&properties);
            let _ = parse(&others);
        }
    }

    #[test]
    fn records_of_another_version_or_state_are_not_ours() {
        let announcement = Announcement {
            node: NodeId::from_random(1),
            instance: Instance(2),
            tag: None,
            cluster: None,
        };
        for (key, value) in
            [("v", "2"), ("st", "sleeping"), ("id", "me"), ("in", "+1"), ("st", "member")]
        {
            let properties = announcement.properties().into_iter();
            let mut properties: Vec<_> =
                properties.map(|(key, value)| (key.to_owned(), value.into_bytes())).collect();
            assert!(parse(&properties).is_some());
            for property in properties.iter_mut().filter(|property| property.0 == key) {
                property.1 = value.as_bytes().to_vec();
            }
            assert_eq!(parse(&properties), None, "{key}={value}");
        }
    }
}
