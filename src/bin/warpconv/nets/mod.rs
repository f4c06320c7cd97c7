//! `nets`: whole networks, naive against bottlenecked: counted, run, checked, and drawn.

mod full;
mod picture;
mod run;

use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};
use warpconv::DType;
use warpconv::gpu::{DeviceKind, Gpu};
use warpconv::nets::{Entry, Form, entries};

use crate::args::{Global, NetsArgs};
use crate::device;
use crate::exit::Failure;
use crate::output::{Align, JsonFile, Progress, grouped, number, say, table};
use crate::tuning;
use run::{Checked, Lowered, Row, Session};

/// Images for which times are predicted, or measured on a GPU.
const FULL_BATCH: usize = 128;

/// Seed of the weights.
const SEED: u64 = 10;

/// Runs the command.
pub fn command(global: &Global, args: &NetsArgs) -> Result<(), Failure> {
    let json = JsonFile::create(global.json.as_deref())?;
    let gpu = device::open(global.device)?;
    let tuning = tuning::load(global, &gpu);
    let dtype = args.dtype.map(DType::from);
    if let Some(folder) = &args.check {
        return full::command(&gpu, &tuning, folder, dtype.unwrap_or(DType::F32), json);
    }
    let dtype = dtype.unwrap_or(DType::Bf16);
    let chosen: Vec<&'static Entry> = entries()
        .iter()
        .filter(|entry| {
            let name = entry.name.to_lowercase();
            let wanted = |text: &String| name.starts_with(&text.to_lowercase());
            args.networks.is_empty() || args.networks.iter().any(wanted)
        })
        .collect();
    if chosen.is_empty() {
        let known: Vec<&str> = entries().iter().map(|entry| entry.name).collect();
        return Err(Failure::input(format!(
            "no network is called {:?}; there are {}",
            args.networks,
            known.join(", ")
        )));
    }
    let session = Session::new(&gpu, &tuning, args)?;
    let progress = Progress::new(chosen.len(), global.quiet);
    let mut rows = Vec::new();
    for entry in chosen {
        progress.doing(format!("{} {}", entry.name, entry.variant.name()));
        rows.push(match dtype {
            DType::F32 => session.run::<f32>(entry)?,
            DType::F16 => session.run::<f16>(entry)?,
            DType::Bf16 => session.run::<bf16>(entry)?,
        });
        progress.step();
    }
    drop(progress);
    print(&gpu, &rows, dtype)?;
    let picture = Path::new(&args.svg);
    if args.svg != "none" {
        picture::draw(picture, &rows)?;
        say(format_args!("The picture is in {}.", picture.display()))?;
    }
    if let Some(file) = json {
        let rows: Vec<Value> = rows.iter().map(row_json).collect();
        file.write(&json!({"device": device::to_json(&gpu), "dtype": dtype.name(), "rows": rows}))?;
    }
    finish(&rows)
}

/// The form that suits a type: f32 is strict, on CUDA cores; the others run on tensor cores.
fn form(n: usize, image: usize, dtype: DType) -> Form {
    match dtype {
        DType::F32 => Form::new(n, image),
        DType::F16 | DType::Bf16 => Form::tensor(n, image, dtype),
    }
}

/// Prints the table and how to read it.
fn print(gpu: &Gpu, rows: &[Row], dtype: DType) -> Result<(), Failure> {
    let headings = [
        ("network", Align::Left),
        ("year", Align::Right),
        ("variant", Align::Left),
        ("multiplications", Align::Right),
        ("of naive's", Align::Right),
        ("parameters", Align::Right),
        ("launches", Align::Right),
        ("fused", Align::Right),
        ("H200 us, predicted", Align::Right),
        ("fused", Align::Right),
        ("time us", Align::Right),
        ("fused", Align::Right),
        ("images/s", Align::Right),
        ("of roofline", Align::Right),
        ("top-1 %", Align::Right),
        ("checked at", Align::Left),
        ("checked", Align::Left),
        ("fused at", Align::Left),
        ("fused", Align::Left),
        ("fused from unfused", Align::Left),
    ];
    let cells = rows.iter().map(|row| cells(row, rows));
    say(table(&headings, cells.collect()))?;
    let batch = rows.first().map_or(FULL_BATCH, |row| row.batch);
    say(format_args!(
        "Multiplications are of one picture of full size. Predicted: the roofline of an H200 for a batch of {batch} in {}, \
         each launch moving its operands once; no measurement. Fused: bottlenecks, and branches over the same input or of as many \
         pixels, in one launch each where the model ranks it first; a dash where it does nowhere. The check takes every fusion that \
         a kernel accepts, holds its launches to the reference, and its logits to the unfused network's: the norm of their \
         difference, and how much is allowed. Times are the median of replays of a captured graph. Images a second and the share \
         of the roofline are of the fused network where there is one, measured where there is a time, else predicted. Weights are drawn by seed; every launch is held to the f64 reference for one picture.",
        dtype.name()
    ))?;
    for row in rows {
        if let Some(published) = row.entry.published {
            let name = row.entry.name;
            say(format_args!(
                "Top-1 of {name}, one crop: {}.",
                published.source
            ))?;
        }
    }
    if gpu.kind() == DeviceKind::Emulator {
        say("The emulator has no times; large networks are computed on a smaller picture there.")?;
    }
    Ok(())
}

fn cells(row: &Row, rows: &[Row]) -> Vec<String> {
    let naive = rows
        .iter()
        .find(|other| other.entry.name == row.entry.name && other.entry.published.is_none());
    let dash = || "-".to_owned();
    let share = naive.map(|naive| row.macs as f64 / naive.macs as f64);
    let applies = row.entry.has_naive();
    let fused = row.fused.as_ref();
    let best = row.best();
    let (size, verdict) = match &row.separate.checked {
        Some(checked) => (at(checked.image), checked.verdict.to_string()),
        None => (dash(), dash()),
    };
    let us = |lowered: &Lowered| format!("{:.1}", lowered.predicted_us);
    let time = |lowered: Option<&Lowered>| {
        let time = lowered.and_then(|lowered| lowered.time);
        time.map_or_else(dash, |time| format!("{:.1}", time.us))
    };
    let checked = row.fitting.as_ref();
    vec![
        row.entry.name.to_owned(),
        row.entry.year.to_string(),
        if applies {
            row.entry.variant.name().to_owned()
        } else {
            dash()
        },
        grouped(row.macs),
        share
            .filter(|_| applies)
            .map_or_else(dash, |share| format!("{:.1}%", share * 100.0)),
        grouped(row.parameters),
        row.separate.launches.to_string(),
        fused.map_or_else(dash, |fused| fused.launches.to_string()),
        us(&row.separate),
        fused.map_or_else(dash, us),
        time(Some(&row.separate)),
        time(fused),
        grouped(row.images_per_second().round() as u64),
        best.time.map_or_else(dash, |time| {
            format!("{:.1}%", best.predicted_us / time.us * 100.0)
        }),
        row.entry
            .published
            .map_or_else(dash, |published| format!("{:.1}", published.top1)),
        size,
        verdict,
        checked.map_or_else(dash, |checked| at(checked.image)),
        checked.map_or_else(dash, |checked| checked.verdict.to_string()),
        checked
            .and_then(|checked| checked.apart)
            .map_or_else(dash, |apart| apart.to_string()),
    ]
}

/// One picture of so many rows and columns.
fn at(image: usize) -> String {
    format!("1 x {image} x {image}")
}

/// A row in JSON; what is unknown is null.
fn row_json(row: &Row) -> Value {
    let best = row.best();
    let mut json = lowered_json(&row.separate);
    let more = json!({
        "network": row.entry.name,
        "year": row.entry.year,
        "variant": row.entry.variant.name(),
        "image": row.entry.image,
        "macs": row.macs,
        "operations": row.operations(),
        "parameters": row.parameters,
        "batch": row.batch,
        "images_per_second": number(Some(row.images_per_second())),
        "images_per_second_is_predicted": best.time.is_none(),
        "roofline_share": number(best.time.map(|time| best.predicted_us / time.us)),
        "top1": row.entry.published.map(|published| published.top1),
        "top1_source": row.entry.published.map(|published| published.source),
        "fused": row.fused.as_ref().map(lowered_json),
        "fitting": row.fitting.as_ref().map(checked_json),
    });
    if let (Some(json), Value::Object(more)) = (json.as_object_mut(), more) {
        json.extend(more);
    }
    json
}

/// A network in separate launches, or in fused ones.
fn lowered_json(lowered: &Lowered) -> Value {
    let mut json = json!({
        "launches": lowered.launches,
        "predicted_us": number(Some(lowered.predicted_us)),
        "time_us": number(lowered.time.map(|time| time.us)),
        "time_is_of_a_graph": lowered.time.map(|time| time.captured),
    });
    let checked = lowered.checked.as_ref().map_or(Value::Null, checked_json);
    if let (Some(json), Value::Object(checked)) = (json.as_object_mut(), checked) {
        json.extend(checked);
    }
    json
}

/// What one picture showed.
fn checked_json(checked: &Checked) -> Value {
    json!({
        "checked_image": checked.image,
        "checked_launches": checked.launches,
        "verified": checked.failure().is_none(),
        "max_rel_error": number(Some(checked.verdict.max_rel_error)),
        "difference_from_unfused": number(checked.apart.map(|apart| apart.norm)),
        "difference_allowed": number(checked.apart.map(|apart| apart.allowed)),
    })
}

/// The last line, and a failure if a check failed.
fn finish(rows: &[Row]) -> Result<(), Failure> {
    let (mut count, mut failed) = (0, 0);
    for row in rows {
        let lowered = [
            ("", row.separate.checked.as_ref()),
            (" fused", row.fitting.as_ref()),
        ];
        for (how, checked) in lowered {
            let Some(checked) = checked else {
                continue;
            };
            count += 1;
            if let Some(why) = checked.failure() {
                failed += 1;
                let (name, variant) = (row.entry.name, row.entry.variant.name());
                say(format_args!("FAILED {name} {variant}{how}: {why}"))?;
            }
        }
    }
    say(format_args!(
        "{count} networks checked against the f64 reference, {failed} failed"
    ))?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Checks { failed }),
    }
}
