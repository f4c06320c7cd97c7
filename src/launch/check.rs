//! The checks that stand between a caller's buffers and a launch.

use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, DeviceSlice, sys};

use super::workspace::Workspace;
use crate::device::driver_error;
use crate::error::Error;
use crate::kernels::DType;
use crate::problem::TensorDesc;

/// A device address with what is known of the memory behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    /// The operand's name in errors: `x`, `w`, `bias`, `residual`, `y`, `indices`, `workspace`.
    pub name: &'static str,
    pub address: u64,
    pub bytes: u64,
}

impl Span {
    pub(super) fn new(name: &'static str, address: u64, len: usize, element: usize) -> Span {
        Span {
            name,
            address,
            bytes: len as u64 * element as u64,
        }
    }

    /// Refuses an address that is null or not aligned to `needs` bytes; an operand without elements
    /// may have any.
    pub(super) fn check(&self, needs: u64) -> Result<(), Error> {
        if self.bytes == 0 {
            return Ok(());
        }
        if self.address == 0 {
            return Err(Error::NullBuffer { buffer: self.name });
        }
        if !self.address.is_multiple_of(needs) {
            return Err(Error::Misaligned {
                buffer: self.name,
                address: self.address,
                needs,
                has: 1 << self.address.trailing_zeros(),
            });
        }
        Ok(())
    }

    fn meets(&self, other: &Span) -> bool {
        self.bytes > 0
            && other.bytes > 0
            && self.address < other.address.saturating_add(other.bytes)
            && other.address < self.address.saturating_add(self.bytes)
    }

    /// Refuses memory in common with another operand, of which one is written.
    pub(super) fn apart_from(&self, other: &Span) -> Result<(), Error> {
        if self.meets(other) {
            return Err(Error::Overlap {
                written: self.name,
                read: other.name,
            });
        }
        Ok(())
    }
}

/// Returns whether two tensors that start at the same address are channel slices of one wider
/// tensor without a common channel: their bytes interleave, yet none belongs to both.
pub(super) fn disjoint_slices(a: (&Span, &TensorDesc), b: (&Span, &TensorDesc)) -> bool {
    let same_parent = a.0.address == b.0.address && same_parent(a.1, b.1);
    same_parent
        && (a.1.channel_offset() + a.1.c() <= b.1.channel_offset()
            || b.1.channel_offset() + b.1.c() <= a.1.channel_offset())
}

/// Returns whether two tensors are the very same elements.
pub(super) fn same_elements(a: (&Span, &TensorDesc), b: (&Span, &TensorDesc)) -> bool {
    a.0.address == b.0.address
        && same_parent(a.1, b.1)
        && a.1.c() == b.1.c()
        && a.1.channel_offset() == b.1.channel_offset()
}

fn same_parent(a: &TensorDesc, b: &TensorDesc) -> bool {
    (
        a.n(),
        a.h(),
        a.w(),
        a.channel_pitch(),
        a.layout(),
        a.dtype(),
    ) == (
        b.n(),
        b.h(),
        b.w(),
        b.channel_pitch(),
        b.layout(),
        b.dtype(),
    )
}

/// Checks that a typed buffer holds the problem's elements.
pub(super) fn dtype(problem: DType, buffers: DType) -> Result<(), Error> {
    if problem == buffers {
        Ok(())
    } else {
        Err(Error::WrongDType { problem, buffers })
    }
}

/// Checks that a buffer is exactly as long as the problem says and lives in the context of the
/// launch.
///
/// The very same [`CudaContext`], not an equal one: two of the same device share the driver's
/// context, but each counts its own streams, and one that knows of none neither waits for nor
/// records what the other's do.
pub(super) fn buffer<T>(
    context: &Arc<CudaContext>,
    name: &'static str,
    slice: &(impl DeviceSlice<T> + ?Sized),
    needs: usize,
) -> Result<(), Error> {
    if slice.len() != needs {
        return Err(Error::Length {
            what: name,
            expected: needs,
            got: slice.len(),
        });
    }
    if !Arc::ptr_eq(slice.stream().context(), context) {
        return Err(Error::WrongContext { what: name });
    }
    Ok(())
}

/// Checks that an optional buffer is given exactly if the problem has it.
pub(super) fn optional<B>(
    name: &'static str,
    in_problem: bool,
    given: Option<B>,
) -> Result<Option<B>, Error> {
    match (in_problem, given) {
        (true, None) => Err(Error::MissingBuffer { buffer: name }),
        (false, Some(_)) => Err(Error::UnexpectedBuffer { buffer: name }),
        (_, given) => Ok(given),
    }
}

/// Checks that a plan which needs a workspace has one, and one that is large enough. Others may be
/// given any.
pub(super) fn workspace<'a>(
    context: &Arc<CudaContext>,
    needs: u64,
    given: Option<&'a mut Workspace>,
) -> Result<Option<&'a mut Workspace>, Error> {
    if needs == 0 {
        return Ok(None);
    }
    let workspace = given.ok_or(Error::MissingBuffer {
        buffer: "workspace",
    })?;
    if !Arc::ptr_eq(workspace.context(), context) {
        return Err(Error::WrongContext { what: "workspace" });
    }
    if workspace.len() < needs {
        let has = workspace.len();
        return Err(Error::WorkspaceTooSmall { needs, has });
    }
    Ok(Some(workspace))
}

/// Checks that the stream belongs to the context of the launch, and that cudarc's bookkeeping will
/// not break a capture.
///
/// In a context that tracks events, cudarc makes the launch wait for events recorded before the
/// capture began, which a capture cannot contain. This check finds that before anything invalidates
/// the capture. A graph also outlives cudarc's hold on its buffers. A program that captures
/// therefore turns tracking off, which is unsafe. The default stream cannot be
/// captured.
pub(super) fn stream(context: &Arc<CudaContext>, stream: &CudaStream) -> Result<(), Error> {
    if !Arc::ptr_eq(stream.context(), context) {
        return Err(Error::WrongContext { what: "stream" });
    }
    if context.is_event_tracking() && !stream.cu_stream().is_null() {
        let status = stream
            .capture_status()
            .map_err(|e| driver_error("cuStreamIsCapturing", e))?;
        if status != sys::CUstreamCaptureStatus::CU_STREAM_CAPTURE_STATUS_NONE {
            return Err(Error::CaptureWithEventTracking);
        }
    }
    Ok(())
}

/// Checks whether cudarc, which cannot say so where it happens, failed to order the stream behind
/// the buffers' last uses, or to record this one.
pub(super) fn ordering(context: &CudaContext) -> Result<(), Error> {
    context
        .check_err()
        .map_err(|e| driver_error("ordering the stream behind its buffers", e))
}

#[cfg(test)]
mod tests;
