//! Ids: 128 random bits, written as 25 base-36 digits, as Swarm writes them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// How many digits an id has: the fewest base-36 digits that hold 128 bits.
const DIGITS: usize = 25;

/// The text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id: 25 characters of 0-9 and a-z are")]
pub struct ParseIdError {
    /// What was given.
    pub text: String,
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        pub struct $name(u128);

        impl $name {
            /// An id of 128 bits that the caller drew at random.
            pub const fn from_random(bits: u128) -> Self {
                Self(bits)
            }

            /// The 128 bits.
            pub const fn bits(self) -> u128 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(&encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                decode(text).map(Self).ok_or_else(|| ParseIdError { text: text.to_owned() })
            }
        }
    };
}

id!(
    /// Names a cluster for ever.
    ClusterId
);
id!(
    /// Names a node. Drawn at a board's first boot; addresses and hostnames may change, this not.
    NodeId
);
id!(
    /// Names a service.
    ServiceId
);
id!(
    /// Names a task, and the container that runs it.
    TaskId
);

impl TaskId {
    /// The id of the task that fills `slot` of `service`, planned against `version` of the state.
    ///
    /// Derived rather than drawn, so that planning is a function: two leaders that plan the same
    /// task against the same state name it alike, and the second creation is refused.
    pub fn derive(service: ServiceId, slot: u128, version: u64) -> Self {
        let low = mix(service.0 ^ slot.rotate_left(32));
        Self(mix(low ^ (u128::from(version) << 64) ^ u128::from(version)))
    }
}

/// A bijective mixer over 128 bits: two rounds of multiply and shift with odd constants (those of
/// Steele and Vigna's 128-bit LCG tables), enough to spread nearby inputs over the whole range.
const fn mix(bits: u128) -> u128 {
    const FIRST: u128 = 0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645;
    const SECOND: u128 = 0xd605_1e2b_f5e8_3c1d_9e37_79b9_7f4a_7c15;
    let bits = (bits ^ (bits >> 64)).wrapping_mul(FIRST);
    let bits = (bits ^ (bits >> 59)).wrapping_mul(SECOND);
    bits ^ (bits >> 64)
}

fn encode(mut bits: u128) -> String {
    let mut digits = [b'0'; DIGITS];
    for digit in digits.iter_mut().rev() {
        let value = u32::try_from(bits % 36).unwrap_or(0);
        *digit = char::from_digit(value, 36).map_or(b'0', |digit| digit as u8);
        bits /= 36;
    }
    digits.iter().map(|digit| char::from(*digit)).collect()
}

fn decode(text: &str) -> Option<u128> {
    if text.len() != DIGITS || text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    text.chars().try_fold(0u128, |bits, digit| {
        bits.checked_mul(36)?.checked_add(u128::from(digit.to_digit(36)?))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;

    proptest! {
        #[test]
        fn every_id_reads_back_as_itself(bits in any::<u128>()) {
            let id = NodeId::from_random(bits);
            prop_assert_eq!(id.to_string().len(), DIGITS);
            prop_assert_eq!(id.to_string().parse::<NodeId>(), Ok(id));
        }
    }

    #[test]
    fn text_that_is_no_id_is_refused() {
        for text in ["", "abc", "zzzzzzzzzzzzzzzzzzzzzzzzz", "AAAAAAAAAAAAAAAAAAAAAAAAA"] {
            assert!(text.parse::<TaskId>().is_err(), "{text}");
        }
    }

    #[test]
    fn derived_ids_differ_by_service_slot_and_version() {
        let mut seen = std::collections::BTreeSet::new();
        for service in 0..10 {
            for slot in 0..10 {
                for version in 0..10 {
                    let service = ServiceId::from_random(service);
                    assert!(seen.insert(TaskId::derive(service, slot, version)));
                }
            }
        }
    }
}
