//! The convolutions of the networks of `layers.txt`, with bias and ReLU, beside cuDNN's.
//!
//! `cargo bench --bench layers --features cudnn -- 'layers/googlenet.*n128/bf16'`

use std::process::ExitCode;

use half::{bf16, f16};
use warpconv::DType;
use warpconv::graph::Step;
use warpconv::plan::Operation;
use warpconv::problem::Conv2d;
use warpconv_bench::exclude;
use warpconv_bench::graphs::Config;
use warpconv_bench::measure;
use warpconv_bench::options::Kind;
use warpconv_bench::problems;
use warpconv_bench::record::Row;
use warpconv_bench::session::{Criterion, EMULATED_MACS, Group, Session, group, run};

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
    for (name, problem) in layers {
        let name = format!("layers/{name}");
        if !session.has_group(&name) {
            continue;
        }
        let mut group = group(criterion, &name);
        for config in session.configs(&name, || configs(session)) {
            let Config {
                batch,
                kind,
                layout,
            } = config;
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
        group.finish();
    }
}

/// The points of a group: chosen by `WARPCONV_BENCH`, else by the device.
fn configs(session: &Session) -> Vec<Config> {
    let usual: &[usize] = if session.is_emulated() {
        &[1]
    } else {
        &[1, 128]
    };
    let kinds = session.options.kinds(&[Kind::F32, Kind::Tf32, Kind::Bf16]);
    let mut configs = Vec::new();
    for batch in session.options.batches(usual, &[1, 32, 128]) {
        for &kind in &kinds {
            for layout in session.options.layouts() {
                configs.push(Config {
                    batch,
                    kind,
                    layout,
                });
            }
        }
    }
    configs
}

fn measure_one(
    session: &mut Session,
    group: &mut Group<'_>,
    id: &str,
    config: Config,
    problem: &Conv2d,
) {
    if !session.takes(id, problem.macs(), EMULATED_MACS) {
        return;
    }
    let step = Step::Conv(problem.clone());
    let instead_of = match exclude::instead_of(&step, session.gpu.capability(), &session.limits) {
        Ok(instead_of) => instead_of,
        Err(why) => return session.skip(id, &why),
    };
    let (name, kind) = (config.name(), config.kind);
    let row = match kind.dtype() {
        DType::F32 => measure::convolution::<f32>(session, group, &name, kind, problem),
        DType::F16 => measure::convolution::<f16>(session, group, &name, kind, problem),
        DType::Bf16 => measure::convolution::<bf16>(session, group, &name, kind, problem),
    };
    let row = row.map(|row| {
        row.map(|row| Row {
            id: id.to_owned(),
            instead_of: instead_of.unwrap_or_default(),
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
        let layers = problems::layers()?.into_iter();
        return Ok(match options {
            _ if session.chooses_rows() => layers.collect(),
            // All layers take the emulator half an hour.
            _ if options.quick || (session.is_emulated() && !options.full) => layers
                .filter(|(name, _)| problems::QUICK_LAYERS.contains(&&name[..]))
                .collect(),
            _ => layers.collect(),
        });
    }
    let mut layers = Vec::new();
    for path in &options.shapes {
        layers.extend(problems::file(path)?);
    }
    Ok(layers)
}
