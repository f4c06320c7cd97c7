//! A plan whose kernel is loaded: the checks that stand between a caller's buffers and a launch,
//! and the one unsafe launch.

use std::ffi::c_void;
use std::sync::Arc;
use std::{fmt, ptr};

use cudarc::driver::{CudaContext, CudaStream, DeviceSlice, result, sys};

use super::buffer::{Element, Workspace};
use crate::device::{Gpu, LoadedKernel, driver_error};
use crate::error::Error;
use crate::kernels::DType;
use crate::kernels::operation::Arguments;
use crate::plan::{Operation, Plan};
use crate::problem::TensorDesc;

/// Operations that can be launched, with the types of their operands.
pub trait Launch: Operation {
    /// The operands as cudarc's slices or views.
    type Buffers<'a, T: Element>;
    /// The operands as device addresses.
    type Pointers;
    /// The kernel's arguments without the pointers, and what else its launches need.
    #[doc(hidden)]
    type Arguments: Clone + fmt::Debug + Send + Sync;

    /// Fills in the arguments.
    #[doc(hidden)]
    fn arguments(gpu: &Gpu, plan: &Plan<Self>) -> Result<Self::Arguments, Error>;

    /// Checks the buffers and launches.
    #[doc(hidden)]
    fn launch<T: Element>(
        prepared: &Prepared<Self>,
        stream: &CudaStream,
        buffers: Self::Buffers<'_, T>,
    ) -> Result<(), Error>;

    /// Checks what addresses show and launches.
    ///
    /// # Safety
    /// As [`Prepared::launch_raw`].
    #[doc(hidden)]
    unsafe fn launch_raw(
        prepared: &Prepared<Self>,
        stream: sys::CUstream,
        pointers: Self::Pointers,
    ) -> Result<(), Error>;
}

/// A plan with its kernel loaded into a device's context: launch it as often as needed, from any
/// thread.
#[derive(Clone, Debug)]
pub struct Prepared<P: Launch> {
    plan: Plan<P>,
    kernel: Arc<LoadedKernel>,
    /// Arguments of the kernel without the pointers.
    arguments: P::Arguments,
}

/// Attributes of a kernel after the driver's compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionAttributes {
    /// Registers per thread.
    pub registers: u32,
    /// Bytes of local memory per thread: spilled registers and arrays. These kernels should have
    /// none.
    pub local_bytes: u32,
    /// Bytes of shared memory per block: those of the module, and those that a launch adds.
    pub shared_bytes: u32,
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

    /// The compiled kernel's registers and memory, asked of the driver.
    ///
    /// # Errors
    /// [`Error::Driver`] if the driver does not answer.
    pub fn attributes(&self) -> Result<FunctionAttributes, Error> {
        use sys::CUfunction_attribute as Attribute;
        Ok(FunctionAttributes {
            registers: self
                .kernel
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: self
                .kernel
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            shared_bytes: self
                .kernel
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?
                + self.kernel.kernel().dynamic_shared(),
        })
    }

    pub(super) fn arguments(&self) -> &P::Arguments {
        &self.arguments
    }

    /// Kernel of the plan, loaded.
    pub(super) fn loaded(&self) -> &LoadedKernel {
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
    /// As [`launch_kernel`], of the arguments that the plan's kernel takes.
    pub(super) unsafe fn launch_arguments(
        &self,
        stream: sys::CUstream,
        mut arguments: impl Arguments,
    ) -> Result<(), Error> {
        let grid = arguments.set_grid(self.loaded().kernel());
        // SAFETY: the caller's promise is this function's own.
        unsafe { launch_kernel(self.loaded(), stream, grid, arguments) }
    }
}

/// Launches a kernel with arguments whose pointers are set and whose work is shared out.
///
/// # Safety
/// `arguments` are of the kind that the kernel takes, shared out among `grid` blocks. Every pointer
/// in them is to memory of the kernel's context that is as large as the problem says and stays
/// allocated until the stream has done the work, during which nothing else writes it (or, if it is
/// written by the kernel, reads it). The stream belongs to this context.
pub(super) unsafe fn launch_kernel<A: Copy>(
    loaded: &LoadedKernel,
    stream: sys::CUstream,
    grid: u64,
    mut arguments: A,
) -> Result<(), Error> {
    if grid == 0 {
        return Ok(());
    }
    let kernel = loaded.kernel();
    let most = i32::MAX as u64;
    let grid = u32::try_from(grid)
        .ok()
        .filter(|&grid| u64::from(grid) <= most)
        .ok_or(Error::TooLarge {
            what: "the number of blocks",
            value: u128::from(grid),
            limit: most,
        })?;
    loaded
        .context()
        .bind_to_thread()
        .map_err(|e| driver_error("binding the context", e))?;
    let mut parameters = [ptr::from_mut(&mut arguments).cast::<c_void>()];
    // SAFETY: the kernel takes one parameter, the struct that `arguments` mirrors field by field
    // (their sizes are asserted on both sides), and the driver copies it before it returns. The
    // caller vouches for the pointers in it and for the stream; the context is bound, and the
    // kernel's block fits every device of its architecture.
    unsafe {
        result::launch_kernel(
            loaded.function(),
            (grid, 1, 1),
            (kernel.threads, 1, 1),
            kernel.dynamic_shared(),
            stream,
            &mut parameters,
        )
    }
    .map_err(|e| driver_error("launching a kernel", e))
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

/// Checks that a buffer is exactly as long as the problem says and lives in the context of the
/// launch.
///
/// The very same [`CudaContext`], not an equal one: two of the same device share the driver's
/// context, but each counts its own streams, and one that knows of none neither waits for nor
/// records what the other's do.
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

/// Checks that the stream belongs to the context of the launch, and that cudarc's bookkeeping will
/// not break a capture.
///
/// In a context that tracks events, cudarc makes the launch wait for events recorded before the
/// capture began, which a capture cannot contain. This check finds that before anything invalidates
/// the capture. A graph also outlives cudarc's hold on its buffers. A program that captures
/// therefore turns tracking off, which is unsafe. The default stream cannot be
/// captured.
pub(super) fn check_stream(context: &Arc<CudaContext>, stream: &CudaStream) -> Result<(), Error> {
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
pub(super) fn check_ordering(context: &CudaContext) -> Result<(), Error> {
    context
        .check_err()
        .map_err(|e| driver_error("ordering the stream behind its buffers", e))
}

#[cfg(test)]
mod tests;
