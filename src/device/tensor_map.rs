//! Tensor maps: descriptors by which TMA copies boxes of a tensor, encoded by the driver.
//!
//! The driver's functions are looked up when first needed: they came with CUDA 12.0, and this crate
//! runs on older drivers as long as no kernel needs them.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::sync::OnceLock;

use cudarc::driver::sys;

use crate::error::Error;

/// The driver's form of a map, which only the driver reads and writes.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TensorMap([u64; 16]);

impl TensorMap {
    /// Placeholder of a map that a kernel does not use.
    pub(crate) const NONE: TensorMap = TensorMap([0; 16]);
}

/// Address that passes the checks while there is none yet: aligned, and not null.
const PLACEHOLDER: u64 = 256;

/// `CUtensorMapDataType`, those in use.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapType {
    F16 = 6,
    F32 = 7,
    Bf16 = 9,
}

/// `CUtensorMapL2promotion`, those in use.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Promotion {
    None = 0,
    Bytes128 = 2,
    Bytes256 = 3,
}

/// `CUtensorMapSwizzle` of rows of so many bytes; none for other lengths.
fn swizzle(row_bytes: u32) -> u32 {
    match row_bytes {
        32 => 1,
        64 => 2,
        128 => 3,
        _ => 0,
    }
}

/// A tensor whose boxes are copied: dimensions from the innermost on, strides in bytes of all but
/// that one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiled<'a> {
    /// The operand's name, for errors.
    pub name: &'static str,
    pub kind: MapType,
    pub dimensions: &'a [u64],
    pub strides: &'a [u64],
    /// Elements of a box along each dimension.
    pub extents: &'a [u32],
    /// Bytes of a row in shared memory, by which it is swizzled.
    pub row_bytes: u32,
    pub promotion: Promotion,
}

/// Images (channels, columns, rows, images) of which the pixels under a filter's tap are copied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Im2col {
    /// The operand's name, for errors.
    pub name: &'static str,
    pub kind: MapType,
    pub dimensions: [u64; 4],
    /// Strides in bytes of all dimensions but the innermost.
    pub strides: [u64; 3],
    /// Offsets of the first and the last window from the first and the last pixel: column, row.
    pub lower: [i32; 2],
    pub upper: [i32; 2],
    /// Channels and pixels of a copy.
    pub channels: u32,
    pub pixels: u32,
    /// Columns and rows between windows.
    pub stride: [u32; 2],
    pub row_bytes: u32,
    pub promotion: Promotion,
}

type EncodeTiled = unsafe extern "C" fn(
    *mut TensorMap,
    u32,
    u32,
    *mut c_void,
    *const u64,
    *const u64,
    *const u32,
    *const u32,
    u32,
    u32,
    u32,
    u32,
) -> u32;
type EncodeIm2col = unsafe extern "C" fn(
    *mut TensorMap,
    u32,
    u32,
    *mut c_void,
    *const u64,
    *const u64,
    *const c_int,
    *const c_int,
    u32,
    u32,
    *const u32,
    u32,
    u32,
    u32,
    u32,
) -> u32;
type ReplaceAddress = unsafe extern "C" fn(*mut TensorMap, *mut c_void) -> u32;

/// The driver's functions for tensor maps.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TensorMaps {
    tiled: EncodeTiled,
    im2col: EncodeIm2col,
    replace: ReplaceAddress,
}

impl TensorMaps {
    /// The functions of the process's driver; a device is open.
    pub(crate) fn get() -> Result<TensorMaps, Error> {
        static FUNCTIONS: OnceLock<TensorMaps> = OnceLock::new();
        if let Some(functions) = FUNCTIONS.get() {
            return Ok(*functions);
        }
        // SAFETY: a device is open, so the library is loaded; these are the driver API's
        // signatures, with enumerations as the integers that they are.
        let functions = unsafe {
            TensorMaps {
                tiled: symbol("cuTensorMapEncodeTiled\0")?,
                im2col: symbol("cuTensorMapEncodeIm2col\0")?,
                replace: symbol("cuTensorMapReplaceAddress\0")?,
            }
        };
        Ok(*FUNCTIONS.get_or_init(|| functions))
    }

    /// The map of a tensor, its address aside.
    pub(crate) fn tiled(&self, tensor: &Tiled<'_>) -> Result<TensorMap, Error> {
        const CALL: &str = "cuTensorMapEncodeTiled";
        let rank = tensor.dimensions.len();
        let matching = (1..=5).contains(&rank)
            && tensor.strides.len() + 1 == rank
            && tensor.extents.len() == rank;
        let mut map = TensorMap::NONE;
        let code = match matching {
            false => sys::CUresult::CUDA_ERROR_INVALID_VALUE as u32,
            // SAFETY: the map is the driver's to write, and the arrays are as long as the rank
            // (checked above) says.
            true => unsafe {
                (self.tiled)(
                    &mut map,
                    tensor.kind as u32,
                    rank as u32,
                    PLACEHOLDER as *mut c_void,
                    tensor.dimensions.as_ptr(),
                    tensor.strides.as_ptr(),
                    tensor.extents.as_ptr(),
                    [1; 5].as_ptr(),
                    NO_INTERLEAVE,
                    swizzle(tensor.row_bytes),
                    tensor.promotion as u32,
                    ZEROS,
                )
            },
        };
        outcome(tensor.name, CALL, code, tensor).map(|()| map)
    }

    /// The map of images, their address aside.
    pub(crate) fn im2col(&self, images: &Im2col) -> Result<TensorMap, Error> {
        const CALL: &str = "cuTensorMapEncodeIm2col";
        let [columns, rows] = images.stride;
        let mut map = TensorMap::NONE;
        // SAFETY: the map is the driver's to write; for rank 4 it reads 4 dimensions, 3 strides, 2
        // numbers a corner and 4 element strides.
        let code = unsafe {
            (self.im2col)(
                &mut map,
                images.kind as u32,
                4,
                PLACEHOLDER as *mut c_void,
                images.dimensions.as_ptr(),
                images.strides.as_ptr(),
                images.lower.as_ptr(),
                images.upper.as_ptr(),
                images.channels,
                images.pixels,
                [1, columns, rows, 1].as_ptr(),
                NO_INTERLEAVE,
                swizzle(images.row_bytes),
                images.promotion as u32,
                ZEROS,
            )
        };
        outcome(images.name, CALL, code, images).map(|()| map)
    }

    /// The same map of a tensor at another address.
    pub(crate) fn at(
        &self,
        name: &'static str,
        mut map: TensorMap,
        address: u64,
    ) -> Result<TensorMap, Error> {
        const CALL: &str = "cuTensorMapReplaceAddress";
        // SAFETY: the driver has encoded the map; the address is only written into it.
        let code = unsafe { (self.replace)(&mut map, address as *mut c_void) };
        outcome(name, CALL, code, &format_args!("address {address:#x}")).map(|()| map)
    }
}

/// `CU_TENSOR_MAP_INTERLEAVE_NONE`.
const NO_INTERLEAVE: u32 = 0;

/// `CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE`: what lies outside the tensor is zero.
const ZEROS: u32 = 0;

/// A function of the driver; `name` ends in NUL.
///
/// # Safety
/// The driver's library is loaded, and `F` is the function's type.
unsafe fn symbol<F: Copy>(name: &str) -> Result<F, Error> {
    // SAFETY: the caller's promise is this function's own.
    match unsafe { sys::culib().get::<F>(name.as_bytes()) } {
        Ok(found) => Ok(*found),
        Err(_) => Err(Error::DriverTooOld {
            driver: super::context::driver_version().unwrap_or(0),
            what: name.trim_end_matches('\0').to_owned(),
            needs: String::from("CUDA 12.0"),
        }),
    }
}

fn outcome(
    tensor: &'static str,
    call: &'static str,
    code: u32,
    map: &dyn fmt::Debug,
) -> Result<(), Error> {
    match code {
        0 => Ok(()),
        code => Err(Error::TensorMap {
            tensor,
            call,
            code,
            map: format!("{map:?}"),
        }),
    }
}
