//! The kernels of a convolution's launch and their arguments.

use std::sync::Arc;

use cudarc::driver::sys;

use super::args::ConvArgs;
use super::conv::{ConvPointers, PreparedConv};
use super::fill::{Arguments, offset_bytes};
use super::pack::{self, PackArgs};
use super::prepared::launch_kernel;
use super::tensor::TensorArgs;
use super::wgmma::WgmmaArgs;
use crate::catalog::Algorithm;
use crate::error::Error;
use crate::gpu::{Gpu, LoadedKernel};
use crate::plan::{ConvPlan, FilterRows, WorkspaceParts};
use crate::problem::Conv2d;

/// What a prepared convolution launches: its kernel's arguments without the pointers, and what has
/// to run before it.
#[derive(Clone, Debug)]
pub struct ConvKernels {
    arguments: ConvArguments,
    /// Where the plan packs the filters: the kernel that does, and how.
    pack: Option<(Arc<LoadedKernel>, PackArgs)>,
    parts: WorkspaceParts,
    multiprocessors: u32,
}

/// One kind for each family of kernels.
#[derive(Clone, Debug)]
enum ConvArguments {
    Cores(ConvArgs),
    Tensor(TensorArgs),
    /// With four maps three times as large as the others.
    Wgmma(Box<WgmmaArgs>),
}

impl ConvKernels {
    pub(super) fn new(gpu: &Gpu, plan: &ConvPlan) -> Result<ConvKernels, Error> {
        let (problem, kernel) = (plan.problem(), plan.kernel().kernel());
        let arguments = match kernel.algorithm {
            // No driver encodes a map of nothing.
            _ if plan.grid() == 0 => ConvArguments::Cores(ConvArgs::from(problem)),
            Algorithm::Mma | Algorithm::MmaFewChannels | Algorithm::MmaSmallGroups => {
                ConvArguments::Tensor(TensorArgs::new(problem, kernel, plan.split_k()))
            }
            Algorithm::Wgmma | Algorithm::WgmmaGather => {
                ConvArguments::Wgmma(Box::new(WgmmaArgs::new(problem, kernel, plan.split_k())?))
            }
            _ => ConvArguments::Cores(ConvArgs::from(problem)),
        };
        let pack = match pack::kernel(problem.dtype()).filter(|_| plan.packs_filter()) {
            Some(id) => {
                let rows = FilterRows::of(problem, kernel);
                Some((gpu.load(id)?, PackArgs::new(problem, &rows)))
            }
            None => None,
        };
        Ok(ConvKernels {
            arguments,
            pack,
            parts: plan.workspace_parts(),
            multiprocessors: gpu.capability().sm_count,
        })
    }

    /// Queues the kernels.
    ///
    /// # Safety
    /// As [`PreparedConv::launch_raw`]; the pointers have been checked.
    pub(super) unsafe fn launch(
        &self,
        prepared: &PreparedConv,
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
            ConvArguments::Cores(conv) => {
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
