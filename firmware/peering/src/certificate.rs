//! What a node's certificate says, and whether to believe it.

use bramble_cluster::{ClusterId, NodeId, Timestamp};
use ring::digest::SHA256_OUTPUT_LEN;
use rustls::{
    RootCertStore, client::verify_server_cert_signed_by_trust_anchor,
    crypto::ring::default_provider, pki_types::CertificateDer, server::ParsedCertificate,
};
use x509_parser::{
    extensions::GeneralName,
    prelude::{FromDer, X509Certificate},
};

use crate::{clock::unix_time, identity::PublicKey};

/// What a verified certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeCertificate {
    /// Which cluster the node is a member of.
    pub cluster: ClusterId,
    /// Which node.
    pub node: NodeId,
    /// The node's key.
    pub public_key: PublicKey,
    /// From when it holds.
    pub not_before: Timestamp,
    /// Until when it holds.
    pub not_after: Timestamp,
}

/// Whether a certificate that ran out is still believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expiry {
    /// It is not.
    Enforced,
    /// It is: who asks for a new certificate may have slept too long.
    Forgiven,
}

/// Why a certificate is not believed.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable,
    /// It names no node of a cluster.
    #[error("it names no node")]
    Nameless,
    /// It ran out.
    #[error("it ran out")]
    Expired,
    /// Another authority signed it, or none.
    #[error("the cluster's authority did not sign it")]
    Foreign(#[source] rustls::Error),
}

/// The name of a node in its certificate: a URI.
pub(crate) fn subject_name(cluster: ClusterId, node: NodeId) -> String {
    format!("bramble://{cluster}/{node}")
}

impl NodeCertificate {
    /// Judges a certificate by the authority's and the time.
    ///
    /// One that does not hold *yet* is believed: the authority signed it, so it is our clock that is
    /// behind.
    pub fn verify(
        certificate: &[u8],
        authority: &[u8],
        now: Timestamp,
        expiry: Expiry,
    ) -> Result<Self, CertificateError> {
        let read = Self::read(certificate)?;
        if expiry == Expiry::Enforced && now > read.not_after {
            return Err(CertificateError::Expired);
        }
        let at = now.clamp(read.not_before, read.not_after.max(read.not_before));
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(authority.to_vec()))
            .map_err(|_| CertificateError::Unreadable)?;
        let certificate = CertificateDer::from(certificate);
        let parsed = ParsedCertificate::try_from(&certificate);
        verify_server_cert_signed_by_trust_anchor(
            &parsed.map_err(|_| CertificateError::Unreadable)?,
            &roots,
            &[],
            unix_time(at),
            default_provider().signature_verification_algorithms.all,
        )
        .map_err(CertificateError::Foreign)?;
        Ok(read)
    }

    /// When to ask for the next one: after two thirds of its life.
    pub fn renew_at(&self) -> Timestamp {
        self.not_before + self.not_after.since(self.not_before) * 2 / 3
    }

    /// Reads a certificate without judging it.
    fn read(certificate: &[u8]) -> Result<Self, CertificateError> {
        let (rest, parsed) =
            X509Certificate::from_der(certificate).map_err(|_| CertificateError::Unreadable)?;
        if !rest.is_empty() {
            return Err(CertificateError::Unreadable);
        }
        let key = parsed.public_key().subject_public_key.data.as_ref();
        let public_key: [u8; SHA256_OUTPUT_LEN] =
            key.try_into().map_err(|_| CertificateError::Nameless)?;
        let names = parsed.subject_alternative_name().map_err(|_| CertificateError::Unreadable)?;
        let names = names.map_or(&[][..], |names| &names.value.general_names);
        let (cluster, node) =
            names.iter().find_map(parse_name).ok_or(CertificateError::Nameless)?;
        let at = |seconds: i64| {
            Timestamp::from_millis(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000))
        };
        let validity = parsed.validity();
        Ok(Self {
            cluster,
            node,
            public_key: PublicKey(public_key),
            not_before: at(validity.not_before.timestamp()),
            not_after: at(validity.not_after.timestamp()),
        })
    }
}

fn parse_name(name: &GeneralName<'_>) -> Option<(ClusterId, NodeId)> {
    let GeneralName::URI(uri) = name else { return None };
    let (cluster, node) = uri.strip_prefix("bramble://")?.split_once('/')?;
    Some((cluster.parse().ok()?, node.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bramble_cluster::CertificateAuthority;
    use proptest::prelude::{any, proptest};

    use super::*;
    use crate::authority::{self, Authority, BACK_DATED, CERTIFICATE_LIFETIME, Subject};

    const NOW: Timestamp = Timestamp::from_millis(1_900_000_000_000);

    fn subject() -> Subject {
        Subject {
            cluster: ClusterId::from_random(1),
            node: NodeId::from_random(2),
            public_key: PublicKey([3; 32]),
        }
    }

    fn signed() -> anyhow::Result<(CertificateAuthority, Vec<u8>)> {
        let cluster = authority::create(subject().cluster)?;
        let certificate = Authority::load(&cluster)?.sign(&subject(), NOW, CERTIFICATE_LIFETIME)?;
        Ok((cluster, certificate))
    }

    #[test]
    fn a_signed_certificate_says_what_was_signed() -> anyhow::Result<()> {
        let (cluster, certificate) = signed()?;
        let read =
            NodeCertificate::verify(&certificate, &cluster.certificate, NOW, Expiry::Enforced)?;
        let Subject { cluster, node, public_key } = subject();
        assert_eq!((read.cluster, read.node, read.public_key), (cluster, node, public_key));
        assert_eq!(read.not_before, NOW - BACK_DATED);
        assert_eq!(read.not_after, NOW + CERTIFICATE_LIFETIME);
        assert!(read.renew_at() > NOW && read.renew_at() < read.not_after);
        Ok(())
    }

    #[test]
    fn another_clusters_certificate_is_refused() -> anyhow::Result<()> {
        let (_, certificate) = signed()?;
        // The same names, another key: names are not what is trusted.
        let other = authority::create(subject().cluster)?;
        let refused =
            NodeCertificate::verify(&certificate, &other.certificate, NOW, Expiry::Forgiven);
        assert!(matches!(refused, Err(CertificateError::Foreign(_))), "{refused:?}");
        Ok(())
    }

    #[test]
    fn a_certificate_holds_from_any_past_until_it_runs_out() -> anyhow::Result<()> {
        let (cluster, certificate) = signed()?;
        let verify =
            |now, expiry| NodeCertificate::verify(&certificate, &cluster.certificate, now, expiry);
        verify(Timestamp::from_millis(0), Expiry::Enforced)?;
        verify(NOW + CERTIFICATE_LIFETIME, Expiry::Enforced)?;
        let late = NOW + CERTIFICATE_LIFETIME + Duration::from_secs(1);
        assert!(matches!(verify(late, Expiry::Enforced), Err(CertificateError::Expired)));
        verify(late, Expiry::Forgiven)?;
        Ok(())
    }

    #[test]
    fn a_changed_certificate_is_refused() -> anyhow::Result<()> {
        let (cluster, certificate) = signed()?;
        for index in 0..certificate.len() {
            let mut changed = certificate.clone();
            changed[index] ^= 1;
            let judged =
                NodeCertificate::verify(&changed, &cluster.certificate, NOW, Expiry::Enforced);
            assert!(judged.is_err(), "byte {index} may be changed");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = NodeCertificate::verify(&bytes, &bytes, NOW, Expiry::Enforced);
        }

        #[test]
        fn no_damage_makes_the_reader_panic(index in 0usize..400, value in any::<u8>()) {
            let (cluster, mut certificate) = signed().expect("signing works");
            let index = index % certificate.len();
            certificate[index] = value;
            let _ = NodeCertificate::verify(
                &certificate, &cluster.certificate, NOW, Expiry::Enforced,
            );
        }
    }
}
