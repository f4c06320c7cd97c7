//! Tensor maps through the driver API, found by `cuGetProcAddress` as programs do.

use crate::common::context;
use cudarc::driver::sys::{self, CUresult};
use ptx_emulator::tensor_map::{Swizzle, TensorMap, Walk};
use std::ffi::{CStr, c_void};

/// `CUtensorMap`
#[repr(C, align(64))]
struct Map([u8; 128]);

type Tiled = unsafe extern "C" fn(
    *mut Map,
    u32,
    u32,
    u64,
    *const u64,
    *const u64,
    *const u32,
    *const u32,
    u32,
    u32,
    u32,
    u32,
) -> CUresult;
type Im2col = unsafe extern "C" fn(
    *mut Map,
    u32,
    u32,
    u64,
    *const u64,
    *const u64,
    *const i32,
    *const i32,
    u32,
    u32,
    *const u32,
    u32,
    u32,
    u32,
    u32,
) -> CUresult;
type ReplaceAddress = unsafe extern "C" fn(*mut Map, u64) -> CUresult;

fn find(name: &CStr) -> *const c_void {
    let mut function = std::ptr::null_mut();
    // SAFETY: a name and a place for the result.
    let code = unsafe { sys::cuGetProcAddress(name.as_ptr(), &mut function, 12000, 0) };
    assert_eq!(code, CUresult::CUDA_SUCCESS, "{name:?}");
    assert!(!function.is_null());
    function
}

#[test]
fn maps_are_encoded_and_bad_arguments_refused() {
    let _context = context(90);
    // SAFETY: the driver's functions of these names have these signatures.
    let (tiled, im2col, replace) = unsafe {
        (
            std::mem::transmute::<*const c_void, Tiled>(find(c"cuTensorMapEncodeTiled")),
            std::mem::transmute::<*const c_void, Im2col>(find(c"cuTensorMapEncodeIm2col")),
            std::mem::transmute::<*const c_void, ReplaceAddress>(find(
                c"cuTensorMapReplaceAddress",
            )),
        )
    };
    let mut map = Map([0; 128]);
    let dims = [64u64, 30, 20, 10];
    let strides = [128u64, 128 * 30, 128 * 600];
    let steps = [1u32, 2, 1, 1];
    let address = 0x7400_0000_1000u64;
    let mut encode = |rank: u32, extent: &[u32; 4], swizzle: u32| {
        // SAFETY: arrays of at least `rank` elements.
        let code = unsafe {
            tiled(
                &mut map,
                9,
                rank,
                address,
                dims.as_ptr(),
                strides.as_ptr(),
                extent.as_ptr(),
                steps.as_ptr(),
                0,
                swizzle,
                2,
                0,
            )
        };
        (code, TensorMap::decode(&map.0))
    };
    let (code, decoded) = encode(4, &[64, 30, 2, 1], 3);
    assert_eq!(code, CUresult::CUDA_SUCCESS);
    let decoded = decoded.expect("a map");
    assert_eq!((decoded.address, decoded.rank), (address, 4));
    assert_eq!(decoded.swizzle, Swizzle::B128);
    assert_eq!(decoded.rows(), (128, 15 * 2));
    // Rank, box and swizzle out of range.
    let invalid = CUresult::CUDA_ERROR_INVALID_VALUE;
    assert_eq!(encode(0, &[64, 1, 1, 1], 3).0, invalid);
    assert_eq!(encode(6, &[64, 1, 1, 1], 3).0, invalid);
    assert_eq!(encode(4, &[64, 257, 1, 1], 3).0, invalid);
    assert_eq!(encode(4, &[64, 1, 1, 1], 2).0, invalid);
    // What was there is left as it was.
    assert_eq!(TensorMap::decode(&map.0), Ok(decoded));

    // SAFETY: a map at a multiple of 64 bytes.
    unsafe {
        assert_eq!(replace(&mut map, address + 8), invalid);
        assert_eq!(replace(&mut map, address + 16), CUresult::CUDA_SUCCESS);
    }
    // A map that was changed by hand is none. The one bit that CUTLASS clears may be cleared.
    map.0[113] ^= 1;
    // SAFETY: a map at a multiple of 64 bytes.
    assert_eq!(unsafe { replace(&mut map, address) }, invalid);
    map.0[113] ^= 1;
    map.0[8 + 2] &= !(1 << 5);
    let moved = TensorMap::decode(&map.0).expect("a map");
    assert_eq!(
        moved,
        TensorMap {
            address: address + 16,
            ..decoded
        }
    );

    let mut encode = |rank: u32, lower: [i32; 2]| {
        // SAFETY: arrays of at least `rank` elements, corners of two less.
        unsafe {
            im2col(
                &mut map,
                9,
                rank,
                address,
                dims.as_ptr(),
                strides.as_ptr(),
                lower.as_ptr(),
                [-1i32, -2].as_ptr(),
                64,
                128,
                steps.as_ptr(),
                0,
                3,
                2,
                0,
            )
        }
    };
    assert_eq!(encode(4, [-129, 0]), invalid);
    assert_eq!(encode(2, [-1, 0]), invalid);
    assert_eq!(encode(4, [-1, 0]), CUresult::CUDA_SUCCESS);
    let walk = TensorMap::decode(&map.0).map(|map| map.walk);
    let wanted = Walk::Im2col {
        lower: [-1, 0, 0],
        upper: [-1, -2, 0],
        channels: 64,
        pixels: 128,
    };
    assert_eq!(walk, Ok(wanted));

    // A map must lie at a multiple of 64 bytes.
    let mut unaligned = [0u8; 256];
    let start = unaligned
        .as_mut_ptr()
        .wrapping_add(unaligned.as_ptr().align_offset(64) + 32);
    // SAFETY: 128 bytes behind `start` are inside the array.
    assert_eq!(unsafe { replace(start.cast(), address) }, invalid);
}
