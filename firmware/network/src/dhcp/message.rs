//! What client and server say to each other: the datagrams of RFC 2131 and the options we use.

use std::net::Ipv4Addr;

/// The port of servers.
pub(crate) const SERVER_PORT: u16 = 67;
/// The port of clients.
pub(crate) const CLIENT_PORT: u16 = 68;
/// A hardware address.
pub(crate) type HardwareAddress = [u8; 6];

const REQUEST: u8 = 1;
const REPLY: u8 = 2;
const ETHERNET: u8 = 1;
const COOKIE: [u8; 4] = [99, 130, 83, 99];
/// "Answer by broadcast": without an address we could not receive anything else.
const FLAG_BROADCAST: u16 = 0x8000;
/// Where the options begin, cookie included.
const OPTIONS_AT: usize = 240;
/// Relays and old servers drop what is shorter (RFC 1542).
const SIZE_MIN: usize = 300;
/// The longest datagram that we accept, and say so.
pub(crate) const SIZE_MAX: u16 = 1472;
/// How many addresses of one kind are kept.
const ADDRESSES_MAX: usize = 8;
/// How many routes are kept.
const ROUTES_MAX: usize = 16;
const HOSTNAME_MAX: usize = 63;

const MASK: u8 = 1;
const ROUTER: u8 = 3;
const DNS: u8 = 6;
const HOSTNAME: u8 = 12;
const DOMAIN: u8 = 15;
const TIME_SERVERS: u8 = 42;
const REQUESTED_ADDRESS: u8 = 50;
const LEASE_TIME: u8 = 51;
const OVERLOAD: u8 = 52;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const WANTED: u8 = 55;
const LARGEST: u8 = 57;
const RENEWAL_TIME: u8 = 58;
const REBINDING_TIME: u8 = 59;
const CLIENT: u8 = 61;
const ROUTES: u8 = 121;
const PAD: u8 = 0;
const END: u8 = 255;

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Query {
    /// Who would give me an address?
    Discover,
    /// I want this address: of that server, or of whoever knows, if I had it before.
    Request { address: Ipv4Addr, server: Option<Ipv4Addr> },
    /// I have this address and want to keep it.
    Renew { address: Ipv4Addr },
    /// This address is in use already.
    Decline { address: Ipv4Addr, server: Ipv4Addr },
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    /// You could have this address.
    Offer,
    /// It is yours.
    Ack,
    /// It is not.
    Nak,
}

/// A server's answer, as it was said: nothing in it has been judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) kind: ReplyKind,
    pub(crate) exchange: u32,
    pub(crate) hardware: HardwareAddress,
    pub(crate) address: Ipv4Addr,
    pub(crate) server: Option<Ipv4Addr>,
    pub(crate) mask: Option<Ipv4Addr>,
    pub(crate) routers: Vec<Ipv4Addr>,
    pub(crate) routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    pub(crate) dns: Vec<Ipv4Addr>,
    pub(crate) domain: Option<String>,
    pub(crate) time_servers: Vec<Ipv4Addr>,
    pub(crate) lease_s: Option<u32>,
    pub(crate) renewal_s: Option<u32>,
    pub(crate) rebinding_s: Option<u32>,
}

/// Writes what a client says.
pub(crate) fn encode(
    query: Query,
    exchange: u32,
    seconds: u16,
    hardware: HardwareAddress,
    hostname: &str,
) -> Vec<u8> {
    let mut bytes = vec![REQUEST, ETHERNET, 6, 0];
    bytes.extend(exchange.to_be_bytes());
    bytes.extend(seconds.to_be_bytes());
    // Who renews has an address that a server's answer can be sent to.
    let (flags, ours) = match query {
        Query::Renew { address } => (0, address),
        _ => (FLAG_BROADCAST, Ipv4Addr::UNSPECIFIED),
    };
    bytes.extend(flags.to_be_bytes());
    bytes.extend(ours.octets());
    bytes.resize(28, 0);
    bytes.extend(hardware);
    bytes.resize(OPTIONS_AT - COOKIE.len(), 0);
    bytes.extend(COOKIE);
    let mut option = |code: u8, value: &[u8]| {
        let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
        bytes.extend([code, length]);
        bytes.extend(&value[..usize::from(length)]);
    };
    let kind = match query {
        Query::Discover => 1,
        Query::Request { .. } | Query::Renew { .. } => 3,
        Query::Decline { .. } => 4,
    };
    option(KIND, &[kind]);
    let [a, b, c, d, e, f] = hardware;
    option(CLIENT, &[ETHERNET, a, b, c, d, e, f]);
    if let Query::Request { address, .. } | Query::Decline { address, .. } = query {
        option(REQUESTED_ADDRESS, &address.octets());
    }
    if let Query::Request { server: Some(server), .. } | Query::Decline { server, .. } = query {
        option(SERVER, &server.octets());
    }
    if !matches!(query, Query::Decline { .. }) {
        option(LARGEST, &SIZE_MAX.to_be_bytes());
        let wanted =
            [MASK, ROUTES, ROUTER, DNS, DOMAIN, TIME_SERVERS, RENEWAL_TIME, REBINDING_TIME];
        option(WANTED, &wanted);
        let name = hostname.as_bytes();
        let name = &name[..name.len().min(HOSTNAME_MAX)];
        if !name.is_empty() {
            option(HOSTNAME, name);
        }
    }
    bytes.push(END);
    if bytes.len() < SIZE_MIN {
        bytes.resize(SIZE_MIN, PAD);
    }
    bytes
}

/// Reads a server's answer. `None` is whatever is none.
pub(crate) fn decode(bytes: &[u8]) -> Option<Reply> {
    let header = bytes.get(..OPTIONS_AT)?;
    if header[..3] != [REPLY, ETHERNET, 6] || header[236..] != COOKIE {
        return None;
    }
    let mut options = Options::default();
    options.read(&bytes[OPTIONS_AT..]);
    // Options may go on in the fields for names of long ago.
    let overload = options.bytes(OVERLOAD).first().copied().unwrap_or(0);
    if overload & 1 != 0 {
        options.read(&header[108..236]);
    }
    if overload & 2 != 0 {
        options.read(&header[44..108]);
    }
    let kind = match options.bytes(KIND) {
        [2] => ReplyKind::Offer,
        [5] => ReplyKind::Ack,
        [6] => ReplyKind::Nak,
        _ => return None,
    };
    Some(Reply {
        kind,
        exchange: u32::from_be_bytes(header[4..8].try_into().ok()?),
        hardware: header[28..34].try_into().ok()?,
        address: address(&header[16..20])?,
        server: address(options.bytes(SERVER)),
        mask: address(options.bytes(MASK)),
        routers: options.addresses(ROUTER),
        routes: routes(options.bytes(ROUTES)),
        dns: options.addresses(DNS),
        domain: domain(options.bytes(DOMAIN)),
        time_servers: options.addresses(TIME_SERVERS),
        lease_s: options.seconds(LEASE_TIME),
        renewal_s: options.seconds(RENEWAL_TIME),
        rebinding_s: options.seconds(REBINDING_TIME),
    })
}

/// The options of a datagram; one that is said in several parts is joined (RFC 3396).
#[derive(Debug, Default)]
struct Options(Vec<(u8, Vec<u8>)>);

impl Options {
    fn read(&mut self, mut bytes: &[u8]) {
        while let [code, rest @ ..] = bytes {
            match (*code, rest) {
                (PAD, rest) => bytes = rest,
                (END, _) => return,
                (code, [length, rest @ ..]) if rest.len() >= usize::from(*length) => {
                    let (value, rest) = rest.split_at(usize::from(*length));
                    match self.0.iter_mut().find(|(known, _)| *known == code) {
                        Some((_, known)) => known.extend(value),
                        None => self.0.push((code, value.to_vec())),
                    }
                    bytes = rest;
                }
                // Cut off: what came before it still counts.
                _ => return,
            }
        }
    }

    fn bytes(&self, code: u8) -> &[u8] {
        self.0.iter().find(|(known, _)| *known == code).map_or(&[], |(_, value)| value)
    }

    fn seconds(&self, code: u8) -> Option<u32> {
        self.bytes(code).try_into().ok().map(u32::from_be_bytes)
    }

    fn addresses(&self, code: u8) -> Vec<Ipv4Addr> {
        let addresses = self.bytes(code).chunks_exact(4).filter_map(address);
        addresses.filter(is_of_a_host).take(ADDRESSES_MAX).collect()
    }
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from)
}

/// Whether a machine can have this address.
pub(crate) fn is_of_a_host(address: &Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    first != 0 && first < 224 && !address.is_loopback()
}

/// Routes as RFC 3442 packs them: only the bytes of a destination that its prefix covers.
fn routes(mut bytes: &[u8]) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    let mut routes = Vec::new();
    while let [prefix @ 0..=32, rest @ ..] = bytes {
        let significant = usize::from(prefix.div_ceil(8));
        let (Some(destination), Some(router)) =
            (rest.get(..significant), rest.get(significant..significant + 4).and_then(address))
        else {
            return Vec::new();
        };
        let mut octets = [0; 4];
        octets[..significant].copy_from_slice(destination);
        let destination = Ipv4Addr::from_bits(u32::from_be_bytes(octets) & mask(*prefix));
        // A router of 0.0.0.0 is on the link itself; those need no router of ours.
        if is_of_a_host(&router) && routes.len() < ROUTES_MAX {
            routes.push((destination, *prefix, router));
        }
        bytes = &rest[significant + 4..];
    }
    routes
}

/// The mask of a prefix, as a number.
pub(crate) fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// A domain fit to stand in a line of `resolv.conf`.
fn domain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_end_matches(['\0', '.']);
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = !text.is_empty() && text.len() <= 253 && text.bytes().all(is_sound);
    is_name.then(|| text.to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
