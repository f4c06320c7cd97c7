//! The pools of AlexNet, GoogLeNet and ResNet-50 at a batch of 128, by bytes a second.

mod support;

use criterion::{BenchmarkId, Criterion, Throughput};
use half::bf16;
use warpconv::Layout;
use warpconv::check::Stored;
use warpconv::gpu::Gpu;
use warpconv::problem::Pool2d;

/// Name, problem in benchdnn notation.
const POOLS: [(&str, &str); 8] = [
    ("alexnet_pool1", "ic96ih55oh27kh3sh2ph0"),
    ("googlenet_pool1", "ic64ih112oh56kh3sh2ph0+ceil"),
    (
        "googlenet_pool1_indices",
        "ic64ih112oh56kh3sh2ph0+ceil+indices",
    ),
    ("googlenet_pool3", "ic480ih28oh14kh3sh2ph0+ceil"),
    ("inception_3a_pool", "ic192ih28oh28kh3sh1ph1"),
    ("resnet_pool1", "ic64ih112oh56kh3sh2ph1"),
    ("average_2x2", "ic256ih28oh14kh2sh2ph0+avg_np"),
    ("global_average", "ic1024ih7+global_avg"),
];

/// Images a batch.
const BATCH: usize = 128;

fn main() {
    let Some(gpu) = support::gpu() else { return };
    let mut criterion = support::criterion(gpu.stream());
    for (name, problem) in POOLS {
        let problem: Pool2d = problem.parse().expect("a problem of the table");
        let problem = problem.with_batch(BATCH).expect("a problem of the table");
        for layout in Layout::ALL {
            let problem = problem.with_layout(layout).expect("a problem of the table");
            run::<f32>(&gpu, &mut criterion, name, &problem);
            run::<bf16>(&gpu, &mut criterion, name, &problem);
        }
    }
    criterion.final_summary();
}

/// One pool in one type.
fn run<T: Stored>(
    gpu: &Gpu,
    criterion: &mut Criterion<support::DeviceTime>,
    name: &str,
    problem: &Pool2d,
) {
    let problem = problem
        .with_dtype(T::DTYPE)
        .expect("a problem of the table");
    let mut group = criterion.benchmark_group("pool");
    group.throughput(Throughput::Bytes(problem.min_bytes()));
    let storage = format!("{}/{}", T::DTYPE.name(), problem.layout().name());
    let mut pool = None;
    group.bench_function(BenchmarkId::new(name, storage), |bencher| {
        let pool = pool.get_or_insert_with(|| support::Pool::<T>::checked(gpu, &problem));
        bencher.iter(|| pool.launch());
    });
    group.finish();
}
