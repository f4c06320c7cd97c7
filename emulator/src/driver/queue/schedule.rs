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
            let named = format!("PTX_EMULATOR_SCHEDULE is \"{wrong}\"");
            assert!(message.contains(&named), "{message}");
        }
    }
}
