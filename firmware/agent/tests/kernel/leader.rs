//! A leader that the test plays: answers heartbeats, takes reports, hands out assignments.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bramble_cluster::{
    AssignedTask, Assignment, Generation, Image, NodeId, TaskId, TaskState, TaskStatus, Timestamp,
    Version,
};
use bramble_peering::session::{
    LeaderMessage, NodeMessage, Receiver, Sender, Welcome, leader_side,
};
use tokio::{
    io::DuplexStream,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::board::PATIENCE;

/// Where the agent's sessions come in.
pub(crate) struct Door {
    pub(crate) incoming: mpsc::Receiver<DuplexStream>,
}

/// A session with the agent, served in the background.
pub(crate) struct Leader {
    orders: mpsc::Sender<LeaderMessage>,
    pub(crate) reported: watch::Receiver<BTreeMap<TaskId, TaskStatus>>,
    pub(crate) images: watch::Receiver<Vec<Image>>,
    pub(crate) is_leaving: watch::Receiver<bool>,
    /// Whether heartbeats are answered.
    pub(crate) answers: Arc<AtomicBool>,
    term: u64,
    version: u64,
    serving: JoinHandle<()>,
}

impl Drop for Leader {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// What the serving task tells the test.
struct Heard {
    reported: watch::Sender<BTreeMap<TaskId, TaskStatus>>,
    images: watch::Sender<Vec<Image>>,
    is_leaving: watch::Sender<bool>,
    answers: Arc<AtomicBool>,
}

impl Leader {
    /// Opens the next session that the agent asks for.
    pub(crate) async fn welcome(door: &mut Door) -> Self {
        Self::welcome_in(door, 1).await
    }

    /// The same, in this term.
    pub(crate) async fn welcome_in(door: &mut Door, term: u64) -> Self {
        let stream = timeout(PATIENCE, door.incoming.recv()).await.expect("in time").expect("open");
        let (mut sender, mut receiver) = leader_side(stream);
        let hello = receiver.receive().await.expect("sound").expect("a hello");
        assert!(matches!(hello, NodeMessage::Hello(_)), "{hello:?}");
        let now = Timestamp::from_millis(1_000_000);
        let welcome = Welcome { leader: NodeId::from_random(1), term, now, managers: Vec::new() };
        sender.send(LeaderMessage::Welcome(welcome)).await.expect("sends");
        let (orders, queue) = mpsc::channel(64);
        let (reported_sender, reported) = watch::channel(BTreeMap::new());
        let (images_sender, images) = watch::channel(Vec::new());
        let (leaving_sender, is_leaving) = watch::channel(false);
        let answers = Arc::new(AtomicBool::new(true));
        let heard = Heard {
            reported: reported_sender,
            images: images_sender,
            is_leaving: leaving_sender,
            answers: Arc::clone(&answers),
        };
        let serving = tokio::spawn(serve(sender, receiver, queue, heard));
        Self { orders, reported, images, is_leaving, answers, term, version: 0, serving }
    }

    /// Hands out an assignment of these tasks.
    pub(crate) async fn assign(&mut self, tasks: &[AssignedTask]) {
        self.version += 1;
        self.assign_as(self.version, tasks).await;
    }

    /// The same, as made from this version of the state.
    pub(crate) async fn assign_as(&mut self, version: u64, tasks: &[AssignedTask]) {
        self.version = version;
        let generation = Generation { term: self.term, version: Version(version) };
        let mut tasks = tasks.to_vec();
        tasks.sort_by_key(|task| task.id);
        for task in &mut tasks {
            // What was reported is what the cluster knows.
            if let Some(status) = self.reported.borrow().get(&task.id) {
                task.status = status.clone();
            }
        }
        self.say(LeaderMessage::Assignment(Arc::new(Assignment { generation, tasks }))).await;
    }

    pub(crate) async fn say(&self, message: LeaderMessage) {
        self.orders.send(message).await.expect("the session is open");
    }

    /// Waits until each of these tasks was reported to be in this state.
    pub(crate) async fn until(&self, tasks: &[AssignedTask], state: TaskState) {
        let mut reported = self.reported.clone();
        let all = reported.wait_for(|reported| {
            tasks.iter().all(|task| reported.get(&task.id).is_some_and(|it| it.state == state))
        });
        if timeout(PATIENCE, all).await.is_err() {
            panic!("not all are {state:?}: {:?}", self.reported.borrow());
        }
    }

    pub(crate) fn status(&self, task: &AssignedTask) -> TaskStatus {
        self.reported.borrow().get(&task.id).cloned().expect("it was reported")
    }
}

async fn serve(
    mut sender: Sender<LeaderMessage>,
    mut receiver: Receiver<NodeMessage>,
    mut queue: mpsc::Receiver<LeaderMessage>,
    heard: Heard,
) {
    loop {
        let answer = tokio::select! {
            order = queue.recv() => order,
            message = receiver.receive() => match message {
                Ok(Some(message)) => hear(&heard, message),
                Ok(None) | Err(_) => return,
            },
        };
        if let Some(answer) = answer
            && sender.send(answer).await.is_err()
        {
            return;
        }
    }
}

fn hear(heard: &Heard, message: NodeMessage) -> Option<LeaderMessage> {
    match message {
        NodeMessage::Heartbeat { number, .. } => {
            heard.answers.load(Ordering::SeqCst).then_some(LeaderMessage::HeartbeatAnswer {
                number,
                now: Timestamp::from_millis(1_000_000),
                quorum_age: Duration::ZERO,
            })
        }
        NodeMessage::Reports { sequence, reports } => {
            heard.reported.send_modify(|known| {
                for report in reports {
                    let status = known.entry(report.id).or_default();
                    assert!(status.state <= report.status.state, "{status:?} {report:?}");
                    *status = report.status;
                }
            });
            Some(LeaderMessage::ReportsTaken { sequence })
        }
        NodeMessage::Images { sequence, images } => {
            heard.images.send_replace(images);
            Some(LeaderMessage::ImagesTaken { sequence })
        }
        NodeMessage::Leaving => {
            heard.is_leaving.send_replace(true);
            None
        }
        NodeMessage::Describe(_) | NodeMessage::Hello(_) => None,
    }
}
