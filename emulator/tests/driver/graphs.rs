//! Capture and replay through cudarc.

use crate::common::{SCALE, code, context, kernel};
use cudarc::driver::sys::{
    self, CUgraphInstantiate_flags as Flags, CUresult, CUstreamCaptureMode as Mode,
};
use cudarc::driver::{CudaContext, CudaStream, LaunchConfig, PushKernelArg};
use std::sync::Arc;

/// A context whose slices record no events, as captures need, and a stream of it.
fn quiet() -> (Arc<CudaContext>, Arc<CudaStream>) {
    let context = context(80);
    // SAFETY: each test uses one stream, or joins those that it forks.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().expect("a stream");
    (context, stream)
}

/// Number of a graph's nodes.
fn nodes(graph: sys::CUgraph) -> usize {
    let mut count = 0;
    // SAFETY: only the count is asked for.
    let code = unsafe { sys::cuGraphGetNodes(graph, std::ptr::null_mut(), &mut count) };
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    count
}

#[test]
fn captured_work_runs_at_each_replay() {
    let (context, stream) = quiet();
    let scale = kernel(&context, SCALE, "scale");
    let mut x = stream.clone_htod(&[1.0f32, 2.0]).expect("a copy");
    stream
        .begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .expect("a capture");
    assert_eq!(
        stream.capture_status(),
        Ok(sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_ACTIVE)
    );
    for factor in [2.0f32, 5.0] {
        let mut launch = stream.launch_builder(&scale);
        launch.arg(&mut x).arg(&factor).arg(&2u32);
        let config = LaunchConfig {
            grid_dim: (1, 1, 1),
            block_dim: (32, 1, 1),
            shared_mem_bytes: 0,
        };
        // SAFETY: the kernel keeps to two elements.
        unsafe { launch.launch(config) }.expect("captured");
    }
    let graph = stream
        .end_capture(Flags(0))
        .expect("a graph")
        .expect("a graph");
    assert_eq!(nodes(graph.cu_graph()), 2);
    assert_eq!(stream.clone_dtoh(&x), Ok(vec![1.0, 2.0]), "nothing ran yet");
    graph.upload().expect("uploaded");
    graph.launch().expect("launched");
    assert_eq!(stream.clone_dtoh(&x), Ok(vec![10.0, 20.0]));
    graph.launch().expect("launched");
    assert_eq!(stream.clone_dtoh(&x), Ok(vec![100.0, 200.0]));
}

#[test]
fn forked_streams_take_part_and_must_join() {
    let (_context, stream) = quiet();
    let mut x = stream.alloc_zeros::<u32>(2).expect("memory");
    let mut y = stream.alloc_zeros::<u32>(2).expect("memory");
    stream
        .begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .expect("a capture");
    let fork = stream.fork().expect("a fork");
    fork.memset_zeros(&mut x).expect("captured");
    stream.memset_zeros(&mut y).expect("captured");
    stream.join(&fork).expect("joined");
    let graph = stream
        .end_capture(Flags(0))
        .expect("a graph")
        .expect("a graph");
    assert_eq!(nodes(graph.cu_graph()), 2);
    graph.launch().expect("launched");
    stream
        .begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .expect("a capture");
    let fork = stream.fork().expect("a fork");
    fork.memset_zeros(&mut x).expect("captured");
    assert_eq!(
        code(stream.end_capture(Flags(0))),
        Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNJOINED)
    );
}

#[test]
fn captures_refuse_what_would_wait() {
    let (context, stream) = quiet();
    let invalidated = Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_INVALIDATED);
    let unsupported = Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED);
    let begin = || stream.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL);
    begin().expect("a capture");
    assert_eq!(code(stream.synchronize()), unsupported);
    assert_eq!(code(stream.end_capture(Flags(0))), invalidated);
    begin().expect("a capture");
    assert_eq!(code(context.synchronize()), unsupported);
    assert_eq!(code(stream.end_capture(Flags(0))), invalidated);
    let before = context
        .new_stream()
        .expect("a stream")
        .record_event(None)
        .expect("an event");
    begin().expect("a capture");
    assert_eq!(
        code(stream.wait(&before)),
        Some(CUresult::CUDA_ERROR_STREAM_CAPTURE_ISOLATION)
    );
    assert_eq!(code(stream.end_capture(Flags(0))), invalidated);
    begin().expect("a capture");
    let captured = stream.record_event(None).expect("an event");
    assert_eq!(
        code(captured.synchronize()),
        Some(CUresult::CUDA_ERROR_CAPTURED_EVENT)
    );
    assert_eq!(code(begin()), Some(CUresult::CUDA_ERROR_ILLEGAL_STATE));
    assert!(stream.end_capture(Flags(0)).is_ok());
    let legacy = context.default_stream();
    assert_eq!(
        code(legacy.begin_capture(Mode::CU_STREAM_CAPTURE_MODE_RELAXED)),
        unsupported
    );
}

#[test]
fn instantiation_checks_its_flags() {
    let (_context, stream) = quiet();
    stream
        .begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .expect("a capture");
    let both = Flags::CUDA_GRAPH_INSTANTIATE_FLAG_AUTO_FREE_ON_LAUNCH | Flags(4);
    assert_eq!(
        code(stream.end_capture(both)),
        Some(CUresult::CUDA_ERROR_INVALID_VALUE)
    );
    stream
        .begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .expect("a capture");
    let graph = stream
        .end_capture(Flags(0))
        .expect("a graph")
        .expect("a graph");
    assert_eq!(nodes(graph.cu_graph()), 0);
    graph.launch().expect("an empty graph runs");
}

#[test]
fn memory_can_be_part_of_a_graph() {
    let (_context, stream) = quiet();
    let mut y = stream.alloc_zeros::<u32>(4).expect("memory");
    stream
        .begin_capture(Mode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        .expect("a capture");
    let scratch = stream.alloc_zeros::<u32>(4).expect("captured");
    stream.memcpy_dtod(&scratch, &mut y).expect("captured");
    drop(scratch);
    let graph = stream
        .end_capture(Flags(0))
        .expect("a graph")
        .expect("a graph");
    assert_eq!(nodes(graph.cu_graph()), 4);
    for _ in 0..2 {
        stream
            .memcpy_htod(&[1u32, 2, 3, 4], &mut y)
            .expect("a copy");
        graph.launch().expect("launched");
        assert_eq!(stream.clone_dtoh(&y), Ok(vec![0; 4]));
    }
}
