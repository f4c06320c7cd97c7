//! The kernels of a convolution's launch and their arguments.

use cudarc::driver::sys;

use super::conv::ConvPointers;
use super::kernel::launch_kernel;
use crate::device::{ConvArguments, ConvKernels, Prepared};
use crate::error::Error;
use crate::kernels::args::ConvArgs;
use crate::kernels::args::{Arguments, offset_bytes};
use crate::kernels::tensor_args::TensorArgs;
use crate::problem::Conv2d;

impl ConvKernels {
    /// Queues the kernels.
    ///
    /// # Safety
    /// As [`Prepared::launch_raw`]; the pointers have been checked.
    pub(super) unsafe fn launch(
        &self,
        prepared: &Prepared<Conv2d>,
        stream: sys::CUstream,
        pointers: &ConvPointers,
    ) -> Result<(), Error> {
        let mut w = pointers.w;
        if let Some((kernel, arguments)) = &self.pack {
            let mut arguments = *arguments;
            arguments.from = w;
            w = pointers.workspace + self.parts.filter;
            arguments.to = w;
            let grid = arguments.set_grid(kernel.kernel());
            // SAFETY: the filters are the problem's, and the workspace has room for them where the
            // plan says; the caller vouches for both, and for the stream.
            unsafe { launch_kernel(kernel, stream, grid, arguments) }?;
        }
        let problem = prepared.problem();
        match &self.arguments {
            ConvArguments::Simt(conv) => {
                let mut conv = *conv;
                set_pointers(&mut conv, problem, pointers, w);
                // SAFETY: the caller's promise is this function's own.
                unsafe { prepared.launch_arguments(stream, conv) }
            }
            ConvArguments::Tensor(tensor) => {
                let mut tensor = *tensor;
                self.point_tensor(&mut tensor, problem, pointers, w);
                // SAFETY: the caller's promise is this function's own; the parts of the workspace
                // are as large as the kernel makes use of them.
                unsafe { prepared.launch_arguments(stream, tensor) }
            }
            ConvArguments::Wgmma(wgmma) => {
                let mut wgmma = **wgmma;
                self.point_tensor(&mut wgmma.tensor, problem, pointers, w);
                wgmma.set_pointers()?;
                let loaded = prepared.loaded();
                let grid = wgmma.set_grid(loaded.kernel(), self.multiprocessors);
                // SAFETY: as above; the maps describe the same operands.
                unsafe { launch_kernel(loaded, stream, grid, wgmma) }
            }
        }
    }

    /// Fills in the addresses of operands and workspace.
    fn point_tensor(
        &self,
        arguments: &mut TensorArgs,
        problem: &Conv2d,
        pointers: &ConvPointers,
        w: u64,
    ) {
        set_pointers(&mut arguments.conv, problem, pointers, w);
        if arguments.split_k > 1 {
            arguments.counters = pointers.workspace;
            arguments.partials = pointers.workspace + self.parts.partials;
        }
    }
}

/// Fills in the operands' addresses; `w` are the filters as the kernel reads them.
fn set_pointers(arguments: &mut ConvArgs, problem: &Conv2d, pointers: &ConvPointers, w: u64) {
    arguments.x = pointers.x + offset_bytes(problem.input());
    arguments.w = w;
    arguments.bias = pointers.bias;
    arguments.residual = match problem.residual() {
        Some(desc) => pointers.residual + offset_bytes(desc),
        None => 0,
    };
    arguments.y = pointers.y + offset_bytes(problem.output());
}
