//! Programs that share memory between streams as they may.

use std::ptr::null_mut;

use cudarc::driver::sys;

use super::harness::*;
use crate::common::context;

#[test]
fn slices_that_interleave_byte_by_byte() {
    own_process!();
    passes(|p| {
        // Three streams write every third byte each, as channels of an image of odd pitch.
        let third = p.stream(1);
        for (index, stream) in [p.a, p.b, third].into_iter().enumerate() {
            p.launch(stream, "put", p.x + index as u64, 3, 32);
        }
        p.put(p.b, 96, 16);
    });
    fails(|p| {
        p.launch(p.a, "put", p.x, 3, 32);
        p.launch(p.b, "put", p.x + 1, 5, 32);
        Expected {
            first: ("kernel put", p.a, "write"),
            second: ("kernel put", p.b, "write"),
            bytes: (6, 7),
        }
    });
}

#[test]
fn streams_take_turns_by_events() {
    own_process!();
    passes(|p| {
        let host = p.pinned();
        for _ in 0..50 {
            p.put(p.a, 0, 32);
            p.join(p.b, p.a);
            p.download(p.b, host, 0, 32);
            p.get(p.b, 0, 32);
            p.join(p.a, p.b);
        }
    });
}

#[test]
fn an_address_used_again_is_new_memory() {
    own_process!();
    passes(|p| {
        for round in 0..3 {
            let stream = if round % 2 == 0 { p.a } else { p.b };
            let mut y = 0;
            // SAFETY: the result has a place, the memory is freed once.
            unsafe {
                ok(sys::cuMemAllocAsync(&mut y, 64, stream));
                p.launch(stream, "put", y, 1, 32);
                ok(sys::cuMemFreeAsync(y, stream));
            }
        }
        // Page-locked memory mostly comes again at the same address.
        for round in 0..4 {
            let host = p.pinned();
            let stream = if round % 2 == 0 { p.a } else { p.b };
            p.download(stream, host, 0, 32);
            // SAFETY: the memory is freed once; the call waits.
            ok(unsafe { sys::cuMemFreeHost(host) });
        }
    });
}

#[test]
fn copies_between_devices_of_two_contexts() {
    own_process!();
    let other = context(90);
    let (mut y, mut theirs) = (0, null_mut());
    // SAFETY: the results have places.
    unsafe {
        ok(sys::cuMemAlloc_v2(&mut y, 64));
        ok(sys::cuStreamCreate(&mut theirs, 1));
    }
    let (theirs, other) = (theirs as usize, other);
    passes(|p| {
        let mut mine = null_mut();
        p.put(p.a, 0, 32);
        // SAFETY: the handles are valid, both sides have the bytes.
        unsafe {
            ok(sys::cuCtxGetCurrent(&mut mine));
            ok(sys::cuMemcpyPeerAsync(
                y,
                other.cu_ctx(),
                p.x,
                mine,
                32,
                p.a,
            ));
        }
        // A stream of one context waits for an event of the other.
        let event = p.event();
        p.record(event, p.a);
        p.wait(theirs as _, event);
        // SAFETY: the bytes lie in the allocation.
        ok(unsafe { sys::cuMemsetD8Async(y, 0, 32, theirs as _) });
        p.join(p.b, p.a);
        p.put(p.b, 0, 32);
    });
}

#[test]
fn many_streams_that_come_and_go() {
    own_process!();
    passes(|p| {
        for _ in 0..300 {
            let stream = p.stream(1);
            p.put(stream, 0, 1);
            // SAFETY: the handle is valid and not used again.
            unsafe {
                ok(sys::cuStreamSynchronize(stream));
                ok(sys::cuStreamDestroy_v2(stream));
            }
        }
    });
}
