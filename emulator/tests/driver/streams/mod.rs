//! Asynchronous work: concurrency, waits between tasks, and the return of calls.
//!
//! Every test holds under every schedule: `other_schedules` runs all of them again under the
//! others, one at a time. Tests that are ignored are run by others, alone in a process.

mod frees;
mod graphs;
mod harness;
mod order;
mod schedules;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use cudarc::driver::sys::{self, CUresult};
use harness::{Driver, Gate, LEGACY, MOMENT, NOT_READY, OK, PER_THREAD, SET};

use crate::common;

#[test]
fn two_streams_overlap() {
    let driver = Driver::new();
    let (first, second) = (driver.stream(false), driver.stream(false));
    // The first stream can go on only when the second has come to its host function.
    let gate = driver.gate(first);
    driver.open_in(second, gate);
    assert_eq!(driver.sync(first), OK);
    assert_eq!(driver.sync(second), OK);
    assert!(gate.is_open());
}

#[test]
fn an_event_is_not_complete_while_a_host_function_waits() {
    let driver = Driver::new();
    let stream = driver.stream(true);
    let before = driver.record(stream);
    let gate = driver.gate(stream);
    let after = driver.record(stream);
    assert_eq!(driver.query(before), OK);
    assert_eq!(driver.query(after), NOT_READY);
    let mut time = 0.0;
    // SAFETY: a place for the result.
    let elapsed = unsafe { sys::cuEventElapsedTime(&mut time, before.0 as _, after.0 as _) };
    assert_eq!(elapsed, NOT_READY);
    // SAFETY: no arguments by address.
    assert_eq!(unsafe { sys::cuStreamQuery(stream.raw()) }, NOT_READY);
    std::thread::sleep(MOMENT);
    // The host function waits for the thread that submitted it.
    gate.open();
    driver.poll(after);
    // SAFETY: a place for the result.
    let elapsed = unsafe { sys::cuEventElapsedTime(&mut time, before.0 as _, after.0 as _) };
    assert_eq!(elapsed, OK);
    // An event is timed when its stream comes to it, not when it is submitted.
    assert!(time >= MOMENT.as_secs_f32() * 1e3, "{time} ms");
}

#[test]
fn a_program_that_waits_by_itself_ends() {
    static CALLED: AtomicBool = AtomicBool::new(false);
    unsafe extern "C" fn call(_: *mut std::ffi::c_void) {
        CALLED.store(true, Ordering::Release);
    }
    let driver = Driver::new();
    let stream = driver.stream(false);
    let memory = driver.memory(1);
    let kernel = driver.kernel(SET, c"set");
    assert_eq!(driver.launch(stream, kernel, memory, 5), OK);
    driver.host(stream, call, std::ptr::null_mut());
    // No call of the driver until then.
    while !CALLED.load(Ordering::Acquire) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(driver.word(memory), 5);
}

#[test]
fn a_destroyed_stream_does_its_work() {
    let driver = Driver::new();
    let stream = driver.stream(true);
    let memory = driver.memory(1);
    let kernel = driver.kernel(SET, c"set");
    let gate = driver.gate(stream);
    assert_eq!(driver.launch(stream, kernel, memory, 7), OK);
    let event = driver.record(stream);
    // SAFETY: no arguments by address.
    assert_eq!(unsafe { sys::cuStreamDestroy_v2(stream.raw()) }, OK);
    assert_eq!(driver.query(event), NOT_READY);
    // The legacy stream waits for a stream that is gone, too.
    let legacy = driver.record(LEGACY);
    assert_eq!(driver.query(legacy), NOT_READY);
    gate.open();
    assert_eq!(driver.sync(LEGACY), OK);
    assert_eq!(driver.query(event), OK);
    assert_eq!(driver.word(memory), 7);
}

#[test]
fn copies_of_pageable_memory_are_staged_and_of_pinned_not() {
    let driver = Driver::new();
    let stream = driver.stream(true);
    let (x, y) = (driver.memory(4), driver.memory(4));
    let pinned = driver.pinned(4);
    let mut pageable = vec![1; 4];
    pinned.fill(1);
    let gate = driver.gate(stream);
    assert_eq!(driver.upload(stream, x, &pageable), OK);
    assert_eq!(driver.upload(stream, y, pinned), OK);
    // SAFETY: the range is inside the allocation, which lives until the test ends.
    let late = unsafe { std::slice::from_raw_parts_mut(pinned.as_mut_ptr(), 4) };
    pageable.fill(2);
    drop(pageable);
    late.fill(2);
    let back = driver.pinned(4);
    assert_eq!(driver.download(stream, back, x), OK);
    assert_eq!(back, [0; 4], "the copy has returned before it is done");
    gate.open();
    assert_eq!(driver.sync(stream), OK);
    assert_eq!(back, [1; 4]);
    assert_eq!(driver.word(y), 2);
}

/// Child process of [`pageable_memory_is_free_after_a_copy_beside_another_thread`]. Alone in a
/// process, so that copies often find no unfinished task.
#[test]
#[ignore = "child process of pageable_memory_is_free_after_a_copy_beside_another_thread"]
fn child_copies_beside_another_thread() {
    const COPIES: u32 = 20_000;
    let driver = Driver::new();
    let stream = driver.stream(true);
    let (x, y) = (driver.memory(4), driver.memory(1));
    let kernel = driver.kernel(SET, c"set");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            driver.context.bind_to_thread().expect("current");
            while !done.load(Ordering::Acquire) {
                assert_eq!(driver.launch(stream, kernel, y, 5), OK);
                assert_eq!(driver.sync(stream), OK);
            }
        });
        let (mut pageable, mut back) = ([0; 4], [0; 4]);
        let wrong = (0..COPIES).find(|&copy| {
            pageable.fill(copy);
            assert_eq!(driver.upload(stream, x, &pageable), OK);
            pageable.fill(u32::MAX);
            assert_eq!(driver.download(stream, &mut back, x), OK);
            back != [copy; 4]
        });
        done.store(true, Ordering::Release);
        assert_eq!(wrong, None, "{back:x?}");
    });
}

#[test]
fn pageable_memory_is_free_after_a_copy_beside_another_thread() {
    let child = "streams::child_copies_beside_another_thread";
    harness::alone(child, "eager");
}

#[test]
fn copies_to_pageable_memory_return_when_they_are_done() {
    let driver = Driver::new();
    let stream = driver.stream(true);
    let memory = driver.memory(4);
    let gate = driver.gate(stream);
    driver.fill(stream, memory, 3, 4);
    let opener = std::thread::spawn(|| {
        std::thread::sleep(MOMENT);
        gate.open();
    });
    let mut back = [0; 4];
    assert_eq!(driver.download(stream, &mut back, memory), OK);
    assert_eq!(back, [3; 4]);
    assert!(gate.is_open());
    assert!(opener.join().is_ok());
}

#[test]
fn the_copies_and_fills_of_the_legacy_stream_follow_their_rules() {
    let driver = Driver::new();
    let other = driver.stream(true);
    let (x, y) = (driver.memory(4), driver.memory(4));
    let gate = driver.gate(other);
    // SAFETY: the ranges are inside the allocations.
    unsafe {
        // Neither waits for the host, however synchronous its name.
        assert_eq!(sys::cuMemsetD32_v2(x, 4, 4), OK);
        assert_eq!(sys::cuMemcpyDtoD_v2(y, x, 16), OK);
    }
    assert!(!gate.is_open());
    let pinned = driver.pinned(4);
    let address = pinned.as_ptr() as u64;
    let opener = std::thread::spawn(|| {
        std::thread::sleep(MOMENT);
        gate.open();
    });
    // SAFETY: as above.
    unsafe {
        // But a memset of page-locked memory does.
        assert_eq!(sys::cuMemsetD32_v2(address, 9, 4), OK);
    }
    assert!(gate.is_open());
    assert_eq!(pinned, [9; 4]);
    assert!(opener.join().is_ok());
    let mut back = [0; 4];
    assert_eq!(
        // SAFETY: as above.
        unsafe { sys::cuMemcpyDtoH_v2(back.as_mut_ptr().cast(), y, 16) },
        OK
    );
    assert_eq!(back, [4; 4]);
}

#[test]
fn faults_are_told_later_and_nothing_runs_behind_them() {
    static CALLED: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn call(_: *mut std::ffi::c_void) {
        CALLED.fetch_add(1, Ordering::SeqCst);
    }
    unsafe extern "C" fn call_back(_: sys::CUstream, code: CUresult, told: *mut std::ffi::c_void) {
        // SAFETY: the test hands over a static.
        unsafe { &*told.cast::<AtomicU32>() }.store(code as u32, Ordering::SeqCst);
    }
    static TOLD: AtomicU32 = AtomicU32::new(0);
    let driver = Driver::new();
    let stream = driver.stream(true);
    let kernel = driver.kernel(common::WILD, c"wild");
    let memory = driver.memory(1);
    let gate = driver.gate(stream);
    assert_eq!(driver.launch(stream, kernel, memory, 1 << 20), OK);
    driver.host(stream, call, std::ptr::null_mut());
    // SAFETY: the place lives until the process ends.
    let added = unsafe {
        sys::cuStreamAddCallback(
            stream.raw(),
            Some(call_back),
            (&raw const TOLD) as *mut _,
            0,
        )
    };
    assert_eq!(added, OK);
    gate.open();
    let illegal = CUresult::CUDA_ERROR_ILLEGAL_ADDRESS;
    assert_eq!(driver.sync(stream), illegal);
    assert_eq!(CALLED.load(Ordering::SeqCst), 0);
    assert_eq!(TOLD.load(Ordering::SeqCst), illegal as u32);
    assert_eq!(driver.launch(stream, kernel, memory, 0), illegal);
}

#[test]
fn host_functions_may_not_call_the_driver() {
    static CODE: AtomicU32 = AtomicU32::new(0);
    unsafe extern "C" fn call(_: *mut std::ffi::c_void) {
        // SAFETY: no arguments.
        CODE.store(unsafe { sys::cuCtxSynchronize() } as u32, Ordering::SeqCst);
    }
    let driver = Driver::new();
    let stream = driver.stream(true);
    driver.host(stream, call, std::ptr::null_mut());
    assert_eq!(driver.sync(stream), OK);
    let expected = CUresult::CUDA_ERROR_NOT_PERMITTED as u32;
    assert_eq!(CODE.load(Ordering::SeqCst), expected);
}

#[test]
fn many_submissions_and_many_streams_end() {
    let driver = Driver::new();
    let memory = driver.memory(21);
    let streams: Vec<_> = (0..20).map(|_| driver.stream(true)).collect();
    let gates: Vec<_> = streams.iter().map(|&stream| driver.gate(stream)).collect();
    let kernel = driver.kernel(SET, c"set");
    for (index, &stream) in streams.iter().enumerate() {
        for _ in 0..20 {
            let word = memory + 4 * (1 + index as u64);
            assert_eq!(driver.launch(stream, kernel, word, index as u64), OK);
        }
    }
    // More host functions wait at a time than there are threads for anything else.
    let last = driver.stream(false);
    let done = driver.gate(last);
    done.open();
    assert_eq!(driver.sync(last), OK);
    gates.iter().for_each(|gate| gate.open());
    assert_eq!(driver.launch(LEGACY, kernel, memory, 99), OK);
    assert_eq!(driver.sync(PER_THREAD), OK);
    assert_eq!(driver.sync_all(), OK);
    assert_eq!(driver.word(memory), 99);
}

#[test]
fn a_gate_holds() {
    let gate = Gate::new();
    assert!(!gate.is_open());
    gate.open();
    gate.pass();
}
