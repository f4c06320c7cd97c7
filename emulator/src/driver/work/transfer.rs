//! Execution of copies.

use std::ffi::c_void;
use std::sync::Arc;

use crate::driver::journal::gone;
use crate::driver::registry::lock;
use crate::driver::state::transfer::{Place, Side, Transfer};
use crate::driver::state::{Device, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, Handle, check, host_bytes, host_bytes_mut};

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
