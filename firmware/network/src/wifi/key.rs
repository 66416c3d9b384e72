//! From a passphrase to the key of a network (IEEE 802.11i, annex H.4).

use std::num::NonZeroU32;

use ring::pbkdf2;

const ITERATIONS: NonZeroU32 = NonZeroU32::new(4096).expect("not zero");
const SSID_MAX: usize = 32;

/// The pairwise master key of a network.
pub(super) struct Key(pub(super) [u8; 32]);

/// What the configuration says cannot be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum KeyError {
    /// Too short, too long, or of other letters.
    #[error(
        "the password must have 8 to 63 characters of ASCII, or be a key in 64 hexadecimal digits"
    )]
    Passphrase,
    /// Empty or too long.
    #[error("the network's name (ssid) must have 1 to 32 bytes")]
    Ssid,
    /// No country's code.
    #[error("the country must be two letters, as \"DE\"")]
    Country,
}

/// Derives the key; 64 hexadecimal digits are one already.
pub(super) fn derive(passphrase: &str, ssid: &str) -> Result<Key, KeyError> {
    if ssid.is_empty() || ssid.len() > SSID_MAX {
        return Err(KeyError::Ssid);
    }
    let bytes = passphrase.as_bytes();
    if bytes.len() == 64 {
        return hexadecimal(bytes).map(Key).ok_or(KeyError::Passphrase);
    }
    if !(8..=63).contains(&bytes.len()) || !bytes.iter().all(|byte| (32..127).contains(byte)) {
        return Err(KeyError::Passphrase);
    }
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA1, ITERATIONS, ssid.as_bytes(), bytes, &mut key);
    Ok(Key(key))
}

fn hexadecimal(digits: &[u8]) -> Option<[u8; 32]> {
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|d| u8::try_from(d).ok());
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::{KeyError, derive};

    fn key(passphrase: &str, ssid: &str) -> String {
        let key = derive(passphrase, ssid).unwrap_or_else(|error| panic!("{error}"));
        key.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn keys_are_those_of_the_standard() {
        let first = "f42c6fc52df0ebef9ebb4b90b38a5f902e83fe1b135a70e23aed762e9710a12e";
        assert_eq!(key("password", "IEEE"), first);
        let second = "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af";
        assert_eq!(key("ThisIsAPassword", "ThisIsASSID"), second);
        let third = "becb93866bb8c3832cb777c2f559807c8c59afcb6eae734885001300a981cc62";
        assert_eq!(key(&"a".repeat(32), &"Z".repeat(32)), third);
        assert_eq!(key(third, "whatever"), third, "a key is one already");
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let refused = |passphrase: &str, ssid: &str| derive(passphrase, ssid).err();
        assert_eq!(refused("short", "home"), Some(KeyError::Passphrase));
        assert_eq!(refused(&"g".repeat(64), "home"), Some(KeyError::Passphrase));
        assert_eq!(refused("pässword", "home"), Some(KeyError::Passphrase));
        assert_eq!(refused("password", ""), Some(KeyError::Ssid));
        assert_eq!(refused("password", &"x".repeat(33)), Some(KeyError::Ssid));
    }
}
