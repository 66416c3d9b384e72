//! The conversations between boards. ALPN names them, so that all share one port.

/// A conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// The consensus of the managers.
    Raft,
    /// A node and the leader: assignments, reports, heartbeats.
    Session,
    /// Image blobs.
    Blob,
    /// Joining and renewing certificates; the only one open to strangers.
    Join,
    /// The API, passed on byte by byte.
    Api,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Raft, Self::Session, Self::Blob, Self::Join, Self::Api];

    /// The ALPN name. The number is the version of the conversation.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Raft => "bramble-raft/1",
            Self::Session => "bramble-session/1",
            Self::Blob => "bramble-blob/1",
            Self::Join => "bramble-join/1",
            Self::Api => "bramble-api/1",
        }
    }

    /// The conversation of this ALPN name.
    pub(crate) fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.name().as_bytes() == name)
    }

    /// Whether silence of the other side must be noticed within seconds.
    pub(crate) const fn is_urgent(self) -> bool {
        matches!(self, Self::Raft | Self::Session | Self::Join)
    }

    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}
