//! Pseudo-random numbers, the same ones for the same seed: schedules and tests draw them.

/// A generator: SplitMix64 (Steele, Lea and Flood, 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns true with a probability of one half.
    pub(crate) fn coin(&mut self) -> bool {
        self.next() >> 63 != 0
    }

    /// A random element; `None` if there are none.
    pub(crate) fn choose<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = (self.next() % from.len().max(1) as u64) as usize;
        from.get(index).copied()
    }
}

#[cfg(test)]
impl Random {
    /// A number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A random element of a list that has one.
    pub(crate) fn of<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// Returns true in `percent` of a hundred calls.
    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_one_sequence() {
        let draw = |seed| {
            let mut random = Random(seed);
            (0..64)
                .map(|_| random.choose(&[0, 1, 2]))
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
        assert_eq!(Random(1).choose::<u8>(&[]), None);
    }
}
