//! Boards: a consensus on a runtime of its own, and what the tests say to it.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bramble_cluster::{
    CertificateAuthority, Cluster, ClusterId, ClusterState, Command, Digest, JoinSecrets,
    NodeAdmission, NodeDescription, NodeId, NodeSpec, Outcome, ServiceId, ServiceMode, ServiceSpec,
    TaskSpec, Timestamp, Version,
};
use bramble_manager::{
    Leadership,
    consensus::{Consensus, ConsensusConfig, ProposeError, StartError, VotersError},
};
use tempfile::TempDir;
use tokio::runtime::{Handle, Runtime};

use crate::fabric::Fabric;

/// Far longer than anything here should take.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A node's id.
pub fn node(number: usize) -> NodeId {
    NodeId::from_random(number as u128)
}

/// Several boards, some of them running.
pub struct Boards {
    pub fabric: Fabric,
    folder: TempDir,
    running: Vec<Option<Board>>,
}

/// A running board.
pub struct Board {
    pub consensus: Consensus,
    runtime: Option<Runtime>,
}

impl Drop for Board {
    /// As SIGKILL would: nothing is finished, nobody is told.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

impl Boards {
    /// This many, all started and none in a cluster.
    pub fn started(count: usize) -> Self {
        let folder = TempDir::new().expect("a folder");
        let running = (0..count).map(|_| None).collect();
        let mut boards = Self { fabric: Fabric::default(), folder, running };
        for number in 0..count {
            boards.start(number);
        }
        boards
    }

    /// As many in a cluster that the first founded, all of them managers.
    pub fn managing(count: usize) -> Self {
        let boards = Self::started(count);
        boards.found(0);
        boards.change_voters(0, 0..count).expect("the voters changed");
        boards.await_all(0..count, "all know the leader", |_, seen| seen.leader.is_some());
        boards
    }

    /// Where a board keeps its log.
    pub fn folder(&self, number: usize) -> PathBuf {
        self.folder.path().join(number.to_string())
    }

    /// Starts a board, or says why not.
    pub fn try_start(&mut self, number: usize) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let managers: Vec<NodeId> = (0..self.running.len()).map(node).collect();
        let consensus = runtime.block_on(Consensus::start(ConsensusConfig {
            node: node(number),
            folder: self.folder(number),
            dial: self.fabric.dial(node(number)),
            trusts: Arc::new(|_| true),
            managers: Arc::new(move || managers.clone()),
            wall_clock: Arc::new(now),
        }))?;
        self.fabric.plug(consensus.clone(), runtime.handle().clone());
        self.running[number] = Some(Board { consensus, runtime: Some(runtime) });
        Ok(())
    }

    /// Starts a board.
    pub fn start(&mut self, number: usize) {
        self.try_start(number).expect("the consensus starts");
    }

    /// Kills a board.
    pub fn kill(&mut self, number: usize) {
        self.fabric.unplug(node(number));
        self.running[number] = None;
    }

    /// Stops a board in good order.
    pub fn shut_down(&mut self, number: usize) {
        self.run(number, self.consensus(number).shutdown());
        self.kill(number);
    }

    /// A board's consensus.
    pub fn consensus(&self, number: usize) -> &Consensus {
        &self.running[number].as_ref().expect("the board runs").consensus
    }

    /// A board's consensus, and where to run what is asked of it.
    pub fn door(&self, number: usize) -> (Consensus, Handle) {
        let board = self.running[number].as_ref().expect("the board runs");
        let runtime = board.runtime.as_ref().expect("it has a runtime");
        (board.consensus.clone(), runtime.handle().clone())
    }

    fn run<T>(&self, number: usize, work: impl Future<Output = T>) -> T {
        let board = self.running[number].as_ref().expect("the board runs");
        board.runtime.as_ref().expect("it has a runtime").block_on(work)
    }

    /// Founds a cluster.
    pub fn found(&self, number: usize) {
        let outcomes = self.run(number, self.consensus(number).found(vec![founding(number)]));
        for outcome in outcomes.expect("the cluster is founded") {
            outcome.expect("the founding is accepted");
        }
    }

    /// Proposes through a board.
    pub fn propose(&self, number: usize, command: Command) -> Result<Outcome, ProposeError> {
        let proposed = self.run(number, self.consensus(number).propose(vec![command]));
        Ok(proposed?.pop().expect("one outcome for one command"))
    }

    /// Creates a service through a board, and expects that to work.
    pub fn create(&self, number: usize, service: usize) {
        let outcome = self.propose(number, creation(service)).expect("it is agreed");
        outcome.expect("it is applied");
    }

    /// Makes these boards the managers, on the leader.
    pub fn change_voters(
        &self,
        leader: usize,
        voters: impl IntoIterator<Item = usize>,
    ) -> Result<(), VotersError> {
        let voters = voters.into_iter().map(node).collect();
        self.run(leader, self.consensus(leader).change_voters(voters))
    }

    /// What a board knows.
    pub fn state(&self, number: usize) -> Arc<ClusterState> {
        Arc::clone(&self.consensus(number).state().borrow())
    }

    /// Who leads, as a board sees it.
    pub fn leadership(&self, number: usize) -> Leadership {
        self.consensus(number).leadership().borrow().clone()
    }

    /// The board that leads, as itself sees it.
    pub fn leader(&self) -> Option<usize> {
        (0..self.running.len()).find(|number| {
            self.running[*number].is_some() && self.leadership(*number).is_leader_here
        })
    }

    /// Waits for a leader among the running boards.
    pub fn await_leader(&self) -> usize {
        let mut found = None;
        wait_until("there is a leader", || {
            found = self.leader();
            found.is_some()
        });
        found.expect("just found")
    }

    /// Waits until something holds on each of these boards.
    pub fn await_all(
        &self,
        boards: impl IntoIterator<Item = usize>,
        what: &str,
        holds: impl Fn(&ClusterState, &Leadership) -> bool,
    ) {
        for number in boards {
            wait_until(&format!("board {number}: {what}"), || {
                holds(&self.state(number), &self.leadership(number))
            });
        }
    }

    /// Waits until these boards hold the same, and returns it.
    pub fn await_agreement(&self, boards: impl IntoIterator<Item = usize>) -> Arc<ClusterState> {
        let boards: Vec<usize> = boards.into_iter().collect();
        let began = Instant::now();
        loop {
            let first = self.state(boards[0]);
            if boards.iter().all(|number| self.state(*number) == first) {
                return first;
            }
            assert!(began.elapsed() < PATIENCE, "no agreement: {}", self.describe(&boards));
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn describe(&self, boards: &[usize]) -> String {
        let describe = |number: &usize| {
            let (state, seen) = (self.state(*number), self.leadership(*number));
            format!("\nboard {number}: version {}, {seen:?}", state.version())
        };
        boards.iter().map(describe).collect()
    }
}

/// Waits, but not for ever.
pub fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The first command of a cluster.
pub fn founding(number: usize) -> Command {
    let cluster = Cluster {
        id: ClusterId::from_random(1),
        founder: node(number),
        version: Version::default(),
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        spec: Default::default(),
        authority: CertificateAuthority { certificate: vec![1], private_key: vec![2] },
        join_secrets: JoinSecrets { worker: [0; 16], manager: [1; 16] },
    };
    let description =
        NodeDescription { hostname: format!("board-{number}"), ..NodeDescription::default() };
    let founder = NodeAdmission {
        id: node(number),
        spec: NodeSpec::default(),
        description,
        key: Digest::from_bytes([7; 32]),
    };
    Command::Found { cluster: Box::new(cluster), node: Box::new(founder) }
}

/// The creation of a service without tasks: a write that can be found again.
pub fn creation(service: usize) -> Command {
    let mut task = TaskSpec::default();
    task.container.image.name = "whoami".to_owned();
    let spec = ServiceSpec {
        name: format!("service-{service}"),
        labels: Default::default(),
        mode: ServiceMode::Replicated { replicas: 0 },
        task: Arc::new(task),
        update: Default::default(),
        rollback: Default::default(),
        endpoint: Default::default(),
    };
    Command::CreateService { id: service_id(service), spec: Box::new(spec) }
}

/// The id of that service.
pub fn service_id(service: usize) -> ServiceId {
    ServiceId::from_random(1_000 + service as u128)
}

/// The services that a state lacks.
pub fn missing(state: &ClusterState, services: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
    services.into_iter().filter(|it| state.service(service_id(*it)).is_none()).collect()
}

fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    Timestamp::from_millis(u64::try_from(since_epoch.as_millis()).expect("before the end of time"))
}
