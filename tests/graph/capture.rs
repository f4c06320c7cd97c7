//! Launches captured into a graph and replayed. Each test has a process of its own: event tracking
//! is switched off for a whole context, and tests that wait for it would break a capture.

use std::sync::Arc;
use std::thread;

use crate::common::process::own_process;
use crate::common::{Case, gpu, small_conv, tensor, zeros};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaContext, CudaStream};
use half::f16;
use warpconv::Error;
use warpconv::device::Gpu;
use warpconv::launch::{ConvBuffers, Workspace};
use warpconv::plan::Plan;

const THREAD_LOCAL: CUstreamCaptureMode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
const NO_FLAGS: CUgraphInstantiate_flags = CUgraphInstantiate_flags(0);

#[test]
fn a_launch_is_captured_and_replayed_on_new_contents() {
    own_process(|| {
        let gpu = gpu();
        let case = Case::new(small_conv(), 1);
        let plan = gpu
            .prepare(&Plan::new(&case.problem, gpu.capability()).unwrap())
            .unwrap();
        let stream = gpu.context().new_stream().unwrap();

        // With events tracked, the launch is refused and the capture goes on without it.
        let (x, w) = (
            stream.clone_htod(&case.x).unwrap(),
            stream.clone_htod(&case.w).unwrap(),
        );
        let bias = stream.clone_htod(&case.bias).unwrap();
        let mut y = stream.alloc_zeros::<f32>(case.y.len()).unwrap();
        stream.synchronize().unwrap();
        stream.begin_capture(THREAD_LOCAL).unwrap();
        let refused = plan.launch(&stream, ConvBuffers::new(&x, &w, &mut y).bias(&bias));
        assert_eq!(refused, Err(Error::CaptureWithEventTracking));
        drop(stream.end_capture(NO_FLAGS).unwrap());
        plan.launch(&stream, ConvBuffers::new(&x, &w, &mut y).bias(&bias))
            .unwrap();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), case.y);
        drop((x, w, bias, y));

        // SAFETY: from here on this context's buffers are used in one stream only.
        unsafe { gpu.context().disable_event_tracking() };
        let mut x = stream.clone_htod(&case.x).unwrap();
        let (w, bias) = (
            stream.clone_htod(&case.w).unwrap(),
            stream.clone_htod(&case.bias).unwrap(),
        );
        let mut y = stream.alloc_zeros::<f32>(case.y.len()).unwrap();
        stream.synchronize().unwrap();
        stream.begin_capture(THREAD_LOCAL).unwrap();
        plan.launch(&stream, ConvBuffers::new(&x, &w, &mut y).bias(&bias))
            .unwrap();
        let graph = stream
            .end_capture(NO_FLAGS)
            .unwrap()
            .expect("something was captured");
        // Captured, not run.
        assert_eq!(stream.clone_dtoh(&y).unwrap(), vec![0.0; case.y.len()]);

        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), case.y);
        let mut other = Case::new(small_conv(), 20);
        (other.w, other.bias) = (case.w.clone(), case.bias.clone());
        stream.memcpy_htod(&other.x, &mut x).unwrap();
        graph.launch().unwrap();
        let again = stream.clone_dtoh(&y).unwrap();
        assert_ne!(again, case.y);
        stream.memcpy_htod(&case.x, &mut x).unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), case.y);
        let _whole_process = zeros::<f32>(1);
        two_kernels_with_a_workspace_are_replayed(&stream);
    });
}

/// A sum in splits leaves the workspace as the next launch needs it, which a graph's next launch is
/// too.
fn two_kernels_with_a_workspace_are_replayed(stream: &Arc<CudaStream>) {
    let gpu = gpu();
    let job = tensor::job();
    let prepared = gpu.prepare(&tensor::plan(&job.conv, 3)).unwrap();
    assert_eq!(
        (prepared.plan().launches(), prepared.plan().score().split_k),
        (2, 3)
    );
    let mut workspace = Workspace::new(stream, prepared.plan().workspace_bytes()).unwrap();
    let poison = vec![f16::NAN; job.want.len()];
    let mut y = stream.clone_htod(&poison).unwrap();
    gpu.synchronize().unwrap();
    stream.begin_capture(THREAD_LOCAL).unwrap();
    let buffers = job.buffers(&mut y).workspace(&mut workspace);
    prepared.launch(stream, buffers).unwrap();
    let graph = stream
        .end_capture(NO_FLAGS)
        .unwrap()
        .expect("something was captured");
    for _ in 0..3 {
        stream.memcpy_htod(&poison, &mut y).unwrap();
        graph.launch().unwrap();
        assert_eq!(stream.clone_dtoh(&y).unwrap(), job.want);
    }
}

/// A capture in global mode does not bear that any thread waits for the context, which unloading a
/// kernel would have to.
#[test]
fn dropping_plans_and_devices_breaks_no_capture() {
    own_process(|| {
        let context = CudaContext::new(gpu().context().ordinal()).unwrap();
        let gpu = Gpu::new(context.clone()).unwrap();
        let conv = Plan::new(&small_conv(), gpu.capability()).unwrap();
        let plan = gpu.prepare(&conv).unwrap();
        let stream = context.new_stream().unwrap();
        // SAFETY: the buffer is used in this stream only.
        unsafe { context.disable_event_tracking() };
        let mut buffer = stream.alloc_zeros::<f32>(4).unwrap();
        stream.synchronize().unwrap();
        stream
            .begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL)
            .unwrap();
        stream.memset_zeros(&mut buffer).unwrap();
        thread::spawn(move || drop((plan, gpu))).join().unwrap();
        let graph = stream.end_capture(NO_FLAGS).unwrap().expect("a graph");
        graph.launch().unwrap();
        stream.synchronize().unwrap();
        // The next device of this context finds the kernel loaded.
        let again = Gpu::new(context).unwrap();
        again.prepare(&conv).unwrap();
    });
}

/// A graph does not keep its buffers alive, so a capture is refused until event tracking is turned
/// off, which is unsafe; also in a context that has no stream of its own: it tracks uses all the
/// same.
#[test]
fn a_capture_of_the_per_thread_stream_is_refused_too() {
    own_process(|| {
        // The per-thread stream is a blocking one: while it is captured, nobody may use the legacy
        // stream.
        let gpu = Gpu::new(CudaContext::new(gpu().context().ordinal()).unwrap()).unwrap();
        assert!(gpu.context().is_managing_stream_synchronization());
        let case = Case::new(small_conv(), 4);
        let plan = Plan::new(&case.problem, gpu.capability()).unwrap();
        let prepared = gpu.prepare(&plan).unwrap();
        let [x, w, bias] = [&case.x, &case.w, &case.bias].map(|values| gpu.upload(values).unwrap());
        let mut y = gpu.upload(&vec![0.0; case.y.len()]).unwrap();
        gpu.synchronize().unwrap();
        let stream = gpu.context().per_thread_stream();
        stream.begin_capture(THREAD_LOCAL).unwrap();
        let refused = prepared.launch(&stream, ConvBuffers::new(&x, &w, &mut y).bias(&bias));
        assert_eq!(refused, Err(Error::CaptureWithEventTracking));
        drop(stream.end_capture(NO_FLAGS).unwrap());
    });
}
