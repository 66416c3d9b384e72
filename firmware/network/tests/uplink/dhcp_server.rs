//! A DHCP server that does as it is told, right or wrong.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

use crate::board::{Helper, in_namespace};

/// How the server answers.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// The one address that it has.
    pub(crate) address: Ipv4Addr,
    /// For how long, in seconds.
    pub(crate) lease_s: u32,
    /// When to renew it.
    pub(crate) renew_s: u32,
    /// Whether it refuses what is asked for in any other way than by its offer.
    pub(crate) refuses: bool,
}

/// What a client asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    /// The kind of message: 1 discover, 3 request, 4 decline.
    pub(crate) kind: u8,
    /// The address that the client has.
    pub(crate) has: Ipv4Addr,
    /// The client's name.
    pub(crate) hostname: String,
}

/// A server that runs until it is dropped.
pub(crate) struct DhcpServer {
    policy: Arc<Mutex<Policy>>,
    heard: Arc<Mutex<Vec<Heard>>>,
    _helper: Helper,
}

impl DhcpServer {
    /// Starts in a namespace, on its `eth0`. `me` is the server's address, and the router's.
    pub(crate) fn start(namespace: &Path, interface: &str, me: Ipv4Addr, policy: Policy) -> Self {
        let policy = Arc::new(Mutex::new(policy));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let (policy_there, heard_there) = (Arc::clone(&policy), Arc::clone(&heard));
        let interface = interface.to_owned();
        let helper = in_namespace(namespace, move |stop| {
            let socket = open(&interface);
            let mut bytes = [0; 1500];
            while !stop() {
                let Ok((length, from)) = socket.recv_from(&mut bytes) else { continue };
                let policy = policy_there.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let query = &bytes[..length];
                let told = Heard {
                    kind: option(query, 53).map_or(0, |value| value[0]),
                    has: address(&query[12..16]),
                    hostname: option(query, 12)
                        .map_or_else(String::new, |name| String::from_utf8_lossy(name).into()),
                };
                heard_there.lock().unwrap_or_else(PoisonError::into_inner).push(told);
                if let Some(reply) = answer(query, me, &policy) {
                    let is_known = query[10] & 0x80 == 0;
                    let to = if is_known { from } else { ([255; 4], 68).into() };
                    socket.send_to(&reply, SocketAddr::new(to.ip(), 68)).expect("it is sent");
                }
            }
        });
        Self { policy, heard, _helper: helper }
    }

    /// Answers differently from now on.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.policy.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What was asked so far.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn open(interface: &str) -> UdpSocket {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP)).expect("a socket");
    socket.set_broadcast(true).expect("it may broadcast");
    socket.bind_device(Some(interface.as_bytes())).expect("there is an interface");
    let port: SocketAddr = ([0; 4], 67).into();
    socket.bind(&port.into()).expect("the port is free");
    socket.set_read_timeout(Some(Duration::from_millis(50))).expect("it may time out");
    socket.into()
}

fn answer(query: &[u8], me: Ipv4Addr, policy: &Policy) -> Option<Vec<u8>> {
    let kind = option(query, 53)?[0];
    let wanted = option(query, 50).map_or_else(|| address(&query[12..16]), address);
    let is_ours = wanted == policy.address;
    let kind = match kind {
        1 => 2,
        3 if is_ours && !(policy.refuses && option(query, 54).is_none()) => 5,
        3 => 6,
        _ => return None,
    };
    let mut reply = vec![2, 1, 6, 0];
    reply.extend(&query[4..8]);
    reply.extend([0; 8]);
    reply.extend(if kind == 6 { [0; 4] } else { policy.address.octets() });
    reply.resize(28, 0);
    reply.extend(&query[28..44]);
    reply.resize(236, 0);
    reply.extend([99, 130, 83, 99, 53, 1, kind, 54, 4]);
    reply.extend(me.octets());
    if kind != 6 {
        reply.extend([1, 4, 255, 255, 255, 0, 3, 4]);
        reply.extend(me.octets());
        reply.extend([6, 4]);
        reply.extend(me.octets());
        reply.extend([15, 9]);
        reply.extend(b"home.arpa");
        reply.extend([42, 4]);
        reply.extend(me.octets());
        reply.extend([51, 4]);
        reply.extend(policy.lease_s.to_be_bytes());
        reply.extend([58, 4]);
        reply.extend(policy.renew_s.to_be_bytes());
    }
    reply.push(255);
    Some(reply)
}

fn option(query: &[u8], wanted: u8) -> Option<&[u8]> {
    let mut rest = query.get(240..)?;
    loop {
        match rest {
            [0, more @ ..] => rest = more,
            [255, ..] | [] | [_] => return None,
            [code, length, more @ ..] => {
                let value = more.get(..usize::from(*length))?;
                if *code == wanted {
                    return Some(value);
                }
                rest = &more[value.len()..];
            }
        }
    }
}

fn address(bytes: &[u8]) -> Ipv4Addr {
    <[u8; 4]>::try_from(bytes).expect("four bytes").into()
}
