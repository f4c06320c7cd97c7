//! `nets`: whole networks, naive and bottlenecked: counted, run, checked, and drawn.

mod full;
mod plot;
mod run;

use std::fs::File;
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Map, Value, json};
use warpconv::DType;
use warpconv::device::{DeviceKind, Gpu};
use warpconv_nets::{Entry, NetworkConfig, entries};

use crate::args::{Global, NetsArgs};
use crate::device;
use crate::exit::Failure;
use crate::output::{Align, JsonFile, Progress, grouped, number, say, table};
use crate::tuning;
use run::{ALWAYS_FULL, Checked, EMULATED_FUSED_MACS, EMULATED_MACS, Lowered, Row, Session};

/// Number of images for which times are predicted, or measured on a GPU.
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
        let mut known: Vec<&str> = entries().iter().map(|entry| entry.name).collect();
        // A network's variants stand one after the other.
        known.dedup();
        return Err(Failure::input(format!(
            "no network is called `{}`; there are {}",
            args.networks.join("`, `"),
            known.join(", ")
        )));
    }
    let session = Session::new(&gpu, &tuning, args)?;
    let picture = Path::new(&args.svg);
    let draws = args.svg != "none";
    if draws {
        // A path that cannot be written is an error before the networks run, not after.
        let opened = File::options().append(true).create(true).open(picture);
        opened.map_err(|error| Failure::File {
            path: picture.to_owned(),
            error,
        })?;
    }
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
    print(&gpu, args, &rows, dtype)?;
    if draws {
        plot::draw(picture, &rows)?;
        say(format_args!("The picture is in {}.", picture.display()))?;
    }
    if let Some(file) = json {
        let rows: Vec<Value> = rows.iter().map(row_json).collect();
        file.write(&json!({"device": device::to_json(&gpu), "dtype": dtype.name(), "rows": rows}))?;
    }
    finish(&rows)
}

/// The configuration that suits a type: strict f32 on CUDA cores, other types on tensor cores.
fn config(n: usize, image: usize, dtype: DType) -> NetworkConfig {
    match dtype {
        DType::F32 => NetworkConfig::new(n, image),
        DType::F16 | DType::Bf16 => NetworkConfig::tensor(n, image, dtype),
    }
}

/// Prints the table and its legend.
fn print(gpu: &Gpu, args: &NetsArgs, rows: &[Row], dtype: DType) -> Result<(), Failure> {
    let headings = [
        ("network", Align::Left),
        ("year", Align::Right),
        ("variant", Align::Left),
        ("multiplications", Align::Right),
        ("of naive's", Align::Right),
        ("parameters", Align::Right),
        ("launches", Align::Right),
        ("launches, fused", Align::Right),
        ("H200 us, predicted", Align::Right),
        ("predicted, fused", Align::Right),
        ("time us", Align::Right),
        ("time, fused", Align::Right),
        ("images/s", Align::Right),
        ("of roofline", Align::Right),
        ("top-1 %", Align::Right),
        ("checked at", Align::Left),
        ("checked", Align::Left),
        ("checked at, fused", Align::Left),
        ("checked, fused", Align::Left),
        ("fused from unfused", Align::Left),
    ];
    let cells = rows.iter().map(|row| cells(row, rows));
    say(table(&headings, cells.collect()))?;
    let batch = rows.first().map_or(FULL_BATCH, |row| row.batch);
    say(format_args!(
        "Multiplications are of one picture of full size. Predicted: the roofline of an H200 for a \
         batch of {batch} in {}, \
         each launch moving its operands once; no measurement. Fused: bottlenecks, and branches \
         over the same input or of as many \
         pixels, in one launch each where the model ranks it first; a dash where it does nowhere. \
         Times are the median of replays \
         of a captured graph. Images per second and the share of the roofline are of the fused \
         network where there is one, measured \
         where there is a time, else predicted.",
        dtype.name()
    ))?;
    how_checked(gpu, args)?;
    for row in rows {
        if let Some(published) = row.entry.published {
            let name = row.entry.name;
            say(format_args!(
                "Top-1 of {name}, one crop: {}.",
                published.source
            ))?;
        }
    }
    Ok(())
}

/// Prints what the checks cover, and what they do not.
fn how_checked(gpu: &Gpu, args: &NetsArgs) -> Result<(), Failure> {
    if args.count_only {
        return say("Nothing ran, and nothing was checked.");
    }
    say(
        "Checked: weights are drawn by seed, and every launch is compared with the f64 reference \
         for one image. Fused networks are checked with every fusion that a kernel accepts, so \
         launches and tiles may differ from those of the batch. Their logits are compared with the \
         unfused network's: the norm of the difference, and its bound.",
    )?;
    let emulated = gpu.kind() == DeviceKind::Emulator;
    say(if emulated {
        "The emulator has no times: the batch does not run there, so the fused network behind the \
         images per second is counted but not checked."
    } else {
        "Timed networks run at full size: the batch's logits of the fused network are compared \
         with the unfused one's."
    })?;
    match args.size {
        Some(size) => say(format_args!("Checked images have {size} rows, by --size.")),
        None if emulated => say(format_args!(
            "Checked images are of full size up to {} multiplications ({} as published beyond that \
             too), fused up to {}; otherwise they are smaller.",
            grouped(EMULATED_MACS),
            ALWAYS_FULL.join(", "),
            grouped(EMULATED_FUSED_MACS)
        )),
        None => say("Checked images are small on a GPU; --size sets another size."),
    }
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
    let (size, check_result) = match &row.checked {
        Some(checked) => (at(checked.image), checked.check_result.to_string()),
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
        check_result,
        checked.map_or_else(dash, |checked| at(checked.image)),
        checked.map_or_else(dash, |checked| checked.check_result.to_string()),
        checked
            .and_then(|checked| checked.norm_error)
            .map_or_else(dash, |norm_error| norm_error.to_string()),
    ]
}

/// Text of an image size.
fn at(image: usize) -> String {
    format!("1 x {image} x {image}")
}

/// Converts a row to JSON; unknown values are null.
fn row_json(row: &Row) -> Value {
    let best = row.best();
    let separate = lowered_json(&row.separate);
    let checked = row.checked.as_ref().map_or(Value::Null, checked_json);
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
        "fused": row.fused.as_ref().map(fused_json),
        "fitting": row.fitting.as_ref().map(checked_json),
    });
    joined([separate, checked, more])
}

/// Converts a network in separate or fused launches to JSON.
fn lowered_json(lowered: &Lowered) -> Value {
    json!({
        "launches": lowered.launches,
        "predicted_us": number(Some(lowered.predicted_us)),
        "time_us": number(lowered.time.map(|time| time.us)),
        "time_is_of_a_graph": lowered.time.map(|time| time.captured),
    })
}

/// Converts a network in fused launches to JSON, with the check of its batch where that ran.
fn fused_json(fused: &Lowered) -> Value {
    let norm_error = json!({
        "verified": fused.norm_error.map(|norm_error| norm_error.is_near()),
        "difference_from_unfused": number(fused.norm_error.map(|norm_error| norm_error.norm)),
        "difference_allowed": number(fused.norm_error.map(|norm_error| norm_error.allowed)),
    });
    joined([lowered_json(fused), norm_error])
}

/// Merges the members of several objects into one.
fn joined<const N: usize>(objects: [Value; N]) -> Value {
    let mut all = Map::new();
    for object in objects {
        if let Value::Object(object) = object {
            all.extend(object);
        }
    }
    Value::Object(all)
}

/// Converts the check of one image to JSON.
fn checked_json(checked: &Checked) -> Value {
    json!({
        "checked_image": checked.image,
        "checked_launches": checked.launches,
        "verified": checked.failure().is_none(),
        "max_rel_error": number(Some(checked.check_result.max_rel_error)),
        "difference_from_unfused": number(checked.norm_error.map(|norm_error| norm_error.norm)),
        "difference_allowed": number(checked.norm_error.map(|norm_error| norm_error.allowed)),
    })
}

/// Prints the last line; returns a failure if a check failed.
fn finish(rows: &[Row]) -> Result<(), Failure> {
    let (mut count, mut batches, mut failed) = (0, 0, 0);
    for row in rows {
        let mut found = Vec::new();
        for (how, checked) in [("", &row.checked), (" fused", &row.fitting)] {
            if let Some(checked) = checked {
                count += 1;
                found.push((how, checked.failure()));
            }
        }
        if let Some(fused) = row
            .fused
            .as_ref()
            .filter(|fused| fused.norm_error.is_some())
        {
            batches += 1;
            found.push((" fused, the batch", fused.failure()));
        }
        for (how, why) in found {
            if let Some(why) = why {
                failed += 1;
                let (name, variant) = (row.entry.name, row.entry.variant.name());
                say(format_args!("FAILED {name} {variant}{how}: {why}"))?;
            }
        }
    }
    let batches = match batches {
        0 => String::new(),
        _ => format!("{batches} of fused batches against unfused ones, "),
    };
    say(format_args!(
        "{count} checks of networks against the f64 reference, {batches}{failed} failed"
    ))?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Checks { failed }),
    }
}
