//! Buffers on the device: element types, the buffers that launches take, the order of their uses in
//! streams, workspaces, and allocation.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut,
    DeviceRepr, SyncOnDrop, ValidAsZeroBits, sys,
};

use crate::device::{Gpu, driver_error};
use crate::error::Error;
use crate::kernels::DType;
use crate::plan::{Limits, WORKSPACE_ALIGNMENT, WORKSPACE_COUNTERS};
use crate::problem::TensorDesc;

mod sealed {
    use super::{CudaSlice, CudaView, CudaViewMut};

    pub trait Element {}
    impl Element for f32 {}
    impl Element for half::f16 {}
    impl Element for half::bf16 {}

    pub trait Buffer {
        /// Returns whether it is a view, whose slice may have other views that are used at the same
        /// time.
        fn is_part(&self) -> bool;
    }
    impl<T> Buffer for CudaSlice<T> {
        fn is_part(&self) -> bool {
            false
        }
    }
    impl<T> Buffer for CudaView<'_, T> {
        fn is_part(&self) -> bool {
            true
        }
    }
    impl<T> Buffer for CudaViewMut<'_, T> {
        fn is_part(&self) -> bool {
            true
        }
    }
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

/// Device memory that can be read: cudarc's [`CudaSlice`], [`CudaView`] and [`CudaViewMut`].
///
/// Nothing else: cudarc's [`DevicePtr`] can be implemented, safely, to return any address and any
/// length, and a launch has to rely on both. Memory of another origin goes through `launch_raw`,
/// which is unsafe, or first through
/// [`CudaStream::upgrade_device_ptr`](cudarc::driver::CudaStream::upgrade_device_ptr), which is
/// too.
///
/// ```compile_fail,E0277
/// fn launchable<T>(_: &dyn warpconv::launch::DeviceBuffer<T>) {}
/// fn anything<T>(buffer: &impl cudarc::driver::DevicePtr<T>) {
///     launchable(buffer);
/// }
/// ```
pub trait DeviceBuffer<T>: DevicePtr<T> + sealed::Buffer {}

/// Device memory that can be written: cudarc's [`CudaSlice`] and [`CudaViewMut`]. See
/// [`DeviceBuffer`].
pub trait DeviceBufferMut<T>: DevicePtrMut<T> + sealed::Buffer {}

impl<T> DeviceBuffer<T> for CudaSlice<T> {}
impl<T> DeviceBuffer<T> for CudaView<'_, T> {}
impl<T> DeviceBuffer<T> for CudaViewMut<'_, T> {}
impl<T> DeviceBufferMut<T> for CudaSlice<T> {}
impl<T> DeviceBufferMut<T> for CudaViewMut<'_, T> {}

/// Locks for the events, shared out by their handles: two events with the same lock cost time,
/// nothing else.
static LOCKS: [Mutex<()>; 64] = [const { Mutex::new(()) }; 64];

/// A launch's use of a buffer in a stream: orders the launch behind the earlier uses of the buffer,
/// and later uses behind the launch. To be dropped once the launch is queued.
///
/// cudarc keeps two events per slice, the last read and the last write, which all views of the
/// slice share. Its accessors make a stream wait for the write (and for the read, before a write)
/// and record the use afterwards. Three things are missing there, and are done here or in
/// `device/context.rs`:
///
/// - cudarc does neither while it counts no stream, and it counts none once the last `CudaStream`
///   is dropped, though the work in it goes on, and none for per-thread streams. A
///   [`Gpu`](crate::device::Gpu) therefore keeps its context's count above zero.
/// - Recording an event forgets what it stood for. A read in a second stream would hide the read in
///   the first, so that a later write, or a free, would wait for the second alone. A [`Use`] waits
///   for the event before it records it again: behind the launch, so that launches which read the
///   same buffer in different streams still run side by side.
/// - Two threads that read one slice, or write two halves of one, would each wait for the same old
///   event and record a new one, of which the second stays. Waiting and recording are one step
///   here, under a lock.
#[must_use]
pub(crate) struct Use<'a> {
    /// Guard whose drop records the use.
    record: Option<SyncOnDrop<'a>>,
    /// The event that is about to be recorded, where it may stand for work that the launch did not
    /// wait for.
    shared: Option<&'a CudaEvent>,
    stream: &'a CudaStream,
}

impl<'a> Use<'a> {
    fn new(record: SyncOnDrop<'a>, stream: &'a CudaStream, shared: bool) -> Use<'a> {
        let shared = match &record {
            SyncOnDrop::Record(Some((event, _))) if shared => Some(*event),
            _ => None,
        };
        Use {
            record: Some(record),
            shared,
            stream,
        }
    }
}

impl Drop for Use<'_> {
    fn drop(&mut self) {
        let context = self.stream.context();
        let Some(event) = self.shared else {
            return;
        };
        if !context.is_managing_stream_synchronization() {
            return;
        }
        let address = event.cu_event() as usize;
        // Handles are addresses of the driver's objects: the lowest bits say little.
        let lock = &LOCKS[(address >> 6 ^ address >> 12) % LOCKS.len()];
        let _step = lock.lock().unwrap_or_else(PoisonError::into_inner);
        context.record_err(self.stream.wait(event));
        drop(self.record.take());
    }
}

/// A buffer's address for a launch that reads it: the stream waits for the buffer's last write.
pub(crate) fn read<'a, T>(
    buffer: &'a (dyn DeviceBuffer<T> + 'a),
    stream: &'a CudaStream,
) -> (sys::CUdeviceptr, Use<'a>) {
    let (address, record) = buffer.device_ptr(stream);
    (address, Use::new(record, stream, true))
}

/// A buffer's address for a launch that writes it: the stream waits for the buffer's last read and
/// its last write.
pub(crate) fn write<'a, T>(
    buffer: &'a mut (dyn DeviceBufferMut<T> + 'a),
    stream: &'a CudaStream,
) -> (sys::CUdeviceptr, Use<'a>) {
    // Of a whole slice nobody else has a part while it is borrowed here; of a view's slice another
    // thread may.
    let shared = buffer.is_part();
    let (address, record) = buffer.device_ptr_mut(stream);
    (address, Use::new(record, stream, shared))
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
    pub fn memory(&self) -> &CudaSlice<u8> {
        &self.memory
    }
}

impl Gpu {
    /// Copies elements to a new buffer on the device, in the default stream, and waits for that. No
    /// elements make a buffer of length 0.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Driver`] if the copy, or earlier work, failed.
    pub fn upload<T: DeviceRepr>(&self, elements: &[T]) -> Result<CudaSlice<T>, Error> {
        let failed = |e| driver_error("copying to the device", e);
        if elements.is_empty() {
            return empty(self.stream()).map_err(failed);
        }
        let buffer = self.stream().clone_htod(elements).map_err(failed)?;
        // A copy from pageable memory has read it all when the call returns. One from pinned
        // memory, which a slice may be in, goes on: wait, so that the elements may be changed or
        // freed in any case.
        self.stream().synchronize().map_err(failed)?;
        Ok(buffer)
    }

    /// Copies a buffer's elements back, once the default stream has done all that was queued
    /// before, and every stream what writes the buffer.
    ///
    /// # Errors
    /// [`Error::WrongContext`] if the buffer belongs to another context; [`Error::Driver`] if the
    /// copy, or earlier work, failed.
    pub fn download<T: DeviceRepr>(&self, buffer: &impl DeviceBuffer<T>) -> Result<Vec<T>, Error> {
        let failed = |e| driver_error("copying from the device", e);
        let (stream, context) = (self.stream(), self.context());
        // What another context knows of its streams orders nothing here.
        if !Arc::ptr_eq(buffer.stream().context(), context) {
            return Err(Error::WrongContext { what: "the buffer" });
        }
        let mut elements: Vec<T> = Vec::with_capacity(buffer.len());
        context.bind_to_thread().map_err(failed)?;
        let (address, used) = read(buffer, stream);
        context.check_err().map_err(failed)?;
        // SAFETY: both sides have room for the buffer's elements, and the vector outlives the wait
        // below.
        let copied = match buffer.len() {
            0 => Ok(()),
            _ => unsafe {
                let to = elements.as_mut_ptr().cast();
                sys::cuMemcpyDtoHAsync_v2(to, address, buffer.num_bytes(), stream.cu_stream())
                    .result()
            },
        };
        drop(used);
        // A copy to pageable memory blocks the host until it is done. Memory that somebody has
        // pinned, as a program's allocator may have the vector's, is written behind the host's
        // back: wait in any case.
        copied.and_then(|()| stream.synchronize()).map_err(failed)?;
        // SAFETY: the copy has written them, from a slice whose elements are of this type.
        unsafe { elements.set_len(buffer.len()) };
        Ok(elements)
    }
}

/// Allocates a buffer for the tensor, zeroed if it has gaps that the operation does not write.
pub(crate) fn allocate<T: Element>(
    stream: &Arc<CudaStream>,
    desc: &TensorDesc,
) -> Result<CudaSlice<T>, Error> {
    const WHAT: &str = "allocating the output";
    if desc.is_empty() || !desc.is_dense() {
        return zeros(stream, desc.len(), WHAT);
    }
    // SAFETY: every element of a dense output is written before anything can read it: the launch
    // follows in the same stream, readers in other streams wait for the write that it records, and
    // any bits are a valid T.
    unsafe { stream.alloc(desc.len()) }.map_err(|e| driver_error(WHAT, e))
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

/// Allocates a workspace of `bytes`; `None` for 0.
pub(crate) fn workspace(stream: &Arc<CudaStream>, bytes: u64) -> Result<Option<Workspace>, Error> {
    match bytes {
        0 => Ok(None),
        bytes => Workspace::new(stream, bytes).map(Some),
    }
}

/// Plans within the limits and allocates the workspace that the plan `needs`. Where that does not
/// fit, it plans again within what the driver calls free, and at last without a workspace.
pub(crate) fn fitting<P>(
    stream: &Arc<CudaStream>,
    limits: &Limits,
    plan: impl Fn(&Limits) -> Result<P, Error>,
    needs: impl Fn(&P) -> u64,
) -> Result<(P, Option<Workspace>), Error> {
    let mut within = *limits;
    let mut missing = None;
    loop {
        let planned = match (plan(&within), missing) {
            // Nothing takes less: what the plan before lacked is the answer.
            (Err(Error::NoKernel { .. } | Error::KernelRefused { .. }), Some(missing)) => {
                return Err(missing);
            }
            (planned, _) => planned?,
        };
        let needs = needs(&planned);
        match workspace(stream, needs) {
            Err(Error::OutOfMemory { .. }) => {}
            made => return made.map(|workspace| (planned, workspace)),
        }
        let free = stream.context().mem_get_info();
        let (free, _) = free.map_err(|e| driver_error("asking for the free memory", e))?;
        let free = free as u64;
        // Free memory may lie in pieces, or be taken meanwhile: what did not fit within it is not
        // asked for again.
        within.workspace = if free < needs { free } else { 0 };
        missing = Some(Error::NoWorkspace { needs, free });
    }
}

/// A buffer of length 0. A driver may refuse to allocate no bytes, so there is one behind it.
fn empty<T: DeviceRepr>(
    stream: &Arc<CudaStream>,
) -> Result<CudaSlice<T>, cudarc::driver::DriverError> {
    // SAFETY: nothing reads the byte.
    let byte = unsafe { stream.alloc::<u8>(1) }?;
    // SAFETY: the address is an allocation of this stream that nothing owns any more, and long
    // enough for no element.
    Ok(unsafe { stream.upgrade_device_ptr(byte.leak(), 0) })
}

#[cfg(test)]
#[cfg(feature = "emulator")]
mod tests;
