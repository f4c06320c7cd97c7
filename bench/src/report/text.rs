//! The report as text.

use super::file::Contents;
use super::{Summary, bounds, summaries};
use crate::ceilings;
use crate::record::{Row, Run};

/// Prints the conditions of a run to stderr: stdout is criterion's.
pub fn heading(run: &Run, most_mhz: Option<u32>) {
    eprintln!("{}", describe(run));
    if let Some(mhz) = most_mhz {
        eprintln!("highest SM clock: {mhz} MHz; each record has the clock that it ran at");
    }
}

/// Line after criterion's results: the kernel, and the baselines of the time.
pub fn detail(row: &Row) -> String {
    let mut words = format!("{}: {}", row.id, row.kernel);
    if !row.instead_of.is_empty() {
        words.push_str(&format!(
            " instead of {}, which is excluded",
            row.instead_of
        ));
    }
    if let (Some(share), Some(us)) = (row.share(), row.us) {
        words.push_str(&format!(
            "; median {us:.2} us, {:.1}% of the roofline ({})",
            share * 100.0,
            row.bound
        ));
        if let Some(mhz) = row.sm_mhz {
            words.push_str(&format!(" at {mhz} MHz"));
        }
    }
    if let Some(ratio) = row.ratio() {
        words.push_str(&format!("; {ratio:.2} x cuDNN: {}", cudnn(row)));
    }
    words
}

/// Conditions of a run, as lines.
pub fn describe(run: &Run) -> String {
    let Run {
        bench,
        device,
        driver,
        commit,
        date,
        cudnn,
        peak_rates,
        cache,
        ..
    } = run;
    if run.emulated {
        return format!(
            "{bench}: {device} on {date} UTC, commit {commit}: instructions are counted, nothing \
             is timed\n\
             cuDNN: {cudnn}"
        );
    }
    format!(
        "{bench}: {device}, driver {}.{}, {date} UTC, commit {commit}\n\
         times: medians of device time a launch, {cache}; roofline: {peak_rates}\n\
         cuDNN: {cudnn}",
        driver / 1000,
        driver % 1000 / 10
    )
}

/// The heading of the table.
pub fn columns(emulated: bool) -> String {
    if emulated {
        return format!(
            "{:<52} {:>16} {:>12} {:<24} kernel",
            "row", "instructions", "a multiply", "family"
        );
    }
    format!(
        "{:<52} {:>9} {:>9} {:>6} {:>9} {:>6} {:>5} {:<24} kernel | cuDNN's plan",
        "row", "us", "floor us", "roof%", "cuDNN us", "ratio", "MHz", "family"
    )
}

/// Prints a row of the table.
pub fn row(row: &Row, emulated: bool) {
    println!("{}", line(row, emulated));
}

/// Formats a row of the table.
pub fn line(row: &Row, emulated: bool) -> String {
    if emulated {
        let count = row.instructions;
        let each = count.map(|count| count as f64 / row.macs.max(1) as f64);
        return format!(
            "{:<52} {:>16} {:>12} {:<24} {}",
            row.id,
            count.map_or_else(dash, |count| count.to_string()),
            number(each, 3),
            row.family,
            row.kernel
        );
    }
    let percent = row.share().map(|share| share * 100.0);
    let clock = row.sm_mhz.map_or_else(dash, |mhz| mhz.to_string());
    format!(
        "{:<52} {:>9} {:>9} {:>6} {:>9} {:>6} {:>5} {:<24} {} | {}",
        row.id,
        number(row.us, 2),
        number(Some(row.floor_us), 2),
        number(percent, 1),
        number(row.cudnn.us, 2),
        number(row.ratio(), 2),
        clock,
        row.family,
        row.kernel,
        cudnn(row)
    )
}

/// Text of cuDNN's part of a record.
fn cudnn(row: &Row) -> String {
    let part = &row.cudnn;
    if part.us.is_none() {
        return part.note.clone();
    }
    let mut words = part.plan.clone();
    if !part.fused {
        words.push_str(", bias and ReLU as kernels");
    }
    if let Some(us) = part.direct_us {
        words.push_str(&format!("; without transforms {us:.2} us"));
    }
    for (name, us) in &part.parts {
        words.push_str(&format!("; {name} {us:.2}"));
    }
    words.push_str(&format!("; {} plans timed", part.timed));
    if !part.note.is_empty() {
        words.push_str(&format!("; {}", part.note));
    }
    words
}

/// Lines of the card's ceilings, and of the rows that were not measured.
pub fn notes(contents: &Contents) -> Vec<String> {
    let ceilings = contents.ceilings.iter().map(ceilings::line);
    let skipped = contents.skipped.iter();
    let skipped = skipped.map(|row| format!("{}: skipped: {}", row.id, row.why));
    ceilings.chain(skipped).collect()
}

/// Prints the families against their targets, and the records that miss them.
pub fn families(rows: &[Row], emulated: bool) {
    for line in family_lines(rows, emulated) {
        println!("{line}");
    }
}

/// Lines of the families against their targets, and of the records that miss them.
pub fn family_lines(rows: &[Row], emulated: bool) -> Vec<String> {
    let summaries = summaries(rows);
    if emulated || summaries.is_empty() {
        return Vec::new();
    }
    let mut lines = vec![
        String::new(),
        format!(
            "{:<26} {:>5} {:>7} {:>8} {:>7} {:>7} {:<34} verdict",
            "family (geometric means)",
            "rows",
            "roof%",
            "cuDNN's%",
            "ratio",
            "missed",
            "targets on an H200"
        ),
    ];
    lines.extend(summaries.iter().map(family_line));
    for summary in &summaries {
        for miss in &summary.missed {
            let what = match (miss.floor, miss.cudnn) {
                (true, true) => "roofline and cuDNN",
                (true, false) => "roofline",
                _ => "cuDNN",
            };
            lines.push(format!(
                "misses {what}: {} ({}): {}% of the roofline, {} x cuDNN; bound by {}",
                miss.row.id,
                summary.family.name,
                number(miss.row.share().map(|share| share * 100.0), 1),
                number(miss.row.ratio(), 2),
                bounds(miss.row)
            ));
        }
    }
    lines
}

fn family_line(summary: &Summary<'_>) -> String {
    let percent = |share: Option<f64>| number(share.map(|share| share * 100.0), 1);
    let targets = summary.family.targets();
    let timed = summary.rows.iter().any(|row| row.us.is_some());
    let verdict = match () {
        () if targets.is_empty() => "no target",
        () if !timed => "not timed",
        () if !summary.missed.is_empty() => "MISSED",
        () if summary.family.ratio.is_some() && summary.ratio.is_none() => "met, without cuDNN",
        () => "met",
    };
    format!(
        "{:<26} {:>5} {:>7} {:>8} {:>7} {:>7} {:<34} {verdict}",
        summary.family.name,
        summary.rows.len(),
        percent(summary.share),
        percent(summary.cudnn_share),
        number(summary.ratio, 2),
        summary.missed.len(),
        targets
    )
}

/// Formats a number, or a dash for none.
fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(dash, |value| format!("{value:.digits$}"))
}

fn dash() -> String {
    String::from("-")
}
