//! A plan whose kernel is loaded.

use std::sync::Arc;

use cudarc::driver::{CudaContext, sys};

use super::{Gpu, LoadedKernel, Prepare};
use crate::error::Error;
use crate::plan::Plan;

/// A plan with its kernel loaded into a device's context: launch it as often as needed, from any
/// thread.
#[derive(Clone, Debug)]
pub struct Prepared<P: Prepare> {
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

impl<P: Prepare> Prepared<P> {
    pub(super) fn new(gpu: &Gpu, plan: &Plan<P>) -> Result<Prepared<P>, Error> {
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
    pub(crate) fn problem(&self) -> &P {
        self.plan.problem()
    }

    /// The context that the kernel was loaded into: the one of every buffer and stream of a launch.
    pub(crate) fn context(&self) -> &Arc<CudaContext> {
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

    pub(crate) fn arguments(&self) -> &P::Arguments {
        &self.arguments
    }

    /// Kernel of the plan, loaded.
    pub(crate) fn loaded(&self) -> &LoadedKernel {
        &self.kernel
    }
}
