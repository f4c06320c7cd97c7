//! Factors of the cost model, as `warpconv calibrate` finds them: measured time per estimated time.

use std::fmt;

use super::tuning::{Card, Tuning, build};
use crate::error::Error;
use crate::kernels::Algorithm;

/// Ratio of measured to estimated times of a family of kernels on a card.
///
/// [`Plan::tuned`](super::Plan::tuned) multiplies estimates by it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Factor {
    value: f64,
    rows: u32,
}

impl Factor {
    /// Least factor. The model errs by less; what is below was not the same problem.
    #[doc(hidden)]
    pub const MIN: f64 = 0.05;
    /// Largest factor.
    #[doc(hidden)]
    pub const MAX: f64 = 20.0;

    /// A factor that was found from a number of measurements.
    ///
    /// # Errors
    /// [`Error::Factor`], which states the bounds, if the value is not a number within them.
    pub fn new(value: f64, rows: u32) -> Result<Factor, Error> {
        // Not a comparison the other way round: NaN must not pass.
        if (Factor::MIN..=Factor::MAX).contains(&value) {
            Ok(Factor { value, rows })
        } else {
            Err(Error::Factor { value })
        }
    }

    /// The value: above 1 where the kernels took longer than the model estimates.
    pub fn value(&self) -> f64 {
        self.value
    }

    /// Number of measurements whose geometric mean it is.
    #[doc(hidden)]
    pub fn rows(&self) -> u32 {
        self.rows
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.rows == 1 { "" } else { "s" };
        write!(f, "{:.3}, of {} measurement{s}", self.value, self.rows)
    }
}

/// Key of a factor in a tuning file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FactorKey {
    pub card: Card,
    /// Name of the family, or [`OTHERS`].
    pub family: String,
}

/// Name that stands for every family without a factor of its own.
pub(super) const OTHERS: &str = "*";

/// Factor of a file. Its family may be one that this build does not have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct FactorEntry {
    /// [`build`] of the crate that made the estimates.
    pub build: String,
    pub factor: Factor,
}

impl Tuning {
    /// Stores the factors of the card's families in place of earlier ones, and one for all other
    /// families. Without the latter, families that were not measured would be ranked against those
    /// that were by estimates of another scale.
    #[doc(hidden)]
    pub fn calibrate(&mut self, families: &[(Algorithm, Factor)], others: Factor) {
        let card = self.card().clone();
        self.factors.retain(|key, _| key.card != card);
        let measured = families
            .iter()
            .map(|(family, factor)| (family.name(), *factor));
        for (family, factor) in measured.chain([(OTHERS, others)]) {
            let key = FactorKey {
                card: card.clone(),
                family: family.to_owned(),
            };
            let build = build().to_owned();
            self.factors.insert(key, FactorEntry { build, factor });
        }
    }

    /// Factor of a family on this card with this driver and build; `None` if nothing was measured.
    #[doc(hidden)]
    pub fn factor(&self, family: Algorithm) -> Option<Factor> {
        self.factors().of(family)
    }

    /// The factors that count for the card.
    pub(super) fn factors(&self) -> Factors<'_> {
        let own = self.factors.iter();
        Factors(
            own.filter(|(key, entry)| key.card == *self.card() && entry.build == build())
                .map(|(key, entry)| (key.family.as_str(), entry.factor))
                .collect(),
        )
    }
}

/// The factors of one card, by the names of their families.
#[derive(Debug)]
pub(super) struct Factors<'a>(Vec<(&'a str, Factor)>);

impl Factors<'_> {
    /// Factor of a family.
    pub fn of(&self, family: Algorithm) -> Option<Factor> {
        let named = |name: &str| self.0.iter().find(|(family, _)| *family == name);
        let found = named(family.name()).or_else(|| named(OTHERS));
        found.map(|(_, factor)| *factor)
    }
}

#[cfg(test)]
mod tests;
