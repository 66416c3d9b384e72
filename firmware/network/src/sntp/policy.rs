//! When to ask for the time, and when to believe that the clock is wrong.

use std::time::Duration;

use super::{AskError, Sample};

/// What the clock may be off without being stepped: leaders and certificates tolerate it.
const TOLERATED_NS: u128 = 500_000_000;
/// The first pause after a failure; it doubles with each.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// The longest pause after failures.
const FAILED_PAUSE_MAX: Duration = Duration::from_secs(900);
/// The pauses after each success, and between later ones: a crystal drifts by a few seconds a day.
const SOUND_PAUSES: &[u64] = &[60, 300, 1800];
/// How long servers that want to be left alone are.
const UNWELCOME_PAUSE: Duration = Duration::from_secs(3600);

/// What to do about the outcome of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether to step the clock.
    pub is_step: bool,
    /// How long to wait before asking again.
    pub pause: Duration,
}

/// Remembers how the questions went.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    successes: usize,
    failures: u32,
}

impl Policy {
    /// Judges an outcome.
    pub fn judge(&mut self, outcome: &Result<Sample, AskError>) -> Verdict {
        match outcome {
            Ok(sample) => {
                self.failures = 0;
                let seconds = SOUND_PAUSES[self.successes.min(SOUND_PAUSES.len() - 1)];
                self.successes = self.successes.saturating_add(1);
                let is_step = sample.ahead_ns.unsigned_abs() > TOLERATED_NS;
                Verdict { is_step, pause: Duration::from_secs(seconds) }
            }
            Err(error) => {
                let doubled = FAILED_PAUSE * 2_u32.saturating_pow(self.failures.min(16));
                self.failures = self.failures.saturating_add(1);
                let pause = match error {
                    AskError::Unwelcome => UNWELCOME_PAUSE,
                    _ => doubled.min(FAILED_PAUSE_MAX),
                };
                Verdict { is_step: false, pause }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Policy, Verdict};
    use crate::sntp::{AskError, Sample};

    fn off_by(milliseconds: i128) -> Result<Sample, AskError> {
        Ok(Sample { ahead_ns: milliseconds * 1_000_000, error: Duration::from_millis(5) })
    }

    fn verdict(is_step: bool, seconds: u64) -> Verdict {
        Verdict { is_step, pause: Duration::from_secs(seconds) }
    }

    #[test]
    fn only_a_clock_that_is_clearly_wrong_is_stepped() {
        let mut policy = Policy::default();
        assert_eq!(policy.judge(&off_by(-86_400_000)), verdict(true, 60));
        assert_eq!(policy.judge(&off_by(500)), verdict(false, 300));
        assert_eq!(policy.judge(&off_by(501)), verdict(true, 1800));
        assert_eq!(policy.judge(&off_by(0)), verdict(false, 1800));
    }

    #[test]
    fn silent_servers_are_asked_ever_less_often() {
        let mut policy = Policy::default();
        let silent = || Err(AskError::Nobody { reasons: vec![] });
        let pauses: Vec<u64> = (0..10).map(|_| policy.judge(&silent()).pause.as_secs()).collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        policy.judge(&off_by(0));
        assert_eq!(policy.judge(&silent()), verdict(false, 5), "after an answer they count anew");
    }

    #[test]
    fn servers_that_want_to_be_left_alone_are() {
        let verdict = Policy::default().judge(&Err(AskError::Unwelcome));
        assert_eq!(verdict.pause, Duration::from_secs(3600));
    }
}
