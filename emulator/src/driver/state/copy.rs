//! A copy before its memory is resolved.

use crate::driver::status::{CUresult, Result};
use crate::driver::types::DevicePtr;

/// Memory of one side of a copy. Host addresses are integers, since another thread may use them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Host(usize),
    Device(DevicePtr),
    /// Host or device memory, as the address determines.
    Either(u64),
}

/// One side of a copy.
#[derive(Clone, Copy, Debug)]
pub struct Side {
    pub place: Place,
    /// Distance of rows in bytes.
    pub pitch: usize,
    /// Distance of planes in bytes.
    pub plane: usize,
}

/// A copy of `depth` planes of `height` rows of `width` bytes.
#[derive(Clone, Copy, Debug)]
pub struct Copy {
    pub from: Side,
    pub to: Side,
    pub width: usize,
    pub height: usize,
    pub depth: usize,
}

impl Side {
    /// Start of row `y` of plane `z`.
    pub fn row(&self, y: usize, z: usize) -> Result<Place> {
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

impl Copy {
    /// A copy of contiguous bytes.
    pub fn linear(from: Place, to: Place, bytes: usize) -> Copy {
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
}
