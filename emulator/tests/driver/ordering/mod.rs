//! The checker of order: each fault with its report, and beside it the legal program that is
//! nearest to it.

mod harness;
mod legal;
mod safe;
mod streams;

use cudarc::driver::sys::{self, CUresult};
use harness::*;

/// The kind of a copy from device to page-locked memory.
const DOWNLOAD: &str = "copy from device memory to page-locked memory";

#[test]
fn the_report_says_what_waits_for_what() {
    own_process!();
    let mut streams = (0, 0);
    let (text, x) = report(80, |p| {
        streams = (p.a as usize, p.b as usize);
        p.put(p.a, 8, 24);
        p.memset(p.b, 16, 100);
    });
    let (a, b) = streams;
    assert_eq!(
        text,
        format!(
            "not ordered: write of 16 bytes at {:#x} is not ordered behind an earlier write of \
            them\n  \
             memset in non-blocking stream {b:#x}\n  \
             does not wait for kernel put in non-blocking stream {a:#x}\n  \
             allocation: #n \"x\" of 256 bytes at {x:#x}; the bytes begin at its byte 16\n  \
             missing: an event recorded in non-blocking stream {a:#x} behind the kernel put that \
             non-blocking stream \
             {b:#x} waits for (cuStreamWaitEvent) before the memset, or a wait of the host \
             between them",
            x + 16
        )
    );
}

#[test]
fn a_copy_waits_for_the_kernel_in_another_stream() {
    own_process!();
    fails(|p| {
        let host = p.pinned();
        p.put(p.a, 31, 1);
        p.download(p.b, host, 0, 32);
        Expected {
            first: ("kernel put", p.a, "write"),
            second: (DOWNLOAD, p.b, "read"),
            bytes: (31, 32),
        }
    });
    passes(|p| {
        let host = p.pinned();
        p.put(p.a, 31, 1);
        p.download(p.b, host, 0, 31);
        p.join(p.b, p.a);
        p.download(p.b, host, 0, 32);
    });
}

#[test]
fn kernels_in_two_streams_write_different_bytes() {
    own_process!();
    fails(|p| {
        p.put(p.a, 0, 17);
        p.put(p.b, 16, 17);
        Expected {
            first: ("kernel put", p.a, "write"),
            second: ("kernel put", p.b, "write"),
            bytes: (16, 17),
        }
    });
    // Neighbouring bytes of one sector.
    passes(|p| {
        p.put(p.a, 0, 17);
        p.put(p.b, 17, 15);
    });
}

#[test]
fn a_row_of_words_ends_where_it_ends() {
    own_process!();
    fails(|p| {
        p.launch(p.a, "row", p.x, 0, 32);
        p.get(p.b, 127, 2);
        Expected {
            first: ("kernel row", p.a, "write"),
            second: ("kernel get", p.b, "read"),
            bytes: (127, 128),
        }
    });
    passes(|p| {
        p.launch(p.a, "row", p.x + 4, 0, 32);
        p.get(p.b, 0, 4);
        p.get(p.b, 132, 32);
    });
}

#[test]
fn who_writes_waits_for_who_reads() {
    own_process!();
    fails(|p| {
        p.get(p.a, 5, 3);
        p.put(p.b, 7, 1);
        Expected {
            first: ("kernel get", p.a, "read"),
            second: ("kernel put", p.b, "write"),
            bytes: (7, 8),
        }
    });
    passes(|p| {
        p.get(p.a, 5, 3);
        p.get(p.b, 0, 32);
        p.put(p.b, 8, 1);
    });
}

#[test]
fn a_memset_waits_too() {
    own_process!();
    fails(|p| {
        p.get(p.a, 200, 1);
        p.memset(p.b, 0, 201);
        Expected {
            first: ("kernel get", p.a, "read"),
            second: ("memset", p.b, "write"),
            bytes: (200, 201),
        }
    });
    passes(|p| {
        p.get(p.a, 200, 1);
        p.memset(p.b, 0, 200);
        p.memset(p.b, 201, 55);
    });
}

#[test]
fn rows_of_a_fill_leave_the_gaps_alone() {
    own_process!();
    let fill = |p: &Program| {
        // Rows of 4 bytes, 10 apart.
        // SAFETY: the rows lie in the allocation.
        ok(unsafe { sys::cuMemsetD2D8Async(p.x, 10, 1, 4, 20, p.a) });
    };
    fails(|p| {
        fill(p);
        p.put(p.b, 13, 1);
        Expected {
            first: ("memset", p.a, "write"),
            second: ("kernel put", p.b, "write"),
            bytes: (13, 14),
        }
    });
    passes(|p| {
        fill(p);
        p.put(p.b, 14, 6);
        p.launch(p.b, "put", p.x + 4, 10, 20);
        p.put(p.b, 194, 6);
    });
}

#[test]
fn an_event_stands_for_what_was_before_its_record() {
    own_process!();
    fails(|p| {
        let event = p.event();
        p.record(event, p.a);
        p.put(p.a, 0, 1);
        p.wait(p.b, event);
        p.get(p.b, 0, 1);
        Expected {
            first: ("kernel put", p.a, "write"),
            second: ("kernel get", p.b, "read"),
            bytes: (0, 1),
        }
    });
    passes(|p| {
        let event = p.event();
        p.record(event, p.a);
        p.put(p.a, 0, 1);
        // Recorded anew.
        p.record(event, p.a);
        p.wait(p.b, event);
        p.get(p.b, 0, 1);
        // A wait stands for the record at the call.
        p.record(event, p.b);
        p.get(p.b, 1, 1);
        p.wait(p.a, event);
        p.put(p.a, 0, 1);
    });
}

#[test]
fn only_the_stream_that_waits_is_behind_the_event() {
    own_process!();
    fails(|p| {
        let third = p.stream(1);
        p.put(p.a, 3, 1);
        p.join(third, p.a);
        p.put(p.b, 3, 1);
        Expected {
            first: ("kernel put", p.a, "write"),
            second: ("kernel put", p.b, "write"),
            bytes: (3, 4),
        }
    });
    passes(|p| {
        let third = p.stream(1);
        p.put(p.a, 3, 1);
        p.join(third, p.a);
        // Through the third, which did nothing itself.
        p.join(p.b, third);
        p.put(p.b, 3, 1);
    });
}

#[test]
fn a_stream_that_is_gone_is_still_not_waited_for() {
    own_process!();
    // SAFETY: the handle is valid and not used again.
    let destroy = |stream| ok(unsafe { sys::cuStreamDestroy_v2(stream) });
    fails(|p| {
        p.put(p.a, 0, 32);
        destroy(p.a);
        let mut host = [0u8; BYTES];
        // SAFETY: both sides have the bytes.
        unsafe { sys::cuMemcpyDtoH_v2(host.as_mut_ptr().cast(), p.x, BYTES) };
        Expected {
            first: ("kernel put", p.a, "write"),
            second: ("copy from device memory to pageable memory", LEGACY, "read"),
            bytes: (0, 32),
        }
    });
    passes(|p| {
        p.put(p.a, 0, 32);
        // SAFETY: the handle is valid.
        ok(unsafe { sys::cuStreamSynchronize(p.a) });
        destroy(p.a);
        let mut host = [0u8; BYTES];
        // SAFETY: both sides have the bytes.
        ok(unsafe { sys::cuMemcpyDtoH_v2(host.as_mut_ptr().cast(), p.x, BYTES) });
    });
}

/// The text of a report on an allocation other than `x`, without its addresses.
fn other_report(program: impl FnOnce(&Program)) -> String {
    let (text, _) = report(80, program);
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(at) = rest.find("0x") {
        out += &rest[..at];
        out += "@";
        rest = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_hexdigit());
    }
    out + rest
}

#[test]
fn a_stream_ordered_free_waits_for_every_use() {
    own_process!();
    let text = other_report(|p| {
        let y = pool_memory(p, p.b);
        p.join(p.a, p.b);
        p.launch(p.a, "put", y + 60, 1, 4);
        // Else the free may come first, and the kernel is at fault.
        let_it_end();
        // SAFETY: the memory is freed once.
        ok(unsafe { sys::cuMemFreeAsync(y, p.b) });
    });
    assert_eq!(
        text,
        "not ordered: free of 4 bytes at @ is not ordered behind an earlier write of them\n  \
         free in non-blocking stream @\n  \
         does not wait for kernel put in non-blocking stream @\n  \
         allocation: #n of 64 bytes at @; the bytes begin at its byte 60\n  \
         missing: an event recorded in non-blocking stream @ behind the kernel put that \
         non-blocking stream @ waits for \
         (cuStreamWaitEvent) before the free, or a wait of the host between them"
    );
    passes(|p| {
        let y = pool_memory(p, p.b);
        p.join(p.a, p.b);
        p.launch(p.a, "put", y + 60, 1, 4);
        p.join(p.b, p.a);
        // SAFETY: the memory is freed once.
        ok(unsafe { sys::cuMemFreeAsync(y, p.b) });
    });
}

/// 64 bytes of a pool, ordered in a stream.
fn pool_memory(_: &Program, stream: sys::CUstream) -> sys::CUdeviceptr {
    let mut y = 0;
    // SAFETY: the result has a place.
    ok(unsafe { sys::cuMemAllocAsync(&mut y, 64, stream) });
    y
}

#[test]
fn memory_of_a_pool_is_there_once_its_stream_has_come_to_it() {
    own_process!();
    let text = other_report(|p| {
        let y = pool_memory(p, p.a);
        p.launch(p.b, "put", y, 1, 1);
    });
    assert_eq!(
        text,
        "not ordered: write of 1 byte at @ is not ordered behind an earlier allocation of them\n  \
         kernel put in non-blocking stream @\n  \
         does not wait for stream-ordered allocation in non-blocking stream @\n  \
         allocation: #n of 64 bytes at @; the bytes begin at its byte 0\n  \
         missing: an event recorded in non-blocking stream @ behind the stream-ordered \
         allocation that non-blocking \
         stream @ waits for (cuStreamWaitEvent) before the kernel put, or a wait of the host \
         between them"
    );
    passes(|p| {
        let y = pool_memory(p, p.a);
        p.launch(p.a, "put", y, 1, 1);
        let z = pool_memory(p, p.a);
        ok(p.synchronise());
        p.launch(p.b, "put", z, 1, 1);
    });
}

#[test]
fn a_free_that_does_not_wait_needs_a_wait() {
    own_process!();
    // Else the free comes first, and the kernel is at fault.
    let text = other_report(|p| {
        let y = pool_memory(p, p.a);
        p.launch(p.a, "put", y, 1, 1);
        let_it_end();
        // SAFETY: the memory is freed once.
        unsafe { sys::cuMemFree_v2(y) };
    });
    assert_eq!(
        text,
        "not ordered: free of 1 byte at @ is not ordered behind an earlier write of them\n  \
         free in no stream, at the call\n  \
         does not wait for kernel put in non-blocking stream @\n  \
         allocation: #n of 64 bytes at @; the bytes begin at its byte 0\n  \
         missing: a wait of the host for non-blocking stream @ (cuStreamSynchronize, \
         cuEventSynchronize) before the \
         free, or cuMemFreeAsync in that stream"
    );
    passes(|p| {
        let y = pool_memory(p, p.a);
        p.launch(p.a, "put", y, 1, 1);
        ok(p.synchronise());
        // Nobody uses the other.
        let z = pool_memory(p, p.a);
        for memory in [y, z] {
            // SAFETY: the memory is freed once.
            ok(unsafe { sys::cuMemFree_v2(memory) });
        }
    });
    // Memory of cuMemAlloc: the free waits.
    passes(|p| {
        p.put(p.a, 0, 8);
        // SAFETY: the memory is freed once.
        ok(unsafe { sys::cuMemFree_v2(p.x) });
    });
}

/// Sleeps until submitted work has ended, without a wait by a call of the driver. Lazy schedules go
/// on after half a second.
fn let_it_end() {
    std::thread::sleep(std::time::Duration::from_millis(1000));
}

#[test]
fn page_locked_memory_is_memory_too() {
    own_process!();
    fails_in_host_memory(|p, host| {
        p.download(p.a, host, 0, 33);
        // SAFETY: both sides have the bytes.
        let other = unsafe { host.byte_add(32) };
        p.download(p.b, other, 0, 10);
    });
    passes(|p| {
        let host = p.pinned();
        p.download(p.a, host, 0, 32);
        // SAFETY: both sides have the bytes.
        let other = unsafe { host.byte_add(32) };
        p.download(p.b, other, 0, 10);
    });
}

fn fails_in_host_memory(program: impl FnOnce(&Program, *mut std::ffi::c_void)) {
    let text = other_report(|p| program(p, p.pinned()));
    assert_eq!(
        text,
        "not ordered: write of 1 byte at @ is not ordered behind an earlier write of them\n  \
         copy from device memory to page-locked memory in non-blocking stream @\n  \
         does not wait for copy from device memory to page-locked memory in non-blocking stream \
         @\n  \
         allocation: #n \"host memory\" of 256 bytes at @; the bytes begin at its byte 32\n  \
         missing: an event recorded in non-blocking stream @ behind the copy from device memory \
         to page-locked memory \
         that non-blocking stream @ waits for (cuStreamWaitEvent) before the copy from device \
         memory to page-locked \
         memory, or a wait of the host between them"
    );
}

#[test]
fn atomics_need_no_order_among_themselves() {
    own_process!();
    for (kernel, bytes) in [("put", (3, 4)), ("get", (3, 4))] {
        fails(|p| {
            p.launch(p.a, "add", p.x, 0, 1);
            p.launch(p.b, kernel, p.x + 3, 1, 2);
            let (what, how) = match kernel {
                "put" => ("kernel put", "write"),
                _ => ("kernel get", "read"),
            };
            Expected {
                first: ("kernel add", p.a, "atomic write"),
                second: (what, p.b, how),
                bytes,
            }
        });
    }
    passes(|p| {
        p.launch(p.a, "add", p.x, 0, 1);
        p.launch(p.b, "add", p.x, 0, 1);
        // A flag set and polled by strong accesses.
        p.launch(p.a, "flag", p.x, 0, 1);
        p.launch(p.b, "poll", p.x, 0, 1);
        p.put(p.b, 4, 4);
    });
}

#[test]
fn copies_inside_kernels_count() {
    own_process!();
    for (kernel, writes) in [
        ("async_copy", false),
        ("bulk_load", false),
        ("bulk_store", true),
    ] {
        for byte in [63, 64, 79, 80] {
            let conflicts = (64..80).contains(&byte);
            let program = |p: &Program| {
                p.launch(p.a, kernel, p.x + 64, 0, 1);
                p.memset(p.b, byte, 1);
            };
            if !conflicts {
                passes_on(90, program);
                continue;
            }
            fails_on(90, |p| {
                program(p);
                Expected {
                    first: (
                        ["kernel async_copy", "kernel bulk_load", "kernel bulk_store"]
                            .into_iter()
                            .find(|name| name.ends_with(kernel))
                            .unwrap_or_default(),
                        p.a,
                        if writes { "write" } else { "read" },
                    ),
                    second: ("memset", p.b, "write"),
                    bytes: (byte, byte + 1),
                }
            });
        }
    }
}

#[test]
fn a_fault_breaks_the_context_only() {
    own_process!();
    let _ = report(80, |p| {
        p.put(p.a, 0, 1);
        p.put(p.b, 0, 1);
        let code = p.synchronise();
        assert_eq!(code, CUresult::CUDA_ERROR_LAUNCH_FAILED);
    });
    passes(|p| p.put(p.a, 0, 1));
}
