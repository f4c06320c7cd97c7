//! `summary.txt`: tables of everything, and at the end the essence in at most 60 lines.

use std::fmt::Write as _;

use serde_json::Value;

use super::record::{Outcome, Record, one_line};
use super::rows::{RowState, lines};
use super::state::State;
use super::{Context, commit};
use crate::output::{Align, grouped, table};

/// Lines of the essence at most.
const ESSENCE: usize = 60;

/// Lines of the list of failures, of canaries and of kernels, at most.
const FAILED: usize = 8;

/// Lines of each other list at most; the rows take what is left of [`ESSENCE`].
const LISTED: usize = 4;

/// The whole summary.
pub fn summary(context: &Context, state: &State) -> String {
    let mut text = String::from("# Environment\n\n");
    text.push_str(&state.environment);
    text.push_str("\n# Canaries\n\n");
    text.push_str(&records("canary", &state.canaries));
    text.push_str("\n# Kernels\n\n");
    text.push_str(&records("", &state.matrix));
    text.push_str("\n# Rows\n\n");
    for row in &state.rows {
        put(
            &mut text,
            &format!("{} {}: {}", row.row, row.outcome.name(), row.message),
        );
    }
    text.push_str("\n# Essence\n\n");
    text.push_str(&essence(context, state));
    text
}

/// A table of records. With a `title`, the names stand beside the kernels.
fn records(title: &str, records: &[Record]) -> String {
    let mut headings = vec![
        (title, Align::Left),
        ("kernel", Align::Left),
        ("result", Align::Left),
        ("checks passed", Align::Right),
        ("seconds", Align::Right),
        ("registers", Align::Right),
        ("local bytes", Align::Right),
        ("loaded", Align::Left),
    ];
    let number = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
    let first = usize::from(title.is_empty());
    headings.drain(..first);
    let row = |record: &Record| {
        let mut row = vec![
            record.name.clone(),
            record.kernel.clone(),
            one_line(&record.words()),
            record.passed.to_string(),
            format!("{:.1}", record.seconds),
            number(record.registers),
            number(record.local_bytes),
            record.loaded.clone(),
        ];
        row.drain(..first);
        row
    };
    format!("{}\n", table(&headings, records.iter().map(row).collect()))
}

/// The essence: at most [`ESSENCE`] lines.
pub fn essence(context: &Context, state: &State) -> String {
    let mut text = String::new();
    let device = &state.run["device"];
    put(
        &mut text,
        &format!(
            "warpconv {}, commit {}: {} ({}), {:.0} s, {} at a time",
            env!("CARGO_PKG_VERSION"),
            commit(),
            device["name"].as_str().unwrap_or("no device"),
            context.device,
            context.clock.elapsed().as_secs_f64(),
            context.jobs,
        ),
    );
    put(
        &mut text,
        &format!(
            "canaries: {}",
            counts(state.canaries.iter().map(|r| r.outcome))
        ),
    );
    failed(&mut text, &state.canaries);
    put(
        &mut text,
        &format!(
            "kernels: {}",
            counts(state.matrix.iter().map(|r| r.outcome))
        ),
    );
    failed(&mut text, &state.matrix);
    left_out(&mut text, &state.matrix);
    ceilings(&mut text, context, state);
    let tools = state
        .tools
        .iter()
        .map(|tool| format!("{}: {} {}", tool.title, tool.outcome.name(), tool.message));
    listed(&mut text, tools, LISTED);
    listed(&mut text, state.notes.iter().cloned(), LISTED);
    rows(&mut text, context, state);
    debug_assert!(text.lines().count() <= ESSENCE, "{text}");
    text
}

/// Adds a line, cut to what a terminal shows in two.
fn put(text: &mut String, line: &str) {
    // A String takes everything.
    let indent = &line[..line.len() - line.trim_start().len()];
    let _ = writeln!(text, "{indent}{}", one_line(line));
}

/// Numbers of outcomes: `14 OK, 1 HANG`.
fn counts(outcomes: impl Iterator<Item = Outcome>) -> String {
    let outcomes: Vec<Outcome> = outcomes.collect();
    let count = |one: Outcome| outcomes.iter().filter(|&&other| other == one).count();
    let counts = Outcome::ALL.map(|one| (one, count(one)));
    let counts = counts.iter().filter(|(_, count)| *count > 0);
    let texts: Vec<String> = counts
        .map(|(one, count)| format!("{count} {}", one.name()))
        .collect();
    match texts.is_empty() {
        true => "none".to_owned(),
        false => texts.join(", "),
    }
}

/// Lists the records that failed, and those that passed with a remark.
fn failed(text: &mut String, records: &[Record]) {
    let remark = |record: &Record| record.outcome == Outcome::Ok && !record.message.is_empty();
    let failed = records
        .iter()
        .filter(|r| r.outcome.is_failure() || remark(r));
    let line = |record: &Record| match record.name == record.kernel {
        true => format!("{}: {}", record.kernel, record.words()),
        false => format!("{} ({}): {}", record.name, record.kernel, record.words()),
    };
    listed(text, failed.map(line), FAILED);
}

/// Lists the reasons why kernels were not run.
fn left_out(text: &mut String, records: &[Record]) {
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for record in records
        .iter()
        .filter(|record| record.outcome == Outcome::NotRun)
    {
        match reasons.iter_mut().find(|(why, _)| *why == record.message) {
            Some((_, count)) => *count += 1,
            None => reasons.push((&record.message, 1)),
        }
    }
    let lines = reasons
        .iter()
        .map(|(why, count)| format!("not run, {count} kernels: {why}"));
    listed(text, lines, LISTED);
}

fn ceilings(text: &mut String, context: &Context, state: &State) {
    let records = lines(&context.file("ceilings.jsonl"), 0);
    let records = records.iter().filter(|line| line["kind"] == "ceiling");
    let line = |line: &Value| {
        let word = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let value = line["value"].as_f64();
        let value = value.map_or("none".to_owned(), |value| format!("{value:.4e}"));
        format!(
            "ceiling {}: {value} {} {}",
            word("name"),
            word("unit"),
            word("note")
        )
    };
    let missing = state
        .missing
        .iter()
        .map(|why| format!("ceiling not measured, {why}"));
    let all: Vec<String> = records.map(line).chain(missing).collect();
    listed(text, all.into_iter(), LISTED);
}

fn rows(text: &mut String, context: &Context, state: &State) {
    let outcomes = state.rows.iter().map(|row| row.outcome);
    put(text, &format!("rows: {}", counts(outcomes)));
    let records = lines(&context.file("rows.jsonl"), 0);
    let measured = records
        .iter()
        .filter(|line| line["kind"] == "row")
        .map(measured);
    let other = |row: &&RowState| row.outcome != Outcome::Ok;
    let others = state.rows.iter().filter(other);
    let others = others.map(RowState::words);
    let all: Vec<String> = measured.chain(others).collect();
    let left = ESSENCE.saturating_sub(text.lines().count());
    listed(text, all.into_iter(), left);
}

/// A measured row in a line.
fn measured(row: &Value) -> String {
    let number = |value: &Value, digits: usize| value.as_f64().map(|v| format!("{v:.digits$}"));
    let mut text = row["id"].as_str().unwrap_or_default().to_owned();
    let kernel = row["kernel"].as_str().unwrap_or_default();
    match (number(&row["us"], 2), row["instructions"].as_u64()) {
        (Some(us), _) => {
            let floor = row["floor_us"].as_f64().zip(row["us"].as_f64());
            let share = floor.map_or(String::new(), |(floor, us)| {
                format!(", {:.0} % of the roofline", 100.0 * floor / us)
            });
            text.push_str(&format!(": {us} us{share}"));
        }
        (None, Some(count)) => text.push_str(&format!(": {} instructions", grouped(count))),
        (None, None) => text.push_str(": no time"),
    }
    if let Some(us) = number(&row["cudnn"]["us"], 2) {
        text.push_str(&format!(", cuDNN {us} us"));
    }
    format!("{text}, {kernel}")
}

/// Adds lines with an indent, of which at most `most`, the last naming how many more there are.
fn listed(text: &mut String, lines: impl Iterator<Item = String>, most: usize) {
    let lines: Vec<String> = lines.collect();
    let shown = if lines.len() <= most {
        most
    } else {
        most.saturating_sub(1)
    };
    for line in lines.iter().take(shown) {
        put(text, &format!("  {line}"));
    }
    if lines.len() > most {
        put(
            text,
            &format!("  and {} more, see the tables above", lines.len() - shown),
        );
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use serde_json::json;
    use warpconv::device::DeviceChoice;

    use super::*;
    use crate::run_all::clock::Clock;

    fn context(folder: PathBuf) -> Context {
        Context {
            program: PathBuf::new(),
            programs: PathBuf::new(),
            scratch: folder.clone(),
            folder,
            device: DeviceChoice::Emulator { sm: 90 },
            emulated: true,
            clock: Clock::start(1.0),
            limit: Duration::from_secs(1),
            jobs: 1,
            env: Vec::new(),
            only: Vec::new(),
            exclude: Vec::new(),
            no_cudnn: false,
        }
    }

    fn failed(index: usize) -> Record {
        let name = format!("kernel{index}");
        let mut record = Record::not_run(&name, &name, "family", "");
        record.outcome = Outcome::Hang;
        record.message = "killed\nafter 20 s".to_owned();
        record
    }

    #[test]
    fn the_essence_has_sixty_lines_at_most_and_says_what_it_leaves_out() {
        let folder = std::env::temp_dir().join(format!("warpconv-essence-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let context = context(folder.clone());
        let row = json!({"kind": "row", "id": "a/b", "kernel": "k", "us": 2.0, "floor_us": 1.0,
            "cudnn": {"us": 3.5}});
        let text = format!("{row}\n").repeat(70);
        std::fs::write(context.file("rows.jsonl"), text).unwrap();
        let lines: Vec<String> = (0..100).map(|index| format!("reason {index}")).collect();
        let mut state = State::default();
        state.canaries = (0..100).map(failed).collect();
        state.matrix = (0..100).map(failed).collect();
        state.missing = lines.clone();
        state.notes = lines.clone();
        let not_run = lines
            .iter()
            .map(|why| Record::not_run("one", "one", "family", why));
        state.matrix.extend(not_run);
        let essence = essence(&context, &state);
        assert_eq!(essence.lines().count(), ESSENCE, "{essence}");
        assert!(
            essence.contains("kernels: 100 HANG, 100 not run"),
            "{essence}"
        );
        assert!(
            essence.contains("kernel0: HANG: killed | after 20 s"),
            "{essence}"
        );
        assert!(essence.contains("and 93 more"), "{essence}");
        let measured = "a/b: 2.00 us, 50 % of the roofline, cuDNN 3.50 us, k";
        assert!(essence.contains(measured), "{essence}");
        // The whole has all of them, and ends with the essence.
        let summary = summary(&context, &state);
        assert!(summary.ends_with(&essence) && summary.contains("kernel99"));
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
