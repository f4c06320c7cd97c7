//! The one unsafe launch, and the checks that all safe launches share.

use std::ffi::c_void;
use std::ptr;

use cudarc::driver::{CudaStream, result, sys};

use super::{check, element::Element};
use crate::device::{LoadedKernel, Prepare, Prepared, driver_error};
use crate::error::Error;
use crate::kernels::args::Arguments;

impl<P: Prepare> Prepared<P> {
    /// Checks the element type and the stream of a safe launch.
    pub(super) fn check_call<T: Element>(&self, stream: &CudaStream) -> Result<(), Error> {
        check::dtype(self.problem().dtype(), T::DTYPE)?;
        check::stream(self.context(), stream)
    }

    /// Checks that cudarc ordered the uses of the buffers; see [`check::ordering`].
    pub(super) fn check_ordering(&self) -> Result<(), Error> {
        check::ordering(self.context())
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
