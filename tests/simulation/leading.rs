//! Who leads, what a leader proposes, and what becomes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use bramble_cluster::{ClusterState, Command, Entry, NodeId, Timestamp, snapshot};
use bramble_planner::{self as planner, Heard, plan_cluster};

use super::{
    board::{Place, Replica},
    consensus::{Leadership, Origin, Proposal},
    invariants::{Committed, Verdict, converged_plan_is_empty},
    world::{Event, World},
};

/// How long a leader waits for its own proposal before it plans again.
const PATIENCE: u64 = 1_000;

impl World {
    /// The voters choose a leader, if they have none.
    pub(super) fn elect(&mut self) -> Verdict {
        self.consensus.is_electing = false;
        if self.leader().is_some() {
            return Ok(());
        }
        let able: Vec<Place> = (0..self.boards.len()).filter(|it| self.has_quorum(*it)).collect();
        if able.is_empty() {
            return Ok(());
        }
        let place = self.random.pick(&able);
        self.take_over(place)
    }

    /// Schedules an election if one is needed and possible.
    pub(super) fn call_election(&mut self) {
        let is_needed = self.leader().is_none() && !self.consensus.is_electing;
        if is_needed && (0..self.boards.len()).any(|place| self.has_quorum(place)) {
            self.consensus.is_electing = true;
            let delay = self.random.between(300, 1_200);
            self.schedule_in(delay, Event::Elect);
        }
    }

    /// A board becomes leader. The one before it may not know yet.
    pub(super) fn take_over(&mut self, place: Place) -> Verdict {
        self.freeze();
        self.catch_up(place)?;
        let before = self.consensus.former.replace(self.boards[place].id);
        self.consensus.term += 1;
        let (now, term) = (self.now, self.consensus.term);
        self.trace(|| format!("board {place} leads in term {term}"));
        let behind = self.consensus.last_at.as_millis().saturating_sub(now);
        let ahead = self.boards[place].skew.max(behind);
        // Who led here before knows at once.
        self.consensus.leaderships.retain(|_, it| it.place != place);
        let leadership = Leadership {
            place,
            since: Timestamp::from_millis(now + ahead),
            ahead,
            former: before.filter(|before| *before != self.boards[place].id),
            contacts: BTreeMap::new(),
            waits_for: None,
            wake_at: None,
        };
        self.consensus.leaderships.insert(term, leadership);
        self.inherit(term, term - 1)?;
        self.wake_leader(term, 1);
        self.spread_the_word();
        for place in 0..self.boards.len() {
            let delay = self.random.between(5, 600);
            self.schedule_in(delay, Event::Connect(place));
        }
        Ok(())
    }

    /// Those who led hear of it where they can.
    pub(super) fn spread_the_word(&mut self) {
        let Some((latest, leader, _)) = self.leader() else { return };
        let old: Vec<u64> = self.consensus.leaderships.range(..latest).map(|(it, _)| *it).collect();
        for term in old {
            let place = self.consensus.leaderships[&term].place;
            if self.boards[place].hears(&self.boards[leader]) {
                let delay = self.random.between(5, 500);
                self.schedule_in(delay, Event::Resign(term));
            }
        }
    }

    pub(super) fn resign(&mut self, term: u64) {
        if term == self.consensus.term {
            return;
        }
        let Some(leadership) = self.consensus.leaderships.remove(&term) else { return };
        for place in leadership.contacts.into_keys() {
            let delay = self.random.between(5, 300);
            self.schedule_in(delay, Event::Connect(place));
        }
    }

    pub(super) fn wake_leader(&mut self, term: u64, within: u64) {
        let at = self.now + self.random.between(0, within);
        self.wake_leader_at(term, at);
    }

    fn wake_leader_at(&mut self, term: u64, at: u64) {
        let Some(leadership) = self.consensus.leaderships.get_mut(&term) else { return };
        if leadership.wake_at.is_none_or(|planned| at < planned) {
            leadership.wake_at = Some(at);
            self.schedule(at, Event::Lead(term));
        }
    }

    /// A leader looks, plans, and proposes.
    pub(super) fn lead(&mut self, term: u64) -> Verdict {
        let now = self.now;
        let Some(leadership) = self.consensus.leaderships.get_mut(&term) else { return Ok(()) };
        if leadership.wake_at != Some(now) {
            return Ok(());
        }
        leadership.wake_at = None;
        if let Some((_, until)) = leadership.waits_for.filter(|(_, until)| now < *until) {
            self.wake_leader_at(term, until);
            return Ok(());
        }
        leadership.waits_for = None;
        let heard = self.heard(term);
        let leadership = &self.consensus.leaderships[&term];
        let clock = Timestamp::from_millis(now + leadership.ahead);
        let ahead = leadership.ahead;
        let Some(replica) = &self.boards[leadership.place].replica else { return Ok(()) };
        let plan = plan_cluster(&replica.state, &heard, clock);
        if self.random.percent(1) {
            converged_plan_is_empty::settles(&replica.state, &heard, clock)?;
        }
        if plan.is_empty() {
            if let Some(wake_at) = plan.wake_at {
                converged_plan_is_empty::waits(wake_at, clock)?;
                self.wake_leader_at(term, wake_at.as_millis().saturating_sub(ahead));
            }
            return Ok(());
        }
        self.trace(|| format!("term {term} plans {}", planned(&plan)));
        let planned_at = replica.state.version();
        let origin = Origin::Plan { voters: plan.voters, planned_at };
        let ticket = self.propose(term, plan.commands, origin);
        if let Some(leadership) = self.consensus.leaderships.get_mut(&term) {
            leadership.waits_for = Some((ticket, now + PATIENCE));
        }
        self.wake_leader_at(term, now + PATIENCE);
        Ok(())
    }

    /// What a leader has in its memory.
    pub(super) fn heard(&self, term: u64) -> Heard {
        let leadership = &self.consensus.leaderships[&term];
        let contacts = leadership.contacts.values().map(|contact| {
            let end = contact.silent_since.unwrap_or(self.now);
            let beats = (end - contact.opened_at) / 200;
            let last_heard = contact.opened_at + beats * 200 + leadership.ahead;
            let contact_heard = planner::Contact {
                last_heard: Timestamp::from_millis(last_heard),
                is_connected: contact.is_connected,
                is_leaving: contact.is_leaving,
            };
            (contact.node, contact_heard)
        });
        Heard {
            leader: self.boards[leadership.place].id,
            leading_since: leadership.since,
            former_leader: leadership.former,
            voters: self.consensus.voters.clone(),
            contacts: contacts.collect(),
        }
    }

    /// Sends commands on their way into the log.
    pub(super) fn propose(&mut self, term: u64, commands: Vec<Command>, origin: Origin) -> u64 {
        let ticket = self.consensus.next_number();
        let proposal = Proposal { term, commands, origin, is_late: false };
        self.consensus.proposals.insert(ticket, proposal);
        let delay = self.random.between(2, 40);
        self.schedule_in(delay, Event::Commit(ticket));
        ticket
    }

    /// A proposal gets into the log if its leader still leads, after all that the same leader has
    /// proposed before. While nobody leads it waits for a quorum, or for an election to decide. What
    /// a person asked for may turn up later.
    pub(super) fn commit_or_lose(&mut self, ticket: u64) -> Verdict {
        let Some(proposal) = self.consensus.proposals.get(&ticket) else { return Ok(()) };
        let (latest, is_late) = (self.consensus.term, proposal.is_late);
        match self.leader().map(|(term, ..)| term) {
            Some(term) if term == proposal.term => return self.commit_up_to(term, ticket),
            Some(term) if is_late => {
                let proposal = self.consensus.proposals.remove(&ticket).expect("it is there");
                return self.commit(term, ticket, &proposal);
            }
            _ => {}
        }
        let is_askers = matches!(proposal.origin, Origin::Operator);
        let delay = if proposal.term == latest {
            self.random.between(20, 200)
        } else if is_late || (is_askers && self.random.percent(30)) {
            self.random.between(10, 4_000)
        } else {
            self.consensus.proposals.remove(&ticket);
            return Ok(());
        };
        if let Some(proposal) = self.consensus.proposals.get_mut(&ticket) {
            proposal.is_late = proposal.term != latest;
        }
        self.schedule_in(delay, Event::Commit(ticket));
        Ok(())
    }

    fn commit_up_to(&mut self, term: u64, ticket: u64) -> Verdict {
        for ticket in self.tickets_of(term).into_iter().filter(|it| *it <= ticket) {
            let proposal = self.consensus.proposals.remove(&ticket).expect("it is there");
            self.commit(term, ticket, &proposal)?;
            if self.leader().is_none_or(|(leading, ..)| leading != term) {
                break;
            }
        }
        Ok(())
    }

    /// Of what the leader before had proposed and not got agreed on, the log of the new one has the
    /// first part. It counts before anything that the new one does.
    fn inherit(&mut self, term: u64, before: u64) -> Verdict {
        let tickets = self.tickets_of(before);
        let kept = self.random.index(tickets.len() + 1);
        for ticket in tickets.into_iter().take(kept) {
            let proposal = self.consensus.proposals.remove(&ticket).expect("it is there");
            self.commit(term, ticket, &Proposal { is_late: true, ..proposal })?;
        }
        Ok(())
    }

    /// What the leader of a term has proposed, in order.
    fn tickets_of(&self, term: u64) -> Vec<u64> {
        let proposals = self.consensus.proposals.iter();
        proposals.filter(|(_, it)| it.term == term && !it.is_late).map(|(it, _)| *it).collect()
    }

    fn commit(&mut self, term: u64, ticket: u64, proposal: &Proposal) -> Verdict {
        let leadership = &self.consensus.leaderships[&term];
        let leader = leadership.place;
        let clock = Timestamp::from_millis(self.now + leadership.ahead);
        let at = clock.max(self.consensus.last_at);
        let entry = Arc::new(Entry { at, commands: proposal.commands.clone() });
        self.consensus.last_at = at;
        self.consensus.log.push(Arc::clone(&entry));
        let replica = self.boards[leader].replica.as_mut().expect("a leader has a replica");
        let outcomes = replica.state.apply(&entry);
        if self.is_traced {
            for (command, outcome) in entry.commands.iter().zip(&outcomes) {
                let late = if proposal.is_late { " (late)" } else { "" };
                self.trace(|| format!("   {}{late} -> {outcome:?}", short(command)));
            }
        }
        let contacts = self.consensus.leaderships[&term].contacts.values();
        let leaving = contacts.filter(|contact| contact.is_leaving).map(|contact| contact.node);
        let planned_at = match &proposal.origin {
            Origin::Plan { planned_at, .. } => Some(*planned_at),
            _ => None,
        };
        let is_whole = outcomes.iter().all(Result::is_ok);
        let known = Committed { leaving: leaving.collect(), planned_at, is_whole };
        let state = &self.boards[leader].replica.as_ref().expect("it was there").state;
        self.judges.committed(state, &known)?;
        self.after_commit(term, ticket, proposal);
        Ok(())
    }

    fn after_commit(&mut self, term: u64, ticket: u64, proposal: &Proposal) {
        if let Origin::Plan { voters: Some(voters), .. } = &proposal.origin
            && !proposal.is_late
        {
            self.change_voters(voters);
        }
        if let Origin::Reports { place, session, states } = &proposal.origin {
            let delay = self.random.between(1, 20);
            let (place, session) = (*place, *session);
            let states = states.clone();
            self.schedule_in(delay, Event::Acknowledged { place, session, states });
        }
        if let Some(leadership) = self.consensus.leaderships.get_mut(&term) {
            leadership.waits_for = leadership.waits_for.filter(|(it, _)| *it != ticket);
        }
        self.dispatch_all(term);
        self.wake_leader(term, 3);
        for place in 0..self.boards.len() {
            let delay = self.random.wait(100);
            if let Some(replica) = &mut self.boards[place].replica
                && !replica.is_applying
            {
                replica.is_applying = true;
                self.schedule_in(delay, Event::Apply(place));
            }
        }
    }

    fn change_voters(&mut self, voters: &BTreeSet<NodeId>) {
        let Some((term, leader, _)) = self.leader() else { return };
        let heard = |node: &&NodeId| {
            let place = self.place_of(**node);
            place.is_some_and(|place| self.boards[place].hears(&self.boards[leader]))
        };
        if voters.iter().filter(heard).count() * 2 <= voters.len() {
            return;
        }
        self.trace(|| format!("voters are {voters:?}"));
        self.consensus.voters.clone_from(voters);
        let state = self.boards[leader].replica.as_ref().map(|replica| copied(&replica.state));
        for board in &mut self.boards {
            if !voters.contains(&board.id) {
                board.replica = None;
            } else if board.replica.is_none() {
                let state = state.clone().expect("a leader has a replica");
                board.replica = Some(Replica { state, is_applying: false });
            }
        }
        if self.boards[leader].replica.is_none() {
            self.consensus.leaderships.remove(&term);
            self.call_election();
        }
    }

    /// A voter takes over what is new, if it hears the leader.
    pub(super) fn follow(&mut self, place: Place) -> Verdict {
        let Some(replica) = &mut self.boards[place].replica else { return Ok(()) };
        replica.is_applying = false;
        let Some((_, leader, _)) = self.leader() else { return Ok(()) };
        if place == leader || !self.boards[place].hears(&self.boards[leader]) {
            return Ok(());
        }
        self.catch_up(place)?;
        if self.is_healing || self.random.percent(10) {
            let replica = |place: Place| self.boards[place].replica.as_ref().expect("it votes");
            self.judges.followed(&replica(place).state, &replica(leader).state)?;
        }
        Ok(())
    }

    fn catch_up(&mut self, place: Place) -> Verdict {
        let replica = self.boards[place].replica.as_mut().expect("a voter has a replica");
        for entry in self.consensus.after(replica.state.version().0) {
            replica.state.apply(entry);
        }
        Ok(())
    }
}

/// A state as a snapshot carries it to another board.
pub(super) fn copied(state: &ClusterState) -> ClusterState {
    snapshot::decode(&snapshot::encode(state)).expect("a snapshot reads back")
}

fn planned(plan: &planner::Plan) -> String {
    let mut text: Vec<String> = plan.commands.iter().map(short).collect();
    text.extend(plan.voters.iter().map(|voters| format!("voters {voters:?}")));
    text.join("; ")
}

/// A command on one line.
pub(super) fn short(command: &Command) -> String {
    match command {
        Command::CreateService { id, spec } | Command::UpdateService { id, spec, .. } => {
            let kind = format!("{command:?}");
            let kind = kind.split(' ').next().unwrap_or_default().to_owned();
            format!(
                "{kind} {id} {} {:?} on_partition {:?} update {:?} restart {:?} placement {:?}",
                spec.name,
                spec.mode,
                spec.task.on_partition,
                spec.update,
                spec.task.restart,
                spec.task.placement
            )
        }
        Command::AdmitNode(admission) => format!("AdmitNode {}", admission.id),
        other => format!("{other:?}"),
    }
}
