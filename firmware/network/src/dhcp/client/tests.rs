//! Conversations with servers, good, bad and silent.

use std::{
    net::Ipv4Addr,
    time::{Duration, Instant},
};

use proptest::prelude::{any, prop_assert, proptest};

use super::{Client, Order};
use crate::dhcp::message::tests::{ME, SERVER, reply};

const ADDRESS: [u8; 4] = [10, 0, 0, 9];
const OFFER: u8 = 2;
const ACK: u8 = 5;
const NAK: u8 = 6;
const FROM_SERVER: &[u8] = &[54, 4, 10, 0, 0, 1];
const MASK: &[u8] = &[1, 4, 255, 255, 255, 0];
/// 1000 s.
const TIME: &[u8] = &[51, 4, 0, 0, 3, 232];

fn client(now: Instant) -> Client {
    Client::new(ME, "rubus", 1, now)
}

/// The exchange and the kind of the one datagram among the orders.
fn said(orders: &[Order]) -> (u32, u8) {
    let datagrams: Vec<_> = orders
        .iter()
        .filter_map(|order| match order {
            Order::Send { bytes, .. } => Some(bytes),
            _ => None,
        })
        .collect();
    let [bytes] = datagrams[..] else { panic!("one datagram: {orders:?}") };
    (u32::from_be_bytes(bytes[4..8].try_into().expect("four bytes")), bytes[242])
}

fn taken(orders: &[Order]) -> Option<Ipv4Addr> {
    orders.iter().find_map(|order| match order {
        Order::Take { lease, .. } => Some(lease.address),
        _ => None,
    })
}

fn answer(kind: u8, exchange: u32, address: [u8; 4]) -> Vec<u8> {
    reply(kind, exchange, address, &[FROM_SERVER, MASK, TIME])
}

/// A client that has been given [`ADDRESS`] for 1000 s just now.
fn bound(now: Instant) -> Client {
    let mut client = client(now);
    let (exchange, kind) = said(&client.tick(now));
    assert_eq!(kind, 1, "it calls for servers");
    let orders = client.hear(&answer(OFFER, exchange, ADDRESS), now);
    assert_eq!(said(&orders), (exchange, 3), "it asks for what is offered");
    let orders = client.hear(&answer(ACK, exchange, ADDRESS), now);
    assert_eq!(taken(&orders), Some(ADDRESS.into()));
    client
}

#[test]
fn a_lease_is_renewed_with_its_server_then_with_everybody_then_ends() {
    let began = Instant::now();
    let mut client = bound(began);
    let mut now = client.wake_at();
    assert_eq!(now, began + Duration::from_secs(500));
    let mut asked = Vec::new();
    let orders = loop {
        let orders = client.tick(now);
        if orders.contains(&Order::GiveUp) {
            break orders;
        }
        for order in &orders {
            let Order::Send { to, .. } = order else { panic!("it only asks: {order:?}") };
            asked.push(((now - began).as_secs(), *to));
        }
        now = client.wake_at();
    };
    assert_eq!(now, began + Duration::from_secs(1000), "not a moment longer");
    let (server, everybody): (Vec<_>, Vec<_>) = asked.iter().partition(|(_, to)| to.is_some());
    assert!(server.iter().all(|(at, to)| *at < 875 && *to == Some(SERVER.into())));
    assert!(everybody.iter().all(|(at, _)| *at >= 875) && !everybody.is_empty());
    assert!(asked.len() < 12, "{asked:?}");
    assert_eq!(said(&orders).1, 1, "and it calls for servers again at once");
}

#[test]
fn a_renewal_may_change_the_address() {
    let mut client = bound(Instant::now());
    let now = client.wake_at();
    let (exchange, _) = said(&client.tick(now));
    let orders = client.hear(&answer(ACK, exchange, [10, 0, 0, 77]), now);
    assert_eq!(taken(&orders), Some([10, 0, 0, 77].into()));
}

#[test]
fn a_refused_renewal_gives_the_address_up_and_begins_anew() {
    let mut client = bound(Instant::now());
    let now = client.wake_at();
    let (exchange, _) = said(&client.tick(now));
    let refusal = reply(NAK, exchange, [0; 4], &[FROM_SERVER]);
    assert_eq!(client.hear(&refusal, now), [Order::GiveUp]);
    let (other, kind) = said(&client.tick(now));
    assert_eq!(kind, 1);
    assert_ne!(other, exchange);
    assert_eq!(client.hear(&refusal, now), [], "an old refusal refuses nothing new");
}

#[test]
fn a_plugged_in_cable_asks_whether_the_address_is_still_good() {
    let mut now = Instant::now();
    let mut client = bound(now);
    now += Duration::from_secs(10);
    client.plugged_in(now);
    let orders = client.tick(now);
    let (exchange, kind) = said(&orders);
    assert_eq!(kind, 3);
    let orders = client.hear(&answer(ACK, exchange, ADDRESS), now);
    assert_eq!(taken(&orders), Some(ADDRESS.into()));

    // Nobody knows us: the lease is kept, and other servers are called for.
    client.plugged_in(now);
    let mut kinds = Vec::new();
    for _ in 0..5 {
        let orders = client.tick(now);
        kinds.push(said(&orders).1);
        assert!(!orders.contains(&Order::GiveUp));
        now = client.wake_at();
    }
    assert_eq!(kinds, [3, 3, 3, 1, 1]);
}

#[test]
fn silence_is_answered_by_ever_rarer_calls() {
    let began = Instant::now();
    let mut client = client(began);
    let mut calls = Vec::new();
    while calls.len() < 10 {
        let now = client.wake_at();
        assert_eq!(said(&client.tick(now)).1, 1);
        calls.push((now - began).as_secs());
    }
    assert!(calls[3] >= 5 && calls[3] <= 9, "{calls:?}");
    assert!(calls[9] > 120 && calls[9] < 220, "{calls:?}");
}

#[test]
fn an_offer_that_comes_to_nothing_is_forgotten() {
    let mut now = Instant::now();
    let mut client = client(now);
    let (exchange, _) = said(&client.tick(now));
    client.hear(&answer(OFFER, exchange, ADDRESS), now);
    let mut kinds = Vec::new();
    for _ in 0..3 {
        now = client.wake_at();
        kinds.push(said(&client.tick(now)).1);
    }
    assert_eq!(kinds, [3, 3, 1]);
}

#[test]
fn an_address_that_another_machine_uses_is_declined() {
    let now = Instant::now();
    let mut client = bound(now);
    let orders = client.conflict(now);
    assert_eq!(said(&orders).1, 4);
    assert!(orders.contains(&Order::GiveUp));
    assert!(client.wake_at() >= now + Duration::from_secs(10), "and nothing is asked for a while");
}

#[test]
fn unsound_leases_are_not_taken() {
    let unsound: [(&[u8; 4], &[&[u8]]); 8] = [
        (&ADDRESS, &[MASK, TIME]),
        (&ADDRESS, &[FROM_SERVER, MASK]),
        (&ADDRESS, &[FROM_SERVER, MASK, &[51, 4, 0, 0, 0, 1]]),
        (&ADDRESS, &[FROM_SERVER, TIME, &[1, 4, 255, 0, 255, 0]]),
        (&[0, 0, 0, 0], &[FROM_SERVER, MASK, TIME]),
        (&[127, 0, 0, 1], &[FROM_SERVER, MASK, TIME]),
        (&[224, 0, 0, 1], &[FROM_SERVER, MASK, TIME]),
        (&[10, 0, 0, 255], &[FROM_SERVER, MASK, TIME]),
    ];
    for (address, options) in unsound {
        let now = Instant::now();
        let mut client = client(now);
        let (exchange, _) = said(&client.tick(now));
        assert_eq!(client.hear(&reply(OFFER, exchange, *address, options), now), []);
    }
}

#[test]
fn what_is_not_for_us_is_not_heard() {
    let now = Instant::now();
    let mut client = client(now);
    let (exchange, _) = said(&client.tick(now));
    assert_eq!(client.hear(&answer(OFFER, exchange ^ 1, ADDRESS), now), []);
    let mut other = answer(OFFER, exchange, ADDRESS);
    other[33] ^= 1;
    assert_eq!(client.hear(&other, now), []);
    assert_eq!(client.hear(&answer(ACK, exchange, ADDRESS), now), [], "nothing was asked for");
}

proptest! {
    /// Whatever is heard and whenever: no panic, no storm of datagrams, no lease without an end.
    #[test]
    fn a_hostile_network_gets_little_out_of_a_client(
        words in proptest::collection::vec((0_u8..8, any::<[u8; 4]>(), any::<u32>(), any::<u32>(), 0_u64..40), 1..60),
    ) {
        let began = Instant::now();
        let mut now = began;
        let mut client = client(now);
        let mut exchange = 0;
        let mut sent: u64 = 0;
        for (kind, address, lease, renew, pause) in &words {
            now += Duration::from_secs(*pause);
            let mut orders = Vec::new();
            while client.wake_at() <= now {
                orders.extend(client.tick(now));
            }
            let mut time = vec![51, 4];
            time.extend(lease.to_be_bytes());
            time.extend([58, 4]);
            time.extend(renew.to_be_bytes());
            for order in &orders {
                if let Order::Send { bytes, .. } = order {
                    exchange = u32::from_be_bytes(bytes[4..8].try_into().expect("four bytes"));
                }
            }
            orders.extend(client.hear(&reply(*kind, exchange, *address, &[FROM_SERVER, MASK, &time]), now));
            for order in &orders {
                match order {
                    Order::Send { .. } => sent += 1,
                    Order::Take { until, .. } => prop_assert!(*until >= now + Duration::from_secs(4)),
                    Order::GiveUp => {}
                }
            }
        }
        let heard = u64::try_from(words.len()).expect("few");
        prop_assert!(sent <= 2 * heard + 2 * (now - began).as_secs() + 2);
    }
}
