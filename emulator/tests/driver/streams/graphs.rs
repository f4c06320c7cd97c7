//! Graphs: their edges are the order, and launches stand in their streams.

use std::sync::atomic::{AtomicU32, Ordering};

use super::harness::{Driver, NOT_READY, OK, SET, Stream};
use cudarc::driver::sys;

fn captured(stream: Stream, work: impl FnOnce()) -> sys::CUgraphExec {
    let (mut graph, mut exec) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: places for results on the stack, and handles of this test's own.
    unsafe {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        assert_eq!(sys::cuStreamBeginCapture_v2(stream.raw(), mode), OK);
        work();
        assert_eq!(sys::cuStreamEndCapture(stream.raw(), &mut graph), OK);
        assert_eq!(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0), OK);
        assert_eq!(sys::cuGraphDestroy(graph), OK);
    }
    exec
}

fn launch(exec: sys::CUgraphExec, stream: Stream) {
    // SAFETY: handles of this test's own.
    assert_eq!(unsafe { sys::cuGraphLaunch(exec, stream.raw()) }, OK);
}

#[test]
fn edges_order_and_not_the_order_of_capture() {
    let driver = Driver::new();
    let (stream, fork) = (driver.stream(false), driver.stream(false));
    let gate = super::harness::Gate::new();
    let exec = captured(stream, || {
        let begin = driver.record(stream);
        driver.wait(fork, begin);
        // Captured first, this branch needs the other one.
        driver.pass_in(stream, gate);
        driver.open_in(fork, gate);
        let end = driver.record(fork);
        driver.wait(stream, end);
    });
    launch(exec, stream);
    assert_eq!(driver.sync(stream), OK);
    assert!(gate.is_open());
}

#[test]
fn a_launch_stands_in_its_stream() {
    let driver = Driver::new();
    let stream = driver.stream(false);
    let kernel = driver.kernel(SET, c"set");
    let (x, y) = (driver.memory(1), driver.memory(1));
    let exec = captured(stream, || {
        assert_eq!(driver.launch(stream, kernel, x, 2), OK);
        driver.copy(stream, y, x, 1);
    });
    let gate = driver.gate(stream);
    driver.fill(stream, x, 1, 1);
    launch(exec, stream);
    driver.fill(stream, x, 3, 1);
    let end = driver.record(stream);
    assert_eq!(driver.query(end), NOT_READY);
    // SAFETY: a handle of this test's own; the launch goes on.
    assert_eq!(unsafe { sys::cuGraphExecDestroy(exec) }, OK);
    gate.open();
    assert_eq!(driver.sync(stream), OK);
    assert_eq!((driver.word(x), driver.word(y)), (3, 2));
}

#[test]
fn two_launches_of_one_graph_do_not_overlap() {
    static INSIDE: AtomicU32 = AtomicU32::new(0);
    static MOST: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn stay(_: *mut std::ffi::c_void) {
        let now = INSIDE.fetch_add(1, Ordering::SeqCst) + 1;
        MOST.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(std::time::Duration::from_millis(20));
        INSIDE.fetch_sub(1, Ordering::SeqCst);
    }
    let driver = Driver::new();
    let (first, second) = (driver.stream(false), driver.stream(false));
    let exec = captured(first, || driver.host(first, stay, std::ptr::null_mut()));
    for _ in 0..2 {
        launch(exec, first);
        launch(exec, second);
    }
    assert_eq!(driver.sync_all(), OK);
    assert_eq!(MOST.load(Ordering::SeqCst), 1);
}
