//! Ratios of measured to predicted times, family by family.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use warpconv::Error;
use warpconv::kernels::Algorithm;
use warpconv::plan::{Bound, Card, Factor};

use super::compare::Compared;
use crate::output::number;

/// Groups rows by the card that measured them; of several with one id, the last counts.
pub fn by_card(rows: Vec<Compared>) -> BTreeMap<Card, Vec<Compared>> {
    let mut named: BTreeMap<(Card, String), Compared> = BTreeMap::new();
    for row in rows {
        named.insert((row.card.clone(), row.id.clone()), row);
    }
    let mut cards: BTreeMap<Card, Vec<Compared>> = BTreeMap::new();
    for ((card, _), row) in named {
        cards.entry(card).or_default().push(row);
    }
    cards
}

/// Comparison of a family's rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    /// The family.
    pub algorithm: Algorithm,
    /// Number of rows.
    pub rows: u32,
    /// Sum of the model's times, in microseconds.
    pub predicted_us: f64,
    /// Sum of the measured times, in microseconds.
    pub measured_us: f64,
    /// Geometric mean of the rows' ratios.
    pub ratio: f64,
    /// Least ratio of a row.
    pub least: f64,
    /// Largest ratio of a row.
    pub most: f64,
    /// Rows that the model calls bound by arithmetic; the others are bound by memory.
    pub arithmetic: u32,
}

/// Comparison of a card's rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    /// The families, by name.
    pub families: Vec<Family>,
    /// Geometric mean of the families' ratios, for families without rows. Each family counts once:
    /// the number of rows depends on what was measured.
    pub others: f64,
}

/// The factors of a card, within their bounds.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    /// Factor of each family.
    pub families: Vec<(Algorithm, Factor)>,
    /// Factor of all other families.
    pub others: Factor,
}

impl Calibration {
    /// Compares the rows of a card.
    pub fn of(rows: &[Compared]) -> Calibration {
        let mut families: BTreeMap<&str, Vec<&Compared>> = BTreeMap::new();
        for row in rows {
            families.entry(row.family().name()).or_default().push(row);
        }
        let families: Vec<Family> = families.values().filter_map(|rows| family(rows)).collect();
        let others = geometric_mean(families.iter().map(|family| family.ratio));
        Calibration { families, others }
    }

    /// The factors that plans use.
    ///
    /// # Errors
    /// [`Error::Factor`] if one is beyond its bounds.
    pub fn factors(&self) -> Result<Factors, Error> {
        let families = self
            .families
            .iter()
            .map(|family| Ok((family.algorithm, Factor::new(family.ratio, family.rows)?)));
        let rows = self.families.iter().map(|family| family.rows).sum();
        Ok(Factors {
            families: families.collect::<Result<_, Error>>()?,
            others: Factor::new(self.others, rows)?,
        })
    }
}

/// Compares the rows of a family; `None` without rows.
fn family(rows: &[&Compared]) -> Option<Family> {
    let ratios = || rows.iter().map(|row| row.ratio());
    let arithmetic = rows.iter().filter(|row| row.bound == Bound::Compute);
    Some(Family {
        algorithm: rows.first()?.family(),
        rows: rows.len() as u32,
        predicted_us: rows.iter().map(|row| row.predicted_us).sum(),
        measured_us: rows.iter().map(|row| row.measured_us).sum(),
        ratio: geometric_mean(ratios()),
        least: ratios().fold(f64::INFINITY, f64::min),
        most: ratios().fold(0.0, f64::max),
        arithmetic: arithmetic.count() as u32,
    })
}

fn geometric_mean(ratios: impl Iterator<Item = f64>) -> f64 {
    let (sum, count) = ratios.fold((0.0, 0.0), |(sum, count), ratio| {
        (sum + ratio.ln(), count + 1.0)
    });
    (sum / count).exp()
}

impl Family {
    /// What the model calls the bound of the rows: `memory`, or `arithmetic 2, memory 1`.
    pub fn bounds(&self) -> String {
        match (self.arithmetic, self.rows - self.arithmetic) {
            (_, 0) => Bound::Compute.to_string(),
            (0, _) => Bound::Memory.to_string(),
            (arithmetic, memory) => {
                format!(
                    "{} {arithmetic}, {} {memory}",
                    Bound::Compute,
                    Bound::Memory
                )
            }
        }
    }

    /// Converts the comparison to JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "family": self.algorithm.name(),
            "rows": self.rows,
            "predicted_us": number(Some(self.predicted_us)),
            "measured_us": number(Some(self.measured_us)),
            "ratio": number(Some(self.ratio)),
            "least": number(Some(self.least)),
            "most": number(Some(self.most)),
            "arithmetic": self.arithmetic,
            "memory": self.rows - self.arithmetic,
        })
    }
}
