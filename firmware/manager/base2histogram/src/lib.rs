//! Stands in for the crate `base2histogram` 0.2.3, by which openraft counts sizes and times.
//!
//! The first use of that crate builds lookup tables for every width it could be asked for: 26 MB,
//! more than all the rest of a board's memory. Cargo's `[patch]` puts this in its place: one bucket
//! for each power of two, 520 bytes. Percentiles are right to within a factor of two. Remove it when
//! upstream builds tables on demand.

#![forbid(unsafe_code)]

use std::{fmt, marker::PhantomData};

/// One bucket for 0 and one for each bit that may be a number's highest.
const BUCKETS: usize = 65;

/// How often numbers of each size were recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    buckets: [u64; BUCKETS],
    slot: PhantomData<T>,
}

/// Below which number what share of the numbers lies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "each name is the percentile that it holds")]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

/// Several histograms, a line each.
#[derive(Debug, Clone, Default)]
pub struct AsciiChart(Vec<(String, PercentileStats)>);

impl<T> Histogram<T> {
    /// An empty one.
    pub const fn new() -> Self {
        Self { buckets: [0; BUCKETS], slot: PhantomData }
    }

    /// Counts a number.
    pub fn record(&mut self, value: u64) {
        self.record_n(value, 1);
    }

    /// Counts a number that came several times.
    pub fn record_n(&mut self, value: u64, times: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.buckets[bucket] = self.buckets[bucket].saturating_add(times);
    }

    /// The usual percentiles.
    pub fn percentile_stats(&self) -> PercentileStats {
        PercentileStats {
            samples: self.samples(),
            p0_1: self.percentile(1),
            p1: self.percentile(10),
            p5: self.percentile(50),
            p10: self.percentile(100),
            p50: self.percentile(500),
            p90: self.percentile(900),
            p99: self.percentile(990),
            p99_9: self.percentile(999),
        }
    }

    fn samples(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, count| sum.saturating_add(*count))
    }

    /// The lowest number of the bucket that `permille` of all numbers lie below or in.
    fn percentile(&self, permille: u64) -> u64 {
        let wanted = u128::from(self.samples()) * u128::from(permille);
        let mut seen = 0_u128;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += u128::from(*count) * 1_000;
            if *count > 0 && seen >= wanted {
                return if bucket == 0 { 0 } else { 1 << (bucket - 1) };
            }
        }
        0
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { samples, p1, p50, p99, p99_9, .. } = self;
        write!(formatter, "[samples: {samples}, P1: {p1}, P50: {p50}, P99: {p99}, P99.9: {p99_9}]")
    }
}

impl AsciiChart {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more line.
    #[must_use]
    pub fn add<T>(mut self, name: &str, histogram: Histogram<T>) -> Self {
        self.0.push((name.to_owned(), histogram.percentile_stats()));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, stats)| writeln!(formatter, "{name:>24} {stats}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_within_a_factor_of_two() {
        let mut histogram = Histogram::<()>::new();
        (0..=1_000).for_each(|value| histogram.record(value));
        histogram.record(u64::MAX);
        let stats = histogram.percentile_stats();
        assert_eq!(stats.samples, 1_002);
        assert!((250..=500).contains(&stats.p50), "{stats}");
        assert!((495..=990).contains(&stats.p99), "{stats}");
    }

    #[test]
    fn an_empty_histogram_says_nothing() {
        assert_eq!(Histogram::<()>::new().percentile_stats(), PercentileStats::default());
    }
}
