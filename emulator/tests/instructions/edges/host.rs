//! The host's copies, fills and launches at their edges: through the Rust API and through the
//! driver's.

use cudarc::driver::LaunchConfig;
use cudarc::driver::sys::{self, CUresult};
use ptx_emulator::FaultKind;
use ptx_emulator::memory::MemoryError;

use super::harness::{Bench, Params, reported, text};
use crate::common::{context, module};

/// Sizes of allocations and accesses.
const SIZES: [u64; 9] = [1, 2, 3, 5, 16, 17, 31, 33, 256];

#[test]
fn ranges_of_the_rust_api() {
    let bench = Bench::new(80);
    let memory = bench.memory();
    for size in SIZES {
        let base = bench.filled(size);
        let other = bench.filled(size);
        assert_eq!(memory.range_of(base), Some((base, size)));
        assert_eq!(memory.range_of(base + size - 1), Some((base, size)));
        assert_eq!(memory.range_of(base + size), None);
        assert_eq!(memory.range_of(base - 1), None);
        for bytes in SIZES.into_iter().filter(|&bytes| bytes <= size) {
            let last = base + size - bytes;
            let data = vec![1; bytes as usize];
            let mut out = vec![0; bytes as usize];
            assert_eq!(memory.write(last, &data), Ok(()));
            assert_eq!(memory.read(last, &mut out), Ok(()));
            assert_eq!(out, data);
            assert_eq!(memory.fill(last, &[1], bytes), Ok(()));
            assert_eq!(memory.copy(last, other, bytes), Ok(()));
            assert_eq!(memory.copy(other, last, bytes), Ok(()));
            assert_eq!(memory.is_written(last, bytes), Ok(true));
            for address in [last + 1, base - 1] {
                let bad = MemoryError::BadRange { address, bytes };
                assert_eq!(memory.write(address, &data), Err(bad.clone()));
                assert_eq!(memory.read(address, &mut out), Err(bad.clone()));
                assert_eq!(memory.fill(address, &[1], bytes), Err(bad.clone()));
                assert_eq!(memory.copy(address, other, bytes), Err(bad.clone()));
                assert_eq!(memory.copy(other, address, bytes), Err(bad.clone()));
                assert_eq!(memory.is_written(address, bytes), Err(bad));
            }
        }
    }
}

/// The latest freed allocations are remembered, the one before them is not: what reads there is out
/// of bounds.
#[test]
fn freed_allocations_that_are_remembered() {
    const REMEMBERED: usize = 1 << 16;
    let bench = Bench::new(80);
    let body = "    ld.param.u64 %rd1, [at];\n    ld.global.u32 %r1, [%rd1];";
    let kernel = bench.kernel(&text(80, "", ".param .u64 at", body));
    let memory = bench.memory();
    let freed: Vec<u64> = (0..=REMEMBERED)
        .map(|_| {
            let address = memory.alloc(4).expect("room");
            memory.free(address).expect("just allocated");
            address
        })
        .collect();
    for (index, remembered) in [(0, false), (1, true), (2, true), (REMEMBERED, true)] {
        let params = Params::default().u64(freed[index]);
        let fault = reported(bench.run(&kernel, (1, 0), &params), "freed memory");
        let known = matches!(&*fault.kind, FaultKind::UseAfterFree { .. });
        let beyond = matches!(&*fault.kind, FaultKind::OutOfBounds { .. });
        assert_eq!(
            (known, beyond),
            (remembered, !remembered),
            "{index}\n{fault}"
        );
    }
}

/// Memory of a device, to the byte.
#[test]
fn the_last_byte_of_a_device() {
    let bench = Bench::new(80);
    let memory = bench.memory();
    let capacity = memory.capacity();
    let first = memory.alloc(100).expect("room");
    let requested = capacity - 99;
    let full = MemoryError::OutOfMemory {
        requested,
        free: capacity - 100,
    };
    assert_eq!(memory.alloc(requested), Err(full));
    let rest = memory.alloc(capacity - 100).expect("the rest");
    assert_eq!((memory.used(), memory.peak()), (capacity, capacity));
    assert!(memory.alloc(1).is_err());
    assert_eq!(memory.alloc(0), Err(MemoryError::ZeroBytes));
    assert_eq!(
        memory.free(first + 1),
        Err(MemoryError::NotAllocated { address: first + 1 })
    );
    assert_eq!(memory.free(first), Ok(()));
    assert_eq!(
        memory.free(first),
        Err(MemoryError::NotAllocated { address: first })
    );
    assert_eq!(memory.used(), capacity - 100);
    assert!(memory.alloc(101).is_err());
    assert!(memory.alloc(100).is_ok());
    assert_eq!(memory.free(rest), Ok(()));
    assert_eq!(memory.peak(), capacity);
}

/// Each call of the driver API with the last range that is inside, and the one a byte further.
#[test]
fn ranges_of_the_driver_api() {
    let context = context(80);
    context.bind_to_thread().expect("bound");
    let mut host = [0u8; 512];
    let (out, source) = (host.as_mut_ptr().cast(), [0u8; 512].as_ptr().cast());
    let stream = std::ptr::null_mut();
    let (good, bad) = (CUresult::CUDA_SUCCESS, CUresult::CUDA_ERROR_INVALID_VALUE);
    for size in SIZES.map(|size| size as usize) {
        let (mut base, mut other) = (0, 0);
        // SAFETY: the addresses are written.
        let made = unsafe {
            (
                sys::cuMemAlloc_v2(&mut base, size),
                sys::cuMemAlloc_v2(&mut other, 512),
            )
        };
        assert_eq!(made, (good, good));
        for bytes in SIZES
            .map(|bytes| bytes as usize)
            .into_iter()
            .filter(|&bytes| bytes <= size)
        {
            let last = base + (size - bytes) as u64;
            for (address, wanted) in [(last, good), (last + 1, bad)] {
                // SAFETY: the host's ranges have 512 bytes; device ranges are checked, which is
                // what is tested.
                let codes = unsafe {
                    [
                        sys::cuMemcpyHtoD_v2(address, source, bytes),
                        sys::cuMemcpyDtoH_v2(out, address, bytes),
                        sys::cuMemcpyDtoD_v2(address, other, bytes),
                        sys::cuMemcpyDtoD_v2(other, address, bytes),
                        sys::cuMemcpyHtoDAsync_v2(address, source, bytes, stream),
                        sys::cuMemcpyDtoHAsync_v2(out, address, bytes, stream),
                        sys::cuMemcpyDtoDAsync_v2(address, other, bytes, stream),
                        sys::cuMemsetD8_v2(address, 1, bytes),
                        sys::cuMemsetD8Async(address, 1, bytes, stream),
                    ]
                };
                assert_eq!(
                    codes, [wanted; 9],
                    "{bytes} bytes at {address:#x} of {size} at {base:#x}"
                );
            }
        }
        for (width, count) in [(2, size / 2), (4, size / 4)] {
            for (count, wanted) in [(count, good), (count + 1, bad)] {
                // SAFETY: as above.
                let code = unsafe {
                    match width {
                        2 => sys::cuMemsetD16_v2(base, 1, count),
                        _ => sys::cuMemsetD32_v2(base, 1, count),
                    }
                };
                assert_eq!(code, wanted, "{count} elements of {width} bytes in {size}");
            }
        }
        // SAFETY: both are allocations.
        let freed = unsafe { (sys::cuMemFree_v2(base), sys::cuMemFree_v2(other)) };
        assert_eq!(freed, (good, good));
    }
}

/// Rows of a copy and of a fill in two dimensions: the last row ends with the allocation.
#[test]
fn rows_of_two_dimensions() {
    let context = context(80);
    context.bind_to_thread().expect("bound");
    let host = [0u8; 512];
    let (good, bad) = (CUresult::CUDA_SUCCESS, CUresult::CUDA_ERROR_INVALID_VALUE);
    for (width, height, pitch) in [(5usize, 3usize, 16usize), (16, 2, 17), (1, 4, 3)] {
        let needed = (height - 1) * pitch + width;
        for (size, wanted) in [(needed, good), (needed - 1, bad)] {
            let mut base = 0;
            // SAFETY: the address is written.
            assert_eq!(unsafe { sys::cuMemAlloc_v2(&mut base, size) }, good);
            let copy = sys::CUDA_MEMCPY2D {
                srcXInBytes: 0,
                srcY: 0,
                srcMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_HOST,
                srcHost: host.as_ptr().cast(),
                srcDevice: 0,
                srcArray: std::ptr::null_mut(),
                srcPitch: width,
                dstXInBytes: 0,
                dstY: 0,
                dstMemoryType: sys::CUmemorytype::CU_MEMORYTYPE_DEVICE,
                dstHost: std::ptr::null_mut(),
                dstDevice: base,
                dstArray: std::ptr::null_mut(),
                dstPitch: pitch,
                WidthInBytes: width,
                Height: height,
            };
            // SAFETY: the host's rows are inside of 512 bytes.
            let codes = unsafe {
                [
                    sys::cuMemcpy2D_v2(&copy),
                    sys::cuMemsetD2D8_v2(base, pitch, 1, width, height),
                ]
            };
            assert_eq!(
                codes, [wanted; 2],
                "{width} x {height} at {pitch} in {size}"
            );
            // SAFETY: it is an allocation.
            assert_eq!(unsafe { sys::cuMemFree_v2(base) }, good);
        }
    }
}

/// Sizes of launches: threads, shared memory without and with the attribute.
#[test]
fn sizes_of_launches() {
    const BODY: &str = "
.extern .shared .align 16 .b8 tile[];
.visible .entry plain() { ret; }
.visible .entry dynamic()
{
    .reg .b32 %r<2>;
    .shared .align 16 .b8 fixed[17];
    mov.u32 %r1, tile;
    mov.u32 %r1, fixed;
    ret;
}
.visible .entry bounded() .maxntid 96 { ret; }
";
    let context = context(80);
    let module = module(&context, BODY);
    let stream = context.default_stream();
    let launch = |name: &str, grid: (u32, u32, u32), block: (u32, u32, u32), shared: u32| {
        let function = module.load_function(name).expect("the kernel");
        let config = LaunchConfig {
            grid_dim: grid,
            block_dim: block,
            shared_mem_bytes: shared,
        };
        // SAFETY: the kernels take no parameters.
        unsafe { stream.launch_builder(&function).launch(config) }.is_ok()
    };
    let one = (1, 1, 1);
    for (block, good) in [
        ((1024, 1, 1), true),
        ((1025, 1, 1), false),
        ((1, 1024, 1), true),
        ((1, 1025, 1), false),
        ((1, 1, 64), true),
        ((1, 1, 65), false),
        ((32, 32, 1), true),
        ((33, 32, 1), false),
        ((0, 1, 1), false),
    ] {
        assert_eq!(launch("plain", one, block, 0), good, "{block:?}");
    }
    for (grid, good) in [
        ((1, 65535, 1), true),
        ((1, 65536, 1), false),
        ((1, 1, 65535), true),
        ((1, 1, 65536), false),
        ((0, 1, 1), false),
    ] {
        assert_eq!(launch("plain", grid, one, 0), good, "{grid:?}");
    }
    assert!(launch("bounded", one, (96, 1, 1), 0));
    assert!(!launch("bounded", one, (97, 1, 1), 0));
    // 17 static bytes, padded so that the dynamic part starts at a multiple of 16.
    let most = (48 << 10) - 32;
    assert!(launch("dynamic", one, one, most));
    assert!(!launch("dynamic", one, one, most + 1));
    let function = module.load_function("dynamic").expect("the kernel");
    let attribute = sys::CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    let most = (163 << 10) - 32;
    assert!(function.set_attribute(attribute, most as i32 + 1).is_err());
    assert!(function.set_attribute(attribute, most as i32).is_ok());
    assert!(launch("dynamic", one, one, most));
    assert!(!launch("dynamic", one, one, most + 1));
}
