//! `calibrate`: compares the cost model with measured rows, family by family, and stores the ratios
//! for plans.

mod compare;
mod families;
mod read;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use warpconv::plan::{Card, Factor, Tuning};

use crate::args::{CalibrateArgs, Global};
use crate::exit::Failure;
use crate::output::{Align, JsonFile, number, say, several, table};
use crate::tuning;
use compare::{Compared, LeftOut, short};
use families::{Calibration, Family};

/// Number of rows beyond a factor's bounds that are named.
const NAMED: usize = 3;

/// Runs the command.
pub fn command(global: &Global, args: &CalibrateArgs) -> Result<(), Failure> {
    let path = match args.dry_run {
        true => None,
        false => Some(output(global, args)?),
    };
    let mut left_out = LeftOut::default();
    let mut compared = Vec::new();
    for file in &args.files {
        let text = read::rows(file)?;
        compared.extend(compare::rows(&text, args, &mut left_out));
    }
    let json = JsonFile::create(global.json.as_deref())?;
    let cards = families::by_card(compared);
    for (card, rows) in &cards {
        report(card, &Calibration::of(rows))?;
    }
    for (reason, rows) in left_out.reasons() {
        say(format_args!("left out: {}: {reason}", several(rows, "row")))?;
    }
    if let Some(file) = json {
        let cards: Vec<Value> = cards
            .iter()
            .map(|(card, rows)| card_json(card, rows))
            .collect();
        file.write(&json!({"cards": cards, "left_out": left_out.to_json()}))?;
    }
    if cards.is_empty() {
        return Err(nothing(&args.files, &left_out));
    }
    check(cards.values().flatten())?;
    for (card, rows) in &cards {
        let Some(path) = &path else { continue };
        store(card, &Calibration::of(rows), path)?;
    }
    match path {
        Some(path) => say(format_args!("factors: {}", path.display())),
        None => say("factors: not stored (--dry-run)"),
    }
}

/// The error of files without a row that counts.
fn nothing(files: &[PathBuf], left_out: &LeftOut) -> Failure {
    let files: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    let reasons = match left_out.reasons().next() {
        Some(_) => "; the reasons stand above",
        None => "",
    };
    Failure::Input(format!(
        "{}: no row to calibrate with: run `run-all` or the benchmarks on a GPU{reasons}",
        files.join(", ")
    ))
}

/// Path of the tuning file to write.
fn output(global: &Global, args: &CalibrateArgs) -> Result<PathBuf, Failure> {
    let path = args.output.clone().or_else(|| tuning::path(global));
    path.ok_or_else(|| {
        Failure::Input(
            "there is no place for factors: name a file with --output, or give --dry-run"
                .to_owned(),
        )
    })
}

/// Prints a card's table.
fn report(card: &Card, calibration: &Calibration) -> Result<(), Failure> {
    say(format_args!(
        "\ncard: {}, driver {}",
        card.name, card.driver
    ))?;
    let rows = calibration.families.iter().map(|family| {
        vec![
            family.algorithm.name().to_owned(),
            family.rows.to_string(),
            format!("{:.2}", family.predicted_us),
            format!("{:.2}", family.measured_us),
            format!("{:.3}", family.ratio),
            format!("{:.2} - {:.2}", family.least, family.most),
            family.bounds(),
        ]
    });
    say(table(
        &[
            ("family", Align::Left),
            ("rows", Align::Right),
            ("predicted us", Align::Right),
            ("measured us", Align::Right),
            ("ratio", Align::Right),
            ("spread", Align::Right),
            ("bound of the model", Align::Left),
        ],
        rows.collect(),
    ))?;
    say(format_args!(
        "other families: {:.3}, the geometric mean of these",
        calibration.others
    ))
}

/// Returns an error that names rows whose ratio is beyond the bounds of a factor.
fn check<'a>(rows: impl Iterator<Item = &'a Compared>) -> Result<(), Failure> {
    let beyond: Vec<&Compared> = rows
        .filter(|row| Factor::new(row.ratio(), 1).is_err())
        .collect();
    if beyond.is_empty() {
        return Ok(());
    }
    let named: Vec<String> = beyond
        .iter()
        .take(NAMED)
        .map(|row| {
            format!(
                "{} ({} us measured, {:.3} predicted, a ratio of {:.3})",
                short(&row.id),
                row.measured_us,
                row.predicted_us,
                row.ratio()
            )
        })
        .collect();
    let others = match beyond.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Err(Failure::Input(format!(
        "nothing is stored, since a ratio must lie between {} and {}: {}{others}; measure again, \
         or leave rows out by --exclude TEXT",
        Factor::MIN,
        Factor::MAX,
        named.join(", ")
    )))
}

/// Stores a card's factors; a damaged file is replaced, with a warning.
fn store(card: &Card, calibration: &Calibration, path: &Path) -> Result<(), Failure> {
    if let Err(error) = Tuning::read(path, card.clone()) {
        tuning::warn(format_args!("{error}"));
    }
    let mut tuning = Tuning::new(card.clone());
    let factors = calibration.factors().map_err(Failure::input)?;
    tuning.calibrate(&factors.families, factors.others);
    tuning
        .save(path)
        .map_err(|error| Failure::Input(format!("the factors cannot be kept: {error}")))
}

/// A card in JSON.
fn card_json(card: &Card, rows: &[Compared]) -> Value {
    let calibration = Calibration::of(rows);
    json!({
        "card": card.name,
        "driver": card.driver,
        "build": Tuning::build(),
        "families": calibration.families.iter().map(Family::to_json).collect::<Vec<_>>(),
        "others": number(Some(calibration.others)),
        "rows": rows.iter().map(Compared::to_json).collect::<Vec<_>>(),
    })
}
