//! [`Peering`]: what the rest of the firmware sees of this crate.

use std::{
    collections::BTreeSet,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use bramble_cluster::{
    Cluster, ClusterId, JoinSecrets, NodeAdmission, NodeDescription, NodeId, NodeSpec, Peer,
    Version,
};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};

use crate::{
    AdmissionRequest, Clock, ClusterKey, ConnectError, Directory, Instance, JoinError, JoinToken,
    Member, Membership, MembershipError, Neighbours, PeerStream, Problem, Protocol, Situation,
    authority::{self, Authority, AuthorityError, CERTIFICATE_LIFETIME, Subject},
    dial::Dialer,
    doors::Doors,
    identity,
    join::{self, Introduction, desk::Desk},
    portrait::Portrait,
};

/// A board could not found a cluster.
#[derive(Debug, thiserror::Error)]
pub enum FoundError {
    /// It is a member of one already.
    #[error("this board is a member of a cluster already")]
    AlreadyMember,
    /// The authority could not be made or used.
    #[error("cannot make the cluster's certificate authority")]
    Authority(#[source] AuthorityError),
    /// The membership could not be kept.
    #[error("cannot become a member")]
    Membership(#[source] MembershipError),
    /// The operating system has no randomness.
    #[error("the operating system gives no random numbers")]
    Randomness,
}

/// A cluster that could be: the first command of its log.
#[derive(Debug, Clone)]
pub struct Founding {
    /// The cluster, its authority and secrets drawn.
    pub cluster: Cluster,
    /// Its founder: this board.
    pub node: NodeAdmission,
}

/// A place in a cluster, given and not taken yet.
#[derive(Debug)]
pub struct Place(Member);

impl Place {
    /// In which cluster.
    pub fn cluster(&self) -> ClusterId {
        self.0.cluster
    }
}

/// Finds, trusts and talks to other boards. Cheap to clone; all clones are the same.
#[derive(Debug, Clone)]
pub struct Peering(pub(crate) Arc<Parts>);

/// What a running peering consists of.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) dialer: Dialer,
    pub(crate) desk: Arc<Desk>,
    pub(crate) doors: Arc<Doors>,
    pub(crate) portrait: Portrait,
    pub(crate) key: Option<ClusterKey>,
    pub(crate) situation: watch::Sender<Situation>,
    pub(crate) is_manager: watch::Sender<bool>,
    pub(crate) finding: Finding,
    pub(crate) tasks: Mutex<JoinSet<Infallible>>,
}

/// The way to and from mDNS. Without mDNS, nobody is found and nobody listens.
#[derive(Debug)]
pub(crate) struct Finding {
    pub(crate) neighbours: watch::Receiver<Arc<Neighbours>>,
    pub(crate) doubts: mpsc::Sender<NodeId>,
    pub(crate) farewell: mpsc::Sender<oneshot::Sender<()>>,
    /// Keeps `neighbours` open, so that whoever waits for a change waits.
    pub(crate) _open: watch::Sender<Arc<Neighbours>>,
}

impl Peering {
    /// Which node this board is, in whatever cluster.
    pub fn node_id(&self) -> NodeId {
        self.0.dialer.trust.node()
    }

    /// Which run of the firmware this is.
    pub fn instance(&self) -> Instance {
        self.0.dialer.instance
    }

    /// Where this board listens.
    pub fn listen_address(&self) -> SocketAddr {
        self.0.dialer.listen
    }

    /// The time by which certificates are judged.
    pub fn clock(&self) -> &Clock {
        self.0.dialer.trust.clock()
    }

    /// What this board says of itself, with the addresses it has now.
    pub fn description(&self) -> NodeDescription {
        self.0.portrait.description()
    }

    /// From now on this board says of itself that it has this label, or none of this name.
    pub fn set_label(&self, name: &str, value: Option<String>) {
        self.0.portrait.set_label(name, value);
    }

    /// Whether this board is a member of a cluster, and of which.
    pub fn membership(&self) -> watch::Receiver<Membership> {
        self.0.dialer.trust.membership()
    }

    /// What a person must know and nobody here can mend.
    pub fn problems(&self) -> watch::Receiver<BTreeSet<Problem>> {
        self.0.dialer.problems.watch()
    }

    /// The boards with our cluster key, or of our cluster, that mDNS found. Hints, not truth.
    pub fn neighbours(&self) -> watch::Receiver<Arc<Neighbours>> {
        self.0.finding.neighbours.clone()
    }

    /// A neighbour that should answer does not: asks it by mDNS whether it is still there, and
    /// forgets it if it says nothing within two seconds.
    pub fn doubt(&self, node: NodeId) {
        let _ = self.0.finding.doubts.try_send(node);
    }

    /// Joins the cluster of this neighbour by the cluster key.
    pub async fn join(&self, peer: &Peer) -> Result<(), JoinError> {
        self.check_seeking()?;
        let place = self.ask_for_place(peer).await?;
        self.take_place(place)
    }

    /// Asks the cluster of this neighbour for a place, and gets it, without taking it yet: for a
    /// member of a cluster that is to be dissolved into that one.
    pub async fn ask_for_place(&self, peer: &Peer) -> Result<Place, JoinError> {
        let key = self.0.key.clone().ok_or(JoinError::NoKey)?;
        let asked = self.ask(Introduction::Key(key), peer.clone()).await;
        if matches!(asked, Err(JoinError::Unreachable(_))) {
            self.doubt(peer.id);
        }
        asked
    }

    /// Takes the place that another cluster gave: from now on, and after any restart, this board is
    /// a member of that one and none of its own. Wipe the log after, not before: a log of a cluster
    /// that is not the one in [`Peering::membership`] is to be wiped at any start.
    pub fn take_place(&self, place: Place) -> Result<(), JoinError> {
        let Dialer { trust, directory, .. } = &self.0.dialer;
        let managers = place.0.managers.clone();
        trust.enter(place.0).map_err(JoinError::Membership)?;
        self.forget_cluster();
        directory.set_managers(&managers);
        Ok(())
    }

    /// Joins the cluster of a token through a manager at one of these addresses.
    pub async fn join_with_token(
        &self,
        token: &JoinToken,
        addresses: &[SocketAddr],
    ) -> Result<(), JoinError> {
        // Whose addresses these are, only the certificate tells.
        let peer = Peer { id: NodeId::default(), addresses: addresses.to_vec() };
        self.check_seeking()?;
        let place = self.ask(Introduction::Token(token.clone()), peer).await?;
        self.take_place(place)
    }

    fn check_seeking(&self) -> Result<(), JoinError> {
        match self.0.dialer.trust.member() {
            None => Ok(()),
            Some(_) => Err(JoinError::AlreadyMember),
        }
    }

    async fn ask(&self, introduction: Introduction, peer: Peer) -> Result<Place, JoinError> {
        let Dialer { trust, problems, .. } = &self.0.dialer;
        let asked = join::ask(trust, &introduction, &self.description(), peer).await;
        if let Err(error) = &asked {
            problems.report(Problem::from_join(error));
        }
        asked.map(Place)
    }

    /// Draws up a new cluster with this board as its founder. Nothing is changed or kept yet: put
    /// it into the log as `Command::Found`, then [`Peering::adopt`] the cluster.
    pub fn draft_founding(&self) -> Result<Founding, FoundError> {
        if self.0.dialer.trust.member().is_some() {
            return Err(FoundError::AlreadyMember);
        }
        let id = ClusterId::from_random(identity::draw().ok_or(FoundError::Randomness)?);
        let now = self.clock().now();
        let cluster = Cluster {
            id,
            founder: self.node_id(),
            version: Version::default(),
            created_at: now,
            updated_at: now,
            spec: Default::default(),
            authority: authority::create(id).map_err(FoundError::Authority)?,
            join_secrets: authority::draw_join_secrets().map_err(FoundError::Authority)?,
        };
        let node = NodeAdmission {
            id: self.node_id(),
            spec: NodeSpec::default(),
            description: self.description(),
            key: self.0.dialer.trust.identity().public_key().digest(),
        };
        Ok(Founding { cluster, node })
    }

    /// Becomes a member of a cluster whose authority this board holds: its founder, or a manager
    /// that finds the cluster in its log and no membership beside it. Takes the cluster as the state
    /// has it, since its founding time is announced.
    pub fn adopt(&self, cluster: &Cluster) -> Result<(), FoundError> {
        let trust = &self.0.dialer.trust;
        let subject = Subject {
            cluster: cluster.id,
            node: self.node_id(),
            public_key: trust.identity().public_key(),
        };
        let authority = Authority::load(&cluster.authority).map_err(FoundError::Authority)?;
        let certificate = authority
            .sign(&subject, self.clock().now(), CERTIFICATE_LIFETIME)
            .map_err(FoundError::Authority)?;
        let member = Member {
            cluster: cluster.id,
            founded_at: cluster.created_at,
            authority: cluster.authority.certificate.clone(),
            certificate,
            managers: Vec::new(),
        };
        trust.enter(member).map_err(FoundError::Membership)
    }

    /// Leaves the cluster, or dissolves one that was never used: ends all connections and seeks
    /// again, under the same identity.
    pub fn leave(&self) -> Result<(), MembershipError> {
        self.0.dialer.trust.leave()?;
        self.forget_cluster();
        Ok(())
    }

    fn forget_cluster(&self) {
        let Dialer { directory, presence, problems, .. } = &self.0.dialer;
        presence.refuse(BTreeSet::new());
        presence.clear();
        directory.clear();
        problems.clear();
        self.0.desk.set_secrets(None);
        self.set_situation(Situation::default());
    }

    /// What the manager knows of this board's place in the cluster, to be announced.
    pub fn set_situation(&self, situation: Situation) {
        self.0.is_manager.send_replace(situation.is_manager);
        self.0.situation.send_if_modified(|known| {
            let is_new = *known != situation;
            *known = situation;
            is_new
        });
    }

    /// The join secrets that hold now; only a manager knows them.
    pub fn set_join_secrets(&self, secrets: Option<JoinSecrets>) {
        self.0.desk.set_secrets(secrets);
    }

    /// The nodes that were removed: their connections end now, and they get no others.
    pub fn set_refused(&self, nodes: BTreeSet<NodeId>) {
        for node in &nodes {
            self.0.dialer.directory.forget(*node);
        }
        self.0.dialer.presence.refuse(nodes);
    }

    /// Who is where.
    pub fn directory(&self) -> Directory {
        self.0.dialer.directory.clone()
    }

    /// Opens a conversation with a member; all addresses known of it are tried.
    pub async fn connect(
        &self,
        peer: &Peer,
        protocol: Protocol,
    ) -> Result<PeerStream, ConnectError> {
        self.0.dialer.connect(peer, protocol).await
    }

    /// The same, with no more than the directory knows.
    pub async fn connect_to(
        &self,
        node: NodeId,
        protocol: Protocol,
    ) -> Result<PeerStream, ConnectError> {
        self.connect(&Peer { id: node, addresses: Vec::new() }, protocol).await
    }

    /// The conversations that others open, once: `None` the second time. Until it is taken, they
    /// are refused.
    pub fn incoming(&self, protocol: Protocol) -> Option<mpsc::Receiver<PeerStream>> {
        self.0.doors.take(protocol)
    }

    /// The boards that ask to be let in, once. They come here while [`Situation::is_manager`]
    /// holds; otherwise they are sent to the managers.
    pub fn admissions(&self) -> Option<mpsc::Receiver<AdmissionRequest>> {
        self.0.desk.take()
    }

    /// Waits until a part of peering ends, which none should: the daemon ends then too.
    pub async fn failed(&self) -> tokio::task::JoinError {
        std::future::poll_fn(|context| {
            let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            match tasks.poll_join_next(context) {
                std::task::Poll::Ready(Some(Err(error))) => std::task::Poll::Ready(error),
                _ => std::task::Poll::Pending,
            }
        })
        .await
    }

    /// Says farewell by mDNS, keeps the time and ends everything.
    pub async fn shut_down(&self) {
        let (done, said) = oneshot::channel();
        if self.0.finding.farewell.try_send(done).is_ok() {
            let _ = said.await;
        }
        if let Err(error) = self.clock().save() {
            tracing::warn!(%error, "the time is not kept");
        }
        self.0.dialer.presence.clear();
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
    }
}
