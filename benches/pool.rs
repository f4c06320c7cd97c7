//! The pools of AlexNet, GoogLeNet and ResNet-50, beside cuDNN's.
//!
//! `cargo bench --bench pool -- pool/googlenet`

use std::process::ExitCode;

use half::{bf16, f16};
use warpconv::DType;
use warpconv::graph::Step;
use warpconv::plan::Operation;
use warpconv::problem::Pool2d;
use warpconv_bench::exclude;
use warpconv_bench::graphs::Config;
use warpconv_bench::measure;
use warpconv_bench::options::Kind;
use warpconv_bench::problems;
use warpconv_bench::record::Row;
use warpconv_bench::session::{Criterion, EMULATED_MACS, Group, Session, group, run};

fn main() -> ExitCode {
    let mut wrong = None;
    let exit = run("pool", |session, criterion| match problems::pools() {
        Ok(pools) => {
            let quick = session.options.quick && !session.chooses_rows();
            for (name, problem) in pools {
                if !quick || problems::QUICK_POOLS.contains(&name) {
                    benchmark(session, criterion, &format!("pool/{name}"), &problem);
                }
            }
        }
        Err(why) => wrong = Some(why),
    });
    match wrong {
        Some(why) => {
            eprintln!("pool: {why}");
            ExitCode::FAILURE
        }
        None => exit,
    }
}

fn benchmark(session: &mut Session, criterion: &mut Criterion, name: &str, problem: &Pool2d) {
    if !session.has_group(name) {
        return;
    }
    let mut group = group(criterion, name);
    for config in session.configs(name, || configs(session)) {
        let id = format!("{name}/{}", config.name());
        if config.kind.name() != config.kind.dtype().name() {
            session.skip(&id, "poolings have no math modes");
            continue;
        }
        let problem = problem
            .with_batch(config.batch)
            .and_then(|problem| problem.to_builder().layout(config.layout).build())
            .and_then(|problem| problem.to_builder().dtype(config.kind.dtype()).build());
        match problem {
            Ok(problem) => measure_one(session, &mut group, &id, config, &problem),
            Err(why) => session.skip(&id, &why.to_string()),
        }
    }
    group.finish();
}

/// The points of a group: chosen by `WARPCONV_BENCH`, else by the device.
fn configs(session: &Session) -> Vec<Config> {
    let usual: &[usize] = if session.is_emulated() { &[1] } else { &[128] };
    // Poolings have no math modes.
    let mut kinds = session.options.kinds(&[Kind::F32, Kind::Bf16]);
    kinds.retain(|kind| kind.name() == kind.dtype().name());
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
    problem: &Pool2d,
) {
    // The work of a pooling is the number of its windows' elements.
    let elements = problem.output().elements() as u64;
    if !session.takes(
        id,
        elements.saturating_mul((problem.window().kernel[0] * problem.window().kernel[1]) as u64),
        EMULATED_MACS,
    ) {
        return;
    }
    let step = Step::Pool(problem.clone());
    let instead_of = match exclude::instead_of(&step, session.gpu.capability(), &session.limits) {
        Ok(instead_of) => instead_of,
        Err(why) => return session.skip(id, &why),
    };
    let name = config.name();
    let row = match problem.input().dtype() {
        DType::F32 => measure::pooling::<f32>(session, group, &name, problem),
        DType::F16 => measure::pooling::<f16>(session, group, &name, problem),
        DType::Bf16 => measure::pooling::<bf16>(session, group, &name, problem),
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
