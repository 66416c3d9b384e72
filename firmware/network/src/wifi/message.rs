//! nl80211's messages: what is asked of a driver, attribute by attribute, and what it can do.

use nlink::netlink::{AttrIter, MessageIter};

use super::key::{Key, KeyError};

pub(super) const GET_RADIO: u8 = 1;
pub(super) const REQUEST_COUNTRY: u8 = 27;
pub(super) const CONNECT: u8 = 46;
pub(super) const DISCONNECT: u8 = 48;

pub(super) const INTERFACE: u16 = 3;
const COUNTRY: u16 = 33;
const ELEMENTS: u16 = 42;
const SSID: u16 = 52;
const AUTHENTICATION: u16 = 53;
const PRIVACY: u16 = 70;
const CIPHERS: u16 = 73;
const GROUP_CIPHER: u16 = 74;
const VERSIONS: u16 = 75;
const KEY_MANAGEMENT: u16 = 76;
pub(super) const SPLIT_DUMP: u16 = 174;
const FEATURES: u16 = 217;
const MASTER_KEY: u16 = 254;

const OPEN: u32 = 0;
const WPA2: u32 = 2;
const CCMP: u32 = 0x000f_ac04;
const TKIP: u32 = 0x000f_ac02;
const PASSPHRASE: u32 = 0x000f_ac02;
/// The bit of "4-way handshake offload, as a station, with a passphrase".
const OFFLOAD: usize = 15;
/// Before the attributes of a generic netlink message.
const HEADER: usize = 4;

/// How a network protects what it sends to all. Those that still serve old machines use TKIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GroupCipher {
    Ccmp,
    Tkip,
}

/// One attribute of a message. It is not shown: it may be a key.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Attribute {
    pub(super) kind: u16,
    pub(super) value: Vec<u8>,
}

impl Attribute {
    /// A number, as this machine writes it.
    pub(super) fn number(kind: u16, number: u32) -> Self {
        Self { kind, value: number.to_ne_bytes().to_vec() }
    }
}

/// "Join this network with this key; the handshake is yours."
pub(super) fn connect(index: u32, ssid: &str, key: &Key, group: GroupCipher) -> Vec<Attribute> {
    let group = match group {
        GroupCipher::Ccmp => CCMP,
        GroupCipher::Tkip => TKIP,
    };
    vec![
        Attribute::number(INTERFACE, index),
        Attribute { kind: SSID, value: ssid.as_bytes().to_vec() },
        Attribute::number(AUTHENTICATION, OPEN),
        Attribute { kind: PRIVACY, value: Vec::new() },
        Attribute::number(VERSIONS, WPA2),
        Attribute::number(CIPHERS, CCMP),
        Attribute::number(GROUP_CIPHER, group),
        Attribute::number(KEY_MANAGEMENT, PASSPHRASE),
        Attribute { kind: ELEMENTS, value: security_element(group) },
        Attribute { kind: MASTER_KEY, value: key.0.to_vec() },
    ]
}

/// What we tell the access point of the protection that we use (the RSN element).
fn security_element(group: u32) -> Vec<u8> {
    let mut element = vec![48, 20, 1, 0];
    element.extend(group.to_be_bytes());
    element.extend([1, 0]);
    element.extend(CCMP.to_be_bytes());
    element.extend([1, 0]);
    element.extend(PASSPHRASE.to_be_bytes());
    element.extend([0, 0]);
    element
}

/// "These are the rules that hold here."
pub(super) fn country(country: &str) -> Result<[Attribute; 1], KeyError> {
    let letters = country.as_bytes();
    if letters.len() != 2 || !letters.iter().all(u8::is_ascii_alphabetic) {
        return Err(KeyError::Country);
    }
    let mut value = letters.to_ascii_uppercase();
    value.push(0);
    Ok([Attribute { kind: COUNTRY, value }])
}

/// Whether a part of a radio's description says that it does the handshake.
pub(super) fn has_offload(bytes: &[u8]) -> bool {
    MessageIter::new(bytes).flatten().any(|(_, payload)| {
        let attributes = payload.get(HEADER..).unwrap_or_default();
        AttrIter::new(attributes).any(|(kind, value)| {
            kind == FEATURES
                && value.get(OFFLOAD / 8).is_some_and(|byte| byte >> (OFFLOAD % 8) & 1 == 1)
        })
    })
}

#[cfg(test)]
mod tests {
    use nlink::netlink::MessageBuilder;
    use proptest::prelude::{any, proptest};

    use super::{GroupCipher, connect, country, has_offload, security_element};
    use crate::wifi::key::{Key, KeyError};

    #[test]
    fn joining_says_all_that_a_driver_needs() {
        let attributes = connect(3, "home", &Key([7; 32]), GroupCipher::Ccmp);
        let of = |kind: u16| {
            let found = attributes.iter().find(|attribute| attribute.kind == kind);
            found.map(|attribute| attribute.value.as_slice()).expect("it is said")
        };
        assert_eq!(of(3), 3_u32.to_ne_bytes());
        assert_eq!(of(52), b"home");
        assert_eq!(of(73), 0x000f_ac04_u32.to_ne_bytes());
        assert_eq!(of(74), 0x000f_ac04_u32.to_ne_bytes());
        assert_eq!(of(75), 2_u32.to_ne_bytes());
        assert_eq!(of(76), 0x000f_ac02_u32.to_ne_bytes());
        assert_eq!(of(254), [7; 32]);
        let element = [
            0x30, 0x14, 1, 0, 0, 0x0f, 0xac, 4, 1, 0, 0, 0x0f, 0xac, 4, 1, 0, 0, 0x0f, 0xac, 2, 0,
            0,
        ];
        assert_eq!(of(42), element);
        assert_eq!(security_element(super::TKIP)[4..8], [0, 0x0f, 0xac, 2]);
    }

    #[test]
    fn a_country_is_two_letters() {
        let told = country("de").ok().map(|[attribute]| attribute.value);
        assert_eq!(told.as_deref(), Some(&b"DE\0"[..]));
        assert_eq!(country("D1").err(), Some(KeyError::Country));
        assert_eq!(country("Germany").err(), Some(KeyError::Country));
    }

    fn description(features: &[u8]) -> Vec<u8> {
        let mut builder = MessageBuilder::new(30, 0);
        builder.append(&[3_u8, 1, 0, 0]);
        builder.append_attr_u32(1, 0);
        builder.append_attr(217, features);
        builder.finish()
    }

    #[test]
    fn the_offload_is_one_bit_of_many() {
        assert!(has_offload(&description(&[0, 0x80])));
        assert!(!has_offload(&description(&[0xff, 0x7f, 0xff])));
        assert!(!has_offload(&description(&[0xff])), "an old kernel knows fewer");
        assert!(!has_offload(&[]));
    }

    proptest! {
        #[test]
        fn whatever_the_kernel_says_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = has_offload(&bytes);
        }
    }
}
