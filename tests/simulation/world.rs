//! The simulated world: a rack of boards, a consensus, time that jumps from event to event.

use std::{collections::BTreeMap, sync::Arc};

use bramble_cluster::{Assignment, ClusterState, NodeId, Resources, ServiceId, TaskId, TaskReport};

use super::{
    board::{Agent, Board, Effect, Place, Process, Round},
    consensus::Consensus,
    invariants::{Judges, Verdict},
    operator::Operator,
    random::Random,
    temper::{Temper, Tempers},
};

/// [`bramble_planner::timing::CUT_OFF_AFTER`], in milliseconds.
const CUT_OFF_AFTER: u64 = bramble_planner::timing::CUT_OFF_AFTER.as_millis() as u64;

/// Something that happens at some time.
#[derive(Debug, Clone)]
pub(super) enum Event {
    /// Something goes wrong.
    Disturb,
    /// A person does something.
    Operate,
    /// The power goes, unless the daemon has restarted since.
    PowerOff { place: Place, daemon_life: u64 },
    /// The power comes back.
    PowerOn(Place),
    /// The daemon starts.
    DaemonUp { place: Place, daemon_life: u64 },
    /// A board gets onto another side of the network.
    Move { place: Place, side: u32 },
    /// The voters choose a leader, if they need one.
    Elect,
    /// A deposed leader hears of it.
    Resign(u64),
    /// A proposal gets into the log, or is lost.
    Commit(u64),
    /// A voter takes over what is new in the log.
    Apply(Place),
    /// A leader plans.
    Lead(u64),
    /// A leader sends a board its assignment.
    Dispatch { term: u64, place: Place },
    /// A board looks for a leader.
    Connect(Place),
    /// An assignment arrives.
    Assigned { place: Place, session: u64, assignment: Arc<Assignment>, is_copy: bool },
    /// Reports arrive at the leader.
    Reported { place: Place, node: NodeId, term: u64, session: u64, reports: Vec<TaskReport> },
    /// The leader's acknowledgement arrives.
    Acknowledged { place: Place, session: u64, states: Vec<(TaskId, bramble_cluster::TaskState)> },
    /// The agent looks.
    Round(Place),
    /// Something that was begun ends.
    Effect { place: Place, power_life: u64, daemon_life: u64, task: TaskId, effect: Effect },
}

/// How the simulated worlds differ from each other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Climate {
    /// Boards in the rack.
    pub(super) boards: usize,
    /// Between two disturbances, on average, in milliseconds.
    pub(super) disturbance: u64,
    /// Between two acts of people, on average, in milliseconds.
    pub(super) operation: u64,
    /// How often a message is lost, doubled or held up.
    pub(super) trouble_percent: u64,
}

/// The simulated world.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: u64,
    pub(super) random: Random,
    pub(super) climate: Climate,
    pub(super) boards: Vec<Board>,
    pub(super) consensus: Consensus,
    pub(super) operator: Operator,
    pub(super) tempers: BTreeMap<ServiceId, Temper>,
    /// Nothing goes wrong any more.
    pub(super) is_healing: bool,
    pub(super) judges: Judges,
    pub(super) is_traced: bool,
    pub(super) events: u64,
    queue: BTreeMap<(u64, u64), Event>,
    queued: u64,
}

impl World {
    pub(super) fn new(seed: u64, is_traced: bool) -> Self {
        let mut random = Random::new(seed);
        let climate = Climate {
            boards: random.pick(&[1, 2, 3, 3, 3, 4, 5, 7]),
            disturbance: random.pick(&[5_000, 20_000, 60_000]),
            operation: random.pick(&[3_000, 15_000, 60_000]),
            trouble_percent: random.pick(&[0, 1, 5]),
        };
        let boards = (0..climate.boards).map(|_| board(&mut random)).collect();
        Self {
            now: 1_000_000,
            random,
            climate,
            boards,
            consensus: Consensus::default(),
            operator: Operator::default(),
            tempers: BTreeMap::new(),
            is_healing: false,
            judges: Judges::default(),
            is_traced,
            events: 0,
            queue: BTreeMap::new(),
            queued: 0,
        }
    }

    pub(super) fn schedule(&mut self, at: u64, event: Event) {
        self.queued += 1;
        self.queue.insert((at.max(self.now), self.queued), event);
    }

    pub(super) fn schedule_in(&mut self, delay: u64, event: Event) {
        self.schedule(self.now + delay, event);
    }

    /// Lets everything happen until `end`.
    pub(super) fn run_until(&mut self, end: u64) -> Verdict {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            self.now = entry.key().0;
            let event = entry.remove();
            self.events += 1;
            self.happen(event)?;
        }
        self.now = end;
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Verdict {
        if self.is_traced {
            self.trace_event(&event);
        }
        match event {
            Event::Disturb => return self.disturb(),
            Event::Operate => self.operate(),
            Event::PowerOff { place, daemon_life } => {
                if self.boards[place].daemon_life == daemon_life && !self.is_healing {
                    self.power_off(place);
                }
            }
            Event::PowerOn(place) => self.power_on(place),
            Event::DaemonUp { place, daemon_life } => self.daemon_up(place, daemon_life),
            Event::Move { place, side } => self.move_to(place, side),
            Event::Elect => return self.elect(),
            Event::Resign(term) => self.resign(term),
            Event::Commit(ticket) => return self.commit_or_lose(ticket),
            Event::Apply(place) => return self.follow(place),
            Event::Lead(term) => return self.lead(term),
            Event::Dispatch { term, place } => self.dispatch(term, place),
            Event::Connect(place) => self.connect(place),
            Event::Assigned { place, session, assignment, is_copy } => {
                return self.assigned(place, session, &assignment, is_copy);
            }
            Event::Reported { place, node, term, session, reports } => {
                self.reported(place, node, (term, session), reports);
            }
            Event::Acknowledged { place, session, states } => {
                let agent = &self.boards[place].agent;
                if agent.session.is_some_and(|current| current.number == session) {
                    self.boards[place].acknowledge(&states);
                    self.look(place, 5);
                }
            }
            Event::Round(place) => self.round(place),
            Event::Effect { place, power_life, daemon_life, task, effect } => {
                return self.finish(place, (power_life, daemon_life), task, effect);
            }
        }
        Ok(())
    }

    /// Wakes a board's agent within so many milliseconds.
    pub(super) fn look(&mut self, place: Place, within: u64) {
        let at = self.now + self.random.between(1, within);
        let board = &mut self.boards[place];
        if board.is_up && board.wake_at.is_none_or(|planned| at < planned) {
            board.wake_at = Some(at);
            self.schedule(at, Event::Round(place));
        }
    }

    fn round(&mut self, place: Place) {
        if self.boards[place].wake_at != Some(self.now) || !self.boards[place].is_up {
            return;
        }
        self.boards[place].wake_at = None;
        self.boards[place].agent.confirmed_at = self.confirmed_at(place);
        let board = &mut self.boards[place];
        let tempers = Tempers { tempers: &self.tempers, is_healing: self.is_healing };
        let Round { reports, effects, wake_at } = board.round(self.now, &mut self.random, tempers);
        let (power_life, daemon_life) = (board.power_life, board.daemon_life);
        for (at, task, effect) in effects {
            self.schedule(at, Event::Effect { place, power_life, daemon_life, task, effect });
        }
        let confirmed_at = self.boards[place].agent.confirmed_at;
        let is_cut_off = confirmed_at.is_none_or(|at| self.now >= at + CUT_OFF_AFTER);
        // An agent that counted itself as cut off looks again when a heartbeat is answered.
        let answer_at = (is_cut_off && self.is_through(place)).then_some(self.now + 200);
        if let Some(wake_at) = [wake_at, answer_at].into_iter().flatten().min() {
            // The agent's timers are exact to some milliseconds.
            let at = wake_at.max(self.now + 1) + self.random.between(0, 10);
            self.boards[place].wake_at = Some(at);
            self.schedule(at, Event::Round(place));
        }
        self.report(place, reports);
    }

    fn finish(
        &mut self,
        place: Place,
        (power_life, daemon_life): (u64, u64),
        task: TaskId,
        effect: Effect,
    ) -> Verdict {
        let board = &mut self.boards[place];
        let is_keepers = !matches!(effect, Effect::Prepared { .. } | Effect::Removed);
        if board.power_life != power_life || (!is_keepers && board.daemon_life != daemon_life) {
            return Ok(());
        }
        if self.is_healing && matches!(effect, Effect::Crashed { .. }) {
            return Ok(());
        }
        board.finish(task, effect, self.now);
        if board.is_live(task) && matches!(effect, Effect::Started { .. }) {
            self.let_live(place, task);
            self.judges.started(&self.boards, place, task)?;
        }
        self.look(place, 10);
        Ok(())
    }

    /// How the containers of a service behave just now.
    pub(super) fn temper(&self, service: ServiceId) -> Temper {
        Tempers { tempers: &self.tempers, is_healing: self.is_healing }.of(service)
    }

    /// A container came alive: it may crash or finish some day.
    fn let_live(&mut self, place: Place, task: TaskId) {
        let board = &self.boards[place];
        let (power_life, daemon_life) = (board.power_life, board.daemon_life);
        let container = &board.containers[&task];
        let temper = self.temper(container.service);
        let end = |world: &mut Self, mean: u64, effect| {
            let at = world.now + world.random.wait(mean);
            world.schedule(at, Event::Effect { place, power_life, daemon_life, task, effect });
        };
        if let Some(mean) = temper.crashes_after {
            let exit_code = self.random.pick(&[0, 1, 2, 139]);
            end(self, mean, Effect::Crashed { exit_code });
        }
        if let Some(mean) = temper.finishes_after {
            end(self, mean, Effect::Ended { exit_code: 0 });
        }
    }

    pub(super) fn place_of(&self, node: NodeId) -> Option<Place> {
        self.boards.iter().position(|board| board.id == node)
    }

    /// The leader that a quorum follows, if there is one, and its state.
    pub(super) fn leader(&self) -> Option<(u64, Place, &ClusterState)> {
        let (term, leadership) = self.consensus.leaderships.last_key_value()?;
        let place = leadership.place;
        if *term != self.consensus.term || !self.has_quorum(place) {
            return None;
        }
        Some((*term, place, &self.boards[place].replica.as_ref()?.state))
    }

    /// Whether a majority of the voters hears this board.
    pub(super) fn has_quorum(&self, place: Place) -> bool {
        let (voters, me) = (&self.consensus.voters, &self.boards[place]);
        let heard = self.boards.iter().filter(|it| it.hears(me) && voters.contains(&it.id));
        voters.contains(&me.id) && heard.count() * 2 > voters.len()
    }

    pub(super) fn trace(&self, text: impl FnOnce() -> String) {
        if self.is_traced {
            eprintln!("{:>10.3} {}", self.now as f64 / 1_000.0, text());
        }
    }

    fn trace_event(&self, event: &Event) {
        match event {
            Event::Round(_) | Event::Lead(_) | Event::Apply(_) | Event::Commit(_) => {}
            Event::Dispatch { .. } | Event::Acknowledged { .. } | Event::Connect(_) => {}
            Event::Assigned { place, assignment, .. } => self.trace(|| {
                format!(
                    "board {place}: assigned {:?}, {} tasks",
                    assignment.generation,
                    assignment.tasks.len()
                )
            }),
            Event::Reported { place, reports, .. } => self.trace(|| {
                let states: Vec<_> =
                    reports.iter().map(|report| (report.id, report.status.state)).collect();
                format!("board {place}: reports {states:?}")
            }),
            other => self.trace(|| format!("{other:?}")),
        }
    }

    /// Whether no container has started or ended just now: the leader knows of all there is.
    pub(super) fn is_still(&self) -> bool {
        let just_now = self.now.saturating_sub(5_000);
        let mut containers = self.boards.iter().flat_map(|board| board.containers.values());
        containers.all(|container| match container.process {
            Process::Starting { .. } => false,
            Process::Live { since } => since < just_now,
            Process::Ended { at, .. } => at < just_now,
        })
    }

    /// The containers that are alive, wherever.
    pub(super) fn live(&self) -> impl Iterator<Item = (Place, TaskId)> {
        self.boards.iter().enumerate().flat_map(|(place, board)| {
            let live = |process| matches!(process, Process::Live { .. });
            let containers = board.containers.iter();
            containers.filter(move |it| live(it.1.process)).map(move |(id, _)| (place, *id))
        })
    }
}

/// The replica that has seen most of the log.
pub(super) fn newest(boards: &[Board]) -> &ClusterState {
    let replicas = boards.iter().filter_map(|board| board.replica.as_ref());
    let newest = replicas.max_by_key(|replica| replica.state.version());
    &newest.expect("some board votes").state
}

/// A board with a fresh card.
pub(super) fn board(random: &mut Random) -> Board {
    let gibibyte = 1 << 30;
    Board {
        id: NodeId::from_random(random.id()),
        resources: Resources {
            nano_cpus: 4_000_000_000,
            memory_bytes: random.pick(&[gibibyte, 4 * gibibyte, 8 * gibibyte]),
        },
        skew: random.between(0, 2_000),
        is_powered: false,
        is_up: false,
        side: 0,
        power_life: 0,
        daemon_life: 0,
        agent: Agent::default(),
        containers: BTreeMap::new(),
        replica: None,
        wake_at: None,
    }
}
