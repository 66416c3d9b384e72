//! The cluster's own certificate authority. Every manager holds its key, so that any may sign.

use std::{fmt, time::Duration};

use bramble_cluster::{CertificateAuthority, ClusterId, Digest, JoinSecrets, NodeId, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, SanType, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::{
    certificate,
    identity::{self, PublicKey},
};

/// How long a node's certificate holds.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// How far certificates are dated back, for boards whose clock is behind.
pub const BACK_DATED: Duration = Duration::from_secs(86_400);

/// Whom a certificate names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// Which cluster it makes a member of.
    pub cluster: ClusterId,
    /// Which node.
    pub node: NodeId,
    /// Whose key.
    pub public_key: PublicKey,
}

/// The authority could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The operating system has no randomness.
    #[error("the operating system gives no random numbers")]
    Randomness,
    /// A key could not be made.
    #[error("cannot make the authority's key")]
    Key(#[source] rcgen::Error),
    /// The stored authority is not one.
    #[error("the cluster's certificate authority is damaged")]
    Damaged(#[source] rcgen::Error),
    /// A certificate could not be signed.
    #[error("cannot sign a certificate for {subject}")]
    Sign {
        /// For whom.
        subject: String,
        /// Why not.
        #[source]
        source: rcgen::Error,
    },
}

/// Makes the certificate authority of a new cluster. Its certificate holds at any time: a founder
/// need not know the date.
pub fn create(cluster: ClusterId) -> Result<CertificateAuthority, AuthorityError> {
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(AuthorityError::Key)?;
    let mut parameters = CertificateParams::default();
    parameters.not_before = date_time_ymd(1975, 1, 1);
    parameters.not_after = date_time_ymd(4096, 1, 1);
    parameters.distinguished_name = named(format!("Bramble cluster {cluster}"));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = parameters
        .self_signed(&key)
        .map_err(|source| AuthorityError::Sign { subject: format!("cluster {cluster}"), source })?;
    Ok(CertificateAuthority {
        certificate: certificate.der().to_vec(),
        private_key: key.serialize_der(),
    })
}

/// Draws the join secrets of a new cluster, or those that replace them.
pub fn draw_join_secrets() -> Result<JoinSecrets, AuthorityError> {
    let draw = || identity::draw().map(u128::to_le_bytes).ok_or(AuthorityError::Randomness);
    Ok(JoinSecrets { worker: draw()?, manager: draw()? })
}

/// The fingerprint of an authority's certificate, as it stands in join tokens.
pub fn fingerprint(certificate: &[u8]) -> Digest {
    identity::sha256(certificate)
}

/// A certificate authority that is ready to sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Loads the authority from the cluster's state.
    pub fn load(authority: &CertificateAuthority) -> Result<Self, AuthorityError> {
        let key = PrivatePkcs8KeyDer::from(authority.private_key.as_slice());
        let key = KeyPair::from_pkcs8_der_and_sign_algo(&key, &PKCS_ED25519)
            .map_err(AuthorityError::Damaged)?;
        let certificate = CertificateDer::from(authority.certificate.as_slice());
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(AuthorityError::Damaged)?;
        Ok(Self { issuer })
    }

    /// Signs a node's certificate (DER) that holds from [`BACK_DATED`] before `now` until `lifetime`
    /// after it; [`CERTIFICATE_LIFETIME`] unless a test wants otherwise.
    pub fn sign(
        &self,
        subject: &Subject,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Vec<u8>, AuthorityError> {
        let error =
            |source| AuthorityError::Sign { subject: format!("node {}", subject.node), source };
        let epoch = date_time_ymd(1970, 1, 1);
        let at = |instant: Timestamp| epoch + Duration::from_secs(instant.as_millis() / 1_000);
        let mut parameters = CertificateParams::default();
        parameters.not_before = at(now - BACK_DATED);
        parameters.not_after = at(now + lifetime);
        parameters.distinguished_name = named(format!("Bramble node {}", subject.node));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let name = certificate::subject_name(subject.cluster, subject.node);
        parameters.subject_alt_names = vec![SanType::URI(name.try_into().map_err(error)?)];
        let certificate = parameters.signed_by(&subject.public_key, &self.issuer).map_err(error)?;
        Ok(certificate.der().to_vec())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Authority(..)")
    }
}

fn named(name: String) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}
