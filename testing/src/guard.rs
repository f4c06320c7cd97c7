//! Buffers on the device between guard regions.

use super::convert::Stored;
use super::run::RunError;
use cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr, DeviceRepr};
use std::sync::Arc;
use warpconv::device::{DeviceKind, Gpu, driver_error};
use warpconv::error::Error;
use warpconv::launch::Workspace;
use warpconv::plan::{WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};
use warpconv::problem::TensorDesc;

/// Guard regions around the buffers of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guards {
    /// Guard bytes on either side of every buffer, whole elements. With 0 the allocation is exactly
    /// the buffer; use this where the device itself checks every access.
    pub bytes: usize,
    /// Elements by which every buffer is shifted from its alignment.
    pub shift: usize,
}

impl Guards {
    /// Default guards of a device: exact allocations on the emulator, which reports any access
    /// beyond them, and guard regions of 512 bytes on a GPU, which does not.
    pub fn of(gpu: &Gpu) -> Self {
        let bytes = match gpu.kind() {
            DeviceKind::Emulator => 0,
            _ => 512,
        };
        Self { bytes, shift: 0 }
    }

    /// The same, with every buffer shifted by `elements` from its alignment.
    pub fn shifted(self, elements: usize) -> Self {
        Self {
            shift: elements,
            ..self
        }
    }
}

/// A buffer on the device between two guard regions.
pub(super) struct Guarded<T> {
    name: &'static str,
    memory: CudaSlice<T>,
    /// Guard elements before the buffer.
    before: usize,
    /// Uploaded elements, guards included.
    image: Vec<T>,
    len: usize,
}

impl<T: Stored> Guarded<T> {
    pub(super) fn upload(
        gpu: &Gpu,
        name: &'static str,
        guards: Guards,
        content: Vec<T>,
    ) -> Result<Self, Error> {
        let guard = guards.bytes / size_of::<T>();
        let (before, len) = (guard + guards.shift, content.len());
        let mut image = vec![T::guard(); before];
        image.extend(content);
        // The driver rejects allocations of 0 bytes.
        let end = (image.len() + guard).max(1);
        image.resize(end, T::guard());
        let memory = copy_in(gpu, &image)?;
        Ok(Self {
            name,
            memory,
            before,
            image,
            len,
        })
    }

    pub(super) fn poisoned(gpu: &Gpu, guards: Guards, desc: &TensorDesc) -> Result<Self, Error> {
        Self::upload(gpu, "y", guards, vec![T::poison(); desc.len()])
    }

    /// Name of the operand in errors.
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Address and number of the elements between the guards.
    pub(super) fn place(&self, stream: &Arc<CudaStream>) -> (u64, usize) {
        let (address, _) = self.memory.device_ptr(stream);
        let before = (self.before * size_of::<T>()) as u64;
        (address + before, self.len)
    }

    pub(super) fn view(&self) -> CudaView<'_, T> {
        self.memory.slice(self.before..self.before + self.len)
    }

    pub(super) fn view_mut(&mut self) -> CudaViewMut<'_, T> {
        self.memory.slice_mut(self.before..self.before + self.len)
    }

    /// Downloads the buffer's elements, after checking the guard regions.
    pub(super) fn download(&self, gpu: &Gpu) -> Result<Vec<T>, RunError> {
        let all = copy_out(gpu, &self.memory)?;
        let end = self.before + self.len;
        let broken = |(place, value): (usize, &T)| {
            let outside = place < self.before || place >= end;
            outside && value.bits() != self.image[place].bits()
        };
        match all.iter().enumerate().position(broken) {
            None => Ok(all[self.before..end].to_vec()),
            Some(place) => {
                let (side, distance) = match place < self.before {
                    true => ("before", self.before - place),
                    false => ("after", place + 1 - end),
                };
                Err(RunError::Guard {
                    buffer: self.name,
                    side,
                    distance,
                    bits: all[place].bits(),
                })
            }
        }
    }

    /// Fails if a read-only operand changed.
    pub(super) fn expect_untouched(&self, gpu: &Gpu) -> Result<(), RunError> {
        let content = self.download(gpu)?;
        let uploaded = &self.image[self.before..];
        let changed = content
            .iter()
            .zip(uploaded)
            .position(|(now, then)| now.bits() != then.bits());
        match changed {
            None => Ok(()),
            Some(index) => Err(RunError::Input {
                buffer: self.name,
                index,
            }),
        }
    }
}

/// A buffer of bytes on the device between two guard regions.
pub(super) struct GuardedBytes {
    memory: CudaSlice<u8>,
    before: usize,
    len: usize,
}

impl GuardedBytes {
    const GUARD: u8 = 0xa5;
    /// Position 254 of a window: only windows of 255 positions have it.
    const POISON: u8 = 0xfe;

    pub(super) fn filled(gpu: &Gpu, guards: Guards, len: usize) -> Result<Self, Error> {
        let before = guards.bytes + guards.shift;
        let mut image = vec![Self::GUARD; before];
        image.resize(before + len, Self::POISON);
        let end = (image.len() + guards.bytes).max(1);
        image.resize(end, Self::GUARD);
        Ok(Self {
            memory: copy_in(gpu, &image)?,
            before,
            len,
        })
    }

    pub(super) fn view_mut(&mut self) -> CudaViewMut<'_, u8> {
        self.memory.slice_mut(self.before..self.before + self.len)
    }

    pub(super) fn download(&self, gpu: &Gpu) -> Result<Vec<u8>, RunError> {
        let all = copy_out(gpu, &self.memory)?;
        let end = self.before + self.len;
        let broken = |(place, &value): (usize, &u8)| {
            (place < self.before || place >= end) && value != Self::GUARD && self.len > 0
        };
        match all.iter().enumerate().position(broken) {
            None => Ok(all[self.before..end].to_vec()),
            Some(place) => {
                let (side, distance) = match place < self.before {
                    true => ("before", self.before - place),
                    false => ("after", place + 1 - end),
                };
                Err(RunError::Guard {
                    buffer: "indices",
                    side,
                    distance,
                    bits: all[place].into(),
                })
            }
        }
    }
}

/// A workspace between two guard regions: its counters are zero, the rest holds NaN (on the
/// emulator: is uninitialised).
pub(super) struct GuardedWorkspace {
    pub(super) inner: Workspace,
    before: usize,
    len: usize,
}

impl GuardedWorkspace {
    /// NaN in every type.
    const POISON: u8 = 0xff;
    const GUARD: u8 = 0xa5;

    /// `None` for no bytes.
    pub(super) fn new(gpu: &Gpu, guards: Guards, bytes: u64) -> Result<Option<Self>, Error> {
        if bytes == 0 {
            return Ok(None);
        }
        let len = bytes as usize;
        let before = guards.bytes.next_multiple_of(WORKSPACE_ALIGNMENT as usize);
        let memory = match gpu.kind() {
            // The emulator reports reads of uninitialised memory, which is stricter than any
            // poison. SAFETY: bytes may hold any value.
            DeviceKind::Emulator => unsafe { gpu.stream().alloc(before + len + guards.bytes) }
                .map_err(|error| driver_error("allocating a workspace", error))?,
            DeviceKind::Gpu => {
                let mut image = vec![Self::GUARD; before];
                image.resize(before + len, Self::POISON);
                image.resize(before + len + guards.bytes, Self::GUARD);
                copy_in(gpu, &image)?
            }
        };
        let inner = Workspace::within(gpu.stream(), memory, before, len)?;
        Ok(Some(Self { inner, before, len }))
    }

    /// Fails if a launch wrote beyond the workspace, or left a nonzero counter.
    pub(super) fn expect_ready(&self, gpu: &Gpu) -> Result<(), RunError> {
        let memory = self.inner.memory();
        let end = self.before + self.len;
        let copy = |range: std::ops::Range<usize>| match range.is_empty() {
            true => Ok(Vec::new()),
            false => copy_out(gpu, &memory.slice(range)),
        };
        let counters = self.len.min(WORKSPACE_COUNTERS as usize);
        let counters = copy(self.before..self.before + counters)?;
        if let Some(index) = counters.iter().position(|&byte| byte != 0) {
            let value = counters[index];
            return Err(RunError::Counter { index, value });
        }
        if gpu.kind() == DeviceKind::Emulator {
            return Ok(());
        }
        for (side, range) in [("before", 0..self.before), ("after", end..memory.len())] {
            let guard = copy(range)?;
            let broken = match side {
                "before" => guard.iter().rposition(|&byte| byte != Self::GUARD),
                _ => guard.iter().position(|&byte| byte != Self::GUARD),
            };
            if let Some(place) = broken {
                return Err(RunError::Guard {
                    buffer: "workspace",
                    side,
                    distance: if side == "before" {
                        self.before - place
                    } else {
                        place + 1
                    },
                    bits: guard[place].into(),
                });
            }
        }
        Ok(())
    }
}

fn copy_in<T: DeviceRepr>(gpu: &Gpu, host: &[T]) -> Result<CudaSlice<T>, Error> {
    gpu.stream()
        .clone_htod(host)
        .map_err(|error| driver_error("copying to the device", error))
}

fn copy_out<T: DeviceRepr>(gpu: &Gpu, memory: &impl DevicePtr<T>) -> Result<Vec<T>, Error> {
    gpu.stream()
        .clone_dtoh(memory)
        .map_err(|error| driver_error("copying from the device", error))
}
