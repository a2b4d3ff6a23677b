//! Seeded pseudo-random numbers, so that a run can be repeated.

/// Stream of numbers from a seed (`SplitMix64`, Steele et al. 2014).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number in [0, 1).
    pub fn share(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// An index below `len`, which must not be 0; the bias is below 2^-32 for any list that fits in memory.
    pub fn index(&mut self, len: usize) -> usize {
        let scaled = (u128::from(self.bits()) * len as u128) >> 64;
        usize::try_from(scaled).unwrap_or_default()
    }
}

/// Scrambles a number; equal inputs give equal outputs.
pub fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_seeds_give_equal_numbers_and_indexes_cover_their_range() {
        let mut a = Chance::new(5);
        let mut b = Chance::new(5);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            let i = a.index(7);
            assert_eq!(i, b.index(7));
            seen[i] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
    }
}
