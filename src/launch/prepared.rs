//! A plan whose kernel is loaded: what all three kinds of launch share.

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;

use cudarc::driver::{CudaContext, CudaStream, result, sys};

use super::fill::Arguments;
use super::{check, element::Element};
use crate::error::Error;
use crate::gpu::{Gpu, LoadedKernel, driver_error};
use crate::plan::{Operation, Plan};

/// A plan with its kernel loaded into a device's context: launch it as often as wanted, from any
/// thread.
#[derive(Clone, Debug)]
pub struct Prepared<P, A> {
    plan: Plan<P>,
    kernel: Arc<LoadedKernel>,
    /// Everything but the pointers.
    arguments: A,
}

/// What the driver's compiler made of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FunctionAttributes {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of local memory of a thread: spilled registers and arrays. These kernels mean to have
    /// none.
    pub local_bytes: u32,
    /// Bytes of shared memory of a block: what the module declares and what a launch adds.
    pub shared_bytes: u32,
}

impl<P: Operation, A> Prepared<P, A> {
    pub(super) fn new(gpu: &Gpu, plan: &Plan<P>, arguments: A) -> Result<Prepared<P, A>, Error> {
        let (planned, device) = (plan.capability().version(), gpu.capability().version());
        let kernel = plan.kernel().kernel();
        // Cards of one tier differ in shared memory: 8.6 has less than 8.0.
        let most_shared = gpu.capability().shared_per_block_optin;
        if !kernel.arch.runs_on(device) || kernel.dynamic_shared() > most_shared {
            return Err(Error::PlanForAnotherDevice {
                plan: planned,
                device,
            });
        }
        Ok(Prepared {
            plan: plan.clone(),
            kernel: gpu.load(plan.kernel())?,
            arguments,
        })
    }

    /// The plan.
    pub fn plan(&self) -> &Plan<P> {
        &self.plan
    }

    /// The problem.
    pub fn problem(&self) -> &P {
        self.plan.problem()
    }

    /// The context that the kernel was loaded into: the one of every buffer and stream of a launch.
    pub fn context(&self) -> &Arc<CudaContext> {
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

    pub(super) fn arguments(&self) -> &A {
        &self.arguments
    }

    /// Checks the element type and the stream of a safe launch.
    pub(super) fn check_call<T: Element>(&self, stream: &CudaStream) -> Result<(), Error> {
        check::dtype(self.problem().dtype(), T::DTYPE)?;
        check::stream(self.context(), stream)
    }

    /// See [`check::ordering`].
    pub(super) fn check_ordering(&self) -> Result<(), Error> {
        check::ordering(self.context())
    }

    /// The plan's kernel.
    pub(super) fn loaded(&self) -> &LoadedKernel {
        &self.kernel
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
        let grid = arguments.set_grid(self.kernel.kernel());
        // SAFETY: the caller's promise is this function's own.
        unsafe { launch_kernel(&self.kernel, stream, grid, arguments) }
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
    // kernel's block fits every device of its tier.
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
