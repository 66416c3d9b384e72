//! Datagrams as they go over the wire, and as an enemy would write them.

use std::net::Ipv4Addr;

use proptest::prelude::{any, prop_assert, proptest};

use super::{Query, Reply, ReplyKind, decode, encode, is_of_a_host};

pub(crate) const ME: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(crate) const SERVER: [u8; 4] = [10, 0, 0, 1];

/// A server's answer with these options.
pub(crate) fn reply(kind: u8, exchange: u32, address: [u8; 4], options: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![2, 1, 6, 0];
    bytes.extend(exchange.to_be_bytes());
    bytes.resize(16, 0);
    bytes.extend(address);
    bytes.resize(28, 0);
    bytes.extend(ME);
    bytes.resize(236, 0);
    bytes.extend([99, 130, 83, 99, 53, 1, kind]);
    for option in options {
        bytes.extend(*option);
    }
    bytes.push(255);
    bytes
}

#[test]
fn a_call_for_servers_is_what_the_standard_says() {
    let bytes = encode(Query::Discover, 0x0102_0304, 5, ME, "rubus");
    assert_eq!(bytes.len(), 300, "old relays drop what is shorter");
    assert_eq!(bytes[..12], [1, 1, 6, 0, 1, 2, 3, 4, 0, 5, 0x80, 0]);
    assert_eq!(bytes[28..34], ME);
    let options = [
        99, 130, 83, 99, 53, 1, 1, 61, 7, 1, 2, 0, 0, 0, 0, 1, 57, 2, 5, 192, 55, 8, 1, 121, 3, 6,
        15, 42, 58, 59, 12, 5, b'r', b'u', b'b', b'u', b's', 255,
    ];
    assert_eq!(bytes[236..236 + options.len()], options);
}

#[test]
fn who_renews_says_its_address_and_no_server() {
    let address = Ipv4Addr::new(10, 0, 0, 9);
    let bytes = encode(Query::Renew { address }, 1, 0, ME, "");
    assert_eq!(bytes[10..16], [0, 0, 10, 0, 0, 9]);
    assert!(!bytes.windows(6).any(|part| part == [50, 4, 10, 0, 0, 9]));
    let server = Some(Ipv4Addr::from(SERVER));
    let bytes = encode(Query::Request { address, server }, 1, 0, ME, "");
    assert!(bytes.windows(12).any(|part| part == [50, 4, 10, 0, 0, 9, 54, 4, 10, 0, 0, 1]));
}

#[test]
fn an_answer_is_read_with_all_its_options() {
    let bytes = reply(
        5,
        7,
        [10, 0, 0, 9],
        &[
            &[0, 0, 54, 4, 10, 0, 0, 1, 1, 4, 255, 255, 255, 0],
            &[6, 8, 10, 0, 0, 1, 127, 0, 0, 1],
            &[6, 4, 10, 0, 0, 2],
            &[15, 5, b'h', b'o', b'm', b'e', 0],
            &[51, 4, 0, 0, 14, 16],
            &[121, 14, 24, 192, 168, 7, 10, 0, 0, 3, 0, 10, 0, 0, 4, 32],
        ],
    );
    let read = decode(&bytes).expect("it is an answer");
    assert_eq!(read.kind, ReplyKind::Ack);
    assert_eq!((read.exchange, read.address), (7, [10, 0, 0, 9].into()));
    assert_eq!(read.server, Some(SERVER.into()));
    assert_eq!(read.dns, [Ipv4Addr::from(SERVER), [10, 0, 0, 2].into()], "loopback is no server");
    assert_eq!(read.domain.as_deref(), Some("home"));
    assert_eq!(read.lease_s, Some(3600));
    assert_eq!(read.routes, [], "a list that is cut off is no list");
}

#[test]
fn routes_are_unpacked() {
    let option: &[u8] = &[121, 13, 24, 192, 168, 7, 10, 0, 0, 3, 0, 10, 0, 0, 4];
    let read = decode(&reply(5, 7, [10, 0, 0, 9], &[option])).expect("it is an answer");
    let anywhere = (Ipv4Addr::UNSPECIFIED, 0, [10, 0, 0, 4].into());
    assert_eq!(read.routes, [([192, 168, 7, 0].into(), 24, [10, 0, 0, 3].into()), anywhere]);
}

#[test]
fn a_domain_cannot_smuggle_lines_into_a_file() {
    let option: &[u8] = &[15, 8, b'a', b'\n', b'n', b'a', b'm', b'e', b's', b'!'];
    let read = decode(&reply(5, 7, [10, 0, 0, 9], &[option])).expect("it is an answer");
    assert_eq!(read.domain, None);
}

fn is_bounded(reply: &Reply) -> bool {
    let lists = [&reply.routers, &reply.dns, &reply.time_servers];
    lists.iter().all(|list| list.len() <= 8 && list.iter().all(is_of_a_host))
        && reply.routes.len() <= 16
        && reply.domain.as_ref().is_none_or(|domain| domain.len() <= 253)
}

proptest! {
    #[test]
    fn hostile_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..1500)) {
        let _ = decode(&bytes);
    }

    #[test]
    fn hostile_options_are_bounded(options in proptest::collection::vec(any::<u8>(), 0..1200)) {
        if let Some(read) = decode(&reply(5, 7, [10, 0, 0, 9], &[&options])) {
            prop_assert!(is_bounded(&read));
        }
    }

    #[test]
    fn hostile_names_of_files_hold_no_more(header in proptest::collection::vec(any::<u8>(), 192)) {
        let mut bytes = reply(5, 7, [10, 0, 0, 9], &[&[52, 1, 3]]);
        bytes[44..236].copy_from_slice(&header);
        if let Some(read) = decode(&bytes) {
            prop_assert!(is_bounded(&read));
        }
    }
}
