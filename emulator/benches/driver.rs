//! Times of driver API calls, and the price of the ordering check per kernel.
//!
//! `cargo bench -p ptx-emulator --bench driver`, and once more with `PTX_EMULATOR_ORDER=off`;
//! `PTX_EMULATOR_LIB` names another library to compare with. The order is checked from the second
//! stream on, so each kernel is timed with one stream and with two.

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;

use common::{SCALE, context, kernel};
use criterion::{Criterion, criterion_group, criterion_main};
use cudarc::driver::{CudaFunction, CudaSlice, CudaStream, LaunchConfig, PushKernelArg};

/// As `scale`, of the first word of every 32 bytes.
const SCATTER: &str = r"
.visible .entry scatter(.param .u64 x, .param .f32 factor, .param .u32 n)
{
    .reg .b32 %r<6>;
    .reg .f32 %f<4>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [x];
    ld.param.f32 %f1, [factor];
    mov.u32 %r2, %ctaid.x;
    mov.u32 %r3, %ntid.x;
    mov.u32 %r4, %tid.x;
    mad.lo.u32 %r5, %r2, %r3, %r4;
    mul.wide.u32 %rd2, %r5, 32;
    add.u64 %rd3, %rd1, %rd2;
    ld.global.f32 %f2, [%rd3];
    mul.rn.f32 %f3, %f2, %f1;
    st.global.f32 [%rd3], %f3;
    ret;
}
";

/// Floats in the buffer: 32 MiB.
const COUNT: u32 = 1 << 23;

/// Launches that are waited for together.
const LAUNCHES: u32 = 100;

/// Multiplies the first `n` floats that the kernel is for by one.
fn launch(stream: &Arc<CudaStream>, kernel: &CudaFunction, x: &mut CudaSlice<f32>, n: u32) {
    let mut launch = stream.launch_builder(kernel);
    launch.arg(x).arg(&1.0f32).arg(&n);
    let config = LaunchConfig {
        grid_dim: (n / 256, 1, 1),
        block_dim: (256, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: both kernels keep to the buffer.
    unsafe { launch.launch(config) }.expect("a launch");
}

fn calls(criterion: &mut Criterion) {
    let context = context(80);
    let scale = kernel(&context, SCALE, "scale");
    let scatter = kernel(&context, SCATTER, "scatter");
    let default = context.default_stream();
    let mut x = default.alloc_zeros::<f32>(COUNT as usize).expect("memory");
    let mut measure = |name: &str, stream: &Arc<CudaStream>| {
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10);
        for (name, kernel, n) in [
            ("rows of 32 MiB", &scale, COUNT),
            ("a word in each sector of 32 MiB", &scatter, COUNT / 8),
            ("one block", &scale, 256),
        ] {
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    launch(stream, kernel, &mut x, n);
                    stream.synchronize().expect("no fault");
                });
            });
        }
        group.bench_function("a hundred launches of one block", |bencher| {
            bencher.iter(|| {
                (0..LAUNCHES).for_each(|_| launch(stream, &scale, &mut x, 256));
                stream.synchronize().expect("no fault");
            });
        });
        group.bench_function("a memset of 1 KiB", |bencher| {
            bencher.iter(|| {
                let mut part = x.slice_mut(..256);
                stream.memset_zeros(&mut part).expect("a memset");
                stream.synchronize().expect("no fault");
            });
        });
        group.finish();
    };
    measure("one stream", &default);
    let stream = context.new_stream().expect("a stream");
    measure("two streams", &stream);
}

criterion_group!(benches, calls);
criterion_main!(benches);
