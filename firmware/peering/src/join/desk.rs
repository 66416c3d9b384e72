//! The side that lets boards in: checks what they show, asks the manager, answers.

use std::{
    fmt,
    net::SocketAddr,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use bramble_cluster::{
    Cluster, ClusterId, JoinSecrets, NodeAdmission, NodeDescription, NodeId, NodeSpec, Peer, Role,
    Timestamp,
};
use bytes::BytesMut;
use tokio::{
    net::TcpStream,
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_rustls::server::TlsStream;

use crate::{
    ClusterKey, Directory, Expiry, JoinRefusal, NodeCertificate, PublicKey, Standing,
    authority::{Authority, AuthorityError, CERTIFICATE_LIFETIME, Subject},
    frame,
    gate::Pass,
    hello::HANDSHAKE_TIMEOUT,
    join::{
        Admitted, Answer, Ask, Credential, Elsewhere, JOIN_FRAME_BYTES, binding_of,
        possession_message,
    },
    key::{ChannelBinding, Proof, Side},
    presence::Presence,
    trust::Trust,
};

/// Admissions that wait for the manager; more boards are told to come again.
const WAITING: usize = 64;

/// How long the manager has to agree on an admission.
const ADMISSION_TIMEOUT: Duration = Duration::from_secs(6);

/// A board asks to be let in, or for its next certificate. What it showed was checked; the manager
/// commits [`AdmissionRequest::node`] and answers.
#[derive(Debug)]
pub struct AdmissionRequest {
    /// The node, as [`bramble_cluster::Command::AdmitNode`] wants it.
    pub node: NodeAdmission,
    /// Its key, which the certificate must name.
    pub public_key: PublicKey,
    /// By what right it asks. With [`Standing::Certificate`] it is a member already: if the state
    /// knows the node, nothing needs to be committed.
    pub standing: Standing,
    /// From where it asks.
    pub from: SocketAddr,
    reply: oneshot::Sender<Result<Admission, JoinRefusal>>,
}

/// What makes a board a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// Of which cluster.
    pub cluster: ClusterId,
    /// When it was founded.
    pub founded_at: Timestamp,
    /// The certificate of its authority, DER.
    pub authority: Vec<u8>,
    /// The node's certificate, DER.
    pub certificate: Vec<u8>,
}

impl AdmissionRequest {
    /// Signs what the board asks for. Commit the admission first.
    pub fn sign(&self, cluster: &Cluster, now: Timestamp) -> Result<Admission, AuthorityError> {
        self.sign_for(cluster, now, CERTIFICATE_LIFETIME)
    }

    /// The same, for a certificate of another lifetime.
    pub fn sign_for(
        &self,
        cluster: &Cluster,
        now: Timestamp,
        lifetime: Duration,
    ) -> Result<Admission, AuthorityError> {
        let subject =
            Subject { cluster: cluster.id, node: self.node.id, public_key: self.public_key };
        let certificate = Authority::load(&cluster.authority)?.sign(&subject, now, lifetime)?;
        let authority = cluster.authority.certificate.clone();
        Ok(Admission {
            cluster: cluster.id,
            founded_at: cluster.created_at,
            authority,
            certificate,
        })
    }

    /// Lets the board in.
    pub fn admit(self, admission: Admission) {
        // A board that hung up meanwhile asks again.
        let _ = self.reply.send(Ok(admission));
    }

    /// Turns the board away.
    pub fn refuse(self, refusal: JoinRefusal) {
        let _ = self.reply.send(Err(refusal));
    }
}

/// Where boards are let in.
pub(crate) struct Desk {
    trust: Trust,
    directory: Directory,
    presence: Presence,
    key: Option<ClusterKey>,
    is_manager: watch::Receiver<bool>,
    secrets: Mutex<Option<JoinSecrets>>,
    sender: mpsc::Sender<AdmissionRequest>,
    receiver: Mutex<Option<mpsc::Receiver<AdmissionRequest>>>,
}

impl Desk {
    pub(crate) fn new(
        trust: Trust,
        directory: Directory,
        presence: Presence,
        key: Option<ClusterKey>,
        is_manager: watch::Receiver<bool>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(WAITING);
        Self {
            trust,
            directory,
            presence,
            key,
            is_manager,
            secrets: Mutex::new(None),
            sender,
            receiver: Mutex::new(Some(receiver)),
        }
    }

    /// The queue of admissions, once.
    pub(crate) fn take(&self) -> Option<mpsc::Receiver<AdmissionRequest>> {
        self.receiver.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The join secrets that hold now.
    pub(crate) fn set_secrets(&self, secrets: Option<JoinSecrets>) {
        *self.secrets.lock().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    /// Serves one conversation. TLS is agreed; everything else is to be checked.
    pub(crate) async fn serve(
        &self,
        mut stream: TlsStream<TcpStream>,
        from: SocketAddr,
        pass: Pass,
    ) -> Result<(), ServeError> {
        let binding = binding_of(stream.get_ref().1).map_err(ServeError::Binding)?;
        let mut buffer = BytesMut::new();
        let asked = frame::receive(&mut stream, &mut buffer, JOIN_FRAME_BYTES);
        let asked = timeout(HANDSHAKE_TIMEOUT, asked).await.map_err(|_| ServeError::TimedOut)?;
        let Ask::V1 { credential, node, description, public_key, possession } =
            asked.map_err(ServeError::Receive)?;
        let shown = self.shown(&stream);
        let question = Question { credential, node, public_key, shown };
        let judged = match public_key.has_signed(&possession_message(&binding), &possession) {
            true => self.judge(&question, &binding),
            false => Err(JoinRefusal::NotProven),
        };
        let answer = match judged {
            Ok((standing, proof)) => {
                // No stranger any more: the time it takes to agree is not its fault.
                drop(pass);
                let admission = admission(node, description, public_key, standing);
                self.answer(admission, public_key, standing, proof, from).await
            }
            Err(refusal) => {
                pass.failed(Instant::now());
                tracing::warn!(%node, %from, "a board may not join: {refusal}");
                Answer::Refused(refusal)
            }
        };
        frame::encode(&answer, JOIN_FRAME_BYTES, &mut buffer).map_err(ServeError::Send)?;
        let sent = async {
            frame::flush(&mut stream, &mut buffer).await?;
            tokio::io::AsyncWriteExt::shutdown(&mut stream).await
        };
        let sent = timeout(HANDSHAKE_TIMEOUT, sent).await.map_err(|_| ServeError::TimedOut)?;
        sent.map_err(|error| ServeError::Send(frame::SendError::Io(error)))
    }

    /// Asks our own manager for our own next certificate, if this board has one.
    pub(crate) async fn renew_here(
        &self,
        description: NodeDescription,
        from: SocketAddr,
    ) -> Option<Result<Admission, JoinRefusal>> {
        if !*self.is_manager.borrow() {
            return None;
        }
        let identity = self.trust.identity();
        let standing = Standing::Certificate;
        let public_key = identity.public_key();
        let node = admission(identity.id(), description, public_key, standing);
        Some(self.request(node, public_key, standing, from).await)
    }

    /// What the board's TLS certificate says, if it showed one; TLS has verified it.
    fn shown(&self, stream: &TlsStream<TcpStream>) -> Option<NodeCertificate> {
        let certificate = stream.get_ref().1.peer_certificates()?.first()?;
        let member = self.trust.member()?;
        let now = self.trust.clock().now();
        NodeCertificate::verify(certificate, &member.authority, now, Expiry::Forgiven).ok()
    }

    /// By what right the board asks, and our own proof of the same secret.
    fn judge(
        &self,
        question: &Question,
        binding: &ChannelBinding,
    ) -> Result<(Standing, Option<Proof>), JoinRefusal> {
        if self.presence.is_refused(question.node) {
            return Err(JoinRefusal::Removed);
        }
        let proven = |secret: &[u8], proof: Proof| {
            let ours = || Proof::make(secret, Side::Member, binding);
            proof.holds(secret, Side::Joiner, binding).then(ours)
        };
        match question.credential {
            Credential::Key(proof) => {
                let key = self.key.as_ref().ok_or(JoinRefusal::NotProven)?;
                let ours = proven(key.secret(), proof).ok_or(JoinRefusal::NotProven)?;
                Ok((Standing::Key, Some(ours)))
            }
            Credential::Token(proof) => {
                let secrets = self.secrets.lock().unwrap_or_else(PoisonError::into_inner);
                let secrets = secrets.as_ref().ok_or(JoinRefusal::NotManager)?;
                let of = |role, secret: &[u8]| {
                    proven(secret, proof).map(|ours| (Standing::Token(role), Some(ours)))
                };
                of(Role::Manager, &secrets.manager)
                    .or_else(|| of(Role::Worker, &secrets.worker))
                    .ok_or(JoinRefusal::NotProven)
            }
            Credential::Certificate => {
                let shown = question.shown.ok_or(JoinRefusal::NotProven)?;
                let is_same =
                    shown.node == question.node && shown.public_key == question.public_key;
                if is_same {
                    Ok((Standing::Certificate, None))
                } else {
                    Err(JoinRefusal::NotProven)
                }
            }
        }
    }

    async fn answer(
        &self,
        node: NodeAdmission,
        public_key: PublicKey,
        standing: Standing,
        proof: Option<Proof>,
        from: SocketAddr,
    ) -> Answer {
        let managers = self.managers();
        if !*self.is_manager.borrow() {
            return Answer::Elsewhere(Elsewhere { proof, managers });
        }
        match self.request(node, public_key, standing, from).await {
            Ok(Admission { cluster, founded_at, authority, certificate }) => {
                let at = self.trust.clock().now();
                let admitted =
                    Admitted { proof, cluster, founded_at, certificate, authority, managers, at };
                Answer::Admitted(Box::new(admitted))
            }
            Err(refusal) => Answer::Refused(refusal),
        }
    }

    async fn request(
        &self,
        node: NodeAdmission,
        public_key: PublicKey,
        standing: Standing,
        from: SocketAddr,
    ) -> Result<Admission, JoinRefusal> {
        let (reply, answered) = oneshot::channel();
        let request = AdmissionRequest { node, public_key, standing, from, reply };
        self.sender.try_send(request).map_err(|_| JoinRefusal::Busy)?;
        match timeout(ADMISSION_TIMEOUT, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(JoinRefusal::Busy),
            Err(_) => Err(JoinRefusal::Failed("the managers could not agree in time".to_owned())),
        }
    }

    /// The managers, as many as fit into an answer.
    fn managers(&self) -> Vec<Peer> {
        const MANAGERS: usize = 16;
        self.directory.managers().into_iter().take(MANAGERS).collect()
    }
}

struct Question {
    credential: Credential,
    node: NodeId,
    public_key: PublicKey,
    shown: Option<NodeCertificate>,
}

fn admission(
    id: NodeId,
    description: NodeDescription,
    public_key: PublicKey,
    standing: Standing,
) -> NodeAdmission {
    // A worker's token is for boards that must never manage.
    let role = (standing == Standing::Token(Role::Worker)).then_some(Role::Worker);
    let spec = NodeSpec { role, ..NodeSpec::default() };
    NodeAdmission { id, spec, description, key: public_key.digest() }
}

/// A conversation with a board that wants in came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServeError {
    #[error("the connection cannot be bound to a proof")]
    Binding(#[source] rustls::Error),
    #[error("the board takes too long")]
    TimedOut,
    #[error("the board asks nothing sensible")]
    Receive(#[source] frame::ReceiveError),
    #[error("the board does not take the answer")]
    Send(#[source] frame::SendError),
}

impl fmt::Debug for Desk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Desk").finish_non_exhaustive()
    }
}
