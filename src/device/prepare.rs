//! Plans made ready to launch: their kernels loaded, their arguments filled in but for the
//! pointers.

use std::array::from_fn;
use std::fmt;
use std::sync::Arc;

use super::wgmma_args::WgmmaArgs;
use super::{Gpu, LoadedKernel, Prepared};
use crate::error::Error;
use crate::kernels::args::ConvArgs;
use crate::kernels::bottleneck::args::BottleneckArgs;
use crate::kernels::cost::resident;
use crate::kernels::elementwise::activation_args::SubsampleArgs;
use crate::kernels::multi_conv::args::BranchesArgs;
use crate::kernels::multi_conv::partials_layout;
use crate::kernels::operation::{self, conv_family};
use crate::kernels::pack_args::{self, PackArgs};
use crate::kernels::pool::args::PoolArgs;
use crate::kernels::tensor_args::TensorArgs;
use crate::kernels::{FilterRows, KernelId, Unary, kernels};
use crate::plan::{Operation, Plan, WorkspaceParts};
use crate::problem::{
    Bottleneck2d, Branches, Conv2d, FilterLayout, MAX_PRODUCTS, Pool2d, Subsample,
};

/// Operations whose plans a device prepares: all of them.
pub trait Prepare: Operation {
    /// The kernel's arguments without the pointers, and what else its launches need.
    #[doc(hidden)]
    type Arguments: Clone + fmt::Debug + Send + Sync;

    /// Fills in the arguments.
    #[doc(hidden)]
    fn arguments(gpu: &Gpu, plan: &Plan<Self>) -> Result<Self::Arguments, Error>;
}

impl Prepare for Conv2d {
    type Arguments = ConvKernels;

    fn arguments(gpu: &Gpu, plan: &Plan<Conv2d>) -> Result<ConvKernels, Error> {
        ConvKernels::new(gpu, plan)
    }
}

impl Prepare for Pool2d {
    type Arguments = PoolArgs;

    fn arguments(_gpu: &Gpu, plan: &Plan<Pool2d>) -> Result<PoolArgs, Error> {
        Ok(PoolArgs::from(plan.problem()))
    }
}

impl Prepare for Subsample {
    type Arguments = SubsampleArgs;

    fn arguments(_gpu: &Gpu, plan: &Plan<Subsample>) -> Result<SubsampleArgs, Error> {
        Ok(SubsampleArgs::from(plan.problem()))
    }
}

impl<P: Unary> Prepare for P {
    type Arguments = P::Args;

    fn arguments(_gpu: &Gpu, plan: &Plan<P>) -> Result<P::Args, Error> {
        Ok(Unary::arguments(plan.problem()))
    }
}

impl Prepare for Bottleneck2d {
    type Arguments = BottleneckKernel;

    fn arguments(gpu: &Gpu, plan: &Plan<Bottleneck2d>) -> Result<BottleneckKernel, Error> {
        let (device, kernel) = (gpu.capability(), plan.kernel());
        Ok(BottleneckKernel {
            arguments: BottleneckArgs::from(plan.problem()),
            most_blocks: resident(kernel, device) * u64::from(device.sm_count.max(1)),
        })
    }
}

impl Prepare for Branches {
    type Arguments = BranchesKernel;

    fn arguments(_gpu: &Gpu, plan: &Plan<Branches>) -> Result<BranchesKernel, Error> {
        let (problem, kernel) = (plan.problem(), plan.kernel());
        let (places, _) = partials_layout(problem, kernel, plan.split_k());
        Ok(BranchesKernel {
            arguments: BranchesArgs::new(problem, kernel, plan.split_k()),
            shared: from_fn(|index| places.get(index).copied().unwrap_or_default()),
        })
    }
}

impl Gpu {
    /// Loads the plan's kernels, if this is their first use, and makes the plan ready to launch.
    ///
    /// # Errors
    /// [`Error::PlanForAnotherDevice`] if the plan's kernel needs more than the device has,
    /// [`Error::ModuleLoad`], [`Error::DriverTooOld`] or [`Error::OutOfMemory`] if the driver does
    /// not take the kernel.
    pub fn prepare<P: Prepare>(&self, plan: &Plan<P>) -> Result<Prepared<P>, Error> {
        Prepared::new(self, plan)
    }

    /// Loads the kernel that packs a convolution's filters ([`FilterLayout::Packed`]), if this is
    /// its first use.
    ///
    /// Kernels on tensor cores read packed filters. Their launches pack filters of another layout
    /// every time. A caller that reuses filters packs them once, and plans
    /// [`PreparedPack::packed`].
    ///
    /// # Errors
    /// As [`Gpu::prepare`], and [`Error::TooLarge`] if the packed filters are more elements
    /// than a problem may have.
    pub fn prepare_pack_filter(&self, problem: &Conv2d) -> Result<PreparedPack, Error> {
        let packed = problem
            .to_builder()
            .filter_layout(FilterLayout::Packed)
            .build()?;
        Ok(PreparedPack {
            kernel: self.load(pack_kernel(problem)?)?,
            arguments: PackArgs::new(problem, &FilterRows::packed(problem)),
            problem: problem.clone(),
            packed,
        })
    }
}

/// The kernel that packs the filters of a convolution.
fn pack_kernel(problem: &Conv2d) -> Result<KernelId, Error> {
    pack_args::kernel(problem.dtype()).ok_or(Error::UnknownKernel {
        index: kernels().len(),
        kernels: kernels().len(),
    })
}

/// Parts of a prepared convolution: its kernel's arguments without the pointers, and what has to
/// run before it.
#[derive(Clone, Debug)]
pub struct ConvKernels {
    pub(crate) arguments: ConvArguments,
    /// Part of the workspace into which the plan packs the filters: the kernel that does, and how.
    pub(crate) pack: Option<(Arc<LoadedKernel>, PackArgs)>,
    pub(crate) parts: WorkspaceParts,
    pub(crate) multiprocessors: u32,
}

/// Arguments of a convolution kernel, one kind per family.
#[derive(Clone, Debug)]
pub(crate) enum ConvArguments {
    Simt(ConvArgs),
    Tensor(TensorArgs),
    /// Arguments with four tensor maps; boxed, since they are three times as large.
    Wgmma(Box<WgmmaArgs>),
}

impl ConvKernels {
    fn new(gpu: &Gpu, plan: &Plan<Conv2d>) -> Result<ConvKernels, Error> {
        let (problem, kernel) = (plan.problem(), plan.kernel());
        let arguments = match conv_family(kernel.algorithm) {
            // No driver encodes a map of nothing.
            Some(family) if plan.grid() > 0 => {
                match family.arguments(problem, kernel, plan.split_k()) {
                    operation::ConvArguments::Simt(conv) => ConvArguments::Simt(conv),
                    operation::ConvArguments::Tensor(tensor) => ConvArguments::Tensor(tensor),
                    operation::ConvArguments::TensorMaps(tensor) => {
                        ConvArguments::Wgmma(Box::new(WgmmaArgs::new(problem, kernel, tensor)?))
                    }
                }
            }
            _ => ConvArguments::Simt(ConvArgs::from(problem)),
        };
        let pack = match plan.packs_filter() {
            true => {
                let rows = FilterRows::of(problem, kernel);
                Some((
                    gpu.load(pack_kernel(problem)?)?,
                    PackArgs::new(problem, &rows),
                ))
            }
            false => None,
        };
        Ok(ConvKernels {
            arguments,
            pack,
            parts: plan.workspace_parts(),
            multiprocessors: gpu.capability().sm_count,
        })
    }
}

/// Parts of a prepared bottleneck: the arguments without the pointers, for as many blocks as the
/// device holds at once.
#[derive(Clone, Copy, Debug)]
pub struct BottleneckKernel {
    pub(crate) arguments: BottleneckArgs,
    pub(crate) most_blocks: u64,
}

/// Parts of prepared branches: the arguments without the pointers, and the places of partial tiles.
#[derive(Clone, Debug)]
pub struct BranchesKernel {
    pub(crate) arguments: BranchesArgs,
    /// First counter and first byte of partial tiles, per product.
    pub(crate) shared: [(u64, u64); MAX_PRODUCTS],
}

/// The packing of a convolution's filters, ready to launch; made by [`Gpu::prepare_pack_filter`].
#[derive(Clone, Debug)]
pub struct PreparedPack {
    pub(crate) kernel: Arc<LoadedKernel>,
    pub(crate) arguments: PackArgs,
    pub(crate) problem: Conv2d,
    pub(crate) packed: Conv2d,
}
