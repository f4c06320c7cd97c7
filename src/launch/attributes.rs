//! Attributes of a loaded kernel: its image, and what the driver reports of it.

use cudarc::driver::sys;

use super::{Launch, Prepared, PreparedPack};
use crate::device::{Loaded, LoadedKernel};
use crate::error::Error;

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
    /// Most threads per block.
    pub max_threads: u32,
    /// Shared-memory carve-out in percent of the most that an SM has; `None` if the driver chooses.
    pub carveout: Option<u32>,
}

impl FunctionAttributes {
    /// The attributes of a loaded kernel.
    fn of(kernel: &LoadedKernel) -> Result<FunctionAttributes, Error> {
        use sys::CUfunction_attribute as Attribute;
        Ok(FunctionAttributes {
            registers: kernel.attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: kernel.attribute(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            shared_bytes: kernel.attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?
                + kernel.kernel().dynamic_shared(),
            max_threads: kernel.attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
            carveout: kernel.carveout(),
        })
    }
}

impl<P: Launch> Prepared<P> {
    /// Image that the kernel was loaded from.
    pub fn loaded(&self) -> Loaded {
        self.loaded_kernel().loaded().clone()
    }

    /// Log of the driver's compiler: registers, spills, serialized `wgmma`. Empty for machine code,
    /// for PTX that the driver has compiled before and takes from its cache, and on the emulator.
    pub fn jit_log(&self) -> &str {
        self.loaded_kernel().jit_log()
    }

    /// The compiled kernel's registers and memory, asked of the driver.
    ///
    /// # Errors
    /// [`Error::Driver`] if the driver does not answer.
    pub fn attributes(&self) -> Result<FunctionAttributes, Error> {
        FunctionAttributes::of(self.loaded_kernel())
    }
}

impl PreparedPack {
    /// Image that the kernel was loaded from.
    #[doc(hidden)]
    pub fn loaded(&self) -> Loaded {
        self.loaded_kernel().loaded().clone()
    }

    /// The compiled kernel's registers and memory, asked of the driver.
    ///
    /// # Errors
    /// [`Error::Driver`] if the driver does not answer.
    #[doc(hidden)]
    pub fn attributes(&self) -> Result<FunctionAttributes, Error> {
        FunctionAttributes::of(self.loaded_kernel())
    }
}
