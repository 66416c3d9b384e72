//! A seat whose consensus is one state in memory: real commands applied to a real state, with a
//! leadership that the test gives and takes.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use bramble_cluster::{
    CertificateAuthority, Cluster, ClusterId, ClusterSpec, ContainerSpec, Digest, Entry, Image,
    ImageReference, JoinSecrets, NodeAdmission, NodeDescription, NodeSpec, Resources, ServiceId,
    ServiceMode, ServiceSpec, TaskSpec, Version,
};

use super::*;

/// The cluster clock when a bench is made.
const EPOCH: u64 = 1_000_000;

/// The image that every service of a bench runs.
pub(crate) const IMAGE: Digest = Digest::from_bytes([7; 32]);

/// The consensus that the seat is at.
#[derive(Clone)]
pub(crate) struct Bench {
    pub(crate) seat: Seat,
    state: watch::Sender<Arc<ClusterState>>,
    leadership: watch::Sender<Leadership>,
    log: Arc<Mutex<Vec<Entry>>>,
    /// Whether proposals wait for ever, as without a quorum.
    pub(crate) is_stuck: Arc<AtomicBool>,
    pub(crate) has_quorum: Arc<AtomicBool>,
}

impl Bench {
    /// A cluster of `count` nodes, 1 to `count`, of which node 1 founded it and leads, alone.
    pub(crate) fn new(count: u128) -> Self {
        let started = Instant::now();
        let now = move || Timestamp::from_millis(EPOCH) + started.elapsed();
        let state = watch::Sender::new(Arc::new(ClusterState::default()));
        let leadership = watch::Sender::new(Leadership::default());
        let log = Arc::new(Mutex::new(Vec::new()));
        let is_stuck = Arc::new(AtomicBool::new(false));
        let has_quorum = Arc::new(AtomicBool::new(true));
        let seat = Seat {
            me: id(1),
            state: state.subscribe(),
            leadership: leadership.subscribe(),
            propose: propose(&state, &leadership, &log, &is_stuck, now),
            change_voters: change_voters(&leadership),
            quorum_age: {
                let has_quorum = Arc::clone(&has_quorum);
                Arc::new(move || has_quorum.load(Ordering::SeqCst).then_some(Duration::ZERO))
            },
            now: Arc::new(now),
        };
        let bench = Self { seat, state, leadership, log, is_stuck, has_quorum };
        bench.lead(1);
        bench.apply(founding(count));
        bench
    }

    /// Node 1 leads in this term.
    pub(crate) fn lead(&self, term: u64) {
        self.leadership.send_modify(|leadership| {
            leadership.leader = Some(id(1));
            leadership.is_leader_here = true;
            leadership.term = term;
            if leadership.voters.is_empty() {
                leadership.voters = BTreeSet::from([id(1)]);
            }
        });
    }

    /// Node 1 leads no more; perhaps another is known to.
    pub(crate) fn depose(&self, leader: Option<NodeId>) {
        self.leadership.send_modify(|leadership| {
            leadership.former_leader = leadership.leader;
            leadership.leader = leader;
            leadership.is_leader_here = false;
        });
    }

    /// These nodes vote.
    pub(crate) fn set_voters(&self, voters: &[u128]) {
        self.leadership.send_modify(|leadership| {
            leadership.voters = voters.iter().copied().map(id).collect();
        });
    }

    /// Applies commands as if they had been agreed on.
    pub(crate) fn apply(&self, commands: Vec<Command>) -> Vec<Outcome> {
        apply(&self.state, &self.log, Entry { at: self.seat.now(), commands })
    }

    /// The entries so far.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        self.log.lock().expect("not poisoned").clone()
    }

    /// What is true now.
    pub(crate) fn state(&self) -> Arc<ClusterState> {
        self.seat.state()
    }

    /// Waits until the state is as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl FnMut(&Arc<ClusterState>) -> bool) {
        let mut state = self.seat.state.clone();
        let waiting = tokio::time::timeout(Duration::from_secs(5), state.wait_for(wanted));
        waiting.await.unwrap_or_else(|_| panic!("never {what}")).expect("open");
    }
}

/// Node `number`.
pub(crate) fn id(number: u128) -> NodeId {
    NodeId::from_random(number)
}

/// A service of so many replicas of [`IMAGE`].
pub(crate) fn service(number: u128, replicas: u32) -> Command {
    let image = ImageReference { name: "whoami".to_owned(), digest: Some(IMAGE) };
    let container = ContainerSpec { image, ..ContainerSpec::default() };
    let spec = ServiceSpec {
        name: format!("service-{number}"),
        labels: [].into(),
        mode: ServiceMode::Replicated { replicas },
        task: Arc::new(TaskSpec { container, ..TaskSpec::default() }),
        update: Default::default(),
        rollback: Default::default(),
        endpoint: Default::default(),
    };
    Command::CreateService { id: ServiceId::from_random(number), spec: Box::new(spec) }
}

/// What node `number` says of itself.
pub(crate) fn description(number: u128) -> NodeDescription {
    NodeDescription {
        hostname: format!("pi-{number}"),
        resources: Resources { nano_cpus: 4_000_000_000, memory_bytes: 4 << 30 },
        addresses: vec![([10, 0, 0, 1], 7420).into()],
        ..NodeDescription::default()
    }
}

fn admission(number: u128) -> Box<NodeAdmission> {
    let key = Digest::from_bytes([u8::try_from(number).expect("few nodes"); 32]);
    let (id, description) = (id(number), description(number));
    Box::new(NodeAdmission { id, spec: NodeSpec::default(), description, key })
}

fn founding(count: u128) -> Vec<Command> {
    let cluster = Cluster {
        id: ClusterId::from_random(1),
        founder: id(1),
        version: Version(0),
        created_at: Timestamp::default(),
        updated_at: Timestamp::default(),
        spec: ClusterSpec::default(),
        authority: CertificateAuthority { certificate: vec![1], private_key: vec![2] },
        join_secrets: JoinSecrets { worker: [1; 16], manager: [2; 16] },
    };
    let found = Command::Found { cluster: Box::new(cluster), node: admission(1) };
    let mut commands = vec![found];
    commands.extend((2..=count).map(|number| Command::AdmitNode(admission(number))));
    let image = Image {
        digest: IMAGE,
        names: ["docker.io/library/whoami:latest".to_owned()].into(),
        size: 1,
        holders: BTreeSet::new(),
        named_at: Timestamp::default(),
    };
    commands.push(Command::ReportImages { node: id(1), images: vec![image] });
    commands
}

fn apply(
    state: &watch::Sender<Arc<ClusterState>>,
    log: &Mutex<Vec<Entry>>,
    entry: Entry,
) -> Vec<Outcome> {
    let mut outcomes = Vec::new();
    state.send_modify(|state| outcomes = Arc::make_mut(state).apply(&entry));
    log.lock().expect("not poisoned").push(entry);
    outcomes
}

fn propose(
    state: &watch::Sender<Arc<ClusterState>>,
    leadership: &watch::Sender<Leadership>,
    log: &Arc<Mutex<Vec<Entry>>>,
    is_stuck: &Arc<AtomicBool>,
    now: impl Fn() -> Timestamp + Send + Sync + Clone + 'static,
) -> Propose {
    let (state, leadership) = (state.clone(), leadership.clone());
    let (log, is_stuck) = (Arc::clone(log), Arc::clone(is_stuck));
    Arc::new(move |commands| {
        let (state, leadership, now) = (state.clone(), leadership.clone(), now.clone());
        let (log, is_stuck) = (Arc::clone(&log), Arc::clone(&is_stuck));
        Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(2)).await;
            if is_stuck.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if !leadership.borrow().is_leader_here {
                return Err(ProposeError::NoManager);
            }
            Ok(apply(&state, &log, Entry { at: now(), commands }))
        })
    })
}

fn change_voters(leadership: &watch::Sender<Leadership>) -> ChangeVoters {
    let leadership = leadership.clone();
    Arc::new(move |voters| {
        let leadership = leadership.clone();
        Box::pin(async move {
            leadership.send_modify(|leadership| leadership.voters = voters);
            Ok(())
        })
    })
}
