//! What passes between leaders and boards, and what becomes of it on the way.

use std::sync::Arc;

use bramble_cluster::{
    Assignment, ClusterState, Command, NodeAdmission, NodeDescription, NodeId, NodeSpec, NodeState,
    Platform, TaskReport,
};
use bramble_planner::assignment;

use super::{
    board::{Board, Place, Session},
    consensus::{Contact, Fingerprint, Origin},
    invariants::Verdict,
    world::{Event, World},
};

/// Between two heartbeats, in milliseconds.
const HEARTBEAT: u64 = 200;
/// How old a leader's quorum is when it answers, at most.
const QUORUM_AGE: u64 = 100;
/// How long a heartbeat and its answer take.
const ROUND_TRIP: u64 = 10;

impl World {
    /// When the board was last confirmed by the quorum: heartbeats are not events of their own. The
    /// leader sends what has changed before it answers.
    pub(super) fn confirmed_at(&self, place: Place) -> Option<u64> {
        let board = &self.boards[place];
        let known = board.agent.confirmed_at;
        let Some(session) = board.agent.session.filter(|_| self.is_through(place)) else {
            return known;
        };
        if self.leader().is_none_or(|(term, ..)| term != session.term) {
            return known;
        }
        let contact = &self.consensus.leaderships[&session.term].contacts[&place];
        if contact.sent.is_none() || contact.is_sending || contact.on_the_way > 0 {
            return known;
        }
        let since = (self.now - session.opened_at).checked_sub(ROUND_TRIP);
        let sent_at = since.map(|since| session.opened_at + since / HEARTBEAT * HEARTBEAT);
        known.max(sent_at.map(|sent_at| sent_at - QUORUM_AGE))
    }

    /// Whether the board's session is alive at both ends and on the way.
    pub(super) fn is_through(&self, place: Place) -> bool {
        let Some(session) = self.boards[place].agent.session else { return false };
        let Some(leadership) = self.consensus.leaderships.get(&session.term) else { return false };
        let contact = leadership.contacts.get(&place);
        self.boards[place].hears(&self.boards[leadership.place])
            && contact.is_some_and(|contact| contact.number == session.number)
    }

    /// Notes what heartbeats have told so far; before anything changes that they depend on.
    pub(super) fn freeze(&mut self) {
        for place in 0..self.boards.len() {
            self.boards[place].agent.confirmed_at = self.confirmed_at(place);
        }
    }

    /// Makes a change to power, cables or daemons, and lets everybody notice as they would.
    pub(super) fn change_links(&mut self, change: impl FnOnce(&mut Self)) {
        self.freeze();
        change(self);
        let (now, boards) = (self.now, &self.boards);
        for leadership in self.consensus.leaderships.values_mut() {
            for (place, contact) in &mut leadership.contacts {
                let session = boards[*place].agent.session;
                let is_theirs = session.is_some_and(|session| session.number == contact.number);
                if is_theirs && boards[*place].hears(&boards[leadership.place]) {
                    contact.silent_since = None;
                } else {
                    contact.silent_since.get_or_insert(now);
                }
            }
        }
        for place in 0..self.boards.len() {
            let delay = self.random.between(300, 1_000);
            self.schedule_in(delay, Event::Connect(place));
        }
        for term in self.consensus.leaderships.keys().copied().collect::<Vec<_>>() {
            self.wake_leader(term, 10);
        }
        for place in 0..self.boards.len() {
            self.look(place, 10);
        }
        self.call_election();
        self.spread_the_word();
        if let Some((_, leader, _)) = self.leader() {
            for place in (0..self.boards.len()).filter(|place| *place != leader) {
                let delay = self.random.wait(100);
                self.schedule_in(delay, Event::Apply(place));
            }
        }
    }

    /// A board without a session looks for a leader.
    pub(super) fn connect(&mut self, place: Place) {
        if !self.boards[place].is_up || self.is_through(place) {
            return;
        }
        let boards = &self.boards;
        let mut choices: Vec<u64> = self
            .consensus
            .leaderships
            .iter()
            .filter(|(_, it)| boards[place].hears(&boards[it.place]))
            .map(|(term, _)| *term)
            .collect();
        if choices.len() > 1 && !self.random.percent(10) {
            choices.drain(..choices.len() - 1);
        }
        let Some(term) = choices.first().copied() else {
            let delay = self.random.between(200, 900);
            self.schedule_in(delay, Event::Connect(place));
            return;
        };
        let leader = self.consensus.leaderships[&term].place;
        let id = self.boards[place].id;
        let Some(replica) = &self.boards[leader].replica else { return };
        if replica.state.removed_nodes().contains_key(&id) {
            self.refuse(place);
        } else if replica.state.node(id).is_none() {
            let admission = admission(&self.boards[place], place);
            let command = Command::AdmitNode(Box::new(admission));
            self.propose(term, vec![command], Origin::Operator);
            let delay = self.random.between(100, 500);
            self.schedule_in(delay, Event::Connect(place));
        } else {
            self.open_session(term, place, id);
        }
    }

    /// A removed board is told so, and starts afresh with a new card.
    fn refuse(&mut self, place: Place) {
        let delay = self.random.between(500, 3_000);
        if self.consensus.voters.contains(&self.boards[place].id) {
            self.schedule_in(delay, Event::Connect(place));
        } else {
            self.replace_card(place);
        }
    }

    fn open_session(&mut self, term: u64, place: Place, node: NodeId) {
        self.freeze();
        let (number, now) = (self.consensus.next_number(), self.now);
        self.trace(|| format!("board {place} opens session {number} in term {term}"));
        let contact = Contact {
            node,
            number,
            opened_at: now,
            silent_since: None,
            is_connected: true,
            is_leaving: false,
            sent: None,
            is_sending: false,
            on_the_way: 0,
        };
        for (other, leadership) in &mut self.consensus.leaderships {
            if *other == term {
                leadership.contacts.insert(place, contact.clone());
            } else if let Some(contact) = leadership.contacts.get_mut(&place) {
                contact.is_connected = false;
                contact.silent_since.get_or_insert(now);
            }
        }
        let agent = &mut self.boards[place].agent;
        agent.session = Some(Session { term, number, opened_at: now });
        for task in agent.observed.tasks.values_mut() {
            task.reported = None;
        }
        self.dispatch_all(term);
        self.wake_leader(term, 3);
        self.look(place, 10);
    }

    /// Boards whose tasks have changed get their assignments soon.
    pub(super) fn dispatch_all(&mut self, term: u64) {
        self.close_removed(term);
        let Some(leadership) = self.consensus.leaderships.get(&term) else { return };
        let Some(replica) = &self.boards[leadership.place].replica else { return };
        let stale: Vec<Place> = leadership
            .contacts
            .iter()
            .filter(|(_, it)| !it.is_sending && it.is_connected)
            .filter(|(_, it)| it.sent != Some(fingerprint(&replica.state, it.node)))
            .map(|(place, _)| *place)
            .collect();
        for place in stale {
            self.boards[place].agent.confirmed_at = self.confirmed_at(place);
            let delay = self.random.between(1, 10);
            self.schedule_in(delay, Event::Dispatch { term, place });
            let leadership = self.consensus.leaderships.get_mut(&term);
            if let Some(contact) = leadership.and_then(|it| it.contacts.get_mut(&place)) {
                contact.is_sending = true;
            }
        }
    }

    /// The leader hangs up on boards that were removed.
    fn close_removed(&mut self, term: u64) {
        let Some(leadership) = self.consensus.leaderships.get_mut(&term) else { return };
        let Some(replica) = &self.boards[leadership.place].replica else { return };
        let is_member = |contact: &Contact| replica.state.node(contact.node).is_some();
        let removed = leadership.contacts.extract_if(.., |_, contact| !is_member(contact));
        for (place, _) in removed.collect::<Vec<_>>() {
            self.schedule_in(10, Event::Connect(place));
        }
    }

    /// The leader sends a board its assignment; it may be held up, doubled, or break the session.
    pub(super) fn dispatch(&mut self, term: u64, place: Place) {
        let Some(leadership) = self.consensus.leaderships.get_mut(&term) else { return };
        let Some(replica) = &self.boards[leadership.place].replica else { return };
        let Some(contact) = leadership.contacts.get_mut(&place) else { return };
        if !contact.is_connected {
            contact.is_sending = false;
            return;
        }
        let session = contact.number;
        let trouble = self.climate.trouble_percent;
        if self.random.percent(trouble) {
            // It is lost on its way, and with it the answers to heartbeats that would follow.
            self.break_session(place, session);
            return;
        }
        contact.is_sending = false;
        contact.sent = Some(fingerprint(&replica.state, contact.node));
        let assignment = Arc::new(assignment(&replica.state, contact.node, term));
        let mut delay = self.random.between(1, 10);
        if self.random.percent(trouble) {
            delay += self.random.between(1, 1_000);
        }
        if self.random.percent(trouble) {
            let late = delay + self.random.between(1, 5_000);
            let assignment = Arc::clone(&assignment);
            let message = Event::Assigned { place, session, assignment, is_copy: true };
            self.schedule_in(late, message);
        }
        let leadership = self.consensus.leaderships.get_mut(&term);
        if let Some(contact) = leadership.and_then(|it| it.contacts.get_mut(&place)) {
            contact.on_the_way += 1;
        }
        let message = Event::Assigned { place, session, assignment, is_copy: false };
        self.schedule_in(delay, message);
    }

    fn break_session(&mut self, place: Place, number: u64) {
        self.freeze();
        let now = self.now;
        for leadership in self.consensus.leaderships.values_mut() {
            if let Some(contact) = leadership.contacts.get_mut(&place)
                && contact.number == number
            {
                contact.is_connected = false;
                contact.silent_since.get_or_insert(now);
            }
        }
        let session = &mut self.boards[place].agent.session;
        *session = session.filter(|session| session.number != number);
        let delay = self.random.between(20, 600);
        self.schedule_in(delay, Event::Connect(place));
    }

    /// An assignment arrives, maybe twice, maybe after a newer one, maybe of an old session.
    pub(super) fn assigned(
        &mut self,
        place: Place,
        session: u64,
        assignment: &Arc<Assignment>,
        is_copy: bool,
    ) -> Verdict {
        let board = &self.boards[place];
        if !board.is_up {
            return Ok(());
        }
        let is_current = board.agent.session.is_some_and(|it| it.number == session);
        if is_current && !self.is_through(place) {
            // The transport repeats it until the session ends.
            let assignment = Arc::clone(assignment);
            let message = Event::Assigned { place, session, assignment, is_copy };
            self.schedule_in(100, message);
            return Ok(());
        }
        let term = self.boards[place].agent.session.map(|it| it.term).filter(|_| is_current);
        let leadership = term.and_then(|term| self.consensus.leaderships.get_mut(&term));
        let contact = leadership.and_then(|it| it.contacts.get_mut(&place));
        if let Some(contact) = contact.filter(|it| !is_copy && it.number == session) {
            contact.on_the_way -= 1;
        }
        let board = &mut self.boards[place];
        if board.accept(assignment) {
            let life = (board.power_life, board.daemon_life);
            self.judges.accepted(place, life, assignment.generation)?;
            self.look(place, 5);
        }
        Ok(())
    }

    /// The agent's reports go to its leader, if it has one.
    pub(super) fn report(&mut self, place: Place, reports: Vec<TaskReport>) {
        let Some(session) = self.boards[place].agent.session.filter(|_| !reports.is_empty()) else {
            return;
        };
        let node = self.boards[place].id;
        let (term, session) = (session.term, session.number);
        let trouble = self.climate.trouble_percent;
        let mut delay = self.random.between(1, 10);
        if self.random.percent(trouble) {
            delay += self.random.between(1, 1_000);
        }
        if self.random.percent(trouble) {
            let late = delay + self.random.between(1, 5_000);
            let reports = reports.clone();
            self.schedule_in(late, Event::Reported { place, node, term, session, reports });
        }
        if !self.random.percent(trouble) {
            self.schedule_in(delay, Event::Reported { place, node, term, session, reports });
        }
    }

    pub(super) fn reported(
        &mut self,
        place: Place,
        node: NodeId,
        (term, session): (u64, u64),
        reports: Vec<TaskReport>,
    ) {
        let Some(leadership) = self.consensus.leaderships.get(&term) else { return };
        if self.boards[place].hears(&self.boards[leadership.place]) {
            let states = reports.iter().map(|report| (report.id, report.status.state)).collect();
            let origin = Origin::Reports { place, session, states };
            self.propose(term, vec![Command::ReportTasks { node, reports }], origin);
        }
    }
}

/// What a board says when it joins.
pub(super) fn admission(board: &Board, place: Place) -> NodeAdmission {
    NodeAdmission {
        id: board.id,
        spec: NodeSpec::default(),
        description: NodeDescription {
            hostname: format!("board-{place}"),
            platform: Platform { os: "linux".into(), architecture: "arm64".into() },
            resources: board.resources,
            ..NodeDescription::default()
        },
        key: bramble_cluster::Digest::default(),
    }
}

fn fingerprint(state: &ClusterState, node: NodeId) -> Fingerprint {
    let is_down = state.node(node).is_some_and(|node| node.status.state == NodeState::Down);
    let mut print = Fingerprint { tasks: 0, newest: 0, ids: 0, is_down };
    for task in state.tasks_on(node) {
        print.tasks += 1;
        print.newest = print.newest.max(task.version.0);
        print.ids = print.ids.wrapping_add(task.id.bits());
    }
    print
}
