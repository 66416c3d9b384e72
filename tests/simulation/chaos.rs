//! What goes wrong: power, cables, daemons, leaders, cards. And how it is made good again.

use std::collections::BTreeMap;

use bramble_cluster::OnPartition;

use super::{
    board::{Agent, Container, Place, Replica},
    invariants::Verdict,
    leading::copied,
    world::{Event, World, board},
};

/// The side of the network where everybody is when nothing is wrong.
const WHOLE: u32 = 0;

impl World {
    pub(super) fn disturb(&mut self) -> Verdict {
        if self.is_healing {
            return Ok(());
        }
        let delay = self.random.wait(self.climate.disturbance);
        self.schedule_in(delay, Event::Disturb);
        let place = self.random.index(self.boards.len());
        match self.random.between(0, 99) {
            0..15 => {
                let milliseconds = self.random.between(50, 1_400);
                self.cut(place, milliseconds);
            }
            15..35 => {
                let milliseconds = self.random.between(1_400, 60_000);
                self.cut(place, milliseconds);
            }
            35..55 => {
                self.power_off(place);
                let delay = self.random.between(500, 60_000);
                self.schedule_in(delay, Event::PowerOn(place));
            }
            55..70 => self.crash(place),
            70..82 => return self.depose(),
            82..90 => self.split(),
            90..97 => self.leave(place),
            _ => self.replace_card(place),
        }
        Ok(())
    }

    fn cut(&mut self, place: Place, milliseconds: u64) {
        let side = self.fresh_side();
        self.move_to(place, side);
        self.schedule_in(milliseconds, Event::Move { place, side: WHOLE });
    }

    /// Some of the boards hear only each other for a while.
    fn split(&mut self) {
        let side = self.fresh_side();
        let milliseconds = self.random.between(500, 30_000);
        for place in 0..self.boards.len() {
            if self.random.percent(40) {
                self.move_to(place, side);
                self.schedule_in(milliseconds, Event::Move { place, side: WHOLE });
            }
        }
    }

    fn fresh_side(&mut self) -> u32 {
        u32::try_from(self.consensus.next_number() % 1_000_000).expect("below a million") + 1
    }

    pub(super) fn move_to(&mut self, place: Place, side: u32) {
        self.trace(|| format!("board {place} is on side {side}"));
        self.change_links(|world| world.boards[place].side = side);
    }

    pub(super) fn power_off(&mut self, place: Place) {
        self.trace(|| format!("board {place} loses power"));
        self.change_links(|world| {
            world.stop_daemon(place);
            let board = &mut world.boards[place];
            board.is_powered = false;
            board.power_life += 1;
            board.containers = BTreeMap::new();
            board.agent = Agent::default();
        });
    }

    pub(super) fn power_on(&mut self, place: Place) {
        if self.boards[place].is_powered {
            return;
        }
        self.boards[place].is_powered = true;
        let daemon_life = self.boards[place].daemon_life;
        let delay = self.random.between(100, 3_000);
        self.schedule_in(delay, Event::DaemonUp { place, daemon_life });
    }

    fn crash(&mut self, place: Place) {
        if !self.boards[place].is_up {
            return;
        }
        self.trace(|| format!("the daemon of board {place} crashes"));
        self.change_links(|world| world.stop_daemon(place));
        for leadership in self.consensus.leaderships.values_mut() {
            if let Some(contact) = leadership.contacts.get_mut(&place) {
                contact.is_connected = false;
            }
        }
        // While its daemon is down nobody on a board can stop what must not run twice. The keeper
        // starts it again at once; a daemon that stays down for longer than that is out of scope.
        let board = &self.boards[place];
        let is_bound = |it: &Container| it.spec.on_partition == OnPartition::Stop;
        let longest = if board.containers.values().any(is_bound) { 300 } else { 3_000 };
        let daemon_life = board.daemon_life;
        let delay = self.random.between(50, longest);
        self.schedule_in(delay, Event::DaemonUp { place, daemon_life });
    }

    fn stop_daemon(&mut self, place: Place) {
        let board = &mut self.boards[place];
        board.is_up = false;
        board.daemon_life += 1;
        board.wake_at = None;
        board.agent.session = None;
        if let Some(term) = self.consensus.term_of(place) {
            self.consensus.leaderships.remove(&term);
        }
    }

    pub(super) fn daemon_up(&mut self, place: Place, daemon_life: u64) {
        let board = &self.boards[place];
        if board.daemon_life != daemon_life || !board.is_powered || board.is_up {
            return;
        }
        let has_record = self.random.percent(50);
        let is_read_back = self.random.percent(20);
        self.change_links(|world| {
            let board = &mut world.boards[place];
            board.start_daemon(has_record);
            // A voter that restarts reads its snapshot and its log.
            if let Some(replica) = board.replica.as_mut().filter(|_| is_read_back) {
                *replica = Replica { state: copied(&replica.state), is_applying: false };
            }
        });
    }

    /// Another voter becomes leader for no good reason.
    fn depose(&mut self) -> Verdict {
        let Some((_, leader, _)) = self.leader() else { return Ok(()) };
        let able: Vec<Place> = (0..self.boards.len())
            .filter(|place| *place != leader && self.has_quorum(*place))
            .collect();
        if able.is_empty() {
            return Ok(());
        }
        let place = self.random.pick(&able);
        self.take_over(place)
    }

    /// A board says goodbye and goes; it comes back.
    fn leave(&mut self, place: Place) {
        let Some(session) = self.boards[place].agent.session.filter(|_| self.is_through(place))
        else {
            return;
        };
        self.trace(|| format!("board {place} says goodbye"));
        let leadership = self.consensus.leaderships.get_mut(&session.term);
        if let Some(contact) = leadership.and_then(|it| it.contacts.get_mut(&place)) {
            contact.is_leaving = true;
        }
        self.wake_leader(session.term, 5);
        let delay = self.random.between(1_000, 15_000);
        let off = delay + self.random.between(500, 20_000);
        let daemon_life = self.boards[place].daemon_life;
        self.schedule_in(delay, Event::PowerOff { place, daemon_life });
        self.schedule_in(off, Event::PowerOn(place));
    }

    /// A board gets a fresh card: it comes back as another node that knows nothing. Only if the
    /// voters can do without it.
    pub(super) fn replace_card(&mut self, place: Place) {
        let id = self.boards[place].id;
        let voters = &self.consensus.voters;
        let others = self.boards.iter().filter(|it| it.id != id && voters.contains(&it.id)).count();
        if voters.contains(&id) && others * 2 <= voters.len() {
            return;
        }
        self.trace(|| format!("board {place} gets a fresh card"));
        self.power_off(place);
        let old = &self.boards[place];
        let (side, skew, resources) = (old.side, old.skew, old.resources);
        let (power_life, daemon_life) = (old.power_life, old.daemon_life);
        let fresh = board(&mut self.random);
        let fresh = super::board::Board { side, skew, resources, power_life, daemon_life, ..fresh };
        self.boards[place] = fresh;
        let delay = self.random.between(500, 10_000);
        self.schedule_in(delay, Event::PowerOn(place));
    }

    /// From now on nothing goes wrong, and all that is broken is made good.
    pub(super) fn heal(&mut self) {
        self.trace(|| "everything is made good".to_owned());
        self.is_healing = true;
        for place in 0..self.boards.len() {
            self.power_on(place);
        }
        // Who said goodbye stays after all.
        for leadership in self.consensus.leaderships.values_mut() {
            leadership.contacts.values_mut().for_each(|contact| contact.is_leaving = false);
        }
        self.change_links(|world| {
            for board in &mut world.boards {
                board.side = WHOLE;
            }
        });
    }
}
