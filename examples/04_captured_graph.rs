//! Captures launches into a CUDA graph and replays it on new contents of the same buffers.
//!
//! `cargo run --release --example 04_captured_graph`

use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::launch::{ConvBuffers, Workspace};
use warpconv::plan::Plan;
use warpconv::problem::{Conv2d, Padding};

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    let gpu = Gpu::open(&DeviceChoice::from_env()?)?;
    let reduce = Conv2d::builder()
        .input(1, 64, 14, 14)
        .filters(16)
        .kernel(1, 1)
        .build()?;
    let spatial = Conv2d::builder()
        .input(1, 16, 14, 14)
        .filters(16)
        .kernel(3, 3)
        .padding(Padding::same(1))
        .build()?;
    let plan = |conv: &Conv2d| gpu.prepare(&Plan::new(conv, gpu.capability())?);
    let (first, second) = (plan(&reduce)?, plan(&spatial)?);

    // A graph does not keep its buffers alive, and cudarc's event tracking cannot be captured. So
    // a launch is refused while a stream is captured, until tracking is off.
    // SAFETY: from here on, all buffers of this context are used in one stream only, and they
    // outlive the graph.
    unsafe { gpu.context().disable_event_tracking() };
    let stream = gpu.context().new_stream()?;

    // Everything that a launch needs is allocated before the capture.
    let mut x = stream.alloc_zeros::<f32>(reduce.input().len())?;
    let w1 = stream.clone_htod(&vec![0.5f32; reduce.filter().len()])?;
    let w2 = stream.clone_htod(&vec![0.25f32; spatial.filter().len()])?;
    let mut between = stream.alloc_zeros::<f32>(reduce.output().len())?;
    let mut y = stream.alloc_zeros::<f32>(spatial.output().len())?;
    let bytes = |p: &Plan<Conv2d>| p.workspace_bytes();
    let bytes = bytes(first.plan()).max(bytes(second.plan()));
    let mut workspace = Workspace::new(&stream, bytes)?;
    stream.synchronize()?;

    stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)?;
    let buffers = ConvBuffers::new(&x, &w1, &mut between).workspace(&mut workspace);
    first.launch(&stream, buffers)?;
    let buffers = ConvBuffers::new(&between, &w2, &mut y).workspace(&mut workspace);
    second.launch(&stream, buffers)?;
    let graph = stream
        .end_capture(CUgraphInstantiate_flags(0))?
        .ok_or("nothing was captured")?;

    for value in [1.0f32, 3.0] {
        stream.memcpy_htod(&vec![value; reduce.input().len()], &mut x)?;
        graph.launch()?;
        let corner = stream.clone_dtoh(&y)?[0];
        println!("x = {value}: corner {corner}");
        // 64 channels times 0.5, then four taps of 16 channels times 0.25.
        assert_eq!(corner, value * 32.0 * 4.0 * 16.0 * 0.25);
    }
    Ok(())
}
