//! Properties of an address.

use std::ffi::{c_int, c_uint, c_void};

use crate::driver::state::{AllocationKind, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, In, Out, check};

/// Writes one attribute of an address.
fn attribute(out: *mut c_void, number: c_uint, address: DevicePtr) -> Result {
    check(!out.is_null())?;
    let (device, base, allocation) = driver()?.find(address).ok_or(CUresult::INVALID_VALUE)?;
    let is_host = allocation.kind == AllocationKind::Host;
    let is_managed = allocation.kind == AllocationKind::Managed;
    match number {
        1 => Out(out.cast::<usize>()).set(allocation.context),
        2 => Out(out.cast::<c_uint>()).set(if is_host { 1 } else { 2 }),
        3 => Out(out.cast::<DevicePtr>()).set(address),
        4 if is_host || is_managed => Out(out.cast::<u64>()).set(address),
        4 => Err(CUresult::INVALID_VALUE),
        6 => Out(out.cast::<c_int>()).set(0),
        7 => Out(out.cast::<u64>()).set(base),
        8 => Out(out.cast::<c_int>()).set(c_int::from(is_managed)),
        9 => Out(out.cast::<c_int>()).set(device.ordinal as c_int),
        10 => Out(out.cast::<c_int>()).set(0),
        11 => Out(out.cast::<DevicePtr>()).set(base),
        12 => Out(out.cast::<usize>()).set(allocation.bytes as usize),
        13 => Out(out.cast::<c_int>()).set(1),
        17 => match allocation.kind {
            AllocationKind::Pool(pool) => Out(out.cast::<usize>()).set(pool),
            _ => Out(out.cast::<usize>()).set(0),
        },
        _ => Err(CUresult::INVALID_VALUE),
    }
}

driver! {
    fn cuPointerGetAttribute(out: *mut c_void, number: c_uint, address: DevicePtr) {
        attribute(out, number, address)
    }

    // An unknown address gives zeros here, and no error.
    fn cuPointerGetAttributes(
        count: c_uint, numbers: In<c_uint>, out: In<*mut c_void>, address: DevicePtr,
    ) {
        for index in 0..count as usize {
            let (number, place) = (numbers.at(index)?, out.at(index)?);
            if attribute(place, number, address).is_err() {
                match number {
                    2 | 6 | 8 | 10 | 13 => Out(place.cast::<c_uint>()).set(0)?,
                    9 => Out(place.cast::<c_int>()).set(-2)?,
                    _ => Out(place.cast::<u64>()).set(0)?,
                }
            }
        }
        Ok(())
    }

    fn cuPointerSetAttribute(value: In<c_uint>, number: c_uint, address: DevicePtr) {
        value.get()?;
        check(number == 6)?;
        driver()?.find(address).map(|_| ()).ok_or(CUresult::INVALID_VALUE)
    }
}
