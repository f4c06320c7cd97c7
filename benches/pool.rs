//! The pools of AlexNet, GoogLeNet and ResNet-50, beside cuDNN's.
//!
//! `cargo bench --bench pool -- pool/googlenet`

use std::process::ExitCode;

use half::{bf16, f16};
use warpconv::DType;
use warpconv::plan::Operation;
use warpconv::problem::Pool2d;
use warpconv_bench::graphs::Config;
use warpconv_bench::measure;
use warpconv_bench::options::Kind;
use warpconv_bench::record::Row;
use warpconv_bench::session::{Criterion, EMULATED_MACS, Group, Session, group, run};

/// Name and problem in benchdnn notation.
const POOLS: &[(&str, &str)] = &[
    ("alexnet_pool1", "ic96ih55oh27kh3sh2ph0"),
    ("alexnet_pool2", "ic256ih27oh13kh3sh2ph0"),
    ("googlenet_pool1", "ic64ih112oh56kh3sh2ph0+ceil"),
    (
        "googlenet_pool1_indices",
        "ic64ih112oh56kh3sh2ph0+ceil+indices",
    ),
    ("googlenet_pool2", "ic192ih56oh28kh3sh2ph0+ceil"),
    ("googlenet_pool3", "ic480ih28oh14kh3sh2ph0+ceil"),
    ("googlenet_pool4", "ic832ih14oh7kh3sh2ph0+ceil"),
    ("inception_3a_pool", "ic192ih28oh28kh3sh1ph1"),
    ("inception_5b_pool", "ic832ih7oh7kh3sh1ph1"),
    ("vgg16_pool1", "ic64ih224oh112kh2sh2ph0"),
    ("resnet_pool1", "ic64ih112oh56kh3sh2ph1"),
    ("average_2x2", "ic256ih28oh14kh2sh2ph0+avg_np"),
    ("global_average", "ic1024ih7+global_avg"),
];

/// The pools of `--quick`.
const QUICK: [&str; 4] = [
    "googlenet_pool1",
    "inception_3a_pool",
    "resnet_pool1",
    "global_average",
];

fn main() -> ExitCode {
    run("pool", |session, criterion| {
        let quick = session.options.quick;
        for &(name, text) in POOLS {
            if !quick || QUICK.contains(&name) {
                let problem: Pool2d = text.parse().expect("a problem of the table");
                benchmark(session, criterion, &format!("pool/{name}"), &problem);
            }
        }
    })
}

fn benchmark(session: &mut Session, criterion: &mut Criterion, name: &str, problem: &Pool2d) {
    let usual: &[usize] = if session.is_emulated() { &[1] } else { &[128] };
    let batches = session.options.batches(usual, &[1, 32, 128]);
    // Poolings have no math modes.
    let mut kinds = session.options.kinds(&[Kind::F32, Kind::Bf16]);
    kinds.retain(|kind| kind.name() == kind.dtype().name());
    let mut group = group(criterion, name);
    for &batch in &batches {
        for &kind in &kinds {
            for layout in session.options.layouts() {
                let config = Config {
                    batch,
                    kind,
                    layout,
                };
                let id = format!("{name}/{}", config.name());
                let problem = problem
                    .with_batch(batch)
                    .and_then(|problem| problem.to_builder().layout(layout).build())
                    .and_then(|problem| problem.to_builder().dtype(kind.dtype()).build());
                match problem {
                    Ok(problem) => measure_one(session, &mut group, &id, config, &problem),
                    Err(why) => session.skip(&id, &why.to_string()),
                }
            }
        }
    }
    group.finish();
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
        elements.saturating_mul((problem.window().kernel[0] * problem.window().kernel[1]) as u64),
        EMULATED_MACS,
    ) {
        return;
    }
    let name = config.name();
    let row = match problem.input().dtype() {
        DType::F32 => measure::pooling::<f32>(session, group, &name, problem),
        DType::F16 => measure::pooling::<f16>(session, group, &name, problem),
        DType::Bf16 => measure::pooling::<bf16>(session, group, &name, problem),
    };
    let row = row.map(|row| {
        row.map(|row| Row {
            id: id.to_owned(),
            ..row
        })
    });
    session.take(id, row);
}
