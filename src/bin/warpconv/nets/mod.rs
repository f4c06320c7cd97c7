//! `nets`: whole networks, naive against bottlenecked: counted, run, checked, and drawn.

mod full;
mod picture;

use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};
use warpconv::DType;
use warpconv::check::{LoadedModule, Stored, Verdict};
use warpconv::gpu::{DeviceKind, Gpu};
use warpconv::nets::{Entry, Form, Network, entries};
use warpconv::plan::{Ceilings, Tuning};

use crate::args::{Global, NetsArgs};
use crate::device;
use crate::exit::Failure;
use crate::output::{Align, JsonFile, Progress, grouped, number, say, table};
use crate::tuning;

/// Images for which times are predicted, or measured on a GPU.
const FULL_BATCH: usize = 128;

/// Times a network is measured on a GPU; the least counts.
const MEASUREMENTS: usize = 10;

/// Seed of the weights.
const SEED: u64 = 10;

/// Multiplications of a pass that the emulator is given at full size: what takes it seconds rather than minutes.
const EMULATED_MACS: u64 = 2_000_000_000;

/// Networks that the emulator computes at full size though they are larger than that.
const ALWAYS_FULL: [&str; 1] = ["ResNet-50"];

/// What was found of one network.
pub struct Row {
    entry: &'static Entry,
    /// Multiplications for one picture of full size.
    macs: u64,
    parameters: u64,
    launches: usize,
    /// Rows and columns of the picture that was computed and checked, of which there was one.
    checked: Option<(usize, Verdict)>,
    /// For the batch, at full size.
    predicted_us: f64,
    /// For the batch, at full size, on a GPU.
    time_us: Option<f64>,
    batch: usize,
}

impl Row {
    fn images_per_second(&self) -> f64 {
        self.batch as f64 / self.time_us.unwrap_or(self.predicted_us) * 1e6
    }

    fn operations(&self) -> u64 {
        2 * self.macs
    }
}

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
    let progress = Progress::new(chosen.len(), global.quiet);
    let mut rows = Vec::new();
    for entry in chosen {
        progress.doing(format!("{} {}", entry.name, entry.variant.name()));
        rows.push(match dtype {
            DType::F32 => run::<f32>(&gpu, &tuning, entry, args)?,
            DType::F16 => run::<f16>(&gpu, &tuning, entry, args)?,
            DType::Bf16 => run::<bf16>(&gpu, &tuning, entry, args)?,
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

/// Counts, runs and checks one network.
fn run<T: Stored>(
    gpu: &Gpu,
    tuning: &Tuning,
    entry: &'static Entry,
    args: &NetsArgs,
) -> Result<Row, Failure> {
    let build = |n, image| {
        entry
            .build(&form(n, image, T::DTYPE))
            .map_err(Failure::input)
    };
    let batch = args.batch.unwrap_or(FULL_BATCH);
    let full = build(batch, entry.image)?;
    let one = build(1, entry.image)?;
    let macs = one.module().macs();
    let emulated = gpu.kind() == DeviceKind::Emulator;
    let fits =
        macs <= EMULATED_MACS || ALWAYS_FULL.contains(&entry.name) && entry.published.is_some();
    let image = match args.size {
        Some(size) => size,
        None if emulated && fits => entry.image,
        None => entry.small,
    };
    let checked = if args.count_only {
        None
    } else {
        let network = build(1, image)?;
        Some((image, check::<T>(gpu, tuning, &network)?))
    };
    let time_us = if emulated || args.count_only {
        None
    } else {
        let module = full.module().clone().sharing_buffers();
        let x = full.random_input(1);
        let weights = full.random(SEED);
        let loaded = LoadedModule::<T>::with(gpu, gpu.stream(), &module, tuning, &x, weights);
        let mut loaded = loaded.map_err(Failure::device)?;
        Some(loaded.time_us(MEASUREMENTS).map_err(Failure::device)?)
    };
    let ceilings = Ceilings::h200(T::DTYPE);
    Ok(Row {
        entry,
        macs,
        parameters: one.parameter_count(),
        launches: one.module().launches(),
        checked,
        predicted_us: full.module().roofline(&ceilings).floor_us,
        time_us,
        batch,
    })
}

/// One picture through the network: each launch within its own bound of the f64 reference.
fn check<T: Stored>(gpu: &Gpu, tuning: &Tuning, network: &Network) -> Result<Verdict, Failure> {
    let (x, weights) = (network.random_input(1), network.random(SEED));
    let module = network.module();
    let loaded = LoadedModule::<T>::with(gpu, gpu.stream(), module, tuning, &x, weights);
    let mut loaded = loaded.map_err(Failure::device)?;
    loaded.launch().map_err(Failure::device)?;
    loaded.check(u64::MAX).map_err(Failure::device)
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
        ("H200 us, predicted", Align::Right),
        ("time us", Align::Right),
        ("images/s", Align::Right),
        ("of roofline", Align::Right),
        ("top-1 %", Align::Right),
        ("checked at", Align::Left),
        ("checked", Align::Left),
    ];
    let cells = rows.iter().map(|row| cells(row, rows));
    say(table(&headings, cells.collect()))?;
    let batch = rows.first().map_or(FULL_BATCH, |row| row.batch);
    say(format_args!(
        "Multiplications are of one picture of full size. Predicted: the roofline of an H200 for a batch of {batch} in {}, \
         each launch moving its operands once; no measurement. Images a second are measured where there is a time, else \
         predicted. Weights are drawn by seed; every launch is held to the f64 reference for one picture.",
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
    let (size, verdict) = match &row.checked {
        Some((image, verdict)) => (format!("1 x {image} x {image}"), verdict.to_string()),
        None => (dash(), dash()),
    };
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
        row.launches.to_string(),
        format!("{:.1}", row.predicted_us),
        row.time_us.map_or_else(dash, |us| format!("{us:.1}")),
        grouped(row.images_per_second().round() as u64),
        row.time_us
            .map_or_else(dash, |us| format!("{:.1}%", row.predicted_us / us * 100.0)),
        row.entry
            .published
            .map_or_else(dash, |published| format!("{:.1}", published.top1)),
        size,
        verdict,
    ]
}

/// A row in JSON; what is unknown is null.
fn row_json(row: &Row) -> Value {
    let checked = row.checked.as_ref();
    json!({
        "network": row.entry.name,
        "year": row.entry.year,
        "variant": row.entry.variant.name(),
        "image": row.entry.image,
        "macs": row.macs,
        "operations": row.operations(),
        "parameters": row.parameters,
        "launches": row.launches,
        "batch": row.batch,
        "predicted_us": number(Some(row.predicted_us)),
        "time_us": number(row.time_us),
        "images_per_second": number(Some(row.images_per_second())),
        "images_per_second_is_predicted": row.time_us.is_none(),
        "roofline_share": number(row.time_us.map(|us| row.predicted_us / us)),
        "top1": row.entry.published.map(|published| published.top1),
        "top1_source": row.entry.published.map(|published| published.source),
        "checked_image": checked.map(|(image, _)| *image),
        "verified": checked.map(|(_, verdict)| verdict.failure.is_none()),
        "max_rel_error": number(checked.map(|(_, verdict)| verdict.max_rel_error)),
    })
}

/// The last line, and a failure if a check failed.
fn finish(rows: &[Row]) -> Result<(), Failure> {
    let checked: Vec<_> = rows
        .iter()
        .filter_map(|row| Some((row, row.checked.as_ref()?)))
        .collect();
    let mut failed = 0;
    for (row, (_, verdict)) in &checked {
        if let Some(why) = &verdict.failure {
            failed += 1;
            say(format_args!(
                "FAILED {} {}: {why}",
                row.entry.name,
                row.entry.variant.name()
            ))?;
        }
    }
    say(format_args!(
        "{} networks checked against the f64 reference, {failed} failed",
        checked.len()
    ))?;
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Checks { failed }),
    }
}
