//! What several servers agree on.

use std::time::Duration;

/// Two servers agree if they differ by no more than their errors and this.
const TOLERANCE: Duration = Duration::from_millis(100);

/// How far our clock is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// How far the server is ahead of us; negative if we are ahead of it.
    pub ahead_ns: i128,
    /// How wrong that may be.
    pub error: Duration,
}

impl Sample {
    /// What the clock should show when it shows `shown`. `None` if no clock can show it.
    pub fn correct(&self, shown: std::time::SystemTime) -> Option<std::time::SystemTime> {
        let size = Duration::from_nanos(u64::try_from(self.ahead_ns.unsigned_abs()).ok()?);
        if self.ahead_ns < 0 { shown.checked_sub(size) } else { shown.checked_add(size) }
    }

    fn agrees(&self, other: &Self) -> bool {
        let tolerated = (self.error + other.error + TOLERANCE).as_nanos();
        (self.ahead_ns - other.ahead_ns).unsigned_abs() <= tolerated
    }
}

/// The servers contradict each other, so that none is believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the time servers contradict each other: only {agreeing} of {all} agree")]
pub struct Disagreement {
    /// How many of them agree at most.
    agreeing: usize,
    /// How many answered.
    all: usize,
}

/// The median of the largest group of samples that agree, if it is most of them. One alone is
/// believed: there is nobody to ask.
pub(super) fn agree(samples: &[Sample]) -> Result<Sample, Disagreement> {
    let group = |middle: &Sample| -> Vec<Sample> {
        samples.iter().filter(|other| middle.agrees(other)).copied().collect()
    };
    let mut best = samples.iter().map(group).max_by_key(Vec::len).unwrap_or_default();
    let disagreement = Disagreement { agreeing: best.len(), all: samples.len() };
    if best.is_empty() || best.len() * 2 <= samples.len() {
        return Err(disagreement);
    }
    best.sort_by_key(|sample| sample.ahead_ns);
    Ok(best[best.len() / 2])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Sample, agree};

    fn sample(milliseconds: i128) -> Sample {
        Sample { ahead_ns: milliseconds * 1_000_000, error: Duration::from_millis(10) }
    }

    #[test]
    fn one_alone_is_believed() {
        assert_eq!(agree(&[sample(5000)]), Ok(sample(5000)));
    }

    #[test]
    fn the_median_of_those_who_agree_counts() {
        let samples = [sample(20), sample(86_400_000), sample(0), sample(10)];
        assert_eq!(agree(&samples), Ok(sample(10)));
    }

    #[test]
    fn two_that_contradict_each_other_are_both_refused() {
        let refused = agree(&[sample(0), sample(9000)]).expect_err("they contradict each other");
        assert_eq!(
            refused.to_string(),
            "the time servers contradict each other: only 1 of 2 agree"
        );
        assert!(agree(&[]).is_err());
    }

    #[test]
    fn a_clock_is_corrected_forwards_and_backwards() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        assert_eq!(sample(500).correct(now), Some(now + Duration::from_millis(500)));
        assert_eq!(sample(-500).correct(now), Some(now - Duration::from_millis(500)));
    }
}
