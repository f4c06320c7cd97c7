//! Tensor maps.

use std::ffi::{c_int, c_uint};

use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, In, Out, check};
use crate::tensor_map::{MAP_BYTES, MAX_RANK, MapError, Tensor, TensorMap};

/// `CUtensorMap`
type Map = [u8; MAP_BYTES];

/// The first `count` elements of an array.
fn list<T: Copy + Default>(array: In<T>, count: usize) -> Result<[T; MAX_RANK]> {
    let mut all = [T::default(); MAX_RANK];
    for (i, element) in all.iter_mut().enumerate().take(count) {
        *element = array.at(i)?;
    }
    Ok(all)
}

fn leave(map: Out<Map>, encoded: std::result::Result<TensorMap, MapError>) -> Result {
    match encoded {
        Ok(encoded) => map.set(encoded.encode()),
        Err(error) => {
            crate::driver::contain::log_detail(&error.to_string());
            Err(match error {
                MapError::Invalid(_) => CUresult::INVALID_VALUE,
                MapError::Unsupported(_) => CUresult::NOT_SUPPORTED,
            })
        }
    }
}

/// Checks the alignment of a map, 64 bytes.
fn check_map(map: Out<Map>) -> Result {
    check(!map.is_null() && map.0.addr().is_multiple_of(64))
}

/// The rank as a length, if it is valid.
fn check_rank(rank: c_uint) -> Result<usize> {
    check((1..=MAX_RANK as c_uint).contains(&rank))?;
    Ok(rank as usize)
}

driver! {
    fn cuTensorMapEncodeTiled(
        map: Out<Map>,
        data_type: c_uint,
        rank: c_uint,
        address: DevicePtr,
        dims: In<u64>,
        strides: In<u64>,
        extent: In<u32>,
        element_strides: In<u32>,
        interleave: c_uint,
        swizzle: c_uint,
        promotion: c_uint,
        fill: c_uint,
    ) {
        check_map(map)?;
        let rank = check_rank(rank)?;
        let tensor = Tensor {
            data_type,
            address,
            dims: &list(dims, rank)?[..rank],
            strides: &list(strides, rank - 1)?[..rank - 1],
            element_strides: &list(element_strides, rank)?[..rank],
            interleave,
            swizzle,
            promotion,
            fill,
        };
        leave(map, TensorMap::tiled(&tensor, &list(extent, rank)?[..rank]))
    }

    fn cuTensorMapEncodeIm2col(
        map: Out<Map>,
        data_type: c_uint,
        rank: c_uint,
        address: DevicePtr,
        dims: In<u64>,
        strides: In<u64>,
        lower: In<c_int>,
        upper: In<c_int>,
        channels: c_uint,
        pixels: c_uint,
        element_strides: In<u32>,
        interleave: c_uint,
        swizzle: c_uint,
        promotion: c_uint,
        fill: c_uint,
    ) {
        check_map(map)?;
        let rank = check_rank(rank)?;
        check(rank >= 3)?;
        let tensor = Tensor {
            data_type,
            address,
            dims: &list(dims, rank)?[..rank],
            strides: &list(strides, rank - 1)?[..rank - 1],
            element_strides: &list(element_strides, rank)?[..rank],
            interleave,
            swizzle,
            promotion,
            fill,
        };
        let (lower, upper) = (list(lower, rank - 2)?, list(upper, rank - 2)?);
        let corners = (&lower[..rank - 2], &upper[..rank - 2]);
        leave(map, TensorMap::im2col(&tensor, corners.0, corners.1, channels, pixels))
    }

    fn cuTensorMapReplaceAddress(map: Out<Map>, address: DevicePtr) {
        check_map(map)?;
        let old = TensorMap::decode(&In(map.0.cast_const()).get()?).map_err(|why| {
            crate::driver::contain::log_detail(&format!("the tensor map: {why}"));
            CUresult::INVALID_VALUE
        })?;
        check(address.is_multiple_of(16))?;
        map.set(TensorMap { address, ..old }.encode())
    }
}
