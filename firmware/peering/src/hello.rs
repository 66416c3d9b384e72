//! The first frames of every conversation between members: which run of the firmware this is, what
//! time it has, and whether it is welcome.

use std::time::Duration;

use bramble_cluster::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Instance, Refusal};

/// A greeting is no longer than this.
pub(crate) const GREETING_BYTES: usize = 512;

/// How long TLS and the greetings may take, even on a small board that unpacks an image meanwhile.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(3);

/// What both sides say of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Introduction {
    /// Which run of the firmware this is.
    pub(crate) instance: Instance,
    /// What time it has.
    pub(crate) at: Timestamp,
    /// The port on which it listens.
    pub(crate) port: u16,
}

/// What the side that connects says first.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Greeting {
    V1(Introduction),
}

/// What the other side answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reception {
    Welcome(Introduction),
    Refused(Refusal),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_on_the_wire_does_not_change() -> anyhow::Result<()> {
        let introduction =
            Introduction { instance: Instance(5), at: Timestamp::from_millis(6), port: 7420 };
        let hex = |bytes: Vec<u8>| hex::encode(bytes);
        assert_eq!(hex(postcard::to_stdvec(&Greeting::V1(introduction))?), "000506fc39");
        assert_eq!(hex(postcard::to_stdvec(&Reception::Welcome(introduction))?), "000506fc39");
        let address = "10.0.0.1:7420".parse()?;
        for (refusal, bytes) in [
            (Refusal::Removed, "0100"),
            (Refusal::SameIdentity { address }, "0101000a000001fc39"),
            (Refusal::NotServed, "0102"),
            (Refusal::Busy, "0103"),
        ] {
            assert_eq!(hex(postcard::to_stdvec(&Reception::Refused(refusal))?), bytes);
        }
        Ok(())
    }
}
