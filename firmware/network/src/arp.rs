//! ARP for IPv4 over Ethernet (RFC 826), as far as finding out whether an address is taken.

use std::net::Ipv4Addr;

use crate::dhcp::message::HardwareAddress;

/// Ethernet, IPv4, and how long their addresses are.
const KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];
const SIZE: usize = 28;
const REQUEST: u16 = 1;
const REPLY: u16 = 2;

/// What one machine says to the others of its segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arp {
    /// Whether it asks; else it answers.
    pub(crate) is_request: bool,
    /// Who speaks.
    pub(crate) sender: HardwareAddress,
    /// Which address it claims; unspecified in a probe.
    pub(crate) sender_address: Ipv4Addr,
    /// Which address it asks for.
    pub(crate) target_address: Ipv4Addr,
}

impl Arp {
    /// "Does anybody use this address?", without a claim to it.
    pub(crate) fn probe(sender: HardwareAddress, address: Ipv4Addr) -> Self {
        let sender_address = Ipv4Addr::UNSPECIFIED;
        Self { is_request: true, sender, sender_address, target_address: address }
    }

    /// "This address is mine."
    pub(crate) fn announcement(sender: HardwareAddress, address: Ipv4Addr) -> Self {
        Self { is_request: true, sender, sender_address: address, target_address: address }
    }

    /// As bytes; the target's hardware address is what is asked for, hence zero.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = KIND.to_vec();
        bytes.extend(if self.is_request { REQUEST } else { REPLY }.to_be_bytes());
        bytes.extend(self.sender);
        bytes.extend(self.sender_address.octets());
        bytes.extend([0; 6]);
        bytes.extend(self.target_address.octets());
        bytes
    }

    /// From bytes; `None` if they are anything else.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; SIZE] = bytes.get(..SIZE)?.try_into().ok()?;
        let is_request = match u16::from_be_bytes([bytes[6], bytes[7]]) {
            REQUEST => true,
            REPLY => false,
            _ => return None,
        };
        let address = |at: usize| <[u8; 4]>::try_from(&bytes[at..at + 4]).ok().map(Ipv4Addr::from);
        (bytes[..6] == KIND).then_some(Self {
            is_request,
            sender: bytes[8..14].try_into().ok()?,
            sender_address: address(14)?,
            target_address: address(24)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::Arp;

    #[test]
    fn what_is_written_is_read() {
        let probe = Arp::probe([2, 0, 0, 0, 0, 7], [169, 254, 3, 4].into());
        assert_eq!(probe.encode().len(), 28);
        assert_eq!(Arp::decode(&probe.encode()), Some(probe));
        let mut padded = Arp::announcement([2, 0, 0, 0, 0, 7], [10, 0, 0, 1].into()).encode();
        padded.resize(46, 0);
        assert_eq!(Arp::decode(&padded).map(|arp| arp.sender_address), Some([10, 0, 0, 1].into()));
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Arp::decode(&bytes);
        }
    }
}
