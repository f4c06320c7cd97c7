//! Order by the streams' own rules: default streams, threads, graphs, waits of the host.

use std::ffi::c_void;
use std::ptr::null_mut;

use cudarc::driver::sys::{self, CUresult, CUstream};

use super::harness::*;

#[test]
fn the_legacy_stream_waits_for_blocking_streams_only() {
    own_process!();
    fails(|p| {
        p.put(p.a, 0, 1);
        p.put(LEGACY, 0, 1);
        Expected {
            first: ("kernel put", p.a, "write"),
            second: ("kernel put", LEGACY, "write"),
            bytes: (0, 1),
        }
    });
    fails(|p| {
        p.put(LEGACY, 0, 1);
        p.put(p.a, 0, 1);
        Expected {
            first: ("kernel put", LEGACY, "write"),
            second: ("kernel put", p.a, "write"),
            bytes: (0, 1),
        }
    });
    passes(|p| {
        let (c, d) = (p.stream(0), p.stream(0));
        p.put(c, 0, 1);
        p.put(LEGACY, 0, 1);
        p.put(d, 0, 1);
    });
}

#[test]
fn blocking_streams_do_not_wait_for_each_other() {
    own_process!();
    let mut streams = (0, 0);
    let (text, x) = report(80, |p| {
        let (c, d) = (p.stream(0), p.stream(0));
        streams = (c as usize, d as usize);
        p.put(c, 0, 1);
        p.put(d, 0, 1);
    });
    let (c, d) = streams;
    let start = format!(
        "not ordered: write of 1 byte at {x:#x} is not ordered behind an earlier write of them\n  \
         kernel put in stream {d:#x}\n  does not wait for kernel put in stream {c:#x}\n"
    );
    assert!(text.starts_with(&start), "{text}");
}

#[test]
fn every_thread_has_a_default_stream_of_its_own() {
    own_process!();
    let in_thread = |p: &Program, wait: bool| {
        let p = *p;
        let thread = std::thread::spawn(move || {
            let p = p;
            p.bind();
            p.put(PER_THREAD, 9, 1);
            if wait {
                // SAFETY: a context is current.
                ok(unsafe { sys::cuStreamSynchronize(PER_THREAD) });
            }
        });
        thread.join().expect("the thread ends well");
    };
    let (text, x) = report(80, |p| {
        in_thread(p, false);
        p.put(PER_THREAD, 9, 1);
    });
    let start = format!(
        "not ordered: write of 1 byte at {:#x} is not ordered behind an earlier write of them\n  \
         kernel put in the per-thread default stream number ",
        x + 9
    );
    assert!(text.starts_with(&start), "{text}");
    let named = text
        .matches("the per-thread default stream number ")
        .count();
    assert_eq!(named, 4, "both streams, and both again: {text}");
    passes(|p| {
        in_thread(p, true);
        p.put(PER_THREAD, 9, 1);
    });
    // They wait for the legacy stream, and it for them.
    passes(|p| {
        in_thread(p, false);
        p.put(LEGACY, 9, 1);
        p.put(PER_THREAD, 9, 1);
    });
}

/// Captures `work` in streams `a` and `b`, of which `b` begins behind what `before` gave `a`.
fn captured(p: &Program, work: impl FnOnce(CUstream, CUstream)) -> sys::CUgraphExec {
    let (mut graph, mut exec) = (null_mut(), null_mut());
    // SAFETY: the handles are valid, the results have places.
    unsafe {
        let mode = sys::CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        ok(sys::cuStreamBeginCapture_v2(p.a, mode));
        p.join(p.b, p.a);
        work(p.a, p.b);
        p.join(p.a, p.b);
        ok(sys::cuStreamEndCapture(p.a, &mut graph));
        ok(sys::cuGraphInstantiateWithFlags(&mut exec, graph, 0));
    }
    exec
}

fn launch(exec: sys::CUgraphExec, stream: CUstream) {
    // SAFETY: both handles are valid.
    ok(unsafe { sys::cuGraphLaunch(exec, stream) });
}

#[test]
fn branches_of_a_graph_run_side_by_side() {
    own_process!();
    let mut stream = 0;
    let (text, x) = report(80, |p| {
        stream = p.a as usize;
        let exec = captured(p, |a, b| {
            p.put(a, 0, 5);
            p.put(b, 4, 5);
        });
        launch(exec, p.a);
    });
    assert_eq!(
        text,
        format!(
            "not ordered: write of 1 byte at {:#x} is not ordered behind an earlier write of \
            them\n  \
             kernel put in non-blocking stream {stream:#x}\n  \
             does not wait for kernel put in non-blocking stream {stream:#x}\n  \
             allocation: #n \"x\" of 256 bytes at {x:#x}; the bytes begin at its byte 4\n  \
             missing: an edge of the graph between these two nodes",
            x + 4
        )
    );
    passes(|p| {
        let exec = captured(p, |a, b| {
            p.put(a, 0, 4);
            p.put(b, 4, 5);
        });
        // Launches of one graph do not overlap, whatever the streams; what is behind a launch is
        // behind all nodes.
        launch(exec, p.a);
        launch(exec, p.b);
        p.put(p.b, 0, 9);
    });
}

#[test]
fn capture_orders_by_edges_and_not_by_calls() {
    own_process!();
    // In the order of the calls the copy follows the kernel; in the graph it does not.
    let (text, _) = report(80, |p| {
        let host = p.pinned();
        let exec = captured(p, |a, b| {
            p.put(a, 0, 8);
            p.download(b, host, 7, 1);
        });
        launch(exec, p.b);
    });
    assert!(
        text.ends_with("missing: an edge of the graph between these two nodes"),
        "{text}"
    );
    passes(|p| {
        let host = p.pinned();
        let exec = captured(p, |a, b| {
            p.put(a, 0, 8);
            p.join(b, a);
            p.download(b, host, 7, 1);
        });
        launch(exec, p.b);
    });
}

#[test]
fn a_launch_of_a_graph_stands_in_its_stream() {
    own_process!();
    fails(|p| {
        let exec = captured(p, |_, b| p.put(b, 0, 8));
        launch(exec, p.a);
        p.get(p.b, 7, 1);
        Expected {
            first: ("kernel put", p.a, "write"),
            second: ("kernel get", p.b, "read"),
            bytes: (7, 8),
        }
    });
    passes(|p| {
        let exec = captured(p, |_, b| p.put(b, 0, 8));
        p.get(p.b, 7, 1);
        p.join(p.a, p.b);
        launch(exec, p.a);
        p.join(p.b, p.a);
        p.get(p.b, 7, 1);
    });
}

#[test]
fn the_host_knows_what_it_has_waited_for() {
    own_process!();
    passes(|p| {
        let event = p.event();
        p.put(p.a, 0, 1);
        p.record(event, p.a);
        // SAFETY: the handle is valid.
        ok(unsafe { sys::cuEventSynchronize(event) });
        p.put(p.b, 0, 1);
        // SAFETY: the handle is valid.
        while unsafe { sys::cuStreamQuery(p.b) } == CUresult::CUDA_ERROR_NOT_READY {}
        p.put(p.a, 0, 1);
        p.record(event, p.a);
        // SAFETY: the handle is valid.
        while unsafe { sys::cuEventQuery(event) } == CUresult::CUDA_ERROR_NOT_READY {}
        p.put(p.b, 0, 1);
        ok(p.synchronise());
        p.put(p.a, 0, 1);
    });
    // The event follows the first kernel only.
    fails(|p| {
        let event = p.event();
        p.put(p.a, 0, 1);
        p.record(event, p.a);
        p.put(p.a, 1, 1);
        // SAFETY: the handle is valid.
        ok(unsafe { sys::cuEventSynchronize(event) });
        p.put(p.b, 0, 2);
        Expected {
            first: ("kernel put", p.a, "write"),
            second: ("kernel put", p.b, "write"),
            bytes: (1, 2),
        }
    });
}

#[test]
fn blocking_copies_block_as_cuda_says() {
    own_process!();
    let mut data = [0u8; 8];
    let pageable = data.as_mut_ptr();
    // To the host: done at the return, and all that was before it.
    passes(|p| {
        p.put(LEGACY, 0, 8);
        // SAFETY: both sides have the bytes.
        ok(unsafe { sys::cuMemcpyDtoH_v2(pageable.cast(), p.x, 8) });
        p.put(p.a, 0, 8);
    });
    // From page-locked memory: done at the return.
    passes(|p| {
        let host = p.pinned();
        // SAFETY: both sides have the bytes.
        ok(unsafe { sys::cuMemcpyHtoD_v2(p.x, host, 8) });
        p.put(p.a, 0, 8);
    });
    // From pageable memory: read at the return, but not written yet for who does not wait for the
    // legacy stream.
    let upload = "copy from pageable memory to device memory";
    fails(|p| {
        // SAFETY: both sides have the bytes.
        ok(unsafe { sys::cuMemcpyHtoD_v2(p.x, pageable.cast(), 8) });
        p.put(p.a, 7, 8);
        Expected {
            first: (upload, LEGACY, "write"),
            second: ("kernel put", p.a, "write"),
            bytes: (7, 8),
        }
    });
    passes(|p| {
        let blocking = p.stream(0);
        // SAFETY: both sides have the bytes.
        ok(unsafe { sys::cuMemcpyHtoD_v2(p.x, pageable.cast(), 8) });
        p.put(blocking, 7, 8);
        p.put(p.a, 15, 8);
    });
}

#[test]
fn a_host_function_tells_what_is_before_it() {
    own_process!();
    unsafe extern "C" fn signal(data: *mut c_void) {
        // SAFETY: the sender that the test has made for this call.
        let sender = unsafe { Box::from_raw(data.cast::<std::sync::mpsc::Sender<()>>()) };
        sender.send(()).expect("somebody waits");
    }
    passes(|p| {
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        p.put(p.a, 0, 1);
        let data = Box::into_raw(Box::new(sender)).cast();
        // SAFETY: the function may be called with the box, once.
        ok(unsafe { sys::cuLaunchHostFunc(p.a, Some(signal), data) });
        receiver.recv().expect("the function runs");
        p.put(p.b, 0, 1);
    });
}

#[test]
fn waits_of_the_host_count_for_all_its_threads() {
    own_process!();
    passes(|p| {
        p.put(p.a, 0, 1);
        let other = *p;
        let thread = std::thread::spawn(move || {
            let p = other;
            p.bind();
            // SAFETY: the handle is valid.
            ok(unsafe { sys::cuStreamSynchronize(p.a) });
        });
        thread.join().expect("the thread ends well");
        p.put(p.b, 0, 1);
    });
}
