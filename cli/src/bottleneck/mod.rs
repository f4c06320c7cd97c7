//! `bottleneck`: the savings of a bottleneck: counted, run, checked and compared with the roofline.

mod variants;

use std::sync::Arc;

use cudarc::driver::CudaStream;
use half::{bf16, f16};
use serde_json::{Value, json};
use warpconv::device::{DeviceKind, Gpu};
use warpconv::graph::{Graph, Refused};
use warpconv::plan::Tuning;
use warpconv::{DType, Layout};
use warpconv_testing::{CheckResult, GraphOnDevice, Stored};

use crate::args::{BottleneckArgs, Global};
use crate::device;
use crate::exit::Failure;
use crate::output::{Align, JsonFile, Progress, bytes, grouped, number, say, table};
use crate::tuning;
use variants::{FULL_BATCH, Size, VARIANTS, Variant, natural};

/// Limit of the f64 reference's multiplications for one variant; beyond it, only some images of the
/// batch are compared.
const REFERENCE_MACS: u64 = 20_000_000_000;

/// Samples of a pass on a GPU; their median counts.
const SAMPLES: usize = 11;

/// Result of one variant.
struct Row {
    variant: Variant,
    size: Size,
    macs: u64,
    launches: usize,
    /// Bytes from and to device memory: counted on the emulator, the least possible on a GPU.
    device_bytes: Option<u64>,
    /// Thread instructions that the emulator executed.
    instructions: Option<u64>,
    check_result: CheckResult,
    time_us: Option<f64>,
    predicted_us: f64,
    /// Microseconds of the cost model, for an H200 at the full size.
    model_us: Option<f64>,
    /// Speed-up over the naive variant.
    speedup: Option<f64>,
    roofline_speedup: f64,
    model_speedup: Option<f64>,
}

/// A fused variant without a row, because no kernel of the device computes it: its launches are
/// those of `separate`.
struct Missing {
    variant: Variant,
    dtype: DType,
    why: Refused,
}

/// Time budget of one layer in a real-time network, in microseconds.
const BUDGET_US: f64 = 500.0;

impl Row {
    /// Number of images of the layer that fit into the budget: by the measured time if there is
    /// one, else by the roofline.
    fn images_in_budget(&self) -> f64 {
        match self.time_us {
            Some(us) => self.size.n as f64 * BUDGET_US / us,
            None => FULL_BATCH as f64 * BUDGET_US / self.predicted_us,
        }
    }
}

/// Runs the command.
pub fn command(global: &Global, args: &BottleneckArgs) -> Result<(), Failure> {
    let json = JsonFile::create(global.json.as_deref())?;
    let gpu = device::open(global.device)?;
    let tuning = tuning::load(global, &gpu);
    let stream = device::stream(&gpu)?;
    arithmetic()?;

    let dtypes: Vec<DType> = match args.dtype[..] {
        [] => vec![DType::F32, DType::Bf16],
        _ => DType::ALL
            .into_iter()
            .filter(|&dtype| args.dtype.iter().any(|&arg| DType::from(arg) == dtype))
            .collect(),
    };
    let progress = Progress::new(VARIANTS.len() * dtypes.len(), global.quiet);
    let (mut rows, mut missing) = (Vec::new(), Vec::new());
    for &dtype in &dtypes {
        for variant in VARIANTS {
            progress.doing(format!(
                "{} {} {}",
                variant.module,
                variant.name,
                dtype.name()
            ));
            let size = size(&gpu, args, &variant, dtype);
            let module = variant.at(size).map_err(Failure::input)?;
            match variants::refused(&variant, &module, gpu.capability()) {
                Some(why) => missing.push(Missing {
                    variant,
                    dtype,
                    why,
                }),
                None => rows.push(match dtype {
                    DType::F32 => run::<f32>(&gpu, &stream, &tuning, variant, size, &module)?,
                    DType::F16 => run::<f16>(&gpu, &stream, &tuning, variant, size, &module)?,
                    DType::Bf16 => run::<bf16>(&gpu, &stream, &tuning, variant, size, &module)?,
                }),
            }
            progress.step();
        }
    }
    drop(progress);
    compare(&mut rows);
    print(&gpu, &rows, &missing)?;
    if let Some(file) = json {
        let rows: Vec<Value> = rows.iter().map(row_json).collect();
        let missing: Vec<Value> = missing.iter().map(missing_json).collect();
        let device = device::to_json(&gpu);
        file.write(&json!({"device": device, "rows": rows, "not_fused": missing}))?;
    }
    finish(&rows)
}

/// Prints the multiplications of the modules, before anything runs.
fn arithmetic() -> Result<(), Failure> {
    for naive in VARIANTS.iter().filter(|variant| variant.name == "naive") {
        let separate = VARIANTS
            .iter()
            .find(|variant| variant.module == naive.module && variant.name == "separate");
        let Some(separate) = separate else { continue };
        let before = naive.macs_per_pixel().map_err(Failure::input)?;
        let after = separate.macs_per_pixel().map_err(Failure::input)?;
        say(format_args!(
            "{}: {}: {} multiplications per pixel; {}: {}: {:.2} times fewer",
            naive.module,
            naive.describe,
            grouped(before),
            separate.describe,
            grouped(after),
            before as f64 / after as f64
        ))?;
    }
    Ok(())
}

/// The size at which a module runs: the roofline's on a GPU, a fast one on the emulator.
fn size(gpu: &Gpu, args: &BottleneckArgs, variant: &Variant, dtype: DType) -> Size {
    let n = match gpu.kind() {
        DeviceKind::Gpu => FULL_BATCH,
        DeviceKind::Emulator => 1,
    };
    let hw = variant.full_size;
    Size {
        n: args.batch.unwrap_or(n),
        hw: args.size.unwrap_or(hw),
        dtype,
        layout: args.layout.map_or(natural(dtype), Layout::from),
    }
}

/// Runs and checks one variant.
fn run<T: Stored>(
    gpu: &Gpu,
    stream: &Arc<CudaStream>,
    tuning: &Tuning,
    variant: Variant,
    size: Size,
    module: &Graph,
) -> Result<Row, Failure> {
    let loaded = GraphOnDevice::<T>::in_stream(gpu, stream, module, tuning);
    let mut loaded = loaded.map_err(Failure::device)?;
    gpu.reset_counters();
    loaded.launch().map_err(Failure::device)?;
    gpu.synchronize().map_err(Failure::device)?;
    let counters = gpu.counters();
    let check_result = loaded.check(REFERENCE_MACS).map_err(Failure::device)?;
    let emulated = gpu.kind() == DeviceKind::Emulator;
    let time_us = if emulated {
        None
    } else {
        Some(loaded.time(SAMPLES).map_err(Failure::device)?.us)
    };
    Ok(Row {
        variant,
        size,
        macs: module.macs(),
        launches: loaded.launches(),
        device_bytes: match &counters {
            Some(counters) => Some(counters.device_bytes()),
            None if emulated => None,
            None => Some(module.min_bytes()),
        },
        instructions: counters.map(|counters| counters.instructions().thread),
        check_result,
        time_us,
        predicted_us: variant.predicted_us(size.dtype).map_err(Failure::input)?,
        model_us: variant.model_us(size.dtype).map_err(Failure::input)?,
        speedup: None,
        roofline_speedup: 1.0,
        model_speedup: None,
    })
}

/// Fills in the speed-ups over the naive variant of the same module and type.
fn compare(rows: &mut [Row]) {
    let naive: Vec<(&'static str, DType, [Option<f64>; 2], f64)> = rows
        .iter()
        .filter(|row| row.variant.name == "naive")
        .map(|row| {
            let times = [row.time_us, row.model_us];
            (row.variant.module, row.size.dtype, times, row.predicted_us)
        })
        .collect();
    for row in rows {
        let of = naive
            .iter()
            .find(|(module, dtype, ..)| *module == row.variant.module && *dtype == row.size.dtype);
        if let Some(&(_, _, [time_us, model_us], predicted_us)) = of {
            let ratio = |naive: Option<f64>, own: Option<f64>| Some(naive? / own?);
            row.speedup = ratio(time_us, row.time_us);
            row.model_speedup = ratio(model_us, row.model_us);
            row.roofline_speedup = predicted_us / row.predicted_us;
        }
    }
}

/// Prints the table and its legend.
fn print(gpu: &Gpu, rows: &[Row], missing: &[Missing]) -> Result<(), Failure> {
    let emulated = gpu.kind() == DeviceKind::Emulator;
    let headings = vec![
        ("module", Align::Left),
        ("variant", Align::Left),
        ("type", Align::Left),
        ("N x H x W", Align::Left),
        ("multiplications", Align::Right),
        ("launches", Align::Right),
        (
            if emulated {
                "memory, counted"
            } else {
                "memory, at least"
            },
            Align::Right,
        ),
        (
            if emulated { "instructions" } else { "time us" },
            Align::Right,
        ),
        (
            if emulated { "of naive's" } else { "speed-up" },
            Align::Right,
        ),
        ("roofline us", Align::Right),
        ("roofline speed-up", Align::Right),
        ("model speed-up", Align::Right),
        ("images in 0.5 ms", Align::Right),
        ("checked", Align::Left),
    ];
    let cells = rows.iter().map(|row| cells(row, rows, emulated));
    say(table(&headings, cells.collect()))?;
    say(
        "Roofline: of an H200 (790 TFLOP/s in f16 and bf16, 67 TFLOP/s in f32, 4.3 TB/s) for a \
         batch of 128, 56x56 or \
         28x28, that of the fused bottleneck with the halo that tiles of 14x14 compute anew; \
         model: what the planner \
         expects there of the kernels that there are, launches included. Both are predictions. f32 \
         is strict here and \
         stays on CUDA cores; f16 and bf16 are multiplied on tensor cores. Launches include those \
         that bring filters \
         into a kernel's order.",
    )?;
    say(if emulated {
        "Images in 0.5 ms: of the layer, by the roofline, at a batch of 128."
    } else {
        "Times are the median of replays of a captured graph. Images in 0.5 ms: of the layer, by \
         that time."
    })?;
    plans(gpu, rows, missing)?;
    if emulated {
        say(
            "The emulator has no times: what it executed and moved is counted, at the size in the \
             table.",
        )?;
    }
    Ok(())
}

/// Prints the plans of the fused graphs, and the reasons of variants without a row.
fn plans(gpu: &Gpu, rows: &[Row], missing: &[Missing]) -> Result<(), Failure> {
    for row in rows {
        let choice = row.variant.choice(row.size, gpu.capability());
        if let Some(choice) = choice.map_err(Failure::input)? {
            let (module, dtype) = (row.variant.module, row.size.dtype.name());
            let n = row.size.n;
            say(format_args!(
                "{module} {dtype}, N = {n}, as planned: {choice}"
            ))?;
        }
    }
    for Missing {
        variant,
        dtype,
        why,
    } in missing
    {
        say(format_args!(
            "{} {} {}: no row, the launches are those of `separate`: {why}",
            variant.module,
            variant.name,
            dtype.name(),
        ))?;
    }
    Ok(())
}

/// Cells of a row of the table; `rows` are all rows.
fn cells(row: &Row, rows: &[Row], emulated: bool) -> Vec<String> {
    let naive = rows.iter().find(|other| {
        other.variant.module == row.variant.module
            && other.size.dtype == row.size.dtype
            && other.variant.name == "naive"
    });
    let share = naive
        .and_then(|naive| naive.instructions)
        .zip(row.instructions)
        .map(|(naive, own)| own as f64 / naive as f64);
    let (cost, ratio) = if emulated {
        (
            row.instructions.map(grouped),
            share.map(|share| format!("{:.1}%", share * 100.0)),
        )
    } else {
        (
            row.time_us.map(|us| format!("{us:.1}")),
            row.speedup.map(|ratio| format!("{ratio:.2}")),
        )
    };
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    vec![
        row.variant.module.to_owned(),
        row.variant.name.to_owned(),
        row.size.dtype.name().to_owned(),
        format!("{} x {} x {}", row.size.n, row.size.hw, row.size.hw),
        grouped(row.macs),
        row.launches.to_string(),
        or_dash(row.device_bytes.map(bytes)),
        or_dash(cost),
        or_dash(ratio),
        format!("{:.1}", row.predicted_us),
        format!("{:.2}", row.roofline_speedup),
        or_dash(row.model_speedup.map(|ratio| format!("{ratio:.2}"))),
        format!("{:.0}", row.images_in_budget()),
        row.check_result.to_string(),
    ]
}

/// Converts a row to JSON; unknown values are null.
fn row_json(row: &Row) -> Value {
    json!({
        "module": row.variant.module,
        "variant": row.variant.name,
        "dtype": row.size.dtype.name(),
        "n": row.size.n,
        "h": row.size.hw,
        "w": row.size.hw,
        "macs": row.macs,
        "launches": row.launches,
        "device_bytes": row.device_bytes,
        "verified": row.check_result.failure.is_none(),
        "max_rel_error": number(Some(row.check_result.max_rel_error)),
        "time_us": number(row.time_us),
        "predicted_us": number(Some(row.predicted_us)),
        "speedup": number(row.speedup),
        "roofline_speedup": number(Some(row.roofline_speedup)),
        "layout": row.size.layout.name(),
        "model_us": number(row.model_us),
        "model_speedup": number(row.model_speedup),
        "images_in_half_ms": number(Some(row.images_in_budget())),
    })
}

/// Converts a fused variant that did not run to JSON.
fn missing_json(missing: &Missing) -> Value {
    json!({
        "module": missing.variant.module,
        "variant": missing.variant.name,
        "dtype": missing.dtype.name(),
        "why": missing.why.to_string(),
    })
}

/// Prints the last line; returns a failure if a check failed.
fn finish(rows: &[Row]) -> Result<(), Failure> {
    let mut failed = 0;
    for row in rows {
        if let Some(why) = &row.check_result.failure {
            failed += 1;
            say(format_args!(
                "FAILED {} {} {}: {why}",
                row.variant.module,
                row.variant.name,
                row.size.dtype.name()
            ))?;
        }
    }
    say(format_args!(
        "{} rows checked against the f64 reference, {failed} failed",
        rows.len()
    ))?;
    if failed > 0 {
        Err(Failure::Checks { failed })
    } else {
        Ok(())
    }
}
