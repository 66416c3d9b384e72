//! `bramble-join/1`: how a board gets its certificate, the first and the later ones.
//!
//! The only conversation open to strangers. Both ends prove that they know the same secret (the
//! cluster key, or a token's) by an HMAC over the TLS exporter, which is different on every
//! connection: a proof overheard, sent back or passed on proves nothing, so a machine in the middle
//! gains nothing and learns nothing. The secret itself never leaves a board. Who is a member already
//! shows its certificate instead, even one that ran out, and gets the next.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bramble_cluster::{Digest, NodeDescription, NodeId, Peer};
use bytes::BytesMut;
use rustls::{ClientConfig, ConnectionCommon, pki_types::ServerName};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    ClusterKey, Expiry, JoinToken, Member, MembershipError, NodeCertificate, Protocol,
    dial::{self, Attempts},
    frame::{self, ReceiveError, SendError},
    key::{ChannelBinding, Proof, Side},
    trust::Trust,
    verifier,
};

pub(crate) mod desk;
mod messages;

pub(crate) use messages::{
    Admitted, Answer, Ask, Credential, Elsewhere, JOIN_FRAME_BYTES, possession_message,
};
pub use messages::{JoinRefusal, Standing};

/// How long the board that was asked has to answer: the admission is agreed by a quorum first.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);

/// How often one board may send us to others.
const HOPS: usize = 3;

/// A board could not join, or not get its next certificate.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has no cluster key to join by.
    #[error("this board has no cluster key: it can join by a token only")]
    NoKey,
    /// It is a member of a cluster already.
    #[error("this board is a member of a cluster already")]
    AlreadyMember,
    /// It is not a member of a cluster.
    #[error("this board is not a member of a cluster")]
    NotMember,
    /// Nobody answers.
    #[error("no board answers: {0}")]
    Unreachable(Attempts),
    /// The question could not be sent.
    #[error("cannot ask {address}")]
    Ask {
        /// Whom.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: SendError,
    },
    /// The question was not answered.
    #[error("{address} does not answer the question")]
    NoAnswer {
        /// Who.
        address: SocketAddr,
        /// What came instead.
        #[source]
        source: ReceiveError,
    },
    /// The question was not answered in time.
    #[error("{address} takes too long to answer")]
    TimedOut {
        /// Who.
        address: SocketAddr,
    },
    /// The other board answered without knowing the secret.
    #[error("{address} does not know the secret: it is no board of the cluster, or one between")]
    NotProven {
        /// Who.
        address: SocketAddr,
    },
    /// The other board refuses.
    #[error("{address} refuses")]
    Refused {
        /// Who.
        address: SocketAddr,
        /// Why.
        #[source]
        refusal: JoinRefusal,
    },
    /// No manager could be asked.
    #[error("{address} is a worker and knows no manager that answers")]
    NoManager {
        /// Who.
        address: SocketAddr,
    },
    /// What was answered does not make this board a member.
    #[error("cannot become a member")]
    Membership(#[source] MembershipError),
    /// TLS offers no channel binding.
    #[error("the connection cannot be bound to a proof")]
    Binding(#[source] rustls::Error),
}

/// What a board shows to be let in.
#[derive(Debug, Clone)]
pub(crate) enum Introduction {
    Key(ClusterKey),
    Token(JoinToken),
    Certificate,
}

impl Introduction {
    fn secret(&self) -> Option<&[u8]> {
        match self {
            Self::Key(key) => Some(key.secret()),
            Self::Token(token) => Some(&token.secret),
            Self::Certificate => None,
        }
    }

    fn authority(&self) -> Option<Digest> {
        match self {
            Self::Token(token) => Some(token.authority),
            Self::Key(_) | Self::Certificate => None,
        }
    }

    fn credential(&self, binding: &ChannelBinding) -> Credential {
        let proof = |secret| Proof::make(secret, Side::Joiner, binding);
        match self {
            Self::Key(key) => Credential::Key(proof(key.secret())),
            Self::Token(token) => Credential::Token(proof(&token.secret)),
            Self::Certificate => Credential::Certificate,
        }
    }
}

/// Asks until a manager answers, and returns the membership it gives.
pub(crate) async fn ask(
    trust: &Trust,
    introduction: &Introduction,
    description: &NodeDescription,
    first: Peer,
) -> Result<Member, JoinError> {
    let mut whom = vec![first];
    let mut last_error = None;
    for _ in 0..HOPS {
        let mut next = Vec::new();
        for peer in std::mem::take(&mut whom) {
            match ask_one(trust, introduction, description, &peer).await {
                Ok(Reply::Admitted(member)) => return Ok(member),
                Ok(Reply::Elsewhere(managers, address)) => {
                    last_error = Some(JoinError::NoManager { address });
                    next.extend(managers);
                }
                Err(error) => last_error = Some(error),
            }
        }
        whom = next;
        if whom.is_empty() {
            break;
        }
    }
    Err(last_error.unwrap_or(JoinError::NotMember))
}

enum Reply {
    Admitted(Member),
    Elsewhere(Vec<Peer>, SocketAddr),
}

async fn ask_one(
    trust: &Trust,
    introduction: &Introduction,
    description: &NodeDescription,
    peer: &Peer,
) -> Result<Reply, JoinError> {
    let (config, name) = configuration(trust, introduction, peer)?;
    let connector = TlsConnector::from(Arc::new(config));
    let attempt =
        |address| dial::handshake(connector.clone(), name.clone(), address, Protocol::Join);
    let (address, mut stream) =
        dial::race(&peer.addresses, attempt).await.map_err(JoinError::Unreachable)?;
    let conversation = converse(trust, introduction, description, address, &mut stream);
    let answer = timeout(ANSWER_TIMEOUT, conversation).await;
    let answer = answer.map_err(|_| JoinError::TimedOut { address })??;
    let binding = binding_of(stream.get_ref().1).map_err(JoinError::Binding)?;
    let mut time = None;
    let (proof, reply) = match answer {
        Answer::Refused(refusal) => return Err(JoinError::Refused { address, refusal }),
        Answer::Elsewhere(Elsewhere { proof, managers }) => {
            (proof, Reply::Elsewhere(managers, address))
        }
        Answer::Admitted(admitted) => {
            let Admitted { proof, cluster, founded_at, certificate, authority, managers, at } =
                *admitted;
            // Whoever answers must be a member of the cluster it lets us into.
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
            let shown = shown.ok_or(JoinError::NotProven { address })?;
            let shown = NodeCertificate::verify(shown, &authority, at, Expiry::Forgiven)
                .map_err(|error| JoinError::Membership(MembershipError::Certificate(error)))?;
            time = Some(at);
            let managers = with(managers, shown.node, address);
            (
                proof,
                Reply::Admitted(Member { cluster, founded_at, authority, certificate, managers }),
            )
        }
    };
    if let Some(secret) = introduction.secret() {
        let is_proven = proof.is_some_and(|proof| proof.holds(secret, Side::Member, &binding));
        if !is_proven {
            return Err(JoinError::NotProven { address });
        }
    }
    if let Some(at) = time {
        trust.clock().learn(at);
    }
    Ok(reply)
}

fn configuration(
    trust: &Trust,
    introduction: &Introduction,
    peer: &Peer,
) -> Result<(ClientConfig, ServerName<'static>), JoinError> {
    let name = verifier::server_name(peer.id).ok_or(JoinError::NotMember)?;
    let config = match introduction {
        Introduction::Certificate => trust
            .client(Protocol::Join, Expiry::Forgiven)
            .map_err(JoinError::Membership)?
            .ok_or(JoinError::NotMember)?,
        Introduction::Key(_) | Introduction::Token(_) => {
            trust.stranger(introduction.authority()).map_err(JoinError::Membership)?
        }
    };
    Ok((config, name))
}

async fn converse(
    trust: &Trust,
    introduction: &Introduction,
    description: &NodeDescription,
    address: SocketAddr,
    stream: &mut TlsStream<TcpStream>,
) -> Result<Answer, JoinError> {
    let binding = binding_of(stream.get_ref().1).map_err(JoinError::Binding)?;
    let identity = trust.identity();
    let ask = Ask::V1 {
        credential: introduction.credential(&binding),
        node: identity.id(),
        description: description.clone(),
        public_key: identity.public_key(),
        possession: identity.sign(&possession_message(&binding)),
    };
    let mut buffer = BytesMut::new();
    let sent = |source| JoinError::Ask { address, source };
    frame::encode(&ask, JOIN_FRAME_BYTES, &mut buffer).map_err(sent)?;
    frame::flush(stream, &mut buffer).await.map_err(|error| sent(SendError::Io(error)))?;
    frame::receive(stream, &mut buffer, JOIN_FRAME_BYTES)
        .await
        .map_err(|source| JoinError::NoAnswer { address, source })
}

/// The managers, and among them the one that answered where it did.
fn with(mut managers: Vec<Peer>, node: NodeId, address: SocketAddr) -> Vec<Peer> {
    match managers.iter_mut().find(|manager| manager.id == node) {
        Some(manager) => {
            manager.addresses.retain(|other| *other != address);
            manager.addresses.insert(0, address);
        }
        None => managers.insert(0, Peer { id: node, addresses: vec![address] }),
    }
    managers
}

/// What names this connection to both its ends: the TLS exporter (RFC 8446, section 7.5).
pub(crate) fn binding_of<Data>(
    connection: &ConnectionCommon<Data>,
) -> Result<ChannelBinding, rustls::Error> {
    connection.export_keying_material([0; 32], b"EXPORTER-bramble-join-1", None).map(ChannelBinding)
}
