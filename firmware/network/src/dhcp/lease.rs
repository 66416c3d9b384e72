//! What a server gave us, judged: an address, for how long, and what goes with it.

use std::{net::Ipv4Addr, time::Duration};

use super::message::{Reply, is_of_a_host, mask};

/// A lease shorter than this is refused: it would be nothing but renewals.
const SHORTEST: Duration = Duration::from_secs(4);
/// The longest that is believed; `u32::MAX` seconds mean "for ever".
const LONGEST: Duration = Duration::from_secs(10 * 365 * 86_400);

/// An address that is ours for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Ours.
    pub(crate) address: Ipv4Addr,
    /// How many of its bits name the network.
    pub(crate) prefix: u8,
    /// Who gave it.
    pub(crate) server: Ipv4Addr,
    /// Destination, prefix and router; the default route is one of them.
    pub(crate) routes: Vec<(Ipv4Addr, u8, Ipv4Addr)>,
    /// Who answers for names.
    pub(crate) dns: Vec<Ipv4Addr>,
    /// Where names without a dot are looked for.
    pub(crate) domain: Option<String>,
    /// Who knows the time.
    pub(crate) time_servers: Vec<Ipv4Addr>,
    /// From when on to ask its server to keep it.
    pub(crate) renew_after: Duration,
    /// From when on to ask everybody.
    pub(crate) rebind_after: Duration,
    /// When it ends.
    pub(crate) ends_after: Duration,
}

impl Lease {
    /// The lease that a server's offer or acknowledgement speaks of, if it is sound.
    pub(crate) fn new(reply: &Reply) -> Option<Self> {
        let server = reply.server?;
        let prefix = prefix(reply.mask, reply.address)?;
        let host_bits = reply.address.to_bits() & !mask(prefix);
        // The network's own address and its broadcast are nobody's, but in the smallest networks.
        let is_nobodys = prefix < 31 && (host_bits == 0 || host_bits == !mask(prefix));
        if !is_of_a_host(&reply.address) || is_nobodys {
            return None;
        }
        let ends_after = Duration::from_secs(reply.lease_s?.into()).min(LONGEST);
        if ends_after < SHORTEST {
            return None;
        }
        let (renew_after, rebind_after) = timers(reply, ends_after);
        Some(Self {
            address: reply.address,
            prefix,
            server,
            routes: routes(reply),
            dns: reply.dns.clone(),
            domain: reply.domain.clone(),
            time_servers: reply.time_servers.clone(),
            renew_after,
            rebind_after,
            ends_after,
        })
    }
}

/// A server's timers if they are in order, else those of RFC 2131.
fn timers(reply: &Reply, ends_after: Duration) -> (Duration, Duration) {
    let said = |seconds: Option<u32>| seconds.map(|seconds| Duration::from_secs(seconds.into()));
    let renew = said(reply.renewal_s).unwrap_or(ends_after / 2);
    let rebind = said(reply.rebinding_s).unwrap_or(ends_after / 8 * 7);
    if renew >= Duration::from_secs(1) && renew < rebind && rebind < ends_after {
        (renew, rebind)
    } else {
        (ends_after / 2, ends_after / 8 * 7)
    }
}

/// A server that speaks of routes means them instead of its routers (RFC 3442).
fn routes(reply: &Reply) -> Vec<(Ipv4Addr, u8, Ipv4Addr)> {
    if !reply.routes.is_empty() {
        return reply.routes.clone();
    }
    let default = |router: &Ipv4Addr| (Ipv4Addr::UNSPECIFIED, 0, *router);
    reply.routers.first().map(default).into_iter().collect()
}

/// How long the prefix is; `None` if the mask is none. A server that names no mask means that of
/// the address's class.
fn prefix(said: Option<Ipv4Addr>, address: Ipv4Addr) -> Option<u8> {
    let Some(said) = said else {
        return Some(match address.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            _ => 24,
        });
    };
    let prefix = u8::try_from(said.to_bits().leading_ones()).ok()?;
    (prefix > 0 && mask(prefix) == said.to_bits()).then_some(prefix)
}
