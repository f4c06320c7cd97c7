//! The driver API as cudarc uses it: devices, contexts, memory, streams, events.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{code, context, ordinal};
use cudarc::driver::sys::{self, CUdevice_attribute as Attribute, CUresult};
use cudarc::driver::{CudaContext, DevicePtr, result};

#[test]
fn devices_pose_as_their_cards() {
    let expected = [
        (75, (7, 5), 40, 65_536, 1024),
        (80, (8, 0), 108, 166_912, 2048),
        (90, (9, 0), 132, 232_448, 2048),
    ];
    for (sm, capability, multiprocessors, shared, threads) in expected {
        let context = context(sm);
        let attribute = |attribute| context.attribute(attribute).expect("a known attribute");
        assert_eq!(
            context.compute_capability().expect("a capability"),
            capability
        );
        assert_eq!(
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT),
            multiprocessors
        );
        assert_eq!(
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK),
            49_152
        );
        assert_eq!(
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN),
            shared
        );
        assert_eq!(
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR),
            threads
        );
        assert_eq!(attribute(Attribute::CU_DEVICE_ATTRIBUTE_WARP_SIZE), 32);
        assert_eq!(
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_REGISTERS_PER_BLOCK),
            65_536
        );
        assert!(
            context
                .name()
                .is_ok_and(|name| name.contains(&format!("sm_{sm}")))
        );
        assert!(context.total_mem().is_ok_and(|bytes| bytes > 1 << 20));
        assert!(context.uuid().is_ok());
    }
    assert_eq!(
        code(CudaContext::new(99)),
        Some(CUresult::CUDA_ERROR_INVALID_DEVICE)
    );
    let mut version = 0;
    // SAFETY: a place for the result.
    let code = unsafe { sys::cuDriverGetVersion(&mut version) };
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    assert_eq!(version, 13000);
}

#[test]
fn contexts_are_current_by_thread() {
    let first = context(80);
    let second = CudaContext::new(ordinal(90, 0)).expect("a primary context");
    assert!(second.is_primary() && !first.is_primary());
    let current = || result::ctx::get_current().expect("a current context");
    assert_eq!(current(), Some(second.cu_ctx()));
    first.bind_to_thread().expect("bound");
    assert_eq!(current(), Some(first.cu_ctx()));
    let nothing = || result::ctx::get_current().is_ok_and(|context| context.is_none());
    let elsewhere = std::thread::spawn(nothing).join();
    assert!(
        elsewhere.is_ok_and(|none| none),
        "another thread has no current context"
    );
    let again = CudaContext::new(ordinal(90, 0)).expect("a primary context");
    assert_eq!(
        again.cu_ctx(),
        second.cu_ctx(),
        "a device has one primary context"
    );
    assert_eq!(
        code(first.get_limit(sys::CUlimit::CU_LIMIT_STACK_SIZE)),
        None
    );
    first
        .set_limit(sys::CUlimit::CU_LIMIT_STACK_SIZE, 4096)
        .expect("a limit");
    assert_eq!(first.get_limit(sys::CUlimit::CU_LIMIT_STACK_SIZE), Ok(4096));
    // SAFETY: the handle is of no context; the call must find that out.
    let wrong = unsafe { result::ctx::set_current(0x1234 as _) };
    assert_eq!(code(wrong), Some(CUresult::CUDA_ERROR_INVALID_CONTEXT));
}

#[test]
fn memory_holds_what_is_written() {
    let context = context(80);
    let stream = context.default_stream();
    let data: Vec<u32> = (0..1000).collect();
    let mut x = stream.clone_htod(&data).expect("a copy to the device");
    assert_eq!(stream.clone_dtoh(&x), Ok(data.clone()));
    let y = stream.clone_dtod(&x).expect("a copy on the device");
    stream.memset_zeros(&mut x).expect("zeros");
    assert_eq!(stream.clone_dtoh(&x), Ok(vec![0; 1000]));
    assert_eq!(
        stream.clone_dtoh(&y.slice(10..20)),
        Ok(data[10..20].to_vec())
    );
    let nothing = stream.null::<u32>().expect("an empty slice");
    drop(nothing);
    let empty = stream.alloc_zeros::<f32>(0).expect("an empty slice");
    assert_eq!(stream.clone_dtoh(&empty), Ok(vec![]));
    context
        .check_err()
        .expect("nothing went wrong when slices were dropped");
}

#[test]
fn memory_runs_out_and_comes_back() {
    let context = context(75);
    let stream = context.default_stream();
    let (free, total) = context.mem_get_info().expect("sizes");
    assert!(free <= total);
    // SAFETY: nothing is read from the memory.
    let too_much = unsafe { stream.alloc::<u8>(total + 1) };
    assert_eq!(code(too_much), Some(CUresult::CUDA_ERROR_OUT_OF_MEMORY));
    // SAFETY: as above.
    let zero = unsafe { result::malloc_sync(0) };
    assert_eq!(code(zero), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
    let half = stream.alloc_zeros::<u8>(1 << 20).expect("a megabyte");
    assert!(context.mem_get_info().is_ok_and(|(now, _)| now < total));
    drop(half);
    context.check_err().expect("freed");
}

#[test]
fn copies_out_of_range_are_refused() {
    let context = context(80);
    let stream = context.default_stream();
    let x = stream.alloc_zeros::<u8>(64).expect("memory");
    let (address, _guard) = x.device_ptr(&stream);
    let mut host = [0u8; 65];
    // SAFETY: the host's buffer is as long as the copy.
    let past = unsafe { result::memcpy_dtoh_sync(&mut host, address) };
    assert_eq!(code(past), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
    // SAFETY: as above.
    let before = unsafe { result::memcpy_htod_sync(address - 1, &host[..4]) };
    assert_eq!(code(before), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
    // SAFETY: the address is of no allocation; the call must find that out.
    let free = unsafe { result::free_sync(address + 8) };
    assert_eq!(code(free), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
}

#[test]
fn values_of_every_width_fill_rows() {
    let context = context(80);
    let stream = context.default_stream();
    let x = stream.alloc_zeros::<u8>(64).expect("memory");
    let (address, _guard) = x.device_ptr(&stream);
    // SAFETY: the ranges are inside the allocation.
    unsafe {
        assert_eq!(
            sys::cuMemsetD32_v2(address, 0x0403_0201, 2),
            CUresult::CUDA_SUCCESS
        );
        assert_eq!(
            sys::cuMemsetD16_v2(address + 8, 0x0605, 2),
            CUresult::CUDA_SUCCESS
        );
        assert_eq!(
            sys::cuMemsetD2D8_v2(address + 16, 8, 7, 3, 2),
            CUresult::CUDA_SUCCESS
        );
        assert_eq!(
            sys::cuMemsetD32_v2(address + 1, 0, 1),
            CUresult::CUDA_ERROR_INVALID_VALUE
        );
        assert_eq!(
            sys::cuMemsetD8_v2(address + 60, 0, 5),
            CUresult::CUDA_ERROR_INVALID_VALUE
        );
    }
    let bytes = stream.clone_dtoh(&x).expect("a copy");
    assert_eq!(bytes[..12], [1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 5, 6]);
    assert_eq!(
        bytes[16..32],
        [7, 7, 7, 0, 0, 0, 0, 0, 7, 7, 7, 0, 0, 0, 0, 0]
    );
}

#[test]
fn rows_are_copied_with_their_pitch() {
    let context = context(80);
    let stream = context.default_stream();
    let x = stream.alloc_zeros::<u8>(64).expect("memory");
    let (address, _guard) = x.device_ptr(&stream);
    let source: Vec<u8> = (0..32).collect();
    let copy = sys::CUDA_MEMCPY2D {
        srcXInBytes: 1,
        srcY: 1,
        srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
        srcHost: source.as_ptr().cast(),
        srcDevice: 0,
        srcArray: std::ptr::null_mut(),
        srcPitch: 8,
        dstXInBytes: 0,
        dstY: 0,
        dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
        dstHost: std::ptr::null_mut(),
        dstDevice: address,
        dstArray: std::ptr::null_mut(),
        dstPitch: 16,
        WidthInBytes: 3,
        Height: 2,
    };
    // SAFETY: both rectangles are inside their memory.
    assert_eq!(unsafe { sys::cuMemcpy2D_v2(&copy) }, CUresult::CUDA_SUCCESS);
    let bytes = stream.clone_dtoh(&x).expect("a copy");
    assert_eq!(bytes[..4], [9, 10, 11, 0]);
    assert_eq!(bytes[16..20], [17, 18, 19, 0]);
}

#[test]
fn devices_copy_to_each_other() {
    let (first, second) = (ordinal(80, 0), ordinal(80, 1));
    assert_ne!(first, second);
    let from = CudaContext::new_non_primary(first, 0).expect("a context");
    let source = from
        .default_stream()
        .clone_htod(&[1.0f32, 2.0, 3.0])
        .expect("a copy to the device");
    // Streams of two contexts wait for each other only where a call requires it.
    from.synchronize().expect("the copy is done");
    let to = CudaContext::new_non_primary(second, 0).expect("a context");
    let stream = to.default_stream();
    let mut target = stream.alloc_zeros::<f32>(3).expect("memory");
    to.synchronize().expect("the memory is there");
    // cudarc 0.19.10 drops an event of the source's context before it copies. That makes this
    // context current, so that the copy goes to its default stream, which the target's stream does
    // not wait for.
    stream
        .memcpy_dtod(&source, &mut target)
        .expect("a copy between devices");
    from.synchronize().expect("the copy is done");
    assert_eq!(target.ordinal(), second);
    assert_eq!(
        to.default_stream().clone_dtoh(&target),
        Ok(vec![1.0, 2.0, 3.0])
    );
    let mut can = -1;
    // SAFETY: a place for the result.
    let asked = unsafe { sys::cuDeviceCanAccessPeer(&mut can, first as i32, second as i32) };
    assert_eq!((asked, can), (CUresult::CUDA_SUCCESS, 0));
}

#[test]
fn streams_have_priorities_and_an_end() {
    let context = context(80);
    let (least, greatest) = result::stream::get_priority_range().expect("a range");
    assert!(greatest < least);
    let stream = context
        .new_stream_with_priority(greatest)
        .expect("a stream");
    let mut priority = 0;
    // SAFETY: a place for the result.
    unsafe { sys::cuStreamGetPriority(stream.cu_stream(), &mut priority) };
    assert_eq!(priority, greatest);
    let forked = stream.fork().expect("a stream that waits");
    forked.synchronize().expect("nothing to wait for");
    context
        .per_thread_stream()
        .synchronize()
        .expect("the thread's stream");
    let handle = forked.cu_stream();
    drop(forked);
    // SAFETY: the stream is gone; the call must find that out.
    let gone = unsafe { result::stream::synchronize(handle) };
    assert_eq!(code(gone), Some(CUresult::CUDA_ERROR_INVALID_HANDLE));
}

#[test]
fn events_are_timed() {
    let context = context(80);
    let stream = context.new_stream().expect("a stream");
    let timed = Some(sys::CUevent_flags::CU_EVENT_DEFAULT);
    let start = stream.record_event(timed).expect("an event");
    std::thread::sleep(std::time::Duration::from_millis(2));
    let end = stream.record_event(timed).expect("an event");
    let elapsed = start.elapsed_ms(&end).expect("a time");
    assert!((2.0..10_000.0).contains(&elapsed), "{elapsed} ms");
    assert!(end.is_complete());
    stream.wait(&end).expect("no wait");
    let untimed = stream.record_event(None).expect("an event");
    assert_eq!(
        code(untimed.elapsed_ms(&end)),
        Some(CUresult::CUDA_ERROR_INVALID_HANDLE)
    );
    let never = context.new_event(timed).expect("an event");
    assert_eq!(never.try_is_complete(), Ok(true));
    assert_eq!(
        code(never.elapsed_ms(&end)),
        Some(CUresult::CUDA_ERROR_INVALID_HANDLE)
    );
}

#[test]
fn events_are_waited_for_where_no_context_is_current() {
    let context = context(80);
    let stream = context.new_stream().expect("a stream");
    let [start, end] = [0, 1].map(|_| {
        let timed = sys::CUevent_flags::CU_EVENT_DEFAULT;
        let event = result::event::create(timed).expect("an event");
        // SAFETY: the event and the stream are alive.
        unsafe { result::event::record(event, stream.cu_stream()) }.expect("recorded");
        event as usize
    });
    let other = std::thread::spawn(move || {
        let [start, end] = [start, end].map(|event| event as sys::CUevent);
        // SAFETY: the events are alive until they are destroyed, each of them once.
        unsafe {
            result::event::synchronize(end).expect("reached");
            result::event::query(end).expect("reached");
            result::event::elapsed(start, end).expect("a time");
            result::event::destroy(start).expect("destroyed");
            result::event::destroy(end).expect("destroyed");
        }
    });
    other.join().expect("no call fails");
}

#[test]
fn host_functions_run_in_order() {
    unsafe extern "C" fn count(data: *mut std::ffi::c_void) {
        // SAFETY: the test hands over a counter that outlives the stream's work.
        unsafe { &*data.cast::<AtomicU32>() }.fetch_add(1, Ordering::SeqCst);
    }
    let context = context(80);
    let stream = context.new_stream().expect("a stream");
    let counter = Arc::new(AtomicU32::new(0));
    for _ in 0..3 {
        let data = Arc::as_ptr(&counter) as *mut std::ffi::c_void;
        // SAFETY: the counter lives until the stream is synchronised.
        unsafe { result::stream::launch_host_function(stream.cu_stream(), count, data) }
            .expect("submitted");
    }
    stream.synchronize().expect("done");
    assert_eq!(counter.load(Ordering::SeqCst), 3);
}

#[test]
fn pools_count_what_they_give() {
    let context = context(80);
    let stream = context.new_stream().expect("a stream");
    // SAFETY: a struct of numbers.
    let mut properties: sys::CUmemPoolProps = unsafe { std::mem::zeroed() };
    properties.allocType = sys::CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED;
    properties.location.type_ = sys::CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE;
    properties.location.id = context.ordinal() as i32;
    // SAFETY: every argument lives until the calls return; the memory is freed once.
    unsafe {
        let pool = result::mem_pool::create(&properties).expect("a pool");
        let address =
            result::mem_pool::alloc_async(pool, 4096, stream.cu_stream()).expect("memory");
        let used = |pool| {
            let mut used = 0u64;
            let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT;
            result::mem_pool::get_attribute(pool, attribute, (&raw mut used).cast())
                .expect("an attribute");
            used
        };
        assert_eq!(used(pool), 4096);
        result::free_async(address, stream.cu_stream()).expect("freed");
        assert_eq!(used(pool), 0);
        result::mem_pool::destroy(pool).expect("destroyed");
        assert_eq!(
            code(result::mem_pool::trim_to(pool, 0)),
            Some(CUresult::CUDA_ERROR_INVALID_HANDLE)
        );
        let default =
            result::device::get_default_mem_pool(context.cu_device()).expect("the default pool");
        assert_eq!(
            code(result::mem_pool::destroy(default)),
            Some(CUresult::CUDA_ERROR_INVALID_VALUE)
        );
    }
}

#[test]
fn host_memory_is_shared() {
    let context = context(80);
    let stream = context.default_stream();
    // SAFETY: the memory is written before it is read.
    let mut pinned = unsafe { context.alloc_pinned::<u32>(8) }.expect("page-locked memory");
    pinned
        .as_mut_slice()
        .expect("no copy under way")
        .copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    let x = stream.clone_htod(&pinned).expect("a copy to the device");
    assert_eq!(stream.clone_dtoh(&x), Ok(vec![1, 2, 3, 4, 5, 6, 7, 8]));
    // SAFETY: as above.
    let mut managed = unsafe { context.alloc_unified::<u32>(4, true) }.expect("managed memory");
    managed
        .as_mut_slice()
        .expect("nothing uses it")
        .copy_from_slice(&[9, 8, 7, 6]);
    assert_eq!(stream.clone_dtoh(&managed), Ok(vec![9, 8, 7, 6]));
    drop(managed);
    context.check_err().expect("freed");
}

#[test]
fn memory_of_others_is_shared() {
    let context = context(80);
    let path = std::env::temp_dir().join(format!("ptx-emulator-shared-{}", std::process::id()));
    std::fs::write(&path, [7u8; 8192]).expect("a file");
    let open = || {
        std::fs::File::options()
            .read(true)
            .write(true)
            .open(&path)
            .expect("the file")
    };
    // SAFETY: the file has as many bytes.
    let memory = unsafe { context.import_external_memory(open(), 8192) }.expect("imported");
    let buffer = memory.map_range(4096..8192).expect("mapped");
    let stream = context.default_stream();
    assert_eq!(stream.clone_dtoh(&buffer), Ok(vec![7; 4096]));
    drop(buffer);
    context.check_err().expect("unmapped and destroyed");
    // SAFETY: the file has fewer bytes; the call must find that out.
    let too_much = unsafe { context.import_external_memory(open(), 8193) };
    memory_stays_while_a_buffer_lies_on_it(&context, open());
    assert_eq!(code(too_much), Some(CUresult::CUDA_ERROR_INVALID_VALUE));
    let _ = std::fs::remove_file(path);
}

/// A buffer outlives the object that it was mapped from until it is freed.
fn memory_stays_while_a_buffer_lies_on_it(context: &Arc<CudaContext>, file: std::fs::File) {
    use std::os::fd::IntoRawFd;
    context.bind_to_thread().expect("current");
    // SAFETY: the file has as many bytes; the driver gets the descriptor, and the buffer is freed
    // once.
    unsafe {
        let memory =
            result::external_memory::import_external_memory_opaque_fd(file.into_raw_fd(), 8192);
        let memory = memory.expect("imported");
        let buffer = result::external_memory::get_mapped_buffer(memory, 0, 64).expect("mapped");
        result::external_memory::destroy_external_memory(memory).expect("destroyed");
        let mut bytes = [0u8; 64];
        result::memcpy_dtoh_sync(&mut bytes, buffer).expect("a copy");
        assert_eq!(bytes, [7; 64]);
        result::memory_free(buffer).expect("freed");
    }
}

#[test]
fn functions_are_found_by_name_and_version() {
    context(80);
    let find = |name: &std::ffi::CStr| {
        let mut address = std::ptr::null_mut();
        // SAFETY: a C string and a place for the result.
        let code = unsafe { sys::cuGetProcAddress(name.as_ptr(), &mut address, 12000, 0) };
        (code, address.is_null())
    };
    assert_eq!(find(c"cuMemAlloc"), (CUresult::CUDA_SUCCESS, false));
    assert_eq!(
        find(c"cuNoSuchFunction"),
        (CUresult::CUDA_ERROR_NOT_FOUND, true)
    );
    let error = cudarc::driver::DriverError(CUresult::CUDA_ERROR_ILLEGAL_ADDRESS);
    assert!(
        error
            .error_name()
            .is_ok_and(|name| name == c"CUDA_ERROR_ILLEGAL_ADDRESS")
    );
    assert!(
        error
            .error_string()
            .is_ok_and(|text| text == c"an illegal memory access was encountered")
    );
}

#[test]
fn what_is_missing_says_so() {
    context(80);
    let mut reference = std::ptr::null_mut();
    // SAFETY: a place for the result.
    let code = unsafe { sys::cuTexRefCreate(&mut reference) };
    assert_eq!(code, CUresult::CUDA_ERROR_NOT_SUPPORTED);
}
