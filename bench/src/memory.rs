//! Several copies of a buffer on the device, for chains of launches.

use std::sync::Arc;

use cudarc::driver::sys::CUdeviceptr;
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, result};
use warpconv_testing::Stored;

use super::timed_graph::text;

/// Alignment of every copy in bytes, that of an allocation.
const ALIGNMENT: usize = 256;

/// Equal buffers one after another in one allocation.
pub struct Copies<T> {
    all: CudaSlice<T>,
    len: usize,
    pitch: usize,
    copies: usize,
    address: CUdeviceptr,
}

impl<T: Stored> Copies<T> {
    /// `copies` buffers of `len` elements, each the `unit` repeated; only the unit is transferred
    /// to the device. `len` is a multiple of the unit's length.
    pub fn new(
        stream: &Arc<CudaStream>,
        unit: &[T],
        len: usize,
        copies: usize,
    ) -> Result<Copies<T>, String> {
        let step = ALIGNMENT / size_of::<T>();
        let pitch = len.next_multiple_of(step).max(step);
        // SAFETY: every element that a kernel reads is copied to by `fill`; gaps between copies are
        // not read.
        let all = unsafe { stream.alloc::<T>(pitch * copies) }.map_err(text)?;
        let address = all.device_ptr(stream).0;
        let made = Copies {
            all,
            len,
            pitch,
            copies,
            address,
        };
        made.fill(stream, unit)?;
        Ok(made)
    }

    /// Replaces every copy by the `unit` repeated; only the unit is transferred to the device.
    pub fn fill(&self, stream: &Arc<CudaStream>, unit: &[T]) -> Result<(), String> {
        if unit.is_empty() {
            return Ok(());
        }
        let unit = stream.clone_htod(unit).map_err(text)?;
        let from = unit.device_ptr(stream).0;
        for copy in 0..self.copies {
            for start in (0..self.len).step_by(unit.len()) {
                let bytes = unit.len().min(self.len - start) * size_of::<T>();
                let to = self.at(copy) + (start * size_of::<T>()) as u64;
                // SAFETY: the destination is a part of a copy in an allocation of this context,
                // which `self` keeps, and the source as long as that part; all uses of both are in
                // this stream, which is waited for before the source is freed.
                unsafe { result::memcpy_dtod_async(to, from, bytes, stream.cu_stream()) }
                    .map_err(text)?;
            }
        }
        stream.synchronize().map_err(text)
    }

    /// The address of copy `i`, modulo their number.
    pub fn at(&self, i: usize) -> CUdeviceptr {
        self.address + (i % self.copies * self.pitch * size_of::<T>()) as u64
    }

    /// Downloads some elements of the first copy.
    pub fn read(
        &self,
        stream: &Arc<CudaStream>,
        elements: std::ops::Range<usize>,
    ) -> Result<Vec<T>, String> {
        let got = stream.clone_dtoh(&self.all.slice(elements)).map_err(text)?;
        stream.synchronize().map_err(text)?;
        Ok(got)
    }

    /// Sets every bit of the first copy: NaN in every type.
    pub fn poison(&self, stream: &Arc<CudaStream>) -> Result<(), String> {
        let bytes = self.len * size_of::<T>();
        stream.context().bind_to_thread().map_err(text)?;
        // SAFETY: the range is the first copy in an allocation of this context, which `self` keeps;
        // all uses of it are in this stream.
        unsafe { result::memset_d8_async(self.address, 0xff, bytes, stream.cu_stream()) }
            .map_err(text)
    }

    /// Number of elements of a copy.
    pub fn elements(&self) -> usize {
        self.len
    }
}
