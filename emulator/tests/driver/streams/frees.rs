//! Frees: which of them wait, and what becomes of work whose memory is gone.

use std::sync::atomic::{AtomicBool, Ordering};

use super::harness::{Driver, MOMENT, OK, SET, alone};
use cudarc::driver::sys::{self, CUresult};

/// Returns whether a call waits for work that a gate holds up; `prepare` makes what the call uses,
/// an address.
fn waits(prepare: impl FnOnce(&Driver) -> u64, call: fn(u64) -> CUresult) -> bool {
    let driver = Driver::new();
    let address = prepare(&driver);
    let gate = driver.gate(driver.stream(false));
    let returned = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let context = driver.context.clone();
        let returned = &returned;
        let caller = scope.spawn(move || {
            context.bind_to_thread().expect("current");
            let code = call(address);
            returned.store(true, Ordering::Release);
            code
        });
        std::thread::sleep(MOMENT);
        let early = returned.load(Ordering::Acquire);
        gate.open();
        let code = caller.join().expect("no panic");
        assert_eq!(code, OK);
        assert_eq!(driver.sync_all(), OK);
        !early
    })
}

#[test]
fn calls_that_take_memory_away_wait() {
    // SAFETY: memory that was made for this call, freed once.
    assert!(waits(|d| d.memory(1), |x| unsafe { sys::cuMemFree_v2(x) }));
    assert!(waits(
        |d| d.pinned(1).as_ptr() as u64,
        // SAFETY: as above.
        |x| unsafe { sys::cuMemFreeHost(x as *mut _) }
    ));
    let managed = |_: &Driver| {
        let mut address = 0;
        // SAFETY: a place for the result.
        assert_eq!(unsafe { sys::cuMemAllocManaged(&mut address, 64, 1) }, OK);
        address
    };
    // SAFETY: memory that was made for this call, freed once.
    assert!(waits(managed, |x| unsafe { sys::cuMemFree_v2(x) }));
    let registered = |_: &Driver| {
        let memory: &'static mut [u64] = Box::leak(Box::new([0; 1024]));
        let address = memory.as_mut_ptr();
        assert_eq!(
            // SAFETY: memory that is never freed.
            unsafe { sys::cuMemHostRegister_v2(address.cast(), 8192, 0) },
            OK
        );
        address as u64
    };
    // SAFETY: a range that was registered for this call.
    assert!(waits(registered, |x| unsafe {
        sys::cuMemHostUnregister(x as *mut _)
    }));
    let module = |_: &Driver| {
        let text = format!(".version 6.3\n.target sm_75\n.address_size 64\n{SET}\0");
        let mut module = std::ptr::null_mut();
        assert_eq!(
            // SAFETY: a place for the result, and a text that ends in NUL.
            unsafe { sys::cuModuleLoadData(&mut module, text.as_ptr().cast()) },
            OK
        );
        module as u64
    };
    // SAFETY: a module that was loaded for this call.
    assert!(waits(module, |x| unsafe { sys::cuModuleUnload(x as _) }));
    // Memory of a pool is the caller's affair.
    let pool = |d: &Driver| {
        let mut address = 0;
        let stream = d.stream(false);
        assert_eq!(
            // SAFETY: a place for the result.
            unsafe { sys::cuMemAllocAsync(&mut address, 64, stream.raw()) },
            OK
        );
        address
    };
    // SAFETY: memory that was made for this call, freed once.
    assert!(!waits(pool, |x| unsafe { sys::cuMemFree_v2(x) }));
}

#[test]
fn a_context_is_destroyed_behind_its_work() {
    let driver = Driver::new();
    let gate = driver.gate(driver.stream(true));
    let context = driver.context.cu_ctx() as usize;
    let caller = std::thread::spawn(move || {
        // SAFETY: nothing uses the context any more; cudarc's own handle to it is never dropped.
        unsafe { sys::cuCtxDestroy_v2(context as _) }
    });
    std::thread::sleep(MOMENT);
    assert!(!caller.is_finished());
    gate.open();
    assert_eq!(caller.join().ok(), Some(OK));
}

#[test]
fn work_whose_memory_is_gone_is_a_fault() {
    for copies in [false, true] {
        let driver = Driver::new();
        let stream = driver.stream(false);
        let kernel = driver.kernel(SET, c"set");
        let other = driver.memory(1);
        let mut address = 0;
        // SAFETY: a place for the result.
        let made = unsafe { sys::cuMemAllocAsync(&mut address, 64, stream.raw()) };
        assert_eq!(made, OK);
        assert_eq!(driver.sync(stream), OK);
        let gate = driver.gate(stream);
        if copies {
            driver.fill(stream, address, 1, 1);
            driver.copy(stream, other, address, 1);
        } else {
            assert_eq!(driver.launch(stream, kernel, address, 1), OK);
        }
        // SAFETY: that the memory is in use is what the emulator has to see.
        assert_eq!(unsafe { sys::cuMemFree_v2(address) }, OK);
        // SAFETY: the address is free; the call must find that out.
        let again = unsafe { sys::cuMemFreeAsync(address, stream.raw()) };
        assert_eq!(again, CUresult::CUDA_ERROR_INVALID_VALUE);
        gate.open();
        assert_eq!(driver.sync(stream), CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    }
}

#[test]
fn a_free_in_a_stream_comes_behind_what_uses_the_memory() {
    let driver = Driver::new();
    let stream = driver.stream(false);
    let kernel = driver.kernel(SET, c"set");
    let out = driver.memory(1);
    let mut address = 0;
    // SAFETY: places for results, and the memory is used before it is freed.
    unsafe {
        assert_eq!(sys::cuMemAllocAsync(&mut address, 64, stream.raw()), OK);
        let gate = driver.gate(stream);
        assert_eq!(driver.launch(stream, kernel, address, 6), OK);
        driver.copy(stream, out, address, 1);
        assert_eq!(sys::cuMemFreeAsync(address, stream.raw()), OK);
        gate.open();
    }
    assert_eq!(driver.sync(stream), OK);
    assert_eq!(driver.word(out), 6);
}

#[test]
fn memory_that_streams_are_to_free_comes_back_where_it_is_short() {
    let driver = Driver::new();
    let stream = driver.stream(false);
    let (mut free, mut total) = (0, 0);
    // SAFETY: places for results; memory is freed once.
    unsafe {
        assert_eq!(sys::cuMemGetInfo_v2(&mut free, &mut total), OK);
        for _ in 0..3 {
            let mut address = 0;
            let made = sys::cuMemAllocAsync(&mut address, total / 10 * 6, stream.raw());
            assert_eq!(made, OK);
            assert_eq!(sys::cuMemFreeAsync(address, stream.raw()), OK);
        }
    }
    assert_eq!(driver.sync(stream), OK);
}

/// Child process of [`host_memory_in_use_is_not_torn_away`]. Host memory is freed while another
/// thread's kernels use it: each either finds it or is at fault.
#[test]
#[ignore = "child process of host_memory_in_use_is_not_torn_away"]
fn child_free_memory_in_use() {
    for round in 0..60u64 {
        let driver = Driver::new();
        let kernel = driver.kernel(SET, c"set");
        let address = driver.pinned(1 << 16).as_ptr() as u64;
        std::thread::scope(|scope| {
            let context = driver.context.clone();
            let driver = &driver;
            let user = scope.spawn(move || {
                context.bind_to_thread().expect("current");
                let stream = driver.stream(false);
                for _ in 0..200 {
                    let last = address + 4 * 0xffff;
                    if driver.launch(stream, kernel, last, round) != OK {
                        break;
                    }
                }
                driver.sync(stream)
            });
            std::thread::sleep(std::time::Duration::from_micros(50 * round));
            // SAFETY: that the memory is in use is what the driver has to survive.
            let freed = unsafe { sys::cuMemFreeHost(address as *mut _) };
            assert!(freed == OK || freed == CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
            let used = user.join().expect("no panic");
            assert!(used == OK || used == CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
        });
    }
}

#[test]
fn host_memory_in_use_is_not_torn_away() {
    alone("streams::frees::child_free_memory_in_use", "eager");
}
