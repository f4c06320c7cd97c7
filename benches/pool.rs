//! The pools of AlexNet, GoogLeNet and ResNet-50, beside cuDNN's.

use std::process::ExitCode;

use half::{bf16, f16};
use warpconv::DType;
use warpconv::problem::Pool2d;
use warpconv_bench::measure;
use warpconv_bench::options::Kind;
use warpconv_bench::session::Session;

/// Name, problem in benchdnn notation.
const POOLS: [(&str, &str); 13] = [
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

/// Selection of `--quick`.
const QUICK: [&str; 4] = [
    "googlenet_pool1",
    "inception_3a_pool",
    "resnet_pool1",
    "global_average",
];

fn main() -> ExitCode {
    let Some(mut session) = Session::open("pool") else {
        return ExitCode::SUCCESS;
    };
    let usual: &[usize] = if session.is_emulated() { &[1] } else { &[128] };
    let batches = session.options.batches(usual, &[1, 32, 128]);
    // Pools have no products, so no modes of them.
    let mut kinds = session.options.kinds(&[Kind::F32, Kind::Bf16]);
    kinds.retain(|kind| kind.name() == kind.dtype().name());
    let quick = session.options.quick;
    for (name, text) in POOLS {
        if quick && !QUICK.contains(&name) {
            continue;
        }
        let problem: Pool2d = text.parse().expect("a problem of the table");
        for &batch in &batches {
            for &kind in &kinds {
                for layout in session.options.layouts() {
                    let id = format!("pool/{name}/n{batch}/{}/{}", kind.name(), layout.name());
                    let problem = problem
                        .with_batch(batch)
                        .and_then(|problem| problem.with_layout(layout))
                        .and_then(|problem| problem.with_dtype(kind.dtype()));
                    match problem {
                        Ok(problem) => measure_one(&mut session, &id, &problem),
                        Err(why) => session.skip(&id, &why.to_string()),
                    }
                }
            }
        }
    }
    session.finish()
}

fn measure_one(session: &mut Session, id: &str, problem: &Pool2d) {
    // A pool's work is its window's elements.
    let elements = problem.output().elements() as u64;
    let work = elements.saturating_mul((problem.r() * problem.s()) as u64);
    if !session.wants(id, work) {
        return;
    }
    let row = match problem.dtype() {
        DType::F32 => measure::pooling::<f32>(session, id, problem),
        DType::F16 => measure::pooling::<f16>(session, id, problem),
        DType::Bf16 => measure::pooling::<bf16>(session, id, problem),
    };
    session.take(id, row);
}
