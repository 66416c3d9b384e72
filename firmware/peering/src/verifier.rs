//! rustls's questions about certificates, answered by [`NodeCertificate`].

use std::{fmt, sync::Arc};

use bramble_cluster::{ClusterId, Digest, NodeId};
use rustls::{
    CertificateError as TlsCertificateError, DigitallySignedStruct, DistinguishedName,
    Error as TlsError, PeerIncompatible, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};

use crate::{Clock, Expiry, Member, NodeCertificate, authority, certificate::CertificateError};

/// What is appended to a node id to make it a server name.
const SUFFIX: &str = ".bramble.internal";

/// The name under which a client expects a node.
pub(crate) fn server_name(node: NodeId) -> Option<ServerName<'static>> {
    ServerName::try_from(format!("{node}{SUFFIX}")).ok()
}

/// Believes the members of one cluster.
pub(crate) struct MemberVerifier {
    provider: Arc<CryptoProvider>,
    clock: Clock,
    cluster: ClusterId,
    authority: Vec<u8>,
    expiry: Expiry,
}

impl MemberVerifier {
    pub(crate) fn new(
        provider: Arc<CryptoProvider>,
        clock: Clock,
        member: &Member,
        expiry: Expiry,
    ) -> Self {
        let Member { cluster, authority, .. } = member.clone();
        Self { provider, clock, cluster, authority, expiry }
    }

    fn verify(&self, certificate: &CertificateDer<'_>) -> Result<NodeCertificate, TlsError> {
        let now = self.clock.now();
        let verified = NodeCertificate::verify(certificate, &self.authority, now, self.expiry)
            .map_err(tls_error)?;
        if verified.cluster != self.cluster {
            return Err(TlsCertificateError::ApplicationVerificationFailure.into());
        }
        Ok(verified)
    }
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let node = self.verify(certificate)?.node;
        let ServerName::DnsName(expected) = server_name else {
            return Err(TlsCertificateError::NotValidForName.into());
        };
        if expected.as_ref().strip_suffix(SUFFIX) != Some(node.to_string().as_str()) {
            return Err(TlsCertificateError::NotValidForName.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Believes the same members as clients, and may let strangers try.
#[derive(Debug)]
pub(crate) struct Acquaintance {
    members: MemberVerifier,
    is_required: bool,
}

impl Acquaintance {
    pub(crate) const fn new(members: MemberVerifier, is_required: bool) -> Self {
        Self { members, is_required }
    }
}

impl ClientCertVerifier for Acquaintance {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.members.verify(certificate)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.members.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.members.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// What a board that wants in believes of the board it asks: anything, since both will prove the
/// cluster key; or, with a token, a certificate of the token's authority.
pub(crate) struct Server {
    provider: Arc<CryptoProvider>,
    clock: Clock,
    authority: Option<Digest>,
}

impl Server {
    pub(crate) const fn new(
        provider: Arc<CryptoProvider>,
        clock: Clock,
        authority: Option<Digest>,
    ) -> Self {
        Self { provider, clock, authority }
    }
}

impl ServerCertVerifier for Server {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if let Some(fingerprint) = self.authority {
            let authority = intermediates
                .iter()
                .find(|certificate| authority::fingerprint(certificate) == fingerprint)
                .ok_or(TlsCertificateError::UnknownIssuer)?;
            NodeCertificate::verify(certificate, authority, self.clock.now(), Expiry::Enforced)
                .map_err(tls_error)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(PeerIncompatible::Tls12NotOfferedOrEnabled.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn tls_error(error: CertificateError) -> TlsError {
    match error {
        CertificateError::Unreadable => TlsCertificateError::BadEncoding.into(),
        CertificateError::Nameless => TlsCertificateError::ApplicationVerificationFailure.into(),
        CertificateError::Expired => TlsCertificateError::Expired.into(),
        CertificateError::Foreign(error) => error,
    }
}

impl fmt::Debug for MemberVerifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "MemberVerifier({})", self.cluster)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").finish_non_exhaustive()
    }
}
