//! Join tokens: `BRMTKN-1-<authority's fingerprint>-<secret>`, what a machine is given to join over
//! a routed network.
//!
//! The fingerprint lets the machine recognise the cluster, the secret lets the cluster recognise
//! the machine. A token holds until its secret is rotated.

use std::{fmt, str::FromStr};

use bramble_cluster::{Cluster, Digest};

use crate::authority;

const PREFIX: &str = "BRMTKN-1-";

/// The fewest base-36 digits that hold 32 bytes, and 16 bytes.
const FINGERPRINT_DIGITS: usize = 50;
const SECRET_DIGITS: usize = 25;

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The SHA-256 of the certificate of the cluster's authority.
    pub authority: Digest,
    /// One of the cluster's join secrets.
    pub secret: [u8; 16],
}

/// The tokens of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinTokens {
    /// For boards that only run tasks.
    pub worker: JoinToken,
    /// For boards that may manage.
    pub manager: JoinToken,
}

/// The text is not a join token. Does not repeat the text, which may be nearly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this is not a join token: BRMTKN-1-<50 characters>-<25 characters> is")]
pub struct ParseTokenError;

impl JoinTokens {
    /// The tokens that hold now.
    pub fn of(cluster: &Cluster) -> Self {
        let authority = authority::fingerprint(&cluster.authority.certificate);
        let token = |secret| JoinToken { authority, secret };
        let secrets = &cluster.join_secrets;
        Self { worker: token(secrets.worker), manager: token(secrets.manager) }
    }
}

impl fmt::Display for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = encode(self.authority.as_bytes(), FINGERPRINT_DIGITS);
        let secret = encode(&self.secret, SECRET_DIGITS);
        write!(formatter, "{PREFIX}{fingerprint}-{secret}")
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("JoinToken(..)")
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, ParseTokenError> {
        let rest = text.trim().strip_prefix(PREFIX).ok_or(ParseTokenError)?;
        let (fingerprint, secret) = rest.split_once('-').ok_or(ParseTokenError)?;
        let fingerprint = decode(fingerprint, FINGERPRINT_DIGITS).ok_or(ParseTokenError)?;
        let secret = decode(secret, SECRET_DIGITS).ok_or(ParseTokenError)?;
        Ok(Self { authority: Digest::from_bytes(fingerprint), secret })
    }
}

/// Big-endian bytes as `digits` base-36 digits.
fn encode(bytes: &[u8], digits: usize) -> String {
    let mut number = bytes.to_vec();
    let mut text = vec![b'0'; digits];
    for digit in text.iter_mut().rev() {
        let mut remainder = 0;
        for byte in &mut number {
            let value = remainder * 256 + u32::from(*byte);
            *byte = u8::try_from(value / 36).unwrap_or(0);
            remainder = value % 36;
        }
        *digit = char::from_digit(remainder, 36).map_or(b'0', |digit| digit as u8);
    }
    text.into_iter().map(char::from).collect()
}

/// The reverse of [`encode`]; `None` if the text is no such number.
fn decode<const BYTES: usize>(text: &str, digits: usize) -> Option<[u8; BYTES]> {
    if text.len() != digits || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut number = [0; BYTES];
    for digit in text.chars() {
        let mut carry = digit.to_digit(36)?;
        for byte in number.iter_mut().rev() {
            let value = u32::from(*byte) * 36 + carry;
            *byte = u8::try_from(value % 256).unwrap_or(0);
            carry = value / 256;
        }
        if carry != 0 {
            return None;
        }
    }
    Some(number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn every_token_reads_back_as_itself(
            authority in any::<[u8; 32]>(), secret in any::<[u8; 16]>(),
        ) {
            let token = JoinToken { authority: Digest::from_bytes(authority), secret };
            let text = token.to_string();
            prop_assert_eq!(text.len(), "BRMTKN-1-".len() + 50 + 1 + 25);
            prop_assert_eq!(text.parse(), Ok(token));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,120}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("{PREFIX}{text}").parse::<JoinToken>();
        }
    }

    #[test]
    fn text_that_is_no_token_is_refused() {
        let ninth = "z".repeat(50);
        for text in [
            "",
            "BRMTKN-1-",
            "SWMTKN-1-a-b",
            &format!("BRMTKN-1-{ninth}-{}", "0".repeat(25)),
            &format!("BRMTKN-1-{}-{}", "0".repeat(50), "z".repeat(25)),
            &format!("BRMTKN-1-{}-{}", "0".repeat(50), "A".repeat(25)),
            &format!("BRMTKN-2-{}-{}", "0".repeat(50), "0".repeat(25)),
        ] {
            assert_eq!(text.parse::<JoinToken>(), Err(ParseTokenError), "{text}");
        }
    }
}
