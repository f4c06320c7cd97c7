//! The report of all records: the table, the families against their targets, JSON and a chart.

pub mod file;
pub mod modules;
pub mod svg;
pub mod text;

use super::record::Row;
use super::targets::{self, FAMILIES, Family};

/// Summary of a family's records.
pub struct Summary<'a> {
    /// The family.
    pub family: &'static Family,
    /// Its records.
    pub rows: Vec<&'a Row>,
    /// The geometric mean of the shares of the roofline; `None` where no record has a time.
    pub share: Option<f64>,
    /// The geometric mean of cuDNN's shares of the roofline.
    pub cudnn_share: Option<f64>,
    /// The geometric mean of cuDNN's time divided by ours.
    pub ratio: Option<f64>,
    /// Records that miss a target, the worst first.
    pub missed: Vec<Miss<'a>>,
}

/// A record that misses a target.
pub struct Miss<'a> {
    /// The record.
    pub row: &'a Row,
    /// True if it misses the roofline's share or the time limit.
    pub floor: bool,
    /// True if it misses the ratio to cuDNN.
    pub cudnn: bool,
}

/// Summaries of all families that have records, in the families' order.
pub fn summaries(rows: &[Row]) -> Vec<Summary<'_>> {
    FAMILIES
        .iter()
        .filter_map(|family| {
            let own: Vec<&Row> = rows
                .iter()
                .filter(|row| std::ptr::eq(targets::named(&row.family), *family))
                .collect();
            (!own.is_empty()).then(|| summary(family, own))
        })
        .collect()
}

fn summary<'a>(family: &'static Family, rows: Vec<&'a Row>) -> Summary<'a> {
    let mut missed: Vec<Miss<'a>> = rows.iter().filter_map(|row| miss(family, row)).collect();
    missed.sort_by(|a, b| {
        let share = |miss: &Miss<'_>| miss.row.share().unwrap_or(0.0);
        share(a).total_cmp(&share(b))
    });
    let cudnn_share = |row: &&Row| row.cudnn.us.map(|us| row.floor_us / us);
    Summary {
        family,
        share: mean(rows.iter().filter_map(|row| row.share())),
        cudnn_share: mean(rows.iter().filter_map(cudnn_share)),
        ratio: mean(rows.iter().filter_map(|row| row.ratio())),
        rows,
        missed,
    }
}

fn miss<'a>(family: &Family, row: &'a Row) -> Option<Miss<'a>> {
    let us = row.us?;
    let floor = family.meets_floor(us, row.floor_us) == Some(false);
    let cudnn = family.meets_cudnn(us, row.cudnn.us) == Some(false);
    (floor || cudnn).then_some(Miss { row, floor, cudnn })
}

/// The geometric mean; `None` for no values.
fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0u32), |(sum, count), value| {
        (sum + value.ln(), count + 1)
    });
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

/// Text for the report: the probable bound of a record that misses a target.
pub fn bounds(row: &Row) -> String {
    const LAUNCH_BOUND_US: f64 = 3.0;
    let us = row.us.unwrap_or(f64::NAN);
    let mut words = match row.bound.as_str() {
        _ if row.floor_us < LAUNCH_BOUND_US / 2.0 && us < 2.0 * LAUNCH_BOUND_US => {
            format!("a launch's own time (the floor is {:.2} us)", row.floor_us)
        }
        bound => format!("{bound} (the floor is {:.1} us)", row.floor_us),
    };
    match row.blocks_per_sm {
        0 => {}
        1 => words.push_str(", a single wave of blocks"),
        blocks_per_sm if blocks_per_sm <= 4 => words.push_str(&format!(
            ", {blocks_per_sm} waves of blocks with their tail"
        )),
        _ => {}
    }
    if row.spread.is_some_and(|spread| spread > 0.05) {
        words.push_str(", and the samples scatter");
    }
    words
}
