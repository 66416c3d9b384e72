//! The question to a time server and its answer, judged.

use std::time::{Duration, SystemTime};

use super::vote::Sample;

const SIZE: usize = 48;
/// Version 4, client.
const QUESTION: u8 = 4 << 3 | 3;
const MODE_SERVER: u8 = 4;
const UNSYNCHRONIZED: u8 = 3;
const STRATUM_MAX: u8 = 15;
/// A server that may be this wrong is of no use.
const ERROR_MAX: Duration = Duration::from_secs(2);
/// From 1900 to 1970.
const EPOCH_OFFSET_S: u64 = 2_208_988_800;
const ERA_S: u64 = 1 << 32;
/// No server's time before or after these is sane: 2025 and 2100.
const EARLIEST_S: u64 = 1_735_689_600;
const LATEST_S: u64 = 4_102_444_800;

/// Why an answer is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AnswerError {
    /// It is not an answer to our question.
    #[error("it answers another question")]
    Foreign,
    /// The server wants no questions from us ("kiss of death").
    #[error("it asks to be left alone ({code})")]
    Unwelcome {
        /// Its reason.
        code: String,
    },
    /// The server has no time itself.
    #[error("it does not know the time")]
    Unsynchronized,
    /// It cannot be right.
    #[error("its answer makes no sense: {what}")]
    Insane {
        /// What is wrong.
        what: &'static str,
    },
}

/// The question. A random number stands where our time would: it is nobody's business, and only
/// who hears it can answer.
pub(super) fn request(nonce: [u8; 8]) -> [u8; SIZE] {
    let mut bytes = [0; SIZE];
    bytes[0] = QUESTION;
    bytes[40..].copy_from_slice(&nonce);
    bytes
}

/// Judges an answer that came `took` after `sent_at`.
pub(super) fn read(
    bytes: &[u8],
    nonce: [u8; 8],
    sent_at: SystemTime,
    took: Duration,
) -> Result<Sample, AnswerError> {
    let insane = |what| Err(AnswerError::Insane { what });
    let Some(bytes) = bytes.first_chunk::<SIZE>() else { return Err(AnswerError::Foreign) };
    if bytes[0] & 7 != MODE_SERVER || bytes[24..32] != nonce {
        return Err(AnswerError::Foreign);
    }
    let stratum = bytes[1];
    if stratum == 0 {
        let code = bytes[12..16].iter().filter(|byte| byte.is_ascii_alphanumeric());
        return Err(AnswerError::Unwelcome { code: code.map(|byte| char::from(*byte)).collect() });
    }
    if bytes[0] >> 6 == UNSYNCHRONIZED || stratum > STRATUM_MAX {
        return Err(AnswerError::Unsynchronized);
    }
    let (root_delay, root_dispersion) = (short(bytes, 4), short(bytes, 8));
    let root_error = root_delay / 2 + root_dispersion;
    if root_error > ERROR_MAX {
        return insane("it may be seconds off");
    }
    let (Some(received), Some(answered)) = (timestamp(bytes, 32), timestamp(bytes, 40)) else {
        return insane("its time is not of this century");
    };
    let Some(worked) = answered.checked_sub(received) else {
        return insane("it answered before it was asked");
    };
    if worked > took {
        return insane("it took longer than we waited");
    }
    let sent = nanoseconds(sent_at);
    let travelled = took - worked;
    let middle_there = as_nanoseconds(received) / 2 + as_nanoseconds(answered) / 2;
    let middle_here = sent + as_nanoseconds(took) / 2;
    Ok(Sample { ahead_ns: middle_there - middle_here, error: travelled / 2 + root_error })
}

/// A time since 1970, if it is sane.
fn timestamp(bytes: &[u8; SIZE], at: usize) -> Option<Duration> {
    let whole = u64::from(word(bytes, at));
    let fraction = u64::from(word(bytes, at + 4));
    // Seconds since 1900 until they overflow in 2036, and since then afterwards.
    let since_1900 = if whole >> 31 == 1 { whole } else { whole + ERA_S };
    let seconds = since_1900.checked_sub(EPOCH_OFFSET_S)?;
    let nanoseconds = u32::try_from((fraction * 1_000_000_000) >> 32).ok()?;
    (EARLIEST_S..LATEST_S).contains(&seconds).then(|| Duration::new(seconds, nanoseconds))
}

/// A span of 16 bits of seconds and 16 of their fraction.
fn short(bytes: &[u8; SIZE], at: usize) -> Duration {
    Duration::from_secs(1) * word(bytes, at) / (1 << 16)
}

fn word(bytes: &[u8; SIZE], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Since 1970; negative before it, as a clock may stand.
fn nanoseconds(time: SystemTime) -> i128 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => as_nanoseconds(since),
        Err(before) => -as_nanoseconds(before.duration()),
    }
}

fn as_nanoseconds(span: Duration) -> i128 {
    i128::try_from(span.as_nanos()).unwrap_or(i128::MAX / 4)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::{any, prop_assert, proptest};

    use super::{AnswerError, read, request};

    const NONCE: [u8; 8] = [1, 2, 3, 4, 5, 6, 7, 8];
    /// 2026-11-26 00:00:00 since 1900.
    const NOW_S: u32 = 4_004_640_000;

    fn sent_at() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(NOW_S) - 2_208_988_800)
    }

    /// The answer of a good server whose clock is three seconds ahead.
    fn answer() -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..4].copy_from_slice(&[4 << 3 | 4, 2, 6, 0xec]);
        bytes[24..32].copy_from_slice(&NONCE);
        bytes[32..36].copy_from_slice(&(NOW_S + 3).to_be_bytes());
        bytes[40..44].copy_from_slice(&(NOW_S + 3).to_be_bytes());
        bytes
    }

    fn judge(bytes: &[u8]) -> Result<super::Sample, AnswerError> {
        read(bytes, NONCE, sent_at(), Duration::from_millis(20))
    }

    #[test]
    fn a_good_answer_says_how_far_we_are_behind() {
        let sample = judge(&answer()).expect("it is good");
        assert_eq!(sample.ahead_ns, 2_990_000_000);
        assert_eq!(sample.error, Duration::from_millis(10));
        assert_eq!(request(NONCE)[40..], NONCE);
    }

    #[test]
    fn insane_answers_are_refused() {
        let with = |change: &dyn Fn(&mut [u8; 48])| {
            let mut bytes = answer();
            change(&mut bytes);
            judge(&bytes).expect_err("it is insane")
        };
        assert_eq!(with(&|bytes| bytes[0] = 4 << 3 | 3), AnswerError::Foreign);
        assert_eq!(with(&|bytes| bytes[31] ^= 1), AnswerError::Foreign, "another's nonce");
        assert_eq!(judge(&answer()[..47]), Err(AnswerError::Foreign));
        let unwelcome = with(&|bytes| {
            bytes[1] = 0;
            bytes[12..16].copy_from_slice(b"RATE");
        });
        assert_eq!(unwelcome, AnswerError::Unwelcome { code: "RATE".to_owned() });
        assert_eq!(with(&|bytes| bytes[0] |= 0xc0), AnswerError::Unsynchronized);
        assert_eq!(with(&|bytes| bytes[1] = 16), AnswerError::Unsynchronized);
        type Change<'a> = &'a dyn Fn(&mut [u8; 48]);
        let insane: [Change<'_>; 5] = [
            &|bytes| bytes[8..12].copy_from_slice(&[0, 3, 0, 0]),
            &|bytes| bytes[40..48].fill(0),
            &|bytes| bytes[32..36].copy_from_slice(&(NOW_S + 4).to_be_bytes()),
            &|bytes| bytes[40..44].copy_from_slice(&(NOW_S + 9).to_be_bytes()),
            &|bytes| bytes[32..36].copy_from_slice(&3_000_000_000_u32.to_be_bytes()),
        ];
        for change in insane {
            assert!(matches!(with(change), AnswerError::Insane { .. }));
        }
    }

    #[test]
    fn time_goes_on_after_2036() {
        let mut bytes = answer();
        // Ten seconds after the counter's overflow, on 7 February 2036.
        bytes[32..36].copy_from_slice(&10_u32.to_be_bytes());
        bytes[40..44].copy_from_slice(&10_u32.to_be_bytes());
        let sample = judge(&bytes).expect("it is good");
        let years = sample.ahead_ns / 1_000_000_000 / 86_400 / 365;
        assert_eq!(years, 9);
    }

    proptest! {
        #[test]
        fn hostile_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = judge(&bytes);
        }

        #[test]
        fn whatever_a_server_says_its_time_is_of_this_century(
            mut bytes in proptest::collection::vec(any::<u8>(), 48),
        ) {
            bytes[0] = 4 << 3 | 4;
            bytes[24..32].copy_from_slice(&NONCE);
            if let Ok(sample) = judge(&bytes) {
                prop_assert!(sample.ahead_ns.abs() < 100 * 365 * 86_400 * 1_000_000_000);
            }
        }
    }
}
