//! Setting of the schedule: when and in which order ready tasks start.

/// Values of `PTX_EMULATOR_SCHEDULE`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// Ready tasks start at once, in the background.
    #[default]
    Eager,
    /// A task runs only when a host thread waits for it, or for a later task.
    Lazy,
    /// One task at a time, chosen by a random number generator with this seed.
    Random(u64),
}

impl Schedule {
    /// Parses `eager`, `lazy` or `random:SEED`.
    pub fn parse(text: &str) -> Result<Schedule, String> {
        let wrong = || {
            format!(
                "PTX_EMULATOR_SCHEDULE is \"{text}\"; it may be eager, lazy or random:SEED with a \
                number as seed"
            )
        };
        match text.trim() {
            "eager" => Ok(Schedule::Eager),
            "lazy" => Ok(Schedule::Lazy),
            other => {
                let seed = other.strip_prefix("random:").ok_or_else(wrong)?;
                seed.parse().map(Schedule::Random).map_err(|_| wrong())
            }
        }
    }
}

/// A random number generator: splitmix64 (Steele, Lea and Flood, 2014).
pub struct Random(pub u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True with a probability of one half.
    pub fn coin(&mut self) -> bool {
        self.next() >> 63 != 0
    }

    /// A random element; `None` if there are none.
    pub fn choose<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        let index = (self.next() % from.len().max(1) as u64) as usize;
        from.get(index).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_are_read() {
        assert_eq!(Schedule::parse("eager"), Ok(Schedule::Eager));
        assert_eq!(Schedule::parse(" lazy "), Ok(Schedule::Lazy));
        assert_eq!(Schedule::parse("random:7"), Ok(Schedule::Random(7)));
        for wrong in ["", "Lazy", "random", "random:", "random:x", "random:-1"] {
            let message = Schedule::parse(wrong).expect_err(wrong);
            assert!(message.contains("PTX_EMULATOR_SCHEDULE") && message.contains(wrong));
        }
    }

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
