//! Copies with resolved memory, ready for a stream.

use std::ffi::c_void;
use std::sync::Arc;

use super::registry::lock;
use super::state::{AllocationKind, Device, driver};
use super::status::{CUresult, Result};
use super::types::{DevicePtr, Handle, check, host_bytes, host_bytes_mut};
use super::work::gone;

/// The kinds of memory that "API synchronization behavior" distinguishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Pageable,
    /// Host memory that the driver allocated or registered.
    Pinned,
    /// Managed memory.
    Unified,
    Device,
}

/// Start of one side of a copy.
#[derive(Clone)]
pub enum Place {
    /// The caller's host memory. Addresses are integers, since other threads use them.
    Host(usize),
    /// The driver's host memory, in the range with this number.
    Pinned(usize, Handle),
    /// Copy of the caller's host memory at the time of submission.
    Staged(Arc<[u8]>),
    Device(Arc<Device>, DevicePtr),
}

/// One side of a copy.
#[derive(Clone)]
pub struct Side {
    pub place: Place,
    pub kind: Kind,
    /// Distance of rows in bytes.
    pub pitch: usize,
    /// Distance of planes in bytes.
    pub plane: usize,
}

/// A copy of `depth` planes of `height` rows of `width` bytes.
#[derive(Clone)]
pub struct Transfer {
    pub from: Side,
    pub to: Side,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

/// The kind of memory of a device's allocation.
pub fn kind_of(kind: AllocationKind) -> Kind {
    match kind {
        AllocationKind::Host | AllocationKind::External => Kind::Pinned,
        AllocationKind::Managed => Kind::Unified,
        _ => Kind::Device,
    }
}

/// The number of the range of the driver's host memory that contains the bytes, if there is one.
pub fn pinned_range(address: usize, bytes: usize) -> Result<Option<Handle>> {
    let host = lock(&driver()?.host);
    let found = host.range(..=address as u64).next_back();
    let inside = found.filter(|(base, range)| {
        let offset = address as u64 - **base;
        offset < range.bytes as u64 && range.bytes as u64 - offset >= bytes as u64
    });
    Ok(inside.map(|(_, range)| range.number))
}

impl Transfer {
    /// Number of bytes copied.
    pub fn bytes(&self) -> usize {
        self.width
            .saturating_mul(self.height)
            .saturating_mul(self.depth)
    }

    /// Copies the caller's pageable memory, so that the caller may change it afterwards.
    pub fn stage(&mut self) -> Result {
        let Place::Host(from) = self.from.place else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        bytes
            .try_reserve_exact(self.bytes())
            .map_err(|_| CUresult::OUT_OF_MEMORY)?;
        for (y, z) in self.rows() {
            let row = from.wrapping_add(y * self.from.pitch + z * self.from.plane);
            bytes.extend_from_slice(host_bytes(row as *const c_void, self.width)?);
        }
        self.from.place = Place::Staged(bytes.into());
        self.from.pitch = self.width;
        self.from.plane = self.width * self.height;
        Ok(())
    }

    /// Row and plane index of every row.
    fn rows(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let height = self.height;
        (0..self.depth).flat_map(move |z| (0..height).map(move |y| (y, z)))
    }

    /// Performs the copy.
    pub fn run(&self) -> Result {
        if self.width == 0 {
            return Ok(());
        }
        self.from.check_pinned(self.bytes())?;
        self.to.check_pinned(self.bytes())?;
        self.rows().try_for_each(|(y, z)| {
            let from = y * self.from.pitch + z * self.from.plane;
            let to = y * self.to.pitch + z * self.to.plane;
            self.move_row(from, to)
        })
    }

    /// Copies one row, at these offsets from the start of both sides.
    fn move_row(&self, from: usize, to: usize) -> Result {
        let bytes = self.width;
        let staged;
        let source = match &self.from.place {
            Place::Device(device, address) => {
                return self.device_row(device, *address + from as u64, to);
            }
            Place::Host(address) | Place::Pinned(address, _) => {
                host_bytes(address.wrapping_add(from) as *const c_void, bytes)?.as_ptr()
            }
            Place::Staged(all) => {
                staged = all.get(from..from + bytes).ok_or(CUresult::INVALID_VALUE)?;
                staged.as_ptr()
            }
        };
        match &self.to.place {
            Place::Device(device, address) => {
                let to = *address + to as u64;
                // A raw address until now, since the target may be the same memory.
                let source = host_bytes(source.cast(), bytes)?;
                let written = device.backend.write(to, source);
                written.map_err(|_| gone("copy to device memory", to, bytes))
            }
            Place::Host(address) | Place::Pinned(address, _) => {
                let target = address.wrapping_add(to);
                check(target != 0)?;
                // SAFETY: the caller of a copy guarantees both ranges of host memory; `copy`
                // permits overlap.
                unsafe { std::ptr::copy(source, target as *mut u8, bytes) };
                Ok(())
            }
            Place::Staged(_) => Err(CUresult::INVALID_VALUE),
        }
    }

    /// Copies one row of device memory.
    fn device_row(&self, source: &Arc<Device>, from: DevicePtr, to: usize) -> Result {
        let bytes = self.width;
        match &self.to.place {
            Place::Device(target, address) => {
                let to = *address + to as u64;
                let copied = (target.backend).copy_from(to, &source.backend, from, bytes as u64);
                copied.map_err(|_| gone(&format!("copy to {to:#x}"), from, bytes))
            }
            Place::Host(address) | Place::Pinned(address, _) => {
                let target = host_bytes_mut(address.wrapping_add(to) as *mut c_void, bytes)?;
                let read = source.backend.read(from, target);
                read.map_err(|_| gone("copy from device memory", from, bytes))
            }
            Place::Staged(_) => Err(CUresult::INVALID_VALUE),
        }
    }
}

impl Side {
    /// Checks that the driver's host memory still exists. A free of it waits for running copies.
    fn check_pinned(&self, bytes: usize) -> Result {
        let Place::Pinned(address, number) = self.place else {
            return Ok(());
        };
        if pinned_range(address, 1)? == Some(number) {
            return Ok(());
        }
        Err(gone("copy of page-locked memory", address as u64, bytes))
    }
}
