//! `nets --check FOLDER`: a network at full size against stored logits and statistics of its
//! layers.
//!
//! The folder contains `graph.json` (name, image, layers in order), `logits.npy` (before the
//! softmax) and `layers.json` (mean and root mean square of every layer's output). Weights and
//! image come from the generator, which this crate has too.
//!
//! If the device has kernels for several layers at once, the network is computed a second time in
//! those launches. Their outputs are compared with the same numbers.

use std::collections::HashMap;
use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};
use warpconv::DType;
use warpconv::device::Gpu;
use warpconv::graph::{FuseOptions, FusePolicy, TensorId};
use warpconv::plan::Tuning;
use warpconv_nets::{
    Edges, Network, NetworkConfig, Variant, alexnet, googlenet, squeezenet1_1, zfnet512,
};
use warpconv_testing::{GraphOnDevice, Stored, network_tolerance};

use super::{SEED, config};
use crate::exit::Failure;
use crate::output::{Align, JsonFile, number, say, table};
use warpconv_testing::case_files::json;
use warpconv_testing::case_files::npy;

/// Statistics of a layer's output.
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

/// Bounds of a logit's error, given the largest logit, and of the error of a layer's mean and root
/// mean square relative to the latter. For f32 they are those stored with the networks; for other
/// types those of the small stored networks, with twice the norm's bound for each logit.
fn tolerance(dtype: DType, largest: f64) -> (f64, f64) {
    match dtype {
        DType::F32 => (1e-4, 1e-4),
        DType::F16 | DType::Bf16 => {
            let norm = network_tolerance(dtype);
            (2.0 * norm * largest, norm)
        }
    }
}

/// Result of one way of computing the network.
struct Outcome {
    launches: usize,
    lines: Vec<Line>,
    logits: usize,
    error: f64,
    allowed: f64,
}

impl Outcome {
    fn failed(&self) -> usize {
        let lines = self.lines.iter().filter(|line| !line.ok).count();
        // Not `>`, so that NaN fails.
        let near = self.error <= self.allowed;
        lines + usize::from(!near)
    }
}

fn run<T: Stored>(
    gpu: &Gpu,
    tuning: &Tuning,
    folder: &Path,
    json: Option<JsonFile>,
) -> Result<(), Failure> {
    let read = |name: &str| json::read(&folder.join(name)).map_err(Failure::Input);
    let named = |error: Failure| match error {
        Failure::Input(why) => Failure::Input(format!("{}: {why}", folder.display())),
        other => other,
    };
    let graph = read("graph.json")?;
    let name = graph.get("net").and_then(Value::as_str);
    let name = name.ok_or_else(|| {
        named(Failure::input(
            "graph.json has no `net`, the network's name",
        ))
    })?;
    let network = build(name, &config(1, 224, T::DTYPE)).map_err(named)?;
    let options = FuseOptions {
        policy: FusePolicy::Always,
        ..FuseOptions::new(gpu.capability())
    };
    let fused = network.clone().fused(&options);
    let (fused, _) = fused.map_err(Failure::input)?;
    let stored = npy::read(&folder.join("logits.npy")).map_err(Failure::input)?;
    let wanted = wanted(&network, &graph, &read("layers.json")?).map_err(named)?;
    fits(&network, stored.data.len()).map_err(named)?;
    let mut ways = vec![("", network)];
    if fused.graph().launches() < ways[0].1.graph().launches() {
        ways.push((", fused", fused));
    }
    let (mut failed, mut objects) = (0, Vec::new());
    for (how, network) in &ways {
        let outcome = compare::<T>(gpu, tuning, network, &wanted, &stored.data)?;
        report(&outcome.lines)?;
        failed += outcome.failed();
        say(format_args!(
            "{name} in {}{how}: {} logits differ by at most {:.2e} (allowed {:.2e}), {} launches, \
             {} layers, {} failed",
            T::DTYPE.name(),
            outcome.logits,
            outcome.error,
            outcome.allowed,
            outcome.launches,
            outcome.lines.len(),
            outcome.failed()
        ))?;
        objects.push(to_json(name, T::DTYPE, &outcome));
    }
    if let Some(file) = json {
        let mut objects = objects.into_iter();
        let mut document = objects.next().unwrap_or(Value::Null);
        document["fused"] = objects.next().unwrap_or(Value::Null);
        file.write(&document)?;
    }
    match failed {
        0 => Ok(()),
        failed => Err(Failure::Checks { failed }),
    }
}

fn to_json(name: &str, dtype: DType, outcome: &Outcome) -> Value {
    let layers: Vec<Value> = outcome
        .lines
        .iter()
        .map(|line| {
            json!({
                "layer": line.name, "mean": number(Some(line.got.mean)),
                "rms": number(Some(line.got.rms)), "ok": line.ok,
            })
        })
        .collect();
    json!({
        "network": name, "dtype": dtype.name(), "launches": outcome.launches,
        "max_logit_error": number(Some(outcome.error)), "allowed": outcome.allowed,
        "verified": outcome.failed() == 0, "layers": layers,
    })
}

/// Computes a network, and compares its logits and the outputs of all launches with the stored
/// values.
fn compare<T: Stored>(
    gpu: &Gpu,
    tuning: &Tuning,
    network: &Network,
    wanted: &HashMap<String, Statistics>,
    stored: &[f64],
) -> Result<Outcome, Failure> {
    let (x, weights) = (network.random_input(1), network.random(SEED));
    let module = network.graph();
    let loaded = GraphOnDevice::<T>::with(gpu, gpu.stream(), module, tuning, &x, weights);
    let mut loaded = loaded.map_err(Failure::device)?;
    let traced = loaded.trace().map_err(Failure::device)?;
    let lines = lines(network, &traced, wanted, T::DTYPE)?;
    let logits = traced.last().map_or(&[][..], |(_, values)| values);
    let largest = stored
        .iter()
        .fold(0.0f64, |most, value| most.max(value.abs()));
    let differences = logits
        .iter()
        .zip(stored)
        .map(|(got, want)| (got - want).abs());
    // `max` would drop a NaN.
    let error = differences.fold(
        0.0f64,
        |worst, e| if e > worst || e.is_nan() { e } else { worst },
    );
    let (allowed, _) = tolerance(T::DTYPE, largest);
    Ok(Outcome {
        launches: module.launches(),
        lines,
        logits: logits.len(),
        error,
        allowed,
    })
}

/// Rejects stored logits whose number is not that of the classes, before anything is computed.
fn fits(network: &Network, stored: usize) -> Result<(), Failure> {
    let classes = network.output().elements();
    if stored == classes {
        return Ok(());
    }
    Err(Failure::input(format!(
        "logits.npy has {stored} numbers, the network has {classes} classes: store one per class"
    )))
}

/// Builds the network of a stored name.
fn build(name: &str, config: &NetworkConfig) -> Result<Network, Failure> {
    let network = match name {
        "alexnet" => alexnet(config, warpconv_nets::GOOGLENET_LRN),
        "googlenet" => googlenet(config, Variant::Bottlenecked),
        "squeezenet11" => squeezenet1_1(config, Edges::TORCHVISION, Variant::Bottlenecked),
        "zfnet512" => zfnet512(config),
        other => {
            return Err(Failure::input(format!(
                "no network is stored as {:?}: alexnet, googlenet, squeezenet11 or zfnet512",
                other.chars().take(40).collect::<String>()
            )));
        }
    };
    network.map_err(Failure::input)
}

/// Stored statistics of each layer of the network, its ReLU included.
fn wanted(
    network: &Network,
    graph: &Value,
    stored: &Value,
) -> Result<HashMap<String, Statistics>, Failure> {
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
            let behind = match op(index + 1) {
                Some("relu") => index + 1,
                _ => index,
            };
            let layer = stored
                .get(behind)
                .ok_or_else(|| wrong("layers.json is too short"))?;
            let field = |name: &str| layer.get(name).and_then(Value::as_f64);
            let (mean, rms) = field("mean")
                .zip(field("rms"))
                .ok_or_else(|| wrong("a layer without mean and rms"))?;
            wanted.push(Statistics { mean, rms });
        }
    }
    let nodes = network.graph().nodes();
    if wanted.len() != nodes.len() {
        return Err(wrong(&format!(
            "{} layers, the network has {}",
            wanted.len(),
            nodes.len()
        )));
    }
    let names = nodes.iter().map(|node| node.name.to_string());
    Ok(names.zip(wanted).collect())
}

/// Compares the outputs of all launches with the statistics of their layers.
fn lines(
    network: &Network,
    traced: &[(usize, Vec<f64>)],
    wanted: &HashMap<String, Statistics>,
    dtype: DType,
) -> Result<Vec<Line>, Failure> {
    // The names of a launch's tensors in the order of a trace: intermediates in the order of their
    // writing, the outputs at the end.
    let nodes = network.graph().nodes();
    let mut names: Vec<(bool, usize, &str)> = Vec::new();
    for (launch, node) in nodes.iter().enumerate() {
        let places = node.to.iter().map(|place| *place == TensorId::Output);
        let layers = network.layers_of(launch);
        names.extend(places.zip(layers).map(|(last, name)| (last, launch, name)));
    }
    names.sort_by_key(|(last, ..)| *last);
    if names.len() != traced.len() {
        let (traced, named) = (traced.len(), names.len());
        return Err(Failure::device(format!(
            "{traced} tensors were written, {named} have a name"
        )));
    }
    let (_, allowed) = tolerance(dtype, 0.0);
    let line = |(_, _, name): &(bool, usize, &str), values: &[f64]| -> Result<Line, Failure> {
        let want = wanted.get(*name).copied();
        let want = want.ok_or_else(|| Failure::input(format!("nothing is stored of {name}")))?;
        let count = values.len() as f64;
        let got = Statistics {
            mean: values.iter().sum::<f64>() / count,
            rms: (values.iter().map(|v| v * v).sum::<f64>() / count).sqrt(),
        };
        let bound = allowed * want.rms;
        let ok = (got.mean - want.mean).abs() <= bound && (got.rms - want.rms).abs() <= bound;
        Ok(Line {
            name: (*name).to_owned(),
            got,
            want,
            ok,
        })
    };
    let pairs = names.iter().zip(traced);
    pairs
        .map(|(name, (_, values))| line(name, values))
        .collect()
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
