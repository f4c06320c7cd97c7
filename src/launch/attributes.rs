//! Attributes of a compiled kernel, asked of the driver.

use cudarc::driver::sys;

use super::{Launch, Prepared};
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
}

impl<P: Launch> Prepared<P> {
    /// The compiled kernel's registers and memory, asked of the driver.
    ///
    /// # Errors
    /// [`Error::Driver`] if the driver does not answer.
    pub fn attributes(&self) -> Result<FunctionAttributes, Error> {
        use sys::CUfunction_attribute as Attribute;
        Ok(FunctionAttributes {
            registers: self
                .loaded()
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            local_bytes: self
                .loaded()
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            shared_bytes: self
                .loaded()
                .attribute(Attribute::CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?
                + self.loaded().kernel().dynamic_shared(),
        })
    }
}
