//! A fill of device memory.

use std::sync::Arc;

use crate::driver::state::device::Device;
use crate::driver::state::transfer::Kind;
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{DevicePtr, check};

/// A fill of `height` rows of `width` values, `pitch` bytes apart.
#[derive(Clone)]
pub struct Fill {
    /// Device and kind of the memory, once it is resolved.
    pub target: Option<(Arc<Device>, Kind)>,
    pub address: DevicePtr,
    pub value: [u8; 4],
    pub value_bytes: usize,
    pub width: usize,
    pub height: usize,
    pub pitch: usize,
}

impl Fill {
    /// A fill of contiguous values.
    pub fn linear(address: DevicePtr, value: &[u8], count: usize) -> Result<Fill> {
        Fill::rows(address, 0, value, count, 1)
    }

    /// A fill of rows.
    pub fn rows(
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

    /// Bytes per row.
    pub fn row_bytes(&self) -> usize {
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
}
