//! What to say to the servers next: the client's states, as a function of time and of what it hears.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use super::{
    lease::Lease,
    message::{HardwareAddress, Query, Reply, ReplyKind, decode, encode},
};
use crate::dice::Dice;

/// The pauses after each unanswered call for servers; the last one repeats.
const DISCOVER_PAUSES: &[u64] = &[1, 2, 4, 8, 16, 30];
/// The pauses after each unanswered request; after the last the offer is forgotten.
const REQUEST_PAUSES: &[u64] = &[1, 2, 4];
/// How long we wait at least between two requests to keep an address whose lease is long.
const RENEW_PAUSE: Duration = Duration::from_secs(60);
/// How long a server that takes back or refuses what it just offered is left alone.
const REFUSED_PAUSE: Duration = Duration::from_secs(2);
/// How long after a conflict nothing is asked (RFC 2131).
const CONFLICT_PAUSE: Duration = Duration::from_secs(10);

/// The client of one interface.
#[derive(Debug)]
pub(crate) struct Client {
    hardware: HardwareAddress,
    hostname: String,
    dice: Dice,
    exchange: u32,
    began: Instant,
    held: Option<Held>,
    state: State,
}

/// What the client wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Send this: to the server, or to everybody.
    Send { to: Option<Ipv4Addr>, bytes: Vec<u8> },
    /// This is our lease now, until then; whatever we had before is not.
    Take { lease: Lease, until: Instant },
    /// We have no lease any more.
    GiveUp,
}

/// A lease, and since when it has been ours.
#[derive(Debug, Clone)]
struct Held {
    lease: Lease,
    since: Instant,
}

impl Held {
    fn ends(&self) -> Instant {
        self.since + self.lease.ends_after
    }
}

#[derive(Debug, Clone)]
enum State {
    /// Calling for servers.
    Selecting { attempt: usize, next: Instant },
    /// Asking for what one of them offered.
    Requesting { address: Ipv4Addr, server: Ipv4Addr, attempt: usize, next: Instant },
    /// Asking whether the address that we hold is good on this network, too.
    Confirming { attempt: usize, next: Instant },
    /// Holding a lease, and asking to keep it from some time on.
    Bound { next: Instant },
}

impl Client {
    /// A client that begins now. `seed` tells boards apart that were switched on together.
    pub(crate) fn new(hardware: HardwareAddress, hostname: &str, seed: u64, now: Instant) -> Self {
        let mut dice = Dice::new(seed);
        Self {
            hardware,
            hostname: hostname.to_owned(),
            exchange: dice.number(),
            dice,
            began: now,
            held: None,
            state: State::Selecting { attempt: 0, next: now },
        }
    }

    /// When to call [`Client::tick`] at the latest.
    pub(crate) fn wake_at(&self) -> Instant {
        let next = match self.state {
            State::Selecting { next, .. }
            | State::Requesting { next, .. }
            | State::Confirming { next, .. }
            | State::Bound { next } => next,
        };
        self.held.as_ref().map_or(next, |held| next.min(held.ends()))
    }

    /// The cable was plugged in: perhaps into another network.
    pub(crate) fn plugged_in(&mut self, now: Instant) {
        self.begin(now);
        self.state = if self.held.is_some() {
            State::Confirming { attempt: 0, next: now }
        } else {
            State::Selecting { attempt: 0, next: now }
        };
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Instant) -> Vec<Order> {
        let mut orders = Vec::new();
        if self.held.as_ref().is_some_and(|held| held.ends() <= now) {
            self.held = None;
            orders.push(Order::GiveUp);
            self.select(now);
        }
        if self.wake_at() <= now {
            orders.extend(self.speak(now));
        }
        orders
    }

    /// A datagram came.
    pub(crate) fn hear(&mut self, bytes: &[u8], now: Instant) -> Vec<Order> {
        let Some(reply) = decode(bytes) else { return Vec::new() };
        if reply.exchange != self.exchange || reply.hardware != self.hardware {
            return Vec::new();
        }
        match (reply.kind, &self.state) {
            (ReplyKind::Offer, State::Selecting { .. }) => self.hear_offer(&reply, now),
            (ReplyKind::Ack, State::Requesting { server, .. }) if reply.server == Some(*server) => {
                self.hear_ack(&reply, now)
            }
            (ReplyKind::Ack, State::Confirming { .. } | State::Bound { .. }) => {
                self.hear_ack(&reply, now)
            }
            (ReplyKind::Nak, State::Requesting { server, .. }) if reply.server == Some(*server) => {
                self.select(now + REFUSED_PAUSE);
                Vec::new()
            }
            (ReplyKind::Nak, State::Confirming { .. } | State::Bound { .. })
                if reply.server.is_some() =>
            {
                self.held = None;
                self.select(now);
                vec![Order::GiveUp]
            }
            _ => Vec::new(),
        }
    }

    /// Somebody else uses the address that we hold.
    pub(crate) fn conflict(&mut self, now: Instant) -> Vec<Order> {
        let Some(Held { lease, .. }) = self.held.take() else { return Vec::new() };
        let query = Query::Decline { address: lease.address, server: lease.server };
        let decline = Order::Send { to: None, bytes: self.encode(query, now) };
        self.select(now + CONFLICT_PAUSE);
        vec![decline, Order::GiveUp]
    }

    fn hear_offer(&mut self, reply: &Reply, now: Instant) -> Vec<Order> {
        let Some(Lease { address, server, .. }) = Lease::new(reply) else { return Vec::new() };
        self.state = State::Requesting { address, server, attempt: 0, next: now };
        self.speak(now)
    }

    fn hear_ack(&mut self, reply: &Reply, now: Instant) -> Vec<Order> {
        let Some(lease) = Lease::new(reply) else { return Vec::new() };
        // A datagram that is repeated must not grant anything twice.
        self.exchange = self.dice.number();
        self.state = State::Bound { next: now + lease.renew_after };
        let held = Held { lease: lease.clone(), since: now };
        let until = held.ends();
        self.held = Some(held);
        vec![Order::Take { lease, until }]
    }

    /// Says what is due, and decides when to say the next.
    fn speak(&mut self, now: Instant) -> Vec<Order> {
        match self.state.clone() {
            State::Selecting { attempt, .. } => {
                let next = now + self.pause(DISCOVER_PAUSES, attempt);
                self.state = State::Selecting { attempt: attempt + 1, next };
                vec![self.call(Query::Discover, now)]
            }
            State::Requesting { attempt, .. } | State::Confirming { attempt, .. }
                if attempt >= REQUEST_PAUSES.len() =>
            {
                // Nobody knows us here. What we hold stays ours until it ends.
                self.select(now);
                self.speak(now)
            }
            State::Requesting { address, server, attempt, .. } => {
                let next = now + self.pause(REQUEST_PAUSES, attempt);
                self.state = State::Requesting { address, server, attempt: attempt + 1, next };
                vec![self.call(Query::Request { address, server: Some(server) }, now)]
            }
            State::Confirming { attempt, .. } => {
                let Some(address) = self.held.as_ref().map(|held| held.lease.address) else {
                    self.select(now);
                    return self.speak(now);
                };
                let next = now + self.pause(REQUEST_PAUSES, attempt);
                self.state = State::Confirming { attempt: attempt + 1, next };
                vec![self.call(Query::Request { address, server: None }, now)]
            }
            State::Bound { .. } => self.renew(now),
        }
    }

    /// Asks to keep the address: its server at first, everybody when time grows short.
    fn renew(&mut self, now: Instant) -> Vec<Order> {
        let Some(held) = self.held.clone() else {
            self.select(now);
            return self.speak(now);
        };
        let rebind_at = held.since + held.lease.rebind_after;
        let is_early = now < rebind_at;
        let stage_ends = if is_early { rebind_at } else { held.ends() };
        let shortest = RENEW_PAUSE.min(held.lease.ends_after / 8);
        let pause = (stage_ends.saturating_duration_since(now) / 2).max(shortest);
        self.state = State::Bound { next: (now + pause).min(stage_ends.max(now + shortest)) };
        let bytes = self.encode(Query::Renew { address: held.lease.address }, now);
        vec![Order::Send { to: is_early.then_some(held.lease.server), bytes }]
    }

    fn select(&mut self, next: Instant) {
        self.begin(next);
        self.state = State::Selecting { attempt: 0, next };
    }

    fn begin(&mut self, now: Instant) {
        self.exchange = self.dice.number();
        self.began = now;
    }

    fn call(&self, query: Query, now: Instant) -> Order {
        Order::Send { to: None, bytes: self.encode(query, now) }
    }

    fn encode(&self, query: Query, now: Instant) -> Vec<u8> {
        let seconds = now.saturating_duration_since(self.began).as_secs();
        let seconds = u16::try_from(seconds).unwrap_or(u16::MAX);
        encode(query, self.exchange, seconds, self.hardware, &self.hostname)
    }

    /// A pause, a little shorter or longer so that boards do not speak in chorus.
    fn pause(&mut self, pauses: &[u64], attempt: usize) -> Duration {
        let seconds = pauses[attempt.min(pauses.len() - 1)];
        self.dice.around(Duration::from_secs(seconds))
    }
}

#[cfg(test)]
mod tests;
