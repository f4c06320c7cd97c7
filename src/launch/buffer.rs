//! Contents of buffers on the device: element types, workspaces, zeros and nothing.

use std::sync::Arc;

use cudarc::driver::{
    CudaContext, CudaSlice, CudaStream, DevicePtr, DeviceRepr, ValidAsZeroBits, sys,
};

use super::prepared::{Use, write};
use crate::device::driver_error;
use crate::error::Error;
use crate::kernels::DType;
use crate::plan::{WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};

mod sealed {
    pub trait Element {}
    impl Element for f32 {}
    impl Element for half::f16 {}
    impl Element for half::bf16 {}
}

/// A type that activations, filters and bias can be stored as: [`f32`], [`half::f16`],
/// [`half::bf16`].
pub trait Element:
    DeviceRepr + ValidAsZeroBits + Copy + Send + Sync + 'static + sealed::Element
{
    /// The catalog's name of the type.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}

impl Element for half::f16 {
    const DTYPE: DType = DType::F16;
}

impl Element for half::bf16 {
    const DTYPE: DType = DType::Bf16;
}

/// Memory for packed filters and the partial tiles of split-K: at least
/// [`Plan::workspace_bytes`](crate::plan::Plan::workspace_bytes) of the plan.
///
/// One workspace of the largest size serves any number of plans. Launches that share it run one
/// after the other, in any streams, while cudarc tracks events. Without tracking, order them
/// yourself or give each stream a workspace. Nothing has to be cleared between launches, and a
/// workspace can be part of a captured graph.
#[derive(Debug)]
pub struct Workspace {
    memory: CudaSlice<u8>,
    /// First byte of the workspace in the memory.
    start: usize,
    len: usize,
}

impl Workspace {
    /// New memory, of which the part that has to be zero is zeroed in the stream.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Driver`] if earlier work in the context failed.
    pub fn new(stream: &Arc<CudaStream>, bytes: u64) -> Result<Workspace, Error> {
        let failed = |e| driver_error("allocating a workspace", e);
        let len = usize::try_from(bytes).map_err(|_| Error::TooLarge {
            what: "the workspace",
            value: bytes.into(),
            limit: usize::MAX as u64,
        })?;
        // SAFETY: the counters are zeroed below; kernels read nothing else that they have not
        // written, and any bits are a valid u8. (A driver may refuse to allocate no bytes.)
        let memory = unsafe { stream.alloc::<u8>(len.max(1)) }.map_err(failed)?;
        Workspace::within(stream, memory, 0, len)
    }

    /// A workspace in `len` bytes from `start` of memory that the caller allocated, whose counters
    /// are zeroed in the stream.
    ///
    /// # Errors
    /// [`Error::Length`] if the memory ends before; [`Error::Misaligned`] unless its address is a
    /// multiple of [`WORKSPACE_ALIGNMENT`]; else as [`Workspace::new`].
    #[doc(hidden)]
    pub fn within(
        stream: &Arc<CudaStream>,
        memory: CudaSlice<u8>,
        start: usize,
        len: usize,
    ) -> Result<Workspace, Error> {
        let end = start.saturating_add(len);
        if end > memory.len() {
            return Err(Error::Length {
                what: "the memory of a workspace",
                expected: end,
                got: memory.len(),
            });
        }
        let address = memory.device_ptr(stream).0 + start as u64;
        if !address.is_multiple_of(WORKSPACE_ALIGNMENT) {
            return Err(Error::Misaligned {
                buffer: "workspace",
                address,
                needs: WORKSPACE_ALIGNMENT,
                has: 1 << address.trailing_zeros(),
            });
        }
        let mut workspace = Workspace { memory, start, len };
        let counters = len.min(WORKSPACE_COUNTERS as usize);
        if counters > 0 {
            let mut counters = workspace.memory.slice_mut(start..start + counters);
            stream
                .memset_zeros(&mut counters)
                .map_err(|e| driver_error("zeroing a workspace", e))?;
        }
        Ok(workspace)
    }

    /// Size in bytes.
    pub fn bytes(&self) -> u64 {
        self.len as u64
    }

    /// The context that it lives in.
    pub(super) fn context(&self) -> &Arc<CudaContext> {
        self.memory.context()
    }

    /// Address for a launch that uses the workspace.
    pub(super) fn pointer<'a>(&'a mut self, stream: &'a CudaStream) -> (sys::CUdeviceptr, Use<'a>) {
        let start = self.start as u64;
        let (address, used) = write(&mut self.memory, stream);
        (address + start, used)
    }

    /// The memory that it is part of.
    #[doc(hidden)]
    pub fn memory(&self) -> &CudaSlice<u8> {
        &self.memory
    }
}

/// Allocates a buffer of zeros; `what` names the call in errors.
pub(crate) fn zeros<T: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    len: usize,
    what: &'static str,
) -> Result<CudaSlice<T>, Error> {
    let made = if len == 0 {
        empty(stream)
    } else {
        stream.alloc_zeros(len)
    };
    made.map_err(|e| driver_error(what, e))
}

/// A buffer of length 0. A driver may refuse to allocate no bytes, so there is one behind it.
pub(crate) fn empty<T: DeviceRepr>(
    stream: &Arc<CudaStream>,
) -> Result<CudaSlice<T>, cudarc::driver::DriverError> {
    // SAFETY: nothing reads the byte.
    let byte = unsafe { stream.alloc::<u8>(1) }?;
    // SAFETY: the address is an allocation of this stream that nothing owns any more, and long
    // enough for no element.
    Ok(unsafe { stream.upgrade_device_ptr(byte.leak(), 0) })
}
