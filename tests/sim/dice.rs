//! Numbers from a seed: the same seed gives the same numbers on every machine.
//! Not for anything that must be hard to guess.

/// A generator of numbers (`SplitMix64`, Steele, Lea & Flood 2014).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Goes on as if this number had been drawn.
    pub fn mix(&mut self, number: u64) {
        self.0 = self.next() ^ number;
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From 0 up to and without `sides`.
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.next() % sides.max(1)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        low + i64::try_from(self.roll(u64::try_from(high - low).unwrap_or(0) + 1)).unwrap()
    }

    /// True in `percent` of 100 cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.roll(100) < percent
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }

    /// From 0 up to and without 1.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of `n` events happen, each with probability `p`: the normal approximation, in whole numbers between 0 and `n`.
    pub fn binomial(&mut self, n: f64, p: f64) -> f64 {
        // The sum of twelve uniforms is close enough to a normal, and needs no function that differs between machines.
        let z: f64 = (0..12).map(|_| self.unit()).sum::<f64>() - 6.0;
        (n * p + z * (n * p * (1.0 - p)).sqrt()).round().clamp(0.0, n)
    }
}
