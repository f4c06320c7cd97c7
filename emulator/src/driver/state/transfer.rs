//! Copies with resolved memory, ready for a stream.

use std::ffi::c_void;
use std::sync::Arc;

use crate::driver::state::device::{AllocationKind, Device};
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, Handle, host_bytes};

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
    pub fn rows(&self) -> impl Iterator<Item = (usize, usize)> + use<> {
        let height = self.height;
        (0..self.depth).flat_map(move |z| (0..height).map(move |y| (y, z)))
    }
}
