//! Whom this board trusts and how it shows who it is: its membership and the TLS that follows.

use std::{
    fmt,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bramble_cluster::{Digest, NodeId, Peer};
use rustls::{
    ClientConfig, ServerConfig,
    client::Resumption,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivatePkcs8KeyDer},
    server::NoServerSessionStorage,
    version::TLS13,
};
use tokio::sync::watch;

use crate::{
    Clock, Expiry, Identity, Member, Membership, NodeCertificate, Protocol,
    certificate::CertificateError,
    membership::MembershipFile,
    store::StoreError,
    verifier::{Acquaintance, MemberVerifier, Server},
};

/// This board could not become, or go on as, a member.
#[derive(Debug, thiserror::Error)]
pub enum MembershipError {
    /// The membership could not be kept.
    #[error("cannot keep this board's membership")]
    Store(#[source] StoreError),
    /// The certificate is not to be believed.
    #[error("the certificate is refused")]
    Certificate(#[source] CertificateError),
    /// The certificate names another node, cluster or key.
    #[error("the certificate is not for this board")]
    NotOurs,
    /// The keys and certificates do not make a TLS configuration.
    #[error("the certificate cannot be used")]
    Tls(#[source] rustls::Error),
}

/// Membership and TLS configurations. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub(crate) struct Trust(Arc<Inner>);

struct Inner {
    identity: Identity,
    clock: Clock,
    file: MembershipFile,
    provider: Arc<CryptoProvider>,
    membership: watch::Sender<Membership>,
    /// Made anew with each certificate.
    servers: Mutex<Option<Servers>>,
}

#[derive(Clone)]
struct Servers {
    member: Arc<ServerConfig>,
    join: Arc<ServerConfig>,
}

impl Trust {
    pub(crate) fn load(
        directory: &Path,
        identity: Identity,
        clock: Clock,
    ) -> Result<Self, MembershipError> {
        let file = MembershipFile::new(directory);
        let loaded = file.load();
        let (membership, _) = watch::channel(Membership::Seeking);
        let provider = Arc::new(ring::default_provider());
        let servers = Mutex::new(None);
        let trust = Self(Arc::new(Inner { identity, clock, file, provider, membership, servers }));
        // One that ran out while the board was off still serves to ask for the next. One that is
        // damaged, or of an identity that was given up, is forgotten: the key lets the board in again.
        let usable = match loaded {
            Ok(None) => return Ok(trust),
            Ok(Some(member)) => trust.check(&member, Expiry::Forgiven).map(|_| member),
            Err(error @ StoreError::Damaged { .. }) => Err(MembershipError::Store(error)),
            Err(error) => return Err(MembershipError::Store(error)),
        };
        match usable {
            Ok(member) => trust.install(member)?,
            Err(error) => {
                tracing::error!(%error, "this board's membership is of no use: it seeks again");
                trust.0.file.remove().map_err(MembershipError::Store)?;
            }
        }
        Ok(trust)
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    pub(crate) fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(crate) fn node(&self) -> NodeId {
        self.0.identity.id()
    }

    pub(crate) fn membership(&self) -> watch::Receiver<Membership> {
        self.0.membership.subscribe()
    }

    pub(crate) fn member(&self) -> Option<Arc<Member>> {
        self.0.membership.borrow().member().cloned()
    }

    /// What our own certificate says; `None` while seeking.
    pub(crate) fn certificate(&self) -> Option<NodeCertificate> {
        let member = self.member()?;
        self.check(&member, Expiry::Forgiven).ok()
    }

    /// Becomes, or goes on as, a member: kept on disk before anyone is told.
    pub(crate) fn enter(&self, member: Member) -> Result<(), MembershipError> {
        self.check(&member, Expiry::Enforced)?;
        self.0.file.save(&member).map_err(MembershipError::Store)?;
        if let Err(error) = self.0.clock.save() {
            tracing::warn!(%error, "the time is not kept");
        }
        self.install(member)
    }

    /// Keeps who manages, for the next start. Writes only if one came or went, or is nowhere where
    /// it was: the order in which addresses answer changes all the time.
    pub(crate) fn remember_managers(&self, managers: Vec<Peer>) -> Result<(), MembershipError> {
        let Some(member) = self.member() else { return Ok(()) };
        let is_known = |now: &Peer| {
            member.managers.iter().any(|then| {
                let is_there = then.addresses.iter().any(|there| now.addresses.contains(there));
                then.id == now.id && (is_there || now.addresses.is_empty())
            })
        };
        let is_same = managers.len() == member.managers.len() && managers.iter().all(is_known);
        if managers.is_empty() || is_same {
            return Ok(());
        }
        let member = Member { managers, ..Member::clone(&member) };
        self.0.file.save(&member).map_err(MembershipError::Store)?;
        self.install(member)
    }

    /// Ceases to be a member.
    pub(crate) fn leave(&self) -> Result<(), MembershipError> {
        self.0.file.remove().map_err(MembershipError::Store)?;
        *self.servers() = None;
        self.0.membership.send_replace(Membership::Seeking);
        Ok(())
    }

    /// How to serve a conversation; `None` while seeking.
    pub(crate) fn server(&self, protocol: Protocol) -> Option<Arc<ServerConfig>> {
        let servers = self.servers();
        let servers = servers.as_ref()?;
        Some(match protocol {
            Protocol::Join => servers.join.clone(),
            _ => servers.member.clone(),
        })
    }

    /// How to open a conversation with a member; `None` while seeking.
    pub(crate) fn client(
        &self,
        protocol: Protocol,
        expiry: Expiry,
    ) -> Result<Option<ClientConfig>, MembershipError> {
        let Some(member) = self.member() else { return Ok(None) };
        let verifier = self.verifier(&member, expiry);
        let (chain, key) = self.credentials(&member, false);
        let config = ClientConfig::builder_with_details(
            self.0.provider.clone(),
            Arc::new(self.0.clock.clone()),
        )
        .with_protocol_versions(&[&TLS13])
        .map_err(MembershipError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, key.into())
        .map_err(MembershipError::Tls)?;
        Ok(Some(finish(config, protocol)))
    }

    /// How to ask a board that we do not know yet to let us in. With a fingerprint, it must belong
    /// to the cluster of that authority.
    pub(crate) fn stranger(
        &self,
        authority: Option<Digest>,
    ) -> Result<ClientConfig, MembershipError> {
        let server = Server::new(self.0.provider.clone(), self.0.clock.clone(), authority);
        let config = ClientConfig::builder_with_details(
            self.0.provider.clone(),
            Arc::new(self.0.clock.clone()),
        )
        .with_protocol_versions(&[&TLS13])
        .map_err(MembershipError::Tls)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(server))
        .with_no_client_auth();
        Ok(finish(config, Protocol::Join))
    }

    fn check(&self, member: &Member, expiry: Expiry) -> Result<NodeCertificate, MembershipError> {
        let Member { certificate, authority, .. } = member;
        let now = self.0.clock.now();
        let certificate = NodeCertificate::verify(certificate, authority, now, expiry)
            .map_err(MembershipError::Certificate)?;
        let is_ours = certificate.node == self.node()
            && certificate.cluster == member.cluster
            && certificate.public_key == self.0.identity.public_key();
        if is_ours { Ok(certificate) } else { Err(MembershipError::NotOurs) }
    }

    fn install(&self, member: Member) -> Result<(), MembershipError> {
        let server = |acquaintance, expiry, protocols: Vec<Vec<u8>>| {
            let verifier = Acquaintance::new(self.verifier(&member, expiry), acquaintance);
            let (chain, key) = self.credentials(&member, true);
            let mut config = ServerConfig::builder_with_details(
                self.0.provider.clone(),
                Arc::new(self.0.clock.clone()),
            )
            .with_protocol_versions(&[&TLS13])
            .map_err(MembershipError::Tls)?
            .with_client_cert_verifier(Arc::new(verifier))
            .with_single_cert(chain, key.into())
            .map_err(MembershipError::Tls)?;
            // A resumed session would not show its certificate again.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
            config.alpn_protocols = protocols;
            Ok(Arc::new(config))
        };
        let name = |protocol: &Protocol| protocol.name().as_bytes().to_vec();
        let others = Protocol::ALL.iter().filter(|protocol| **protocol != Protocol::Join);
        let servers = Servers {
            member: server(true, Expiry::Enforced, others.map(name).collect())?,
            join: server(false, Expiry::Forgiven, vec![name(&Protocol::Join)])?,
        };
        *self.servers() = Some(servers);
        self.0.membership.send_replace(Membership::Member(Arc::new(member)));
        Ok(())
    }

    fn verifier(&self, member: &Member, expiry: Expiry) -> MemberVerifier {
        MemberVerifier::new(self.0.provider.clone(), self.0.clock.clone(), member, expiry)
    }

    fn credentials(
        &self,
        member: &Member,
        has_authority: bool,
    ) -> (Vec<CertificateDer<'static>>, PrivatePkcs8KeyDer<'static>) {
        let mut chain = vec![CertificateDer::from(member.certificate.clone())];
        if has_authority {
            // For those who know the authority by its fingerprint alone.
            chain.push(CertificateDer::from(member.authority.clone()));
        }
        (chain, PrivatePkcs8KeyDer::from(self.0.identity.private_key().to_vec()))
    }

    fn servers(&self) -> MutexGuard<'_, Option<Servers>> {
        self.0.servers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Trust({})", self.node())
    }
}

fn finish(mut config: ClientConfig, protocol: Protocol) -> ClientConfig {
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    config.alpn_protocols = vec![protocol.name().as_bytes().to_vec()];
    config
}
