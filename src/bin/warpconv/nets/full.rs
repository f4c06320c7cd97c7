//! `nets --check FOLDER`: a network at full size against stored logits and statistics of its layers.
//!
//! The folder holds `graph.json` (name, picture, layers in order), `logits.npy` (before the softmax) and `layers.json` (mean and
//! root of the mean square of every layer's output). Weights and picture are those of the generator that this crate has too.

use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};
use warpconv::DType;
use warpconv::check::{LoadedModule, Stored};
use warpconv::gpu::Gpu;
use warpconv::nets::{Edges, Form, Network, Variant, alexnet, googlenet, squeezenet1_1, zfnet512};
use warpconv::plan::Tuning;
use warpconv::problem::LrnParameters;

use super::{SEED, form};
use crate::exit::Failure;
use crate::output::{Align, JsonFile, number, say, table};
use crate::verify::npy;

/// What a layer's output is like.
#[derive(Clone, Copy, Debug)]
struct Statistics {
    mean: f64,
    rms: f64,
}

/// One line of the comparison.
struct Line {
    name: String,
    got: Statistics,
    want: Statistics,
    ok: bool,
}

/// Runs the check.
pub fn command(
    gpu: &Gpu,
    tuning: &Tuning,
    folder: &Path,
    dtype: DType,
    json: Option<JsonFile>,
) -> Result<(), Failure> {
    match dtype {
        DType::F32 => run::<f32>(gpu, tuning, folder, json),
        DType::F16 => run::<f16>(gpu, tuning, folder, json),
        DType::Bf16 => run::<bf16>(gpu, tuning, folder, json),
    }
}

/// How far a logit may be, the largest being given, and a layer's mean and root mean square as a share of the latter. f32: what
/// the stored networks state. The others: what the small stored networks allow, each logit twice what their norm may be off.
fn tolerance(dtype: DType, largest: f64) -> (f64, f64) {
    match dtype {
        DType::F32 => (1e-4, 1e-4),
        DType::F16 => (0.012 * largest, 0.006),
        DType::Bf16 => (0.11 * largest, 0.055),
    }
}

fn run<T: Stored>(
    gpu: &Gpu,
    tuning: &Tuning,
    folder: &Path,
    json: Option<JsonFile>,
) -> Result<(), Failure> {
    let graph = read(&folder.join("graph.json"))?;
    let name = graph.get("net").and_then(Value::as_str).unwrap_or_default();
    let network = build(name, &form(1, 224, T::DTYPE))?;
    let (x, weights) = (network.random_input(1), network.random(SEED));
    let module = network.module();
    let loaded = LoadedModule::<T>::with(gpu, gpu.stream(), module, tuning, &x, weights);
    let mut loaded = loaded.map_err(Failure::device)?;
    let traced = loaded.trace().map_err(Failure::device)?;
    let lines = lines(
        &network,
        &traced,
        &graph,
        &read(&folder.join("layers.json"))?,
        T::DTYPE,
    )?;
    let logits = traced.last().map_or(&[][..], |(_, values)| values);
    let stored = npy::read(&folder.join("logits.npy")).map_err(Failure::input)?;
    if stored.data.len() != logits.len() {
        return Err(Failure::input(format!(
            "logits.npy has {} numbers, {name} has {} classes",
            stored.data.len(),
            logits.len()
        )));
    }
    let largest = stored
        .data
        .iter()
        .fold(0.0f64, |most, value| most.max(value.abs()));
    let differences = logits
        .iter()
        .zip(&stored.data)
        .map(|(got, want)| (got - want).abs());
    // `max` would drop a NaN.
    let error = differences.fold(
        0.0f64,
        |worst, e| if e > worst || e.is_nan() { e } else { worst },
    );
    let (allowed, _) = tolerance(T::DTYPE, largest);
    report(&lines)?;
    let mut failed = lines.iter().filter(|line| !line.ok).count();
    let near = error <= allowed;
    failed += usize::from(!near);
    say(format_args!(
        "{name} in {}: {} logits differ by at most {error:.2e} (allowed {allowed:.2e}), {} layers, {failed} failed",
        T::DTYPE.name(),
        logits.len(),
        lines.len()
    ))?;
    if let Some(file) = json {
        let layers: Vec<Value> = lines
            .iter()
            .map(|line| json!({"layer": line.name, "mean": number(Some(line.got.mean)), "rms": number(Some(line.got.rms)), "ok": line.ok}))
            .collect();
        file.write(&json!({"network": name, "dtype": T::DTYPE.name(), "max_logit_error": number(Some(error)),
            "allowed": allowed, "verified": failed == 0, "layers": layers}))?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Checks { failed }),
    }
}

/// The networks that are stored so.
fn build(name: &str, form: &Form) -> Result<Network, Failure> {
    let network = match name {
        "alexnet" => alexnet(form, LrnParameters::GOOGLENET),
        "googlenet" => googlenet(form, Variant::Bottlenecked),
        "squeezenet11" => squeezenet1_1(form, Edges::TORCHVISION, Variant::Bottlenecked),
        "zfnet512" => zfnet512(form),
        other => {
            return Err(Failure::input(format!(
                "no network is stored as `{other}`: alexnet, googlenet, squeezenet11 or zfnet512"
            )));
        }
    };
    network.map_err(Failure::input)
}

/// Holds each launch to the layer that it is, its ReLU included.
fn lines(
    network: &Network,
    traced: &[(usize, Vec<f64>)],
    graph: &Value,
    stored: &Value,
    dtype: DType,
) -> Result<Vec<Line>, Failure> {
    let wrong = |what: &str| Failure::input(format!("the stored network: {what}"));
    let layers = graph
        .get("graph")
        .and_then(Value::as_array)
        .ok_or_else(|| wrong("no `graph`"))?;
    let stored = stored
        .as_array()
        .ok_or_else(|| wrong("layers.json is no list"))?;
    let op = |index: usize| layers.get(index)?.get("op")?.as_str();
    let mut wanted = Vec::new();
    for index in 0..layers.len() {
        if matches!(
            op(index),
            Some("conv2d" | "linear" | "maxpool2d" | "lrn" | "global_avgpool2d")
        ) {
            let behind = if op(index + 1) == Some("relu") {
                index + 1
            } else {
                index
            };
            wanted.push(
                stored
                    .get(behind)
                    .ok_or_else(|| wrong("layers.json is too short"))?,
            );
        }
    }
    let nodes = network.module().nodes();
    if wanted.len() != nodes.len() {
        return Err(wrong(&format!(
            "{} layers, the network has {} launches",
            wanted.len(),
            nodes.len()
        )));
    }
    let (_, allowed) = tolerance(dtype, 0.0);
    let mut lines = Vec::new();
    for (index, values) in traced {
        let field = |name: &str| wanted[*index].get(name).and_then(Value::as_f64);
        let want = field("mean")
            .zip(field("rms"))
            .ok_or_else(|| wrong("a layer without mean and rms"))?;
        let want = Statistics {
            mean: want.0,
            rms: want.1,
        };
        let count = values.len() as f64;
        let got = Statistics {
            mean: values.iter().sum::<f64>() / count,
            rms: (values.iter().map(|v| v * v).sum::<f64>() / count).sqrt(),
        };
        let bound = allowed * want.rms;
        let ok = (got.mean - want.mean).abs() <= bound && (got.rms - want.rms).abs() <= bound;
        lines.push(Line {
            name: nodes[*index].name.to_string(),
            got,
            want,
            ok,
        });
    }
    Ok(lines)
}

fn report(lines: &[Line]) -> Result<(), Failure> {
    let headings = [
        ("layer", Align::Left),
        ("mean", Align::Right),
        ("stored", Align::Right),
        ("rms", Align::Right),
        ("stored", Align::Right),
        ("", Align::Left),
    ];
    let rows = lines.iter().map(|line| {
        vec![
            line.name.clone(),
            format!("{:.6}", line.got.mean),
            format!("{:.6}", line.want.mean),
            format!("{:.6}", line.got.rms),
            format!("{:.6}", line.want.rms),
            (if line.ok { "ok" } else { "FAILED" }).to_owned(),
        ]
    });
    say(table(&headings, rows.collect()))
}

fn read(path: &Path) -> Result<Value, Failure> {
    let failed =
        |error: &dyn std::fmt::Display| Failure::input(format!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    serde_json::from_str(&text).map_err(|error| failed(&error))
}
