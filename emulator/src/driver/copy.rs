//! Copies between host and device memory, in one, two and three dimensions, and between devices.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use crate::driver::capture;
use crate::driver::current::{healthy, stream};
use crate::driver::queue;
use crate::driver::state::copy::{Copy, Place, Side};
use crate::driver::state::transfer::{Kind, Transfer};
use crate::driver::state::{Context, Op, Stream, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::submit::{noted, wait_for_everything, wait_for_stream};
use crate::driver::types::{Copy2d, Copy3d, DevicePtr, Handle, In, check};

/// A synchronous copy: in the legacy stream of the current context.
///
/// CUDA driver API, "API synchronization behavior", synchronous copies: "1. For transfers from
/// pageable host memory to device memory, a stream sync is performed before the copy is initiated.
/// The function will return once the pageable buffer has been copied to the staging memory for DMA
/// transfer to device memory, but the DMA to final destination may not have completed. 2. For
/// transfers from pinned host memory to device memory, the function is synchronous with respect to
/// the host. 3. For transfers from device to either pageable or pinned host memory, the function
/// returns only once the copy has completed. 4. For transfers from device memory to device memory,
/// no host-side synchronization is performed. 5. For transfers from any host memory to any host
/// memory, the function is fully synchronous with respect to the host."
fn wait_for(copy: Copy) -> Result {
    let context = healthy()?;
    capture::forbid_unsafe_call()?;
    let stream = &context.legacy_stream;
    if noted(&context, stream, &Op::Copy(copy))? {
        return Ok(());
    }
    let transfer = copy.resolve()?;
    match (transfer.from.kind, transfer.to.kind) {
        (Kind::Pageable, Kind::Device) => {
            wait_for_stream(&context, stream)?;
            staged(&context, stream, transfer)
        }
        (Kind::Device, Kind::Device) => {
            queue::submit(&context, stream, Op::Transfer(transfer), &[]);
            Ok(())
        }
        _ => queue::submit_and_wait(&context, stream, Op::Transfer(transfer)),
    }
}

/// An asynchronous copy in a stream.
///
/// CUDA driver API, "API synchronization behavior", asynchronous copies: "1. For transfers between
/// device memory and pageable host memory, the function might be synchronous with respect to host.
/// 2. For transfers from any host memory to any host memory, the function is fully synchronous with
/// respect to the host. 3. If pageable memory must first be staged to pinned memory, the driver may
/// synchronize with the stream and stage the copy into pinned memory. 4. For all other transfers,
/// the function should be fully asynchronous." Editions up to 12 specify for 1: "For transfers from
/// device memory to pageable host memory, the function will return only once the copy has
/// completed."
fn enqueue(copy: Copy, handle: Handle) -> Result {
    let (context, stream) = stream(handle)?;
    if noted(&context, &stream, &Op::Copy(copy))? {
        return Ok(());
    }
    let transfer = copy.resolve()?;
    let is_host = |kind| matches!(kind, Kind::Pageable | Kind::Pinned);
    let (from, to) = (transfer.from.kind, transfer.to.kind);
    if to == Kind::Pageable || is_host(from) && is_host(to) {
        return queue::submit_and_wait(&context, &stream, Op::Transfer(transfer));
    }
    if from == Kind::Pageable {
        return staged(&context, &stream, transfer);
    }
    queue::submit(&context, &stream, Op::Transfer(transfer), &[]);
    Ok(())
}

/// A copy from the caller's pageable memory: only the read is complete when the call returns.
fn staged(context: &Arc<Context>, stream: &Arc<Stream>, transfer: Transfer) -> Result {
    // Where no earlier task precedes it, the copy runs here, and nothing needs to be staged.
    if let Some(mut transfer) = queue::run_if_idle(context, stream, transfer) {
        transfer.stage()?;
        queue::submit(context, stream, Op::Transfer(transfer), &[]);
    }
    Ok(())
}

/// One side of a copy's description: `CUmemorytype` 1 host, 2 device, 3 array, 4 either.
fn place(kind: c_uint, host: *const c_void, device: DevicePtr, offset: usize) -> Result<Place> {
    Ok(match kind {
        1 => Place::Host((host as usize).wrapping_add(offset)),
        2 => Place::Device(device.wrapping_add(offset as u64)),
        3 => return Err(CUresult::NOT_SUPPORTED),
        4 => Place::Either(device.wrapping_add(offset as u64)),
        _ => return Err(CUresult::INVALID_VALUE),
    })
}

/// Offset in bytes of the first byte that a copy touches on one side. Returns an error if the
/// address of its last byte overflows.
fn first_byte(at: [usize; 3], [pitch, plane]: [usize; 2], size: [usize; 3]) -> Result<usize> {
    let [x, y, z] = at;
    let [width, height, depth] = size;
    let rows = |x: usize, y: usize, z: usize| {
        let (row, layer) = (y.checked_mul(pitch)?, z.checked_mul(plane)?);
        x.checked_add(row)?.checked_add(layer)
    };
    let last = || {
        let y = y.checked_add(height.saturating_sub(1))?;
        let z = z.checked_add(depth.saturating_sub(1))?;
        rows(x, y, z)?.checked_add(width)
    };
    check(last().is_some_and(|end| isize::try_from(end).is_ok()))?;
    rows(x, y, z).ok_or(CUresult::INVALID_VALUE)
}

fn planar(description: In<Copy2d>) -> Result<Copy> {
    let d = description.get()?;
    let pitch = |pitch: usize, x: usize| {
        let pitch = if pitch == 0 { d.width } else { pitch };
        check(x.checked_add(d.width).is_some_and(|end| end <= pitch))?;
        Ok(pitch)
    };
    let (src_pitch, dst_pitch) = (pitch(d.src_pitch, d.src_x)?, pitch(d.dst_pitch, d.dst_x)?);
    let size = [d.width, d.height, 1];
    let src_offset = first_byte([d.src_x, d.src_y, 0], [src_pitch, 0], size)?;
    let dst_offset = first_byte([d.dst_x, d.dst_y, 0], [dst_pitch, 0], size)?;
    let src = place(d.src_kind, d.src_host, d.src_device, src_offset)?;
    let dst = place(d.dst_kind, d.dst_host, d.dst_device, dst_offset)?;
    Ok(Copy {
        from: Side {
            place: src,
            pitch: src_pitch,
            plane: 0,
        },
        to: Side {
            place: dst,
            pitch: dst_pitch,
            plane: 0,
        },
        width: d.width,
        height: d.height,
        depth: 1,
    })
}

fn solid(description: In<Copy3d>) -> Result<Copy> {
    let d = description.get()?;
    check(d.src_lod == 0 && d.dst_lod == 0)?;
    let or = |value: usize, otherwise: usize| if value == 0 { otherwise } else { value };
    let (src_pitch, dst_pitch) = (or(d.src_pitch, d.width), or(d.dst_pitch, d.width));
    let plane = |pitch: usize, height| {
        let bytes = pitch.checked_mul(or(height, d.height));
        bytes.ok_or(CUresult::INVALID_VALUE)
    };
    let (src_plane, dst_plane) = (
        plane(src_pitch, d.src_height)?,
        plane(dst_pitch, d.dst_height)?,
    );
    let fits = |x: usize, pitch| x.checked_add(d.width).is_some_and(|end| end <= pitch);
    check(fits(d.src_x, src_pitch) && fits(d.dst_x, dst_pitch))?;
    let size = [d.width, d.height, d.depth];
    let src_offset = first_byte([d.src_x, d.src_y, d.src_z], [src_pitch, src_plane], size)?;
    let dst_offset = first_byte([d.dst_x, d.dst_y, d.dst_z], [dst_pitch, dst_plane], size)?;
    Ok(Copy {
        from: Side {
            place: place(d.src_kind, d.src_host, d.src_device, src_offset)?,
            pitch: src_pitch,
            plane: src_plane,
        },
        to: Side {
            place: place(d.dst_kind, d.dst_host, d.dst_device, dst_offset)?,
            pitch: dst_pitch,
            plane: dst_plane,
        },
        width: d.width,
        height: d.height,
        depth: d.depth,
    })
}

/// A copy between two contexts' memories; both contexts must exist.
fn peer(
    to: DevicePtr,
    to_context: Handle,
    from: DevicePtr,
    from_context: Handle,
    bytes: usize,
) -> Result<Copy> {
    for context in [to_context, from_context] {
        driver()?
            .contexts
            .get(context)
            .map_err(|_| CUresult::INVALID_CONTEXT)?;
    }
    Ok(Copy::linear(Place::Device(from), Place::Device(to), bytes))
}

driver! {
    fn cuMemcpy(to: DevicePtr, from: DevicePtr, bytes: usize) {
        wait_for(Copy::linear(Place::Either(from), Place::Either(to), bytes))
    }

    fn cuMemcpyAsync(to: DevicePtr, from: DevicePtr, bytes: usize, stream: Handle) {
        enqueue(Copy::linear(Place::Either(from), Place::Either(to), bytes), stream)
    }

    fn cuMemcpyHtoD_v2(to: DevicePtr, from: *const c_void, bytes: usize) {
        wait_for(Copy::linear(Place::Host(from as usize), Place::Device(to), bytes))
    }

    fn cuMemcpyHtoDAsync_v2(to: DevicePtr, from: *const c_void, bytes: usize, stream: Handle) {
        enqueue(Copy::linear(Place::Host(from as usize), Place::Device(to), bytes), stream)
    }

    fn cuMemcpyDtoH_v2(to: *mut c_void, from: DevicePtr, bytes: usize) {
        wait_for(Copy::linear(Place::Device(from), Place::Host(to as usize), bytes))
    }

    fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: DevicePtr, bytes: usize, stream: Handle) {
        enqueue(Copy::linear(Place::Device(from), Place::Host(to as usize), bytes), stream)
    }

    fn cuMemcpyDtoD_v2(to: DevicePtr, from: DevicePtr, bytes: usize) {
        wait_for(Copy::linear(Place::Device(from), Place::Device(to), bytes))
    }

    fn cuMemcpyDtoDAsync_v2(to: DevicePtr, from: DevicePtr, bytes: usize, stream: Handle) {
        enqueue(Copy::linear(Place::Device(from), Place::Device(to), bytes), stream)
    }

    fn cuMemcpyPeer(
        to: DevicePtr,
        to_context: Handle,
        from: DevicePtr,
        from_context: Handle,
        bytes: usize,
    ) {
        // "This function is asynchronous with respect to the host, but serialized with respect all
        // pending and future asynchronous work in to the current context, srcContext, and
        // dstContext": stricter, it waits.
        let copy = peer(to, to_context, from, from_context, bytes)?;
        let context = healthy()?;
        capture::forbid_unsafe_call()?;
        wait_for_everything(&context)?;
        if noted(&context, &context.legacy_stream, &Op::Copy(copy))? {
            return Ok(());
        }
        queue::submit_and_wait(&context, &context.legacy_stream, Op::Transfer(copy.resolve()?))
    }

    fn cuMemcpyPeerAsync(
        to: DevicePtr,
        to_context: Handle,
        from: DevicePtr,
        from_context: Handle,
        bytes: usize,
        stream: Handle,
    ) {
        enqueue(peer(to, to_context, from, from_context, bytes)?, stream)
    }

    fn cuMemcpy2D_v2(description: In<Copy2d>) {
        wait_for(planar(description)?)
    }

    fn cuMemcpy2DUnaligned_v2(description: In<Copy2d>) {
        wait_for(planar(description)?)
    }

    fn cuMemcpy2DAsync_v2(description: In<Copy2d>, stream: Handle) {
        enqueue(planar(description)?, stream)
    }

    fn cuMemcpy3D_v2(description: In<Copy3d>) {
        wait_for(solid(description)?)
    }

    fn cuMemcpy3DAsync_v2(description: In<Copy3d>, stream: Handle) {
        enqueue(solid(description)?, stream)
    }
}
