//! Attributes of a loaded kernel: its image, and what the driver reports of it.

use cudarc::driver::sys;

use super::{Launch, Prepared};
use crate::device::Loaded;
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
        use sys::CUfunction_attribute as Attribute;
        Ok(FunctionAttributes {
            registers: self
                .loaded_kernel()
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: self
                .loaded_kernel()
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            shared_bytes: self
                .loaded_kernel()
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?
                + self.loaded_kernel().kernel().dynamic_shared(),
            max_threads: self
                .loaded_kernel()
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
        })
    }
}
