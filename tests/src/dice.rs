//! Draws that depend on a seed and a place alone, so that a run can be had
//! again from its seed.

/// A stream of draws.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// `path` tells the places of one run apart.
    #[must_use]
    pub fn new(seed: u64, path: &[u64]) -> Self {
        Self(path.iter().fold(seed, |state, step| mix(state ^ mix(*step))))
    }

    /// A number below `bound`, which is not 0.
    pub fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a usize fits 64 bits");
        usize::try_from(self.next() % bound).expect("it is below a usize")
    }

    /// A number from `low` to `high`, both included.
    pub fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred cases.
    pub fn percent(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    /// A number that fits every JSON reader's integers.
    pub fn seed(&mut self) -> u32 {
        u32::try_from(self.next() >> 33).expect("31 bits fit 32")
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }
}

/// The finaliser of splitmix64: every bit in reaches every bit out.
fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_has_its_own_draws_and_has_them_again() {
        let draw = |seed, path: &[u64]| Dice::new(seed, path).seed();
        assert_eq!(draw(1, &[2, 3]), draw(1, &[2, 3]));
        for other in [draw(2, &[2, 3]), draw(1, &[3, 2]), draw(1, &[2]), draw(1, &[2, 4])] {
            assert_ne!(draw(1, &[2, 3]), other);
        }
    }

    #[test]
    fn both_ends_are_drawn_and_nothing_beyond() {
        let mut dice = Dice::new(7, &[]);
        let drawn: std::collections::BTreeSet<_> = (0..200).map(|_| dice.within(3, 6)).collect();
        assert_eq!(drawn, (3..=6).collect());
    }
}
