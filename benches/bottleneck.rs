//! Bottleneck and inception against the naive modules that they replace, at a batch of 128.

mod support;

use criterion::{BenchmarkId, Throughput};
use half::bf16;
use warpconv::check::{LoadedModule, Stored};
use warpconv::gpu::Gpu;
use warpconv::ops::{Bottleneck, Inception, Module};
use warpconv::{DType, Error, Layout};

/// Images a batch.
const BATCH: usize = 128;

/// Multiplications that the reference may take for each module; beyond, it looks at some images of the batch.
const REFERENCE_MACS: u64 = 10_000_000_000;

fn main() {
    let Some(gpu) = support::gpu() else { return };
    let mut criterion = support::criterion(gpu.stream());
    run::<f32>(&gpu, &mut criterion);
    run::<bf16>(&gpu, &mut criterion);
    criterion.final_summary();
}

/// Every module in one type.
fn run<T: Stored>(gpu: &Gpu, criterion: &mut criterion::Criterion<support::DeviceTime>) {
    for layout in Layout::ALL {
        for (name, module) in modules(T::DTYPE, layout).expect("modules of known sizes") {
            let mut loaded = LoadedModule::<T>::new(gpu, &module).expect("room on the device");
            loaded.launch().expect("the launches are queued");
            let verdict = loaded.check(REFERENCE_MACS).expect("the launches succeed");
            assert_eq!(
                verdict.failure,
                None,
                "{name} {} {}",
                T::DTYPE.name(),
                layout.name()
            );
            let mut group = criterion.benchmark_group(name);
            group.throughput(Throughput::Elements(2 * module.macs()));
            group.bench_function(
                BenchmarkId::new(T::DTYPE.name(), layout.name()),
                |bencher| {
                    bencher.iter(|| loaded.launch().expect("the launches are queued"));
                },
            );
            group.finish();
        }
    }
}

/// The modules by their names.
fn modules(dtype: DType, layout: Layout) -> Result<[(&'static str, Module); 4], Error> {
    let bottleneck = Bottleneck {
        dtype,
        layout,
        ..Bottleneck::main_job(BATCH, 56, 56)
    };
    let inception = Inception {
        dtype,
        layout,
        ..Inception::inception_3a(BATCH, 28, 28)
    };
    Ok([
        ("bottleneck252/naive", bottleneck.naive()?),
        ("bottleneck252/separate", bottleneck.separate()?),
        ("inception3a/naive", inception.naive()?),
        ("inception3a/separate", inception.separate()?),
    ])
}
