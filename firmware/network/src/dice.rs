//! Chance for protocols: enough that boards which were switched on together do not speak in chorus,
//! and the same every time for the same seed. Nothing secret may depend on it.

use std::time::Duration;

/// A row of numbers (splitmix64) that its seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    /// The row that belongs to `seed`.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub(crate) fn number(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let [a, b, c, d, ..] = (mixed ^ (mixed >> 31)).to_be_bytes();
        u32::from_be_bytes([a, b, c, d])
    }

    /// A time below `longest`.
    pub(crate) fn below(&mut self, longest: Duration) -> Duration {
        longest * (self.number() >> 16) / (1 << 16)
    }

    /// A time within a fifth of `middle`.
    pub(crate) fn around(&mut self, middle: Duration) -> Duration {
        middle * 4 / 5 + self.below(middle * 2 / 5)
    }
}
