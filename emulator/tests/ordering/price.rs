//! What the check costs: run with `--ignored --nocapture`, and once more with `PTX_EMULATOR_ORDER=off`.

use std::time::Instant;

use cudarc::driver::{CudaFunction, CudaSlice, CudaStream, LaunchConfig, PushKernelArg};
use std::sync::Arc;

use crate::common::{SCALE, context, kernel};
use crate::harness::{alone, library};

/// Rows of words, as `scale` touches them, and words 32 bytes apart.
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

/// The least milliseconds of some launches and waits for them.
fn time(stream: &Arc<CudaStream>, kernel: &CudaFunction, x: &mut CudaSlice<f32>, n: u32) -> f64 {
    let mut best = f64::INFINITY;
    for _ in 0..9 {
        let begin = Instant::now();
        let mut launch = stream.launch_builder(kernel);
        launch.arg(&mut *x).arg(&1.0f32).arg(&n);
        let config = LaunchConfig {
            grid_dim: (n / 256, 1, 1),
            block_dim: (256, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: both kernels keep to the buffer.
        unsafe { launch.launch(config) }.expect("a launch");
        stream.synchronize().expect("no fault");
        best = best.min(begin.elapsed().as_secs_f64() * 1e3);
    }
    best
}

#[test]
#[ignore = "prints times"]
fn price() {
    let _alone = alone();
    let _library = library();
    let context = context(80);
    let scale = kernel(&context, SCALE, "scale");
    let scatter = kernel(&context, SCATTER, "scatter");
    let default = context.default_stream();
    let mut x = default.alloc_zeros::<f32>(COUNT as usize).expect("memory");
    let mut print = |what: &str, stream: &Arc<CudaStream>| {
        let rows = time(stream, &scale, &mut x, COUNT);
        let scattered = time(stream, &scatter, &mut x, COUNT / 8);
        let small = time(stream, &scale, &mut x, 256);
        println!("{what}: rows {rows:.2} ms, scattered {scattered:.2} ms, small {small:.4} ms");
    };
    print("one stream", &default);
    let stream = context.new_stream().expect("a stream");
    print("two streams", &stream);
}
