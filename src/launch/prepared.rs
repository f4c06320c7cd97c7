//! A plan whose kernel is loaded, and what stands between a caller's buffers and a launch: the
//! buffers that launches take, their order in streams, their checks, and the room for a workspace.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::{
    CudaContext, CudaEvent, CudaSlice, CudaStream, CudaView, CudaViewMut, DevicePtr, DevicePtrMut,
    DeviceSlice, SyncOnDrop, sys,
};

use super::Launch;
use super::buffer::{Element, Workspace};
#[cfg(feature = "nvtx")]
use crate::device::Label;
use crate::device::{Gpu, LoadedKernel, check_ordering, check_stream, driver_error};
use crate::error::Error;
use crate::kernels::DType;
use crate::kernels::operation::Arguments;
use crate::plan::{Limits, Plan};
use crate::problem::TensorDesc;

/// A plan with its kernel loaded into a device's context: launch it as often as needed, from any
/// thread.
#[derive(Clone, Debug)]
pub struct Prepared<P: Launch> {
    plan: Plan<P>,
    kernel: Arc<LoadedKernel>,
    /// Arguments of the kernel without the pointers.
    arguments: P::Arguments,
    /// Name of its launches in a profiler.
    #[cfg(feature = "nvtx")]
    label: Label,
}

impl Gpu {
    /// Loads the plan's kernels, if this is their first use, and makes the plan ready to launch.
    ///
    /// # Errors
    /// [`Error::PlanForAnotherDevice`] if the plan's kernel needs more than the device has,
    /// [`Error::ModuleLoad`], [`Error::DriverTooOld`] or [`Error::OutOfMemory`] if the driver does
    /// not take the kernel.
    pub fn prepare<P: Launch>(&self, plan: &Plan<P>) -> Result<Prepared<P>, Error> {
        Prepared::new(self, plan)
    }
}

impl<P: Launch> Prepared<P> {
    fn new(gpu: &Gpu, plan: &Plan<P>) -> Result<Prepared<P>, Error> {
        let (planned, device) = (plan.capability().version(), gpu.capability().version());
        let kernel = plan.kernel();
        // Cards of one architecture differ in shared memory: 8.6 has less than 8.0.
        let most_shared = gpu.capability().shared_per_block_optin;
        if !kernel.arch.runs_on(device) || kernel.dynamic_shared() > most_shared {
            return Err(Error::PlanForAnotherDevice {
                plan: planned,
                device,
            });
        }
        Ok(Prepared {
            plan: plan.clone(),
            kernel: gpu.load(plan.kernel_id())?,
            arguments: P::arguments(gpu, plan)?,
            #[cfg(feature = "nvtx")]
            label: Label::new(|| format!("{}: {}", kernel.name(), plan.problem().describe())),
        })
    }

    /// Plan that was prepared.
    pub fn plan(&self) -> &Plan<P> {
        &self.plan
    }

    /// Problem of the plan.
    pub(super) fn problem(&self) -> &P {
        self.plan.problem()
    }

    /// The context that the kernel was loaded into: the one of every buffer and stream of a launch.
    pub(super) fn context(&self) -> &Arc<CudaContext> {
        self.kernel.context()
    }

    pub(super) fn arguments(&self) -> &P::Arguments {
        &self.arguments
    }

    /// Kernel of the plan, loaded.
    pub(super) fn loaded_kernel(&self) -> &LoadedKernel {
        &self.kernel
    }

    /// Computes the operation in the stream. Returns when the work is queued, not when it is
    /// done. An empty batch is nothing to do.
    ///
    /// # Errors
    /// Before anything is launched: [`Error::WrongDType`], [`Error::WrongContext`],
    /// [`Error::Length`], [`Error::MissingBuffer`], [`Error::UnexpectedBuffer`],
    /// [`Error::Overlap`], [`Error::Misaligned`], [`Error::WorkspaceTooSmall`],
    /// [`Error::CaptureWithEventTracking`]. [`Error::Driver`] if the launch fails, or if earlier
    /// work in the context did.
    pub fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        buffers: P::Buffers<'_, T>,
    ) -> Result<(), Error> {
        P::launch(self, stream, buffers)
    }

    /// Computes the operation in a raw stream, on raw device pointers.
    ///
    /// # Safety
    /// Each pointer is to device memory of this context (or null, where allowed) that holds the
    /// problem's elements (the plan's bytes, and what is said there of them, in the case of the
    /// workspace) and stays allocated until the stream has done the work; meanwhile nothing else
    /// writes it, nor reads `y`, nor uses the workspace. `stream` belongs to this context. Nothing
    /// is recorded in cudarc's events.
    ///
    /// # Errors
    /// [`Error::NullBuffer`], [`Error::Misaligned`], [`Error::UnexpectedBuffer`],
    /// [`Error::MissingBuffer`] or [`Error::Overlap`] before anything is launched;
    /// [`Error::Driver`] if the launch fails, or if earlier work in the context did.
    pub unsafe fn launch_raw(
        &self,
        stream: sys::CUstream,
        pointers: P::Pointers,
    ) -> Result<(), Error> {
        #[cfg(feature = "nvtx")]
        let _range = self.label.range();
        // SAFETY: the caller's promise is this function's own.
        unsafe { P::launch_raw(self, stream, pointers) }
    }

    /// Checks the element type and the stream of a safe launch.
    pub(super) fn check_call<T: Element>(&self, stream: &CudaStream) -> Result<(), Error> {
        check_dtype(self.problem().dtype(), T::DTYPE)?;
        check_stream(self.context(), stream)
    }

    /// Checks that cudarc ordered the uses of the buffers; see [`check_ordering`].
    pub(super) fn check_ordering(&self) -> Result<(), Error> {
        check_ordering(self.context())
    }

    /// Shares the work out and launches the plan's kernel; the arguments' pointers are set.
    ///
    /// # Safety
    /// As [`LoadedKernel::launch`], of the arguments that the plan's kernel takes.
    pub(super) unsafe fn launch_arguments(
        &self,
        stream: sys::CUstream,
        mut arguments: impl Arguments,
    ) -> Result<(), Error> {
        let grid = arguments.set_grid(self.loaded_kernel().kernel());
        // SAFETY: the caller's promise is this function's own.
        unsafe { self.loaded_kernel().launch(stream, grid, arguments) }
    }
}

mod sealed {
    use super::{CudaSlice, CudaView, CudaViewMut};

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
    // A whole slice has no other user while it is borrowed here; of a view's slice another
    // thread may.
    let shared = buffer.is_part();
    let (address, record) = buffer.device_ptr_mut(stream);
    (address, Use::new(record, stream, shared))
}

/// The address of an operand that a launch may lack: 0 without it.
pub(super) fn address_or_null(operand: &Option<(sys::CUdeviceptr, Use<'_>)>) -> sys::CUdeviceptr {
    operand.as_ref().map_or(0, |(address, _)| *address)
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
pub(super) fn check_dtype(problem: DType, buffers: DType) -> Result<(), Error> {
    if problem == buffers {
        Ok(())
    } else {
        Err(Error::WrongDType { problem, buffers })
    }
}

/// Checks that a buffer is exactly as long as the problem states and lives in the context of the
/// launch.
///
/// The very same [`CudaContext`], not an equal one: two of the same device share the driver's
/// context, but each counts its own streams, and one without streams neither waits for nor records
/// what the other's do.
pub(super) fn check_buffer<T>(
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
pub(super) fn check_optional<B>(
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
pub(super) fn check_workspace<'a>(
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
    if workspace.bytes() < needs {
        let has = workspace.bytes();
        return Err(Error::WorkspaceTooSmall { needs, has });
    }
    Ok(Some(workspace))
}

#[cfg(test)]
mod tests;
#[cfg(test)]
#[cfg(feature = "emulator")]
mod uses_tests;
