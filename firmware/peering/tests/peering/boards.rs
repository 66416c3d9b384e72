//! Boards for the tests: real peering, and in place of a manager one that agrees with itself.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bramble_cluster::{Cluster, Digest, NodeDescription, NodeId, Peer, Timestamp};
use bramble_peering::{
    AdmissionRequest, ClusterKey, Discovery, JoinRefusal, Peering, PeeringConfig, Situation,
    Standing, authority::CERTIFICATE_LIFETIME,
};
use tempfile::TempDir;
use tokio::{sync::mpsc, task::JoinHandle, time::timeout};

/// When the tests' firmware was made.
pub(crate) const BUILT_AT: Timestamp = Timestamp::from_millis(1_700_000_000_000);

pub(crate) const KEY: ClusterKey = ClusterKey::from_bytes([1; 32]);
pub(crate) const OTHER_KEY: ClusterKey = ClusterKey::from_bytes([2; 32]);

/// Longer than anything takes here.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A board, switched on.
pub(crate) struct Board {
    pub(crate) peering: Peering,
    pub(crate) directory: Arc<TempDir>,
}

/// A board that founded a cluster and lets others in.
pub(crate) struct Manager {
    pub(crate) board: Board,
    pub(crate) ledger: Ledger,
    task: JoinHandle<()>,
}

/// The manager's state, shared with the test.
pub(crate) type Ledger = Arc<Mutex<Book>>;

pub(crate) struct Book {
    pub(crate) cluster: Cluster,
    pub(crate) members: BTreeMap<NodeId, Digest>,
    /// Everything that was asked.
    pub(crate) asked: Vec<(NodeId, Standing)>,
    pub(crate) lifetime: Duration,
    pub(crate) is_renewing: bool,
}

pub(crate) fn config(directory: &Path, key: Option<ClusterKey>) -> PeeringConfig {
    PeeringConfig {
        directory: directory.to_owned(),
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        cluster_key: key,
        discovery: Discovery::Off,
        description: NodeDescription { hostname: "board".to_owned(), ..Default::default() },
        built_at: BUILT_AT,
    }
}

impl Board {
    /// A new board, as from a fresh card.
    pub(crate) async fn new(key: Option<ClusterKey>) -> anyhow::Result<Self> {
        Self::on(Arc::new(tempfile::tempdir()?), key).await
    }

    /// A board with this card.
    pub(crate) async fn on(
        directory: Arc<TempDir>,
        key: Option<ClusterKey>,
    ) -> anyhow::Result<Self> {
        let peering = Peering::start(config(directory.path(), key)).await?;
        Ok(Self { peering, directory })
    }

    pub(crate) fn id(&self) -> NodeId {
        self.peering.node_id()
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer { id: self.id(), addresses: vec![self.peering.listen_address()] }
    }

    pub(crate) fn is_member(&self) -> bool {
        self.peering.membership().borrow().member().is_some()
    }

    /// Switches the board off, and keeps its card.
    pub(crate) async fn off(self) -> Arc<TempDir> {
        self.peering.shut_down().await;
        self.directory
    }
}

impl Manager {
    /// A new board that founds a cluster.
    pub(crate) async fn found(key: Option<ClusterKey>) -> anyhow::Result<Self> {
        Self::found_on(Board::new(key).await?)
    }

    pub(crate) fn found_on(board: Board) -> anyhow::Result<Self> {
        let founding = board.peering.draft_founding()?;
        let members = BTreeMap::from([(founding.node.id, founding.node.key)]);
        let book = Book {
            cluster: founding.cluster,
            members,
            asked: Vec::new(),
            lifetime: CERTIFICATE_LIFETIME,
            is_renewing: true,
        };
        board.peering.adopt(&book.cluster)?;
        board.peering.set_join_secrets(Some(book.cluster.join_secrets.clone()));
        board.peering.set_situation(Situation { is_manager: true, ..Default::default() });
        board.peering.directory().set_managers(&[board.peer()]);
        let ledger = Arc::new(Mutex::new(book));
        let admissions = board.peering.admissions().expect("nobody took them yet");
        let task = tokio::spawn(admit(board.peering.clone(), ledger.clone(), admissions));
        Ok(Self { board, ledger, task })
    }

    pub(crate) fn peering(&self) -> &Peering {
        &self.board.peering
    }

    pub(crate) fn peer(&self) -> Peer {
        self.board.peer()
    }

    pub(crate) fn asked(&self) -> Vec<(NodeId, Standing)> {
        look(&self.ledger, |book| book.asked.clone())
    }

    /// A new board that joins.
    pub(crate) async fn joined_by(&self, key: ClusterKey) -> anyhow::Result<Board> {
        let board = Board::new(Some(key)).await?;
        board.peering.join(&self.peer()).await?;
        Ok(board)
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn look<T>(ledger: &Ledger, look: impl FnOnce(&mut Book) -> T) -> T {
    look(&mut ledger.lock().unwrap_or_else(PoisonError::into_inner))
}

async fn admit(peering: Peering, ledger: Ledger, mut admissions: mpsc::Receiver<AdmissionRequest>) {
    while let Some(request) = admissions.recv().await {
        let now = peering.clock().now();
        let outcome = look(&ledger, |book| {
            book.asked.push((request.node.id, request.standing));
            let is_renewal = request.standing == Standing::Certificate;
            let known = *book.members.entry(request.node.id).or_insert(request.node.key);
            if known != request.node.key {
                return Err(JoinRefusal::SameIdentity);
            }
            if is_renewal && !book.is_renewing {
                return Err(JoinRefusal::Busy);
            }
            let signed = request.sign_for(&book.cluster, now, book.lifetime);
            signed.map_err(|error| JoinRefusal::Failed(error.to_string()))
        });
        match outcome {
            Ok(admission) => request.admit(admission),
            Err(refusal) => request.refuse(refusal),
        }
    }
}

/// Waits until something holds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for {what}"),
    }
}
