//! Which cluster this board is a member of, kept across restarts.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use bramble_cluster::{ClusterId, Peer, Timestamp};
use serde::{Deserialize, Serialize};

use crate::store::{self, StoreError};

const FILE: &str = "membership";

/// Whether this board is a member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Membership {
    /// It is not: it looks for a cluster, or founds one.
    #[default]
    Seeking,
    /// It is.
    Member(Arc<Member>),
}

impl Membership {
    /// The membership, if there is one.
    pub fn member(&self) -> Option<&Arc<Member>> {
        match self {
            Self::Seeking => None,
            Self::Member(member) => Some(member),
        }
    }
}

/// What makes this board a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// When it was founded.
    pub founded_at: Timestamp,
    /// The certificate of the cluster's authority, DER.
    pub authority: Vec<u8>,
    /// This node's certificate, DER.
    pub certificate: Vec<u8>,
    /// The managers when this was last written: whom to ask after a restart.
    pub managers: Vec<Peer>,
}

#[derive(Serialize, Deserialize)]
enum Stored {
    V1 {
        cluster: ClusterId,
        founded_at: Timestamp,
        authority: Vec<u8>,
        certificate: Vec<u8>,
        managers: Vec<Peer>,
    },
}

/// The file that holds the membership.
#[derive(Debug)]
pub(crate) struct MembershipFile(PathBuf);

impl MembershipFile {
    pub(crate) fn new(directory: &Path) -> Self {
        Self(directory.join(FILE))
    }

    pub(crate) fn load(&self) -> Result<Option<Member>, StoreError> {
        let Some(bytes) = store::read(&self.0)? else { return Ok(None) };
        let Stored::V1 { cluster, founded_at, authority, certificate, managers } =
            postcard::from_bytes(&bytes)
                .map_err(|_| StoreError::Damaged { path: self.0.clone() })?;
        Ok(Some(Member { cluster, founded_at, authority, certificate, managers }))
    }

    pub(crate) fn save(&self, member: &Member) -> Result<(), StoreError> {
        let Member { cluster, founded_at, authority, certificate, managers } = member.clone();
        let bytes = postcard::to_stdvec(&Stored::V1 {
            cluster,
            founded_at,
            authority,
            certificate,
            managers,
        })
        .map_err(|_| StoreError::Damaged { path: self.0.clone() })?;
        store::write(&self.0, &bytes)
    }

    pub(crate) fn remove(&self) -> Result<(), StoreError> {
        store::remove(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use bramble_cluster::NodeId;

    use super::*;

    #[test]
    fn the_format_on_disk_does_not_change() -> anyhow::Result<()> {
        let member = Member {
            cluster: ClusterId::from_random(5),
            founded_at: Timestamp::from_millis(9),
            authority: vec![1, 2],
            certificate: vec![3],
            managers: vec![Peer {
                id: NodeId::from_random(6),
                addresses: vec!["10.0.0.1:7420".parse()?],
            }],
        };
        let directory = tempfile::tempdir()?;
        let file = MembershipFile::new(directory.path());
        file.save(&member)?;
        assert_eq!(
            hex::encode(std::fs::read(directory.path().join(FILE))?),
            "00050902010201030106 01000a000001fc39".replace(' ', "")
        );
        assert_eq!(file.load()?, Some(member));
        file.remove()?;
        assert_eq!(file.load()?, None);
        Ok(())
    }
}
