//! Starting peering: what is loaded, what runs.

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};

use crate::{
    Clock, ClusterKey, ClusterTag, Directory, Discovery, Identity, IdentityError, Instance,
    MembershipError, Peering, PeeringConfig, Situation, StoreError,
    dial::Dialer,
    doors::Doors,
    gate::Gate,
    handle::{Finding, Parts},
    identity,
    join::desk::Desk,
    listen::Listener,
    mdns::Mdns,
    portrait::Portrait,
    presence::Presence,
    problems::Problems,
    recall::Recall,
    renewal::Renewal,
    store,
    trust::Trust,
};

/// How many neighbours may be doubted at a time.
const DOUBTS: usize = 64;

/// Peering could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its directory cannot be used.
    #[error("cannot use peering's directory")]
    Directory(#[source] StoreError),
    /// The identity cannot be loaded.
    #[error("this board has no identity")]
    Identity(#[source] IdentityError),
    /// The membership cannot be loaded.
    #[error("this board's membership cannot be used")]
    Membership(#[source] MembershipError),
    /// The port is taken, or the address is not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The operating system has no randomness.
    #[error("the operating system gives no random numbers")]
    Randomness,
}

impl StartError {
    /// Whether what this board kept is there and is no longer what it wrote: trying again fails the
    /// same way.
    pub fn is_damage(&self) -> bool {
        let (Self::Directory(store) | Self::Identity(IdentityError::Store(store))) = self else {
            return matches!(self, Self::Identity(IdentityError::Damaged { .. }));
        };
        matches!(store, StoreError::Damaged { .. })
    }
}

impl Peering {
    /// Starts: loads or makes the identity, listens, announces this board and looks for others.
    /// Needs a tokio runtime; runs until [`Peering::shut_down`].
    pub async fn start(config: PeeringConfig) -> Result<Self, StartError> {
        let trust = load(&config)?;
        let PeeringConfig { listen, cluster_key, discovery, .. } = config;
        let instance = Instance(identity::draw().ok_or(StartError::Randomness)?);
        let error = |source| StartError::Listen { address: listen, source };
        let listener = TcpListener::bind(listen).await.map_err(error)?;
        let listen = listener.local_addr().map_err(error)?;
        let directory = Directory::default();
        if let Some(member) = trust.member() {
            directory.set_managers(&member.managers);
        }
        let portrait = Portrait::new(config.description, discovery.interfaces(), listen);
        let (presence, problems) = (Presence::default(), Problems::default());
        let dialer = Dialer { trust, directory, presence, problems, instance, listen };

        let (is_manager, manages) = watch::channel(false);
        let Dialer { trust, directory, presence, .. } = dialer.clone();
        let desk = Desk::new(trust, directory, presence, cluster_key.clone(), manages);
        let (desk, doors) = (Arc::new(desk), Arc::new(Doors::new()));
        let (situation, situations) = watch::channel(Situation::default());

        let mut tasks = JoinSet::new();
        let tag = cluster_key.as_ref().map(ClusterKey::tag);
        let finding = find(&mut tasks, &dialer, discovery, tag, situations);
        let (port, gate) = (dialer.clone(), Gate::default());
        let port = Listener { dialer: port, gate, doors: doors.clone(), desk: desk.clone() };
        tasks.spawn(port.run(listener));
        let (renewing, sitter) = (dialer.clone(), portrait.clone());
        let renewal = Renewal { dialer: renewing, desk: desk.clone(), portrait: sitter };
        tasks.spawn(renewal.run());
        let Dialer { trust, directory, .. } = dialer.clone();
        tasks.spawn(Recall { trust, directory }.run());
        let tasks = Mutex::new(tasks);
        let key = cluster_key;
        let parts =
            Parts { dialer, desk, doors, portrait, key, situation, is_manager, finding, tasks };
        Ok(Self(Arc::new(parts)))
    }
}

/// Loads what is kept from earlier runs.
fn load(config: &PeeringConfig) -> Result<Trust, StartError> {
    let directory = &config.directory;
    store::create_directory(directory).map_err(StartError::Directory)?;
    let identity = Identity::load_or_create(directory).map_err(StartError::Identity)?;
    let clock = Clock::load(directory, config.built_at).map_err(StartError::Directory)?;
    Trust::load(directory, identity, clock).map_err(StartError::Membership)
}

/// Starts mDNS, if wanted.
fn find(
    tasks: &mut JoinSet<Infallible>,
    dialer: &Dialer,
    discovery: Discovery,
    tag: Option<ClusterTag>,
    situation: watch::Receiver<Situation>,
) -> Finding {
    let (sender, neighbours) = watch::channel(Arc::default());
    let (doubts, doubted) = mpsc::channel(DOUBTS);
    let (farewell, farewells) = mpsc::channel(1);
    if let Discovery::Mdns(interfaces) = discovery {
        let Dialer { trust, directory, problems, instance, listen, .. } = dialer.clone();
        let mdns = Mdns {
            interfaces,
            listen,
            tag,
            instance,
            trust,
            directory,
            problems,
            situation,
            neighbours: sender.clone(),
            doubts: doubted,
            farewell: farewells,
        };
        tasks.spawn(mdns.run());
    }
    Finding { neighbours, doubts, farewell, _open: sender }
}
