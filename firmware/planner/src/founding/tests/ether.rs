//! A segment of Ethernet with boards on it that announce themselves, join, found and dissolve.
//!
//! As mDNS does it: a board announces itself twice when it starts or changes, and queries at
//! growing intervals, which makes every other board announce itself. Each receiver of a message
//! may lose it or get it late.

use std::collections::BTreeMap;
use std::time::Duration;

use bramble_cluster::{ClusterId, NodeId, Timestamp};

use super::super::{ClusterFacts, FoundingStep, Neighbour, Standing, decide};

/// How often boards look, in milliseconds.
const STEP: u64 = 20;
/// How long an admission takes, in milliseconds.
const JOINING: u64 = 100;

#[derive(Debug, Clone, Copy)]
pub(super) struct Weather {
    pub(super) loss_percent: u64,
    pub(super) delay_max: u64,
    pub(super) refusal_percent: u64,
    /// Until then, boards with odd ids and boards with even ids do not hear each other.
    pub(super) split_until: u64,
}

impl Weather {
    pub(super) const GOOD: Self =
        Self { loss_percent: 0, delay_max: 150, refusal_percent: 0, split_until: 0 };
}

#[derive(Debug)]
pub(super) struct Ether {
    now: u64,
    random: u64,
    weather: Weather,
    boards: BTreeMap<NodeId, Board>,
    mail: BTreeMap<(u64, u64), Mail>,
    sent: u64,
    founded: u32,
}

#[derive(Debug)]
struct Board {
    started_at: u64,
    cluster: Option<ClusterFacts>,
    is_leader: bool,
    leader_lost_at: Option<u64>,
    joining: Option<(u64, NodeId, ClusterId)>,
    neighbours: BTreeMap<NodeId, Neighbour>,
    announce_at: Vec<u64>,
    query_at: u64,
    query_interval: u64,
}

#[derive(Debug)]
struct Mail {
    from: NodeId,
    to: NodeId,
    cluster: Option<ClusterFacts>,
    is_manager: bool,
    is_query: bool,
}

impl Ether {
    pub(super) fn new(seed: u64, boards: usize, weather: Weather) -> Self {
        let mut ether = Self {
            now: 0,
            random: seed,
            weather,
            boards: BTreeMap::new(),
            mail: BTreeMap::new(),
            sent: 0,
            founded: 0,
        };
        for _ in 0..boards {
            let id = NodeId::from_random(u128::from(ether.draw(u64::MAX)));
            let started_at = ether.draw(1_000);
            let board = Board {
                started_at,
                cluster: None,
                is_leader: false,
                leader_lost_at: None,
                joining: None,
                neighbours: BTreeMap::new(),
                announce_at: vec![started_at, started_at + 1_000],
                query_at: started_at,
                query_interval: 1_000,
            };
            ether.boards.insert(id, board);
        }
        ether
    }

    pub(super) fn run_until(&mut self, end: Duration) {
        while u128::from(self.now) < end.as_millis() {
            self.now += STEP;
            self.deliver();
            for id in self.boards.keys().copied().collect::<Vec<_>>() {
                if self.boards[&id].started_at <= self.now {
                    self.speak(id);
                    self.act(id);
                }
            }
        }
    }

    /// Whether all boards are members of the same cluster and one of them leads.
    pub(super) fn is_one_cluster(&self) -> bool {
        let first = self.boards.values().next().and_then(|board| board.cluster);
        first.is_some()
            && self.boards.values().all(|board| board.cluster == first)
            && self.boards.values().filter(|board| board.is_leader).count() == 1
    }

    pub(super) fn founded(&self) -> u32 {
        self.founded
    }

    /// The splitmix64 generator: below `bound`.
    fn draw(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn speak(&mut self, id: NodeId) {
        let now = self.now;
        let board = self.boards.get_mut(&id).expect("a board");
        let announces = board.announce_at.iter().any(|at| *at <= now);
        board.announce_at.retain(|at| *at > now);
        let queries = board.query_at <= now;
        if queries {
            board.query_at = now + board.query_interval;
            board.query_interval = (board.query_interval * 2).min(30_000);
        }
        if announces || queries {
            self.broadcast(id, queries);
        }
    }

    fn broadcast(&mut self, from: NodeId, is_query: bool) {
        let board = &self.boards[&from];
        let (cluster, is_manager) = (board.cluster, board.is_leader);
        for to in self.boards.keys().copied().collect::<Vec<_>>() {
            let is_split =
                self.now < self.weather.split_until && (from.bits() ^ to.bits()) % 2 == 1;
            if to != from && !is_split && self.draw(100) >= self.weather.loss_percent {
                let at = self.now + self.draw(self.weather.delay_max) + 1;
                self.sent += 1;
                let mail = Mail { from, to, cluster, is_manager, is_query };
                self.mail.insert((at, self.sent), mail);
            }
        }
    }

    fn deliver(&mut self) {
        while let Some(entry) = self.mail.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let mail = entry.remove();
            let now = self.now;
            let board = self.boards.get_mut(&mail.to).expect("a board");
            if board.started_at > now {
                continue;
            }
            let first_heard = Duration::from_millis(now - board.started_at);
            let known = board.neighbours.entry(mail.from).or_insert(Neighbour {
                cluster: None,
                is_manager: false,
                first_heard,
                refusals: 0,
            });
            known.cluster = mail.cluster;
            known.is_manager = mail.is_manager;
            if mail.is_query {
                board.announce_at.push(now + 20);
            }
        }
    }

    fn act(&mut self, id: NodeId) {
        let board = &self.boards[&id];
        let elapsed = Duration::from_millis(self.now - board.started_at);
        if let Some((at, via, cluster)) = board.joining {
            if at <= self.now {
                self.finish_joining(id, via, cluster);
            }
            return;
        }
        self.watch_leader(id);
        let board = &self.boards[&id];
        let standing = match board.cluster {
            None => Standing::Seeking,
            Some(cluster) => Standing::Member {
                cluster,
                is_leader: board.is_leader,
                leaderless_for: board.leader_lost_at.map(|at| Duration::from_millis(self.now - at)),
            },
        };
        match decide(id, &standing, elapsed, &board.neighbours) {
            FoundingStep::Wait { .. } | FoundingStep::Stay { .. } => {}
            FoundingStep::Found => {
                let cluster = ClusterFacts {
                    id: ClusterId::from_random(u128::from(self.draw(u64::MAX))),
                    // Boards have no clock of their own worth the name: any time may stand here.
                    founded_at: Timestamp::from_millis(self.draw(1_000)),
                    is_used: false,
                };
                self.founded += 1;
                self.change(id, Some(cluster), true);
            }
            FoundingStep::Join { via, cluster } => {
                self.boards.get_mut(&id).expect("a board").joining =
                    Some((self.now + JOINING, via, cluster));
            }
            FoundingStep::Dissolve { via, into } => {
                // Only if the other side would let us in now.
                if self.boards[&via].cluster.is_some_and(|cluster| cluster.id == into) {
                    self.change(id, None, false);
                }
            }
        }
    }

    fn finish_joining(&mut self, id: NodeId, via: NodeId, wanted: ClusterId) {
        let cluster = self.boards[&via].cluster.filter(|cluster| cluster.id == wanted);
        let leads = |board: &Board| board.is_leader && board.cluster == cluster;
        let has_leader = cluster.is_some() && self.boards.values().any(leads);
        let is_refused = self.draw(100) < self.weather.refusal_percent;
        if has_leader && !is_refused {
            self.change(id, cluster, false);
        } else {
            // An answer tells what the other board is now.
            let (now_cluster, is_manager) =
                (self.boards[&via].cluster, self.boards[&via].is_leader);
            let board = self.boards.get_mut(&id).expect("a board");
            board.joining = None;
            let neighbour = board.neighbours.get_mut(&via).expect("it was heard");
            neighbour.refusals += 1;
            neighbour.cluster = now_cluster;
            neighbour.is_manager = is_manager;
        }
    }

    fn watch_leader(&mut self, id: NodeId) {
        let cluster = self.boards[&id].cluster;
        let leads = |board: &Board| board.is_leader && board.cluster == cluster;
        let has_leader = self.boards.values().any(leads);
        let now = self.now;
        let board = self.boards.get_mut(&id).expect("a board");
        if cluster.is_none() || has_leader {
            board.leader_lost_at = None;
        } else {
            board.leader_lost_at.get_or_insert(now);
        }
    }

    fn change(&mut self, id: NodeId, cluster: Option<ClusterFacts>, is_leader: bool) {
        let now = self.now;
        let board = self.boards.get_mut(&id).expect("a board");
        board.cluster = cluster;
        board.is_leader = is_leader;
        board.joining = None;
        board.announce_at.extend([now, now + 1_000]);
        board.query_at = now;
        board.query_interval = 1_000;
    }
}
