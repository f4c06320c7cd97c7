//! Filling device memory with a value of one, two or four bytes.

use std::ffi::{c_uchar, c_uint, c_ushort};

use crate::driver::capture;
use crate::driver::current::{healthy, stream};
use crate::driver::queue;
use crate::driver::state::transfer::Kind;
use crate::driver::state::{Fill, Op};
use crate::driver::status::Result;
use crate::driver::submit::{noted, submit};
use crate::driver::types::{DevicePtr, Handle};

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
