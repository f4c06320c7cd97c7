//! The convolutions of the networks of `layers.txt`, with bias and ReLU, beside cuDNN's.
//!
//! `cargo bench --bench layers --features cudnn -- googlenet n128 bf16` runs some of them; `--help`
//! says more.

use std::path::Path;
use std::process::ExitCode;

use half::{bf16, f16};
use warpconv::DType;
use warpconv::problem::{Conv2d, notation};
use warpconv_bench::measure;
use warpconv_bench::options::Kind;
use warpconv_bench::record::Row;
use warpconv_bench::session::Session;

/// Network, layer and problem, one per line.
const LAYERS: &str = include_str!("layers.txt");

/// Selection of `--quick`: a few of every family.
const QUICK: [&str; 16] = [
    "alexnet/conv2",
    "alexnet/conv3",
    "googlenet/conv1",
    "googlenet/conv2",
    "googlenet/3a_1x1",
    "googlenet/3a_3x3",
    "googlenet/4c_3x3",
    "googlenet/5b_5x5",
    "vgg16/conv1_2",
    "vgg16/conv4_2",
    "resnet50/res2a_3x3",
    "resnet50/res3a_proj",
    "resnet50/res5b_3x3",
    "resnext50_32x4d/g32_512_14",
    "mobilenet_dw/dw512_14_s1",
    "bottleneck252/naive_3x3_252_252",
];

/// Default selection, and the addition of `--full`.
const NETWORKS: [&str; 9] = [
    "alexnet",
    "bottleneck252",
    "googlenet",
    "lenet5",
    "mobilenet_dw",
    "nin_imagenet",
    "resnet50",
    "resnext50_32x4d",
    "vgg16",
];

fn main() -> ExitCode {
    let Some(mut session) = Session::open("layers") else {
        return ExitCode::SUCCESS;
    };
    let layers = match layers(&session) {
        Ok(layers) => layers,
        Err(why) => {
            eprintln!("layers: {why}");
            return ExitCode::FAILURE;
        }
    };
    let emulated = session.is_emulated();
    let usual: &[usize] = if emulated { &[1] } else { &[1, 128] };
    let batches = session.options.batches(usual, &[1, 32, 128]);
    let kinds = session.options.kinds(&[Kind::F32, Kind::Tf32, Kind::Bf16]);
    for (name, problem) in layers {
        for &batch in &batches {
            for &kind in &kinds {
                for layout in session.options.layouts() {
                    let kind_name = kind.name();
                    let id = format!("{name}/n{batch}/{kind_name}/{}", layout.name());
                    let problem = problem
                        .with_batch(batch)
                        .and_then(|problem| problem.with_layout(layout))
                        .and_then(|problem| measure::of_kind(&problem, kind));
                    match problem {
                        Ok(problem) => measure_one(&mut session, &id, kind, &problem),
                        Err(why) => session.skip(&id, &why.to_string()),
                    }
                }
            }
        }
    }
    session.finish()
}

fn measure_one(session: &mut Session, id: &str, kind: Kind, problem: &Conv2d) {
    if !session.wants(id, problem.macs()) {
        return;
    }
    let row: Result<Row, String> = match kind.dtype() {
        DType::F32 => measure::convolution::<f32>(session, id, kind, problem),
        DType::F16 => measure::convolution::<f16>(session, id, kind, problem),
        DType::Bf16 => measure::convolution::<bf16>(session, id, kind, problem),
    };
    session.take(id, row);
}

/// The layers to measure, each with its name: those of files, else of the networks.
fn layers(session: &Session) -> Result<Vec<(String, Conv2d)>, String> {
    let options = &session.options;
    if options.shapes.is_empty() {
        let layers = table(LAYERS)?.into_iter();
        return Ok(match options {
            _ if options.quick => layers
                .filter(|(name, _)| QUICK.contains(&&name[..]))
                .collect(),
            _ if options.full || !options.filters.is_empty() => layers.collect(),
            _ => layers
                .filter(|(name, _)| {
                    let network = name.split('/').next().unwrap_or_default();
                    NETWORKS.contains(&network)
                })
                .collect(),
        });
    }
    let mut layers = Vec::new();
    for path in &options.shapes {
        layers.extend(file(path)?);
    }
    Ok(layers)
}

/// The table of layers: a name and a problem a line.
fn table(text: &str) -> Result<Vec<(String, Conv2d)>, String> {
    let mut layers = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |why: String| format!("layers.txt:{}: {why}", number + 1);
        let (name, problem) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| wrong(String::from("a name and a problem are expected")))?;
        let problem = epilogue(problem.trim()).map_err(wrong)?;
        layers.push((name.to_owned(), problem));
    }
    Ok(layers)
}

/// A file of benchdnn's; three-dimensional problems and poolings in it are left out.
fn file(path: &Path) -> Result<Vec<(String, Conv2d)>, String> {
    let text = warpconv::files::text(path, warpconv::files::SHAPES)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut layers = Vec::new();
    for (number, line) in notation::lines(&text) {
        match epilogue(line) {
            Ok(problem) => layers.push((format!("{stem}/{number}"), problem)),
            Err(why) => println!("{}:{number}: left out: {why}", path.display()),
        }
    }
    Ok(layers)
}

/// A problem with bias and ReLU.
fn epilogue(text: &str) -> Result<Conv2d, String> {
    let problem: Conv2d = text.parse().map_err(warpconv_bench::timed_graph::text)?;
    problem
        .with_epilogue(true, false, true)
        .map_err(warpconv_bench::timed_graph::text)
}
