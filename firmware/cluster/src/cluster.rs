//! The cluster itself: its identity, its settings and its certificate authority.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{ClusterId, NodeId, Timestamp, Version, limits};

/// The one object of its kind in a [`crate::ClusterState`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Which cluster this is.
    pub id: ClusterId,
    /// Who founded it.
    pub founder: NodeId,
    /// The entry that last changed it.
    pub version: Version,
    /// When it was founded.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// What people want of it.
    pub spec: ClusterSpec,
    /// Who signs its nodes' certificates.
    pub authority: CertificateAuthority,
    /// What a machine shows to join over a routed network.
    pub join_secrets: JoinSecrets,
}

/// What people want of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSpec {
    /// How many ended tasks of a slot are kept to look at.
    pub task_history_limit: u32,
}

impl Default for ClusterSpec {
    fn default() -> Self {
        Self { task_history_limit: limits::TASK_HISTORY_DEFAULT }
    }
}

/// The cluster's own certificate authority. Every manager holds it, so that any may sign.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAuthority {
    /// The self-signed certificate, DER.
    pub certificate: Vec<u8>,
    /// Its private key, PKCS #8 DER.
    pub private_key: Vec<u8>,
}

impl fmt::Debug for CertificateAuthority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("CertificateAuthority(..)")
    }
}

/// The secrets in the join tokens, one a role; rotated one by one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinSecrets {
    /// For boards that only run tasks.
    pub worker: [u8; 16],
    /// For boards that may manage.
    pub manager: [u8; 16],
}

impl fmt::Debug for JoinSecrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JoinSecrets(..)")
    }
}
