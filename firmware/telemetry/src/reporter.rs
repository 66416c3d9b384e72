//! The loop that looks at the board and the cluster and tells the broker.

use std::{convert::Infallible, fmt, sync::Arc, time::Duration};

use bramble_cluster::{ClusterState, NodeId};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::{Instant, sleep_until},
};
use tracing::{info, warn};

use crate::{
    Event,
    broker::{Broker, BrokerConfig, BrokerConfigError, Signal},
    discovery,
    events::board_name,
    events_between,
    outbox::{Message, Outbox},
    report::{self, BoardReport},
};

/// How often a board says how it is.
const REPORT_EVERY: Duration = Duration::from_secs(10);
/// The first pause after a lost connection; it doubles up to the longest.
const RETRY_FIRST: Duration = Duration::from_secs(1);
/// The longest pause between two attempts.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How long the goodbye may take when the board ends.
const GOODBYE: Duration = Duration::from_millis(300);

/// Where the reporter reads.
pub struct Sources {
    /// Which node this board is.
    pub node: NodeId,
    /// How this board is, now.
    pub board: Box<dyn Fn() -> BoardReport + Send>,
    /// Fired when how this board is should be told at once.
    pub news: Arc<Notify>,
    /// The cluster's state, as far as this board knows it.
    pub state: watch::Receiver<Arc<ClusterState>>,
    /// Who leads, as far as this board knows.
    pub leader: watch::Receiver<Option<NodeId>>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Sources").field("node", &self.node).finish_non_exhaustive()
    }
}

/// Tells a broker how this board is and, while this board leads, how the cluster is.
#[derive(Debug)]
pub struct Reporter {
    broker: BrokerConfig,
    sources: Sources,
    outbox: Outbox,
    /// The state that was last told, while this board leads.
    told: Option<Arc<ClusterState>>,
}

impl Reporter {
    /// A reporter that has not connected yet.
    pub fn new(broker: BrokerConfig, sources: Sources) -> Self {
        Self { broker, sources, outbox: Outbox::default(), told: None }
    }

    /// Reports until `goodbye` fires, whatever happens to the broker.
    ///
    /// # Errors
    /// Only if the settings cannot be used; a broker that is away is waited for.
    pub async fn run(
        mut self,
        mut goodbye: oneshot::Receiver<Infallible>,
    ) -> Result<(), BrokerConfigError> {
        let availability = format!("bramble/board/{}/availability", self.sources.node);
        let client_id = format!("bramble-{}", self.sources.node);
        let mut broker = Broker::new(&self.broker, client_id, &availability)?;
        self.outbox.put_state(availability.clone(), b"online".to_vec());
        let mut connection = Connection::default();
        let mut next_report = Instant::now();
        loop {
            while connection.is_up
                && let Some(message) = self.outbox.next()
            {
                if !broker.publish(message) {
                    break;
                }
            }
            tokio::select! {
                // Dropping the sender is the goodbye too: the board ends.
                _ = &mut goodbye => break,
                signal = connection.next(&mut broker) => match signal {
                    Signal::Connected => {
                        info!(url = %self.broker.url, "connected to the MQTT broker");
                        self.outbox.start_over();
                    }
                    Signal::Confirmed => self.outbox.confirm(),
                    Signal::Lost(reason) => {
                        warn!(url = %self.broker.url, %reason, dropped = self.outbox.dropped(), "no MQTT broker");
                    }
                },
                () = sleep_until(next_report) => {
                    next_report = Instant::now() + REPORT_EVERY;
                    self.look_at_board();
                    self.look_at_cluster();
                }
                () = self.sources.news.notified() => self.look_at_board(),
                changed = self.sources.state.changed() => match changed {
                    Ok(()) => self.look_at_cluster(),
                    // The board is about to end; the goodbye follows.
                    Err(_) => tokio::time::sleep(GOODBYE).await,
                },
                Ok(()) = self.sources.leader.changed() => self.look_at_cluster(),
            }
        }
        say_goodbye(&mut broker, &connection, availability).await;
        Ok(())
    }

    fn look_at_board(&mut self) {
        let report = (self.sources.board)();
        let (topic, config) = discovery::problems(self.sources.node, &report);
        self.outbox.put_state(topic, config.to_string().into_bytes());
        let state = report::board_state(&report);
        let topic = format!("bramble/board/{}/state", self.sources.node);
        self.outbox.put_state(topic, state.to_string().into_bytes());
    }

    fn look_at_cluster(&mut self) {
        let leader = *self.sources.leader.borrow_and_update();
        let state = self.sources.state.borrow_and_update().clone();
        let Some(cluster) = state.cluster() else { return };
        if leader != Some(self.sources.node) {
            self.told = None;
            return;
        }
        let root = format!("bramble/cluster/{}", cluster.id);
        let name = board_name(&state, leader);
        let events = match &self.told {
            Some(told) => events_between(told, &state),
            None => vec![Event::LeaderChanged { board: name.clone() }],
        };
        for event in events {
            self.outbox
                .put_event(format!("{root}/event"), event.payload().to_string().into_bytes());
        }
        let summary = report::cluster_state(&state, &name).to_string();
        self.outbox.put_state(format!("{root}/state"), summary.into_bytes());
        let services = format!("{root}/service/");
        let mut stale = self.outbox.topics(&services);
        for service in state.services().values() {
            let topic = format!("{services}{}/state", service.id);
            stale.retain(|other| *other != topic);
            let payload = report::service_state(&state, service).to_string();
            self.outbox.put_state(topic, payload.into_bytes());
        }
        for topic in stale {
            self.outbox.clear_state(&topic);
        }
        self.told = Some(state);
    }
}

/// Whether there is a connection, and when the next attempt is due if not.
#[derive(Debug)]
struct Connection {
    is_up: bool,
    retry_at: Option<Instant>,
    pause: Duration,
}

impl Default for Connection {
    fn default() -> Self {
        Self { is_up: false, retry_at: None, pause: RETRY_FIRST }
    }
}

impl Connection {
    /// What the broker says next, after the pause that is due. rumqttc itself retries at once.
    async fn next(&mut self, broker: &mut Broker) -> Signal {
        if let Some(at) = self.retry_at {
            sleep_until(at).await;
            self.retry_at = None;
        }
        let signal = broker.next().await;
        match signal {
            Signal::Connected => *self = Self { is_up: true, ..Self::default() },
            Signal::Lost(_) => {
                self.is_up = false;
                self.retry_at = Some(Instant::now() + self.pause);
                self.pause = (self.pause * 2).min(RETRY_MAX);
            }
            Signal::Confirmed => {}
        }
        signal
    }
}

/// An orderly end is told by ourselves; only a lost board needs its last will.
async fn say_goodbye(broker: &mut Broker, connection: &Connection, availability: String) {
    if !connection.is_up {
        return;
    }
    let payload = b"offline".to_vec();
    broker.publish(Message { topic: availability, payload, is_retained: true });
    broker.disconnect();
    let deadline = Instant::now() + GOODBYE;
    while let Ok(signal) = tokio::time::timeout_at(deadline, broker.next()).await {
        if matches!(signal, Signal::Lost(_)) {
            break;
        }
    }
}
