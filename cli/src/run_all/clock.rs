//! The minutes of a run, and how they are divided.

use std::time::{Duration, Instant};

use super::interrupt;

/// Reason why nothing more is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// The minutes are used up.
    Time,
    /// A signal arrived.
    Signal(i32),
}

impl Over {
    /// The reason in a row that was not run.
    pub fn reason(self) -> String {
        match self {
            Over::Time => "the minutes are used up".to_owned(),
            Over::Signal(signal) => format!("stopped by {}", interrupt::name(signal)),
        }
    }
}

/// The time that a run may take.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
    /// Length of the run, without the reserve.
    usable: Duration,
}

/// Share of a run that is kept for writing the results, within [`RESERVES`].
const RESERVE: f64 = 0.05;

/// Bounds of the reserve.
const RESERVES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(5)];

impl Clock {
    /// A clock that starts now.
    pub fn start(minutes: f64) -> Clock {
        let all = Duration::try_from_secs_f64(minutes * 60.0).unwrap_or(Duration::MAX);
        let reserve = all.mul_f64(RESERVE).clamp(RESERVES[0], RESERVES[1]);
        Clock {
            start: Instant::now(),
            usable: all.saturating_sub(reserve),
        }
    }

    /// The same clock, of which only a share of the time may be used.
    pub fn share(&self, share: f64) -> Clock {
        Clock {
            usable: self.usable.mul_f64(share),
            ..*self
        }
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Time that is left.
    pub fn left(&self) -> Duration {
        self.usable.saturating_sub(self.elapsed())
    }

    /// The reason why nothing more may be started, if there is one.
    pub fn over(&self) -> Option<Over> {
        match interrupt::arrived() {
            Some(signal) => Some(Over::Signal(signal)),
            None => self.left().is_zero().then_some(Over::Time),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_kept_and_a_share_ends_earlier() {
        let clock = Clock::start(5.0);
        let left = clock.left();
        assert!(left <= Duration::from_secs(295) && left > Duration::from_secs(290));
        assert!(clock.share(0.5).left() < Duration::from_secs(148));
        assert_eq!(clock.over(), None);
        // Twelve seconds keep one.
        let short = Clock::start(0.2);
        assert!(short.left() <= Duration::from_secs(11) && short.left() > Duration::from_secs(10));
        assert_eq!(Clock::start(0.0).over(), Some(Over::Time));
    }
}
