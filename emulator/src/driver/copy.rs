//! Copies between host and device memory, in one, two and three dimensions, and between devices.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use super::capture;
use super::current::{healthy, stream};
use super::registry::lock;
use super::state::{Context, Device, driver};
use super::status::{CUresult, Result};
use super::types::{Copy2d, Copy3d, DevicePtr, Handle, In, check, host_bytes, host_bytes_mut};
use super::work::{Op, submit};

/// Where one side of a copy lies. Host addresses stand as numbers, as they may be used from another thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Host(usize),
    Device(DevicePtr),
    /// Whichever of the two the address belongs to.
    Either(u64),
}

/// One side of a copy.
#[derive(Clone, Copy, Debug)]
struct Side {
    place: Place,
    /// Bytes from a row to the next.
    pitch: usize,
    /// Bytes from a plane to the next.
    plane: usize,
}

/// A copy of `depth` planes of `height` rows of `width` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    from: Side,
    to: Side,
    width: usize,
    height: usize,
    depth: usize,
}

/// A side, resolved.
enum Memory {
    Host(usize),
    Device(Arc<Device>, DevicePtr),
}

impl Side {
    /// Where row `y` of plane `z` begins.
    fn row(&self, y: usize, z: usize) -> Result<Place> {
        let offset = y
            .checked_mul(self.pitch)
            .zip(z.checked_mul(self.plane))
            .and_then(|(row, plane)| row.checked_add(plane))
            .ok_or(CUresult::INVALID_VALUE)?;
        Ok(match self.place {
            Place::Host(address) => Place::Host(address.wrapping_add(offset)),
            Place::Device(address) => Place::Device(address.wrapping_add(offset as u64)),
            Place::Either(address) => Place::Either(address.wrapping_add(offset as u64)),
        })
    }
}

/// Finds the memory of `bytes` bytes at a place. Device memory must lie inside one allocation.
fn resolve(place: Place, bytes: usize) -> Result<Memory> {
    let (address, unknown_is_host) = match place {
        Place::Host(address) => return Ok(Memory::Host(address)),
        Place::Device(address) => (address, false),
        Place::Either(address) => (address, true),
    };
    if let Some((device, base, allocation)) = driver()?.find(address) {
        check(allocation.bytes - (address - base) >= bytes as u64)?;
        return Ok(Memory::Device(device, address));
    }
    let pinned = lock(&driver()?.host)
        .range(..=address)
        .next_back()
        .is_some_and(|(&base, range)| {
            range.bytes as u64 - (address - base).min(range.bytes as u64) >= bytes as u64
        });
    check(pinned || unknown_is_host)?;
    Ok(Memory::Host(address as usize))
}

impl Copy {
    fn linear(from: Place, to: Place, bytes: usize) -> Copy {
        let side = |place| Side {
            place,
            pitch: bytes,
            plane: bytes,
        };
        Copy {
            from: side(from),
            to: side(to),
            width: bytes,
            height: 1,
            depth: 1,
        }
    }

    /// Does the copy.
    pub fn run(&self, _context: &Arc<Context>) -> Result {
        if self.width == 0 {
            return Ok(());
        }
        for z in 0..self.depth {
            for y in 0..self.height {
                let from = resolve(self.from.row(y, z)?, self.width)?;
                let to = resolve(self.to.row(y, z)?, self.width)?;
                move_bytes(from, to, self.width)?;
            }
        }
        Ok(())
    }
}

/// Copies one row.
fn move_bytes(from: Memory, to: Memory, bytes: usize) -> Result {
    match (from, to) {
        (Memory::Host(from), Memory::Host(to)) => {
            check(from != 0 && to != 0)?;
            // SAFETY: the caller of a copy vouches for both ranges of host memory; `copy` allows them to overlap.
            unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
            Ok(())
        }
        (Memory::Host(from), Memory::Device(device, to)) => device
            .backend
            .write(to, host_bytes(from as *const c_void, bytes)?),
        (Memory::Device(device, from), Memory::Host(to)) => device
            .backend
            .read(from, host_bytes_mut(to as *mut c_void, bytes)?),
        (Memory::Device(source, from), Memory::Device(target, to)) => {
            target
                .backend
                .copy_from(to, &source.backend, from, bytes as u64)
        }
    }
}

/// A copy that the caller waits for: in the legacy stream of the current context.
fn wait_for(copy: Copy) -> Result {
    let context = healthy()?;
    capture::forbid_unsafe_call()?;
    submit(&context, &context.legacy_stream, Op::Copy(copy))
}

/// A copy in a stream.
fn enqueue(copy: Copy, handle: Handle) -> Result {
    let (context, stream) = stream(handle)?;
    submit(&context, &stream, Op::Copy(copy))
}

/// One side's place from a copy's description: `CUmemorytype` 1 host, 2 device, 3 array, 4 either.
fn place(kind: c_uint, host: *const c_void, device: DevicePtr, offset: usize) -> Result<Place> {
    Ok(match kind {
        1 => Place::Host((host as usize).wrapping_add(offset)),
        2 => Place::Device(device.wrapping_add(offset as u64)),
        3 => return Err(CUresult::NOT_SUPPORTED),
        4 => Place::Either(device.wrapping_add(offset as u64)),
        _ => return Err(CUresult::INVALID_VALUE),
    })
}

fn planar(description: In<Copy2d>) -> Result<Copy> {
    let d = description.get()?;
    let pitch = |pitch: usize, x: usize| {
        let pitch = if pitch == 0 { d.width } else { pitch };
        check(x.checked_add(d.width).is_some_and(|end| end <= pitch))?;
        Ok(pitch)
    };
    let (src_pitch, dst_pitch) = (pitch(d.src_pitch, d.src_x)?, pitch(d.dst_pitch, d.dst_x)?);
    let src = place(
        d.src_kind,
        d.src_host,
        d.src_device,
        d.src_x + d.src_y * src_pitch,
    )?;
    let dst = place(
        d.dst_kind,
        d.dst_host,
        d.dst_device,
        d.dst_x + d.dst_y * dst_pitch,
    )?;
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
    let (src_plane, dst_plane) = (
        src_pitch * or(d.src_height, d.height),
        dst_pitch * or(d.dst_height, d.height),
    );
    check(d.src_x + d.width <= src_pitch && d.dst_x + d.width <= dst_pitch)?;
    let src_offset = d.src_x + d.src_y * src_pitch + d.src_z * src_plane;
    let dst_offset = d.dst_x + d.dst_y * dst_pitch + d.dst_z * dst_plane;
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

/// Between two contexts' memories; both must exist.
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
        wait_for(peer(to, to_context, from, from_context, bytes)?)
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
