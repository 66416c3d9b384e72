//! An address without anybody who gives one (RFC 3927): choose one of 169.254/16, ask whether it is
//! taken, claim it, and give way or defend it when another machine uses it, too.
//!
//! Pure: time and what was heard come in, messages and decisions go out.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use crate::{arp::Arp, dhcp::message::HardwareAddress, dice::Dice};

/// How many bits of a link-local address name its network.
pub(crate) const PREFIX: u8 = 16;

const PROBE_WAIT: Duration = Duration::from_secs(1);
const PROBES: u32 = 3;
const PROBE_PAUSE_MIN: Duration = Duration::from_secs(1);
const PROBE_PAUSE_MAX: Duration = Duration::from_secs(2);
const ANNOUNCE_WAIT: Duration = Duration::from_secs(2);
const ANNOUNCEMENTS: u32 = 2;
const ANNOUNCE_PAUSE: Duration = Duration::from_secs(2);
/// After so many conflicts on one network, choosing slows down to one address a minute.
const CONFLICTS_MAX: u32 = 10;
const CONFLICT_PAUSE: Duration = Duration::from_secs(60);
/// Two conflicts within this time, and the address is given up.
const DEFEND_INTERVAL: Duration = Duration::from_secs(10);

/// The claim of one interface to a link-local address.
#[derive(Debug)]
pub(crate) struct Claim {
    hardware: HardwareAddress,
    dice: Dice,
    candidate: Ipv4Addr,
    conflicts: u32,
    state: State,
}

/// What the claim wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Tell the segment.
    Send(Arp),
    /// The address is ours.
    Take(Ipv4Addr),
    /// It is not any more.
    GiveUp,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    Probing { sent: u32, next: Instant },
    Holding { announced: u32, next: Option<Instant>, defended: Option<Instant> },
}

impl Claim {
    /// A claim that is not made yet. The same hardware address chooses the same addresses again,
    /// so that a board keeps its address as long as nobody minds.
    pub(crate) fn new(hardware: HardwareAddress) -> Self {
        let [a, b, c, d, e, f] = hardware;
        let mut dice = Dice::new(u64::from_be_bytes([0, 0, a, b, c, d, e, f]));
        let candidate = choose(&mut dice);
        Self { hardware, dice, candidate, conflicts: 0, state: State::Idle }
    }

    /// Whether an address is being asked for or held.
    pub(crate) fn is_made(&self) -> bool {
        !matches!(self.state, State::Idle)
    }

    /// Begins to ask for an address, if that has not begun.
    pub(crate) fn make(&mut self, now: Instant) {
        if !self.is_made() {
            let next = now + self.dice.below(PROBE_WAIT);
            self.state = State::Probing { sent: 0, next };
        }
    }

    /// The cable was plugged in, perhaps into another network: asks again for what it wanted, and
    /// tells what it holds, so that whoever has it, too, objects.
    pub(crate) fn plugged_in(&mut self, now: Instant) {
        match &mut self.state {
            State::Idle => {}
            State::Probing { sent, next } => (*sent, *next) = (0, now),
            State::Holding { announced, next, .. } => (*announced, *next) = (0, Some(now)),
        }
    }

    /// There is a better address.
    pub(crate) fn withdraw(&mut self) -> Option<Order> {
        let was_held = matches!(self.state, State::Holding { .. });
        self.state = State::Idle;
        self.conflicts = 0;
        was_held.then_some(Order::GiveUp)
    }

    /// When to call [`Claim::tick`], if ever.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        match self.state {
            State::Idle => None,
            State::Probing { next, .. } => Some(next),
            State::Holding { next, .. } => next,
        }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Order> {
        match self.state {
            State::Probing { sent, next } if next <= now && sent < PROBES => {
                let more = self.dice.below(PROBE_PAUSE_MAX - PROBE_PAUSE_MIN);
                let sent = sent + 1;
                let pause = if sent < PROBES { PROBE_PAUSE_MIN + more } else { ANNOUNCE_WAIT };
                self.state = State::Probing { sent, next: now + pause };
                vec![Order::Send(Arp::probe(self.hardware, self.candidate))]
            }
            State::Probing { next, .. } if next <= now => {
                let next = Some(now + ANNOUNCE_PAUSE);
                self.state = State::Holding { announced: 1, next, defended: None };
                vec![Order::Take(self.candidate), self.announce()]
            }
            State::Holding { announced, next: Some(next), defended } if next <= now => {
                let announced = announced + 1;
                let next = (announced < ANNOUNCEMENTS).then(|| now + ANNOUNCE_PAUSE);
                self.state = State::Holding { announced, next, defended };
                vec![self.announce()]
            }
            _ => Vec::new(),
        }
    }

    /// Somebody spoke on the segment.
    pub(crate) fn hear(&mut self, arp: &Arp, now: Instant) -> Vec<Order> {
        if arp.sender == self.hardware {
            return Vec::new();
        }
        let is_used = arp.sender_address == self.candidate;
        let is_probed = arp.is_request
            && arp.sender_address.is_unspecified()
            && arp.target_address == self.candidate;
        match self.state {
            State::Probing { .. } if is_used || is_probed => {
                self.choose_another(now);
                Vec::new()
            }
            State::Holding { announced, next, defended } if is_used => {
                let is_second =
                    defended.is_some_and(|at| now.saturating_duration_since(at) < DEFEND_INTERVAL);
                if is_second {
                    self.choose_another(now);
                    return vec![Order::GiveUp];
                }
                self.state = State::Holding { announced, next, defended: Some(now) };
                vec![self.announce()]
            }
            _ => Vec::new(),
        }
    }

    fn choose_another(&mut self, now: Instant) {
        self.conflicts = self.conflicts.saturating_add(1);
        self.candidate = choose(&mut self.dice);
        let wait = if self.conflicts > CONFLICTS_MAX { CONFLICT_PAUSE } else { Duration::ZERO };
        let next = now + wait + self.dice.below(PROBE_WAIT);
        self.state = State::Probing { sent: 0, next };
    }

    fn announce(&self) -> Order {
        Order::Send(Arp::announcement(self.hardware, self.candidate))
    }
}

/// One of 169.254.1.0 to 169.254.254.255; the rest of the network is reserved.
fn choose(dice: &mut Dice) -> Ipv4Addr {
    const FIRST: u32 = 0xa9fe_0100;
    const COUNT: u32 = 0xfe00;
    Ipv4Addr::from_bits(FIRST + dice.number() % COUNT)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Claim, Order};
    use crate::arp::Arp;

    const ME: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];

    /// Ticks until the claim has nothing to do any more, and says what it did and how long it took.
    fn settle(claim: &mut Claim, now: &mut Instant) -> (Vec<Order>, Duration) {
        let began = *now;
        let mut orders = Vec::new();
        while let Some(next) = claim.wake_at() {
            *now = next;
            orders.extend(claim.tick(next));
        }
        (orders, *now - began)
    }

    fn taken(orders: &[Order]) -> Option<std::net::Ipv4Addr> {
        orders.iter().find_map(|order| match order {
            Order::Take(address) => Some(*address),
            _ => None,
        })
    }

    #[test]
    fn an_address_is_asked_for_thrice_then_claimed() {
        let mut now = Instant::now();
        let mut claim = Claim::new(ME);
        assert_eq!(claim.wake_at(), None, "nothing happens before it is wanted");
        claim.make(now);
        let (orders, took) = settle(&mut claim, &mut now);
        let address = taken(&orders).expect("nobody minds");
        assert!(address.is_link_local() && !matches!(address.octets(), [_, _, 0 | 255, _]));
        let probe = Order::Send(Arp::probe(ME, address));
        let announcement = Order::Send(Arp::announcement(ME, address));
        let expected =
            [probe, probe, probe, Order::Take(address), announcement, announcement].to_vec();
        assert_eq!(orders, expected);
        assert!(took >= Duration::from_secs(6) && took <= Duration::from_secs(9), "{took:?}");

        let mut again = Claim::new(ME);
        again.make(now);
        assert_eq!(
            taken(&settle(&mut again, &mut now).0),
            Some(address),
            "the same board, the same"
        );
    }

    #[test]
    fn a_taken_address_is_left_and_another_chosen() {
        let mut now = Instant::now();
        let mut claim = Claim::new(ME);
        claim.make(now);
        now = claim.wake_at().expect("it asks");
        let [Order::Send(probe)] = claim.tick(now)[..] else { panic!("it asks") };
        let first = probe.target_address;
        let mine = Arp::announcement(ME, first);
        assert_eq!(claim.hear(&mine, now), [], "our own echo is no conflict");
        assert_eq!(claim.hear(&Arp::announcement(OTHER, first), now), []);
        let (orders, _) = settle(&mut claim, &mut now);
        assert!(taken(&orders).is_some_and(|address| address != first));
    }

    #[test]
    fn two_boards_that_want_the_same_address_at_once_both_leave_it() {
        let mut now = Instant::now();
        let mut claim = Claim::new(ME);
        claim.make(now);
        now = claim.wake_at().expect("it asks");
        let [Order::Send(probe)] = claim.tick(now)[..] else { panic!("it asks") };
        claim.hear(&Arp::probe(OTHER, probe.target_address), now);
        let address = taken(&settle(&mut claim, &mut now).0);
        assert!(address.is_some_and(|address| address != probe.target_address));
    }

    #[test]
    fn a_held_address_is_defended_once_then_given_up() {
        let mut now = Instant::now();
        let mut claim = Claim::new(ME);
        claim.make(now);
        let address = taken(&settle(&mut claim, &mut now).0).expect("it holds");
        let rival = Arp::announcement(OTHER, address);
        let defence = Order::Send(Arp::announcement(ME, address));
        assert_eq!(claim.hear(&rival, now), [defence]);
        now += Duration::from_secs(11);
        assert_eq!(claim.hear(&rival, now), [defence], "long after, it is defended again");
        now += Duration::from_secs(1);
        assert_eq!(claim.hear(&rival, now), [Order::GiveUp]);
        assert!(taken(&settle(&mut claim, &mut now).0).is_some_and(|other| other != address));
    }

    #[test]
    fn a_segment_where_everything_is_taken_is_not_flooded() {
        let mut now = Instant::now();
        let began = now;
        let mut claim = Claim::new(ME);
        claim.make(now);
        let mut sent = 0;
        while now < began + Duration::from_secs(600) {
            now = claim.wake_at().expect("it goes on");
            for order in claim.tick(now) {
                let Order::Send(probe) = order else { panic!("it holds nothing") };
                sent += 1;
                claim.hear(&Arp::announcement(OTHER, probe.target_address), now);
            }
        }
        assert!(sent < 25, "{sent} probes in ten minutes");
    }

    #[test]
    fn a_plugged_in_cable_tells_what_is_held_again() {
        let mut now = Instant::now();
        let mut claim = Claim::new(ME);
        claim.plugged_in(now);
        assert!(!claim.is_made());
        claim.make(now);
        let address = taken(&settle(&mut claim, &mut now).0).expect("it holds");
        claim.plugged_in(now);
        let announcement = Order::Send(Arp::announcement(ME, address));
        assert_eq!(settle(&mut claim, &mut now).0, [announcement, announcement]);
    }

    #[test]
    fn a_withdrawn_claim_gives_up_what_it_held() {
        let mut now = Instant::now();
        let mut claim = Claim::new(ME);
        assert_eq!(claim.withdraw(), None);
        claim.make(now);
        assert_eq!(claim.withdraw(), None, "nothing was held yet");
        claim.make(now);
        settle(&mut claim, &mut now);
        assert_eq!(claim.withdraw(), Some(Order::GiveUp));
        assert!(!claim.is_made());
    }
}
