//! Filling device memory with a value of one, two or four bytes.

use std::ffi::{c_uchar, c_uint, c_ushort};
use std::sync::Arc;

use super::capture;
use super::current::{healthy, stream};
use super::queue;
use super::state::{Device, driver};
use super::status::{CUresult, Result};
use super::transfer::{self, Kind};
use super::types::{DevicePtr, Handle, check};
use super::work::{Op, gone, noted, submit};

/// A fill of `height` rows of `width` values, `pitch` bytes apart.
#[derive(Clone)]
pub struct Fill {
    /// Device and kind of the memory, once it is resolved.
    target: Option<(Arc<Device>, Kind)>,
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
            target: None,
            address,
            value: bytes,
            value_bytes: value.len(),
            width,
            height,
            pitch,
        })
    }

    /// Resolves the memory. Each row must lie inside one allocation.
    pub fn resolve(mut self) -> Result<Fill> {
        if self.row_bytes() == 0 {
            return Ok(self);
        }
        for y in 0..self.height {
            let row = self.address.wrapping_add((y * self.pitch) as u64);
            let (device, base, allocation) = driver()?.find(row).ok_or(CUresult::INVALID_VALUE)?;
            check(allocation.bytes - (row - base) >= self.row_bytes() as u64)?;
            (self.target).get_or_insert((device, transfer::kind_of(allocation.kind)));
        }
        Ok(self)
    }

    fn row_bytes(&self) -> usize {
        self.width * self.value_bytes
    }

    /// Number of bytes written.
    pub fn bytes(&self) -> usize {
        self.row_bytes().saturating_mul(self.height)
    }

    /// The device, the first address, and three sizes: bytes per row, number of rows, distance of
    /// rows in bytes.
    pub fn place(&self) -> Option<(&Arc<Device>, DevicePtr, [u64; 3])> {
        let (device, _) = self.target.as_ref()?;
        let sizes = [self.row_bytes(), self.height, self.pitch].map(|n| n as u64);
        Some((device, self.address, sizes))
    }

    /// Performs the fill.
    pub fn run(&self) -> Result {
        let Some((device, _)) = &self.target else {
            return Ok(());
        };
        for y in 0..self.height {
            let row = self.address.wrapping_add((y * self.pitch) as u64);
            let value = &self.value[..self.value_bytes];
            (device.backend.fill(row, value, self.width as u64))
                .map_err(|_| gone("memset", row, self.row_bytes()))?;
        }
        Ok(())
    }
}

/// CUDA driver API, "API synchronization behavior": "The synchronous memset functions are
/// asynchronous with respect to the host except when the target is pinned host memory or a Unified
/// Memory region, in which case they are fully synchronous. The Async versions are always
/// asynchronous with respect to the host."
fn wait_for(fill: Fill) -> Result {
    let context = healthy()?;
    capture::forbid_unsafe_call()?;
    let stream = &context.legacy_stream;
    if noted(&context, stream, &Op::Fill(fill.clone()))? {
        return Ok(());
    }
    let fill = fill.resolve()?;
    match fill.target {
        Some((_, Kind::Pinned | Kind::Unified)) => {
            queue::submit_and_wait(&context, stream, Op::Fill(fill))
        }
        _ => {
            queue::submit(&context, stream, Op::Fill(fill), &[]);
            Ok(())
        }
    }
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

    fn cuMemsetD2D8_v2(
        address: DevicePtr, pitch: usize, value: c_uchar, width: usize, height: usize,
    ) {
        wait_for(Fill::rows(address, pitch, &[value], width, height)?)
    }

    fn cuMemsetD2D16_v2(
        address: DevicePtr, pitch: usize, value: c_ushort, width: usize, height: usize,
    ) {
        wait_for(Fill::rows(address, pitch, &value.to_ne_bytes(), width, height)?)
    }

    fn cuMemsetD2D32_v2(
        address: DevicePtr, pitch: usize, value: c_uint, width: usize, height: usize,
    ) {
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
