//! Filling device memory with a value of one, two or four bytes.

use std::ffi::{c_uchar, c_uint, c_ushort};

use super::capture;
use super::current::{healthy, stream};
use super::state::driver;
use super::status::{CUresult, Result};
use super::types::{DevicePtr, Handle, check};
use super::work::{Op, submit};

/// `height` rows of `width` values, `pitch` bytes apart.
#[derive(Clone, Copy, Debug)]
pub struct Fill {
    address: DevicePtr,
    value: [u8; 4],
    value_bytes: usize,
    width: usize,
    height: usize,
    pitch: usize,
}

impl Fill {
    fn linear(address: DevicePtr, value: &[u8], count: usize) -> Result<Fill> {
        Fill::rows(address, 0, value, count, 1)
    }

    fn rows(
        address: DevicePtr,
        pitch: usize,
        value: &[u8],
        width: usize,
        height: usize,
    ) -> Result<Fill> {
        let mut bytes = [0; 4];
        bytes[..value.len()].copy_from_slice(value);
        check(address.is_multiple_of(value.len() as u64) && pitch.is_multiple_of(value.len()))?;
        let row = width
            .checked_mul(value.len())
            .ok_or(CUresult::INVALID_VALUE)?;
        check(height <= 1 || pitch >= row)?;
        Ok(Fill {
            address,
            value: bytes,
            value_bytes: value.len(),
            width,
            height,
            pitch,
        })
    }

    /// Does it.
    pub fn run(&self) -> Result {
        let bytes = self.width * self.value_bytes;
        if bytes == 0 {
            return Ok(());
        }
        for y in 0..self.height {
            let row = self.address.wrapping_add((y * self.pitch) as u64);
            let (device, base, allocation) = driver()?.find(row).ok_or(CUresult::INVALID_VALUE)?;
            check(allocation.bytes - (row - base) >= bytes as u64)?;
            device
                .backend
                .fill(row, &self.value[..self.value_bytes], self.width as u64)?;
        }
        Ok(())
    }
}

fn wait_for(fill: Fill) -> Result {
    let context = healthy()?;
    capture::forbid_unsafe_call()?;
    submit(&context, &context.legacy_stream, Op::Fill(fill))
}

fn enqueue(fill: Fill, handle: Handle) -> Result {
    let (context, stream) = stream(handle)?;
    submit(&context, &stream, Op::Fill(fill))
}

driver! {
    fn cuMemsetD8_v2(address: DevicePtr, value: c_uchar, count: usize) {
        wait_for(Fill::linear(address, &[value], count)?)
    }

    fn cuMemsetD16_v2(address: DevicePtr, value: c_ushort, count: usize) {
        wait_for(Fill::linear(address, &value.to_ne_bytes(), count)?)
    }

    fn cuMemsetD32_v2(address: DevicePtr, value: c_uint, count: usize) {
        wait_for(Fill::linear(address, &value.to_ne_bytes(), count)?)
    }

    fn cuMemsetD8Async(address: DevicePtr, value: c_uchar, count: usize, stream: Handle) {
        enqueue(Fill::linear(address, &[value], count)?, stream)
    }

    fn cuMemsetD16Async(address: DevicePtr, value: c_ushort, count: usize, stream: Handle) {
        enqueue(Fill::linear(address, &value.to_ne_bytes(), count)?, stream)
    }

    fn cuMemsetD32Async(address: DevicePtr, value: c_uint, count: usize, stream: Handle) {
        enqueue(Fill::linear(address, &value.to_ne_bytes(), count)?, stream)
    }

    fn cuMemsetD2D8_v2(address: DevicePtr, pitch: usize, value: c_uchar, width: usize, height: usize) {
        wait_for(Fill::rows(address, pitch, &[value], width, height)?)
    }

    fn cuMemsetD2D16_v2(address: DevicePtr, pitch: usize, value: c_ushort, width: usize, height: usize) {
        wait_for(Fill::rows(address, pitch, &value.to_ne_bytes(), width, height)?)
    }

    fn cuMemsetD2D32_v2(address: DevicePtr, pitch: usize, value: c_uint, width: usize, height: usize) {
        wait_for(Fill::rows(address, pitch, &value.to_ne_bytes(), width, height)?)
    }

    fn cuMemsetD2D8Async(
        address: DevicePtr,
        pitch: usize,
        value: c_uchar,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        enqueue(Fill::rows(address, pitch, &[value], width, height)?, stream)
    }

    fn cuMemsetD2D16Async(
        address: DevicePtr,
        pitch: usize,
        value: c_ushort,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        enqueue(Fill::rows(address, pitch, &value.to_ne_bytes(), width, height)?, stream)
    }

    fn cuMemsetD2D32Async(
        address: DevicePtr,
        pitch: usize,
        value: c_uint,
        width: usize,
        height: usize,
        stream: Handle,
    ) {
        enqueue(Fill::rows(address, pitch, &value.to_ne_bytes(), width, height)?, stream)
    }
}
