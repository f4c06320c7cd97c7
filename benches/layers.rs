//! The convolutions of the networks of `layers.txt`, with bias and ReLU, beside cuDNN's.
//!
//! `cargo bench --bench layers --features cudnn -- 'layers/googlenet.*n128/bf16'`

use std::path::Path;
use std::process::ExitCode;

use half::{bf16, f16};
use warpconv::DType;
use warpconv::plan::Operation;
use warpconv::problem::{Conv2d, notation};
use warpconv_bench::graphs::Config;
use warpconv_bench::measure;
use warpconv_bench::options::Kind;
use warpconv_bench::record::Row;
use warpconv_bench::session::{Criterion, EMULATED_MACS, Group, Session, group, run};

/// Network, layer and problem, one per line.
const LAYERS: &str = include_str!("layers.txt");

/// The layers of `--quick`: a few of each family.
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

fn main() -> ExitCode {
    let mut wrong = None;
    let exit = run("layers", |session, criterion| match layers(session) {
        Ok(layers) => benchmark(session, criterion, &layers),
        Err(why) => wrong = Some(why),
    });
    match wrong {
        Some(why) => {
            eprintln!("layers: {why}");
            ExitCode::FAILURE
        }
        None => exit,
    }
}

fn benchmark(session: &mut Session, criterion: &mut Criterion, layers: &[(String, Conv2d)]) {
    let usual: &[usize] = if session.is_emulated() {
        &[1]
    } else {
        &[1, 128]
    };
    let batches = session.options.batches(usual, &[1, 32, 128]);
    let kinds = session.options.kinds(&[Kind::F32, Kind::Tf32, Kind::Bf16]);
    for (name, problem) in layers {
        let name = format!("layers/{name}");
        let mut group = group(criterion, &name);
        for &batch in &batches {
            for &kind in &kinds {
                for layout in session.options.layouts() {
                    let config = Config {
                        batch,
                        kind,
                        layout,
                    };
                    let problem = problem
                        .with_batch(batch)
                        .and_then(|problem| problem.to_builder().layout(layout).build())
                        .and_then(|problem| measure::of_kind(&problem, kind));
                    let id = format!("{name}/{}", config.name());
                    match problem {
                        Ok(problem) => measure_one(session, &mut group, &id, config, &problem),
                        Err(why) => session.skip(&id, &why.to_string()),
                    }
                }
            }
        }
        group.finish();
    }
}

fn measure_one(
    session: &mut Session,
    group: &mut Group<'_>,
    id: &str,
    config: Config,
    problem: &Conv2d,
) {
    if !session.takes(problem.macs(), EMULATED_MACS) {
        return;
    }
    let (name, kind) = (config.name(), config.kind);
    let row = match kind.dtype() {
        DType::F32 => measure::convolution::<f32>(session, group, &name, kind, problem),
        DType::F16 => measure::convolution::<f16>(session, group, &name, kind, problem),
        DType::Bf16 => measure::convolution::<bf16>(session, group, &name, kind, problem),
    };
    let row = row.map(|row| {
        row.map(|row| Row {
            id: id.to_owned(),
            ..row
        })
    });
    session.take(id, row);
}

/// The layers to measure, each with its name: those of the files in the options, else of the
/// networks.
fn layers(session: &Session) -> Result<Vec<(String, Conv2d)>, String> {
    let options = &session.options;
    if options.shapes.is_empty() {
        let layers = table(LAYERS)?.into_iter();
        return Ok(match options {
            // All layers take the emulator half an hour.
            _ if options.quick || (session.is_emulated() && !options.full) => layers
                .filter(|(name, _)| QUICK.contains(&&name[..]))
                .collect(),
            _ => layers.collect(),
        });
    }
    let mut layers = Vec::new();
    for path in &options.shapes {
        layers.extend(file(path)?);
    }
    Ok(layers)
}

/// Parses the table of layers: one name and problem per line.
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

/// Reads a benchdnn shape file; three-dimensional problems and poolings are skipped.
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

/// Parses a problem and adds bias and ReLU.
fn epilogue(text: &str) -> Result<Conv2d, String> {
    let problem: Conv2d = text.parse().map_err(warpconv_bench::timed_graph::text)?;
    problem
        .to_builder()
        .bias(true)
        .residual(false)
        .relu(true)
        .build()
        .map_err(warpconv_bench::timed_graph::text)
}
