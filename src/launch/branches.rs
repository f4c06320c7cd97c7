//! Launching several convolutions at once.

use std::array::from_fn;

use cudarc::driver::{CudaStream, sys};

use super::args::{FastDiv, Strides};
use super::buffer::{DeviceBuffer, DeviceBufferMut};
use super::check::{self, Span};
use super::element::Element;
use super::fill::{Arguments, int, offset_bytes};
use super::prepared::{Prepared, launch_kernel};
use super::tensor::TensorArgs;
use super::uses;
use super::workspace::Workspace;
use crate::catalog::{Kernel, Layout};
use crate::error::Error;
use crate::gpu::Gpu;
use crate::plan::branches::{partials_layout, split_k_of};
use crate::plan::{BranchesPlan, WORKSPACE_ALIGNMENT};
use crate::problem::{
    Branches, Conv2d, MAX_CONVOLUTIONS, MAX_MERGED, MAX_PRODUCTS, PACKED_BYTES, Product,
};

/// Several convolutions ready to be launched at once; made by [`Gpu::prepare_branches`].
pub type PreparedBranches = Prepared<Branches, BranchesKernel>;

/// A range of a product's filters: one convolution. As all structs here it mirrors
/// `kernels/multi_conv_args.cuh`, whose comments say what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destination {
    pub w: u64,
    pub bias: u64,
    pub y: u64,
    pub y_strides: Strides,
    pub first: i32,
    pub end: i32,
    pub relu: i32,
    pub reserved: i32,
}

/// One product.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BranchArgs {
    pub tensor: TensorArgs,
    pub to: [Destination; MAX_MERGED],
    pub destinations: i32,
    pub pooled: i32,
    pub first: u32,
    pub by_column: FastDiv,
}

/// The arguments of the kernels that compute several convolutions.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BranchesArgs {
    pub branch: [BranchArgs; MAX_PRODUCTS],
    pub branches: i32,
    pub reserved: i32,
}

const _: () = assert!(size_of::<Destination>() == 24 + 16 + 16);
const _: () = assert!(size_of::<BranchArgs>() == size_of::<TensorArgs>() + 4 * 56 + 24);
const _: () = assert!(size_of::<BranchesArgs>() == 4 * size_of::<BranchArgs>() + 8);

impl BranchesArgs {
    /// Everything but the pointers, and what [`Arguments::set_grid`] fills in.
    fn new(problem: &Branches, kernel: &Kernel, split_k: u32) -> BranchesArgs {
        let mut args = BranchesArgs {
            branches: int(problem.products().len()),
            ..BranchesArgs::default()
        };
        let each = problem.products().iter();
        let each = each.zip(split_k_of(problem, kernel, split_k));
        for (branch, (product, split_k)) in args.branch.iter_mut().zip(each) {
            *branch = BranchArgs::new(product, kernel, split_k);
        }
        args
    }

    fn used(&mut self) -> &mut [BranchArgs] {
        &mut self.branch[..self.branches as usize]
    }
}

impl BranchArgs {
    fn new(product: &Product, kernel: &Kernel, split_k: u32) -> BranchArgs {
        let mut branch = BranchArgs {
            tensor: TensorArgs::new(product.merged(), kernel, split_k),
            destinations: int(product.convolutions().len()),
            pooled: i32::from(product.pooling().is_some()),
            ..BranchArgs::default()
        };
        let mut first = 0;
        for (to, conv) in branch.to.iter_mut().zip(product.convolutions()) {
            *to = Destination {
                y_strides: conv.output().into(),
                first: int(first),
                end: int(first + conv.k()),
                relu: i32::from(conv.relu()),
                ..Destination::default()
            };
            first += conv.k();
        }
        branch
    }

    /// Whether every destination may be written four elements at a time.
    fn whole_outputs(&self, kernel: &Kernel) -> bool {
        let bytes = 4 * kernel.dtype.size() as u64;
        let plane = self.tensor.conv.p as u32 * self.tensor.conv.q as u32;
        self.to[..self.destinations as usize].iter().all(|to| {
            let whole = match kernel.layout {
                Some(Layout::Nhwc) => {
                    to.first % 4 == 0 && to.end % 4 == 0 && to.y_strides.pixel % 4 == 0
                }
                _ => plane.is_multiple_of(4),
            };
            whole && to.y_strides.image % 4 == 0 && to.y.is_multiple_of(bytes)
        })
    }
}

impl Arguments for BranchesArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        let (mut column, mut columns) = (0u32, 0u64);
        for branch in self.used() {
            branch.tensor.set_grid(kernel);
            branch.tensor.conv.y_vector = i32::from(branch.whole_outputs(kernel));
            branch.first = column;
            column += branch.tensor.conv.tiles_m * branch.tensor.split_k as u32;
            columns = u64::from(branch.tensor.conv.gemm_n.div_ceil(kernel.tile_n));
        }
        for branch in self.used() {
            branch.by_column = FastDiv::new(column);
        }
        columns * u64::from(column)
    }
}

/// What prepared branches launch: the arguments without the pointers, and where the sums that
/// several blocks share lie.
#[derive(Clone, Debug)]
pub struct BranchesKernel {
    arguments: BranchesArgs,
    /// Of each product, first counter and first byte of the parts.
    shared: [(u64, u64); MAX_PRODUCTS],
}

/// The operands of several convolutions, as cudarc's slices or views. Lengths in elements.
pub struct BranchesBuffers<'a, 'b, T> {
    /// What each of [`Branches::inputs`] is a tensor of.
    pub x: &'b [&'a dyn DeviceBuffer<T>],
    /// The filters of each of [`Branches::convolutions`].
    pub w: &'b [&'a dyn DeviceBuffer<T>],
    /// The bias of each, exactly if it has one.
    pub bias: &'b [Option<&'a dyn DeviceBuffer<T>>],
    /// The buffers that are written, from the first on.
    pub y: [Option<&'b mut dyn DeviceBufferMut<T>>; MAX_CONVOLUTIONS],
    /// Which of them each convolution writes: one that several write is a tensor of which each has
    /// a slice.
    pub y_of: &'b [usize],
    /// What the plan computes in, if it needs any: at least
    /// [`BranchesPlan::workspace_bytes`](crate::plan::Plan::workspace_bytes).
    pub workspace: Option<&'a mut Workspace>,
}

/// The operands of several convolutions as device addresses: each that of the whole buffer's first
/// element, those of products and convolutions that are not there 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BranchesPointers {
    /// What each product reads; of products over one input all the same.
    pub x: [sys::CUdeviceptr; MAX_PRODUCTS],
    /// The filters of each convolution.
    pub w: [sys::CUdeviceptr; MAX_CONVOLUTIONS],
    /// The bias of each convolution or 0.
    pub bias: [sys::CUdeviceptr; MAX_CONVOLUTIONS],
    /// The output of each convolution.
    pub y: [sys::CUdeviceptr; MAX_CONVOLUTIONS],
    /// As that of [`ConvPointers`](super::ConvPointers), or 0 if the plan needs none.
    pub workspace: sys::CUdeviceptr,
}

impl Gpu {
    /// Loads the plan's kernel, if this is its first use, and makes the plan ready to launch.
    ///
    /// # Errors
    /// As [`Gpu::prepare_conv`].
    pub fn prepare_branches(&self, plan: &BranchesPlan) -> Result<PreparedBranches, Error> {
        let (problem, kernel) = (plan.problem(), plan.kernel().kernel());
        let (places, _) = partials_layout(problem, kernel, plan.split_k());
        let work = BranchesKernel {
            arguments: BranchesArgs::new(problem, kernel, plan.split_k()),
            shared: from_fn(|index| places.get(index).copied().unwrap_or_default()),
        };
        Prepared::new(self, plan, work)
    }
}

impl PreparedBranches {
    /// Computes all convolutions in the stream, by one launch. Returns when the work is queued, not
    /// when it is done. An empty batch is nothing to do.
    ///
    /// # Errors
    /// As [`PreparedConv::launch`](super::PreparedConv::launch); [`Error::Length`] for too few or
    /// too many buffers.
    pub fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        buffers: BranchesBuffers<'_, '_, T>,
    ) -> Result<(), Error> {
        self.check_call::<T>(stream)?;
        self.check_buffers(&buffers)?;
        let needs = self.plan().workspace_bytes();
        let workspace = check::workspace(self.context(), needs, buffers.workspace)?;
        if self.problem().is_empty() {
            return Ok(());
        }
        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (mut xs, mut ws) = (buffers.x.iter(), buffers.w.iter());
        let mut biases = buffers.bias.iter();
        let x: [_; MAX_PRODUCTS] = from_fn(|_| xs.next().map(|x| uses::read(*x, stream)));
        let w: [_; MAX_CONVOLUTIONS] = from_fn(|_| ws.next().map(|w| uses::read(*w, stream)));
        let bias: [_; MAX_CONVOLUTIONS] =
            from_fn(|_| biases.next()?.map(|bias| uses::read(bias, stream)));
        let mut ys = buffers.y;
        let y = ys
            .each_mut()
            .map(|y| y.as_mut().map(|y| uses::write(&mut **y, stream)));
        let workspace = workspace.map(|workspace| workspace.pointer(stream));
        self.check_ordering()?;
        let address =
            |guarded: &Option<(sys::CUdeviceptr, _)>| guarded.as_ref().map_or(0, |(at, _)| *at);
        let inputs = self.problem().inputs().count();
        let pointers = BranchesPointers {
            x: from_fn(|product| address(&x[product.min(inputs - 1)])),
            w: w.each_ref().map(address),
            bias: bias.each_ref().map(address),
            y: from_fn(|conv| buffers.y_of.get(conv).map_or(0, |&of| address(&y[of]))),
            workspace: address(&workspace),
        };
        // SAFETY: every pointer is a buffer of this context, as long as the problem or the plan
        // says, and borrowed for the call; each `Use`, dropped behind the launch, makes cudarc
        // order frees and later uses behind it, in every stream and for as long as the context
        // lives (`uses` says why). The stream is of this context. A `Workspace` begins with
        // counters that are zero between launches.
        unsafe { self.launch_raw(stream.cu_stream(), pointers) }
    }

    fn check_buffers<T: Element>(&self, buffers: &BranchesBuffers<'_, '_, T>) -> Result<(), Error> {
        let (problem, context) = (self.problem(), self.context());
        let convolutions = problem.convolutions().count();
        count(
            "the inputs of branches",
            problem.inputs().count(),
            buffers.x.len(),
        )?;
        count("the filters of branches", convolutions, buffers.w.len())?;
        count("the biases of branches", convolutions, buffers.bias.len())?;
        count("the outputs of branches", convolutions, buffers.y_of.len())?;
        for (x, desc) in buffers.x.iter().zip(problem.inputs()) {
            check::buffer(context, "x", *x, desc.len())?;
        }
        for (index, conv) in problem.convolutions().enumerate() {
            check::buffer(context, "w", buffers.w[index], conv.filter_len())?;
            if let Some(bias) = check::optional("bias", conv.bias(), buffers.bias[index])? {
                check::buffer(context, "bias", bias, conv.k())?;
            }
            let y = buffers.y.get(buffers.y_of[index]).and_then(Option::as_ref);
            let y = y.ok_or(Error::MissingBuffer { buffer: "y" })?;
            check::buffer(context, "y", &**y, conv.output().len())?;
        }
        Ok(())
    }

    /// Computes all convolutions in a stream of anyone's, on memory of anyone's.
    ///
    /// # Safety
    /// As [`PreparedConv::launch_raw`](super::PreparedConv::launch_raw).
    ///
    /// # Errors
    /// As [`PreparedConv::launch_raw`](super::PreparedConv::launch_raw).
    pub unsafe fn launch_raw(
        &self,
        stream: sys::CUstream,
        pointers: BranchesPointers,
    ) -> Result<(), Error> {
        let problem = self.problem();
        if problem.is_empty() {
            return Ok(());
        }
        let loaded = self.loaded();
        check_pointers(problem, loaded.kernel(), &pointers)?;
        if self.plan().workspace_bytes() > 0 {
            let bytes = self.plan().workspace_bytes() as usize;
            let workspace = Span::new("workspace", pointers.workspace, bytes, 1);
            workspace.check(WORKSPACE_ALIGNMENT)?;
            for_each_operand(problem, &pointers, |operand| workspace.apart_from(operand))?;
        }
        let mut arguments = self.arguments().arguments;
        let mut index = 0;
        for (number, product) in problem.products().iter().enumerate() {
            let branch = &mut arguments.branch[number];
            branch.tensor.conv.x = pointers.x[number] + offset_bytes(product.merged().input());
            if branch.tensor.split_k > 1 {
                let (counter, parts) = self.arguments().shared[number];
                branch.tensor.counters = pointers.workspace + 4 * counter;
                branch.tensor.partials = pointers.workspace + parts;
            }
            for (to, conv) in branch.to.iter_mut().zip(product.convolutions()) {
                to.w = pointers.w[index];
                to.bias = pointers.bias[index];
                to.y = pointers.y[index] + offset_bytes(conv.output());
                index += 1;
            }
        }
        let grid = arguments.set_grid(loaded.kernel());
        // SAFETY: the caller's promise is this function's own; counters and parts of each product
        // lie in the workspace where the plan counted them.
        unsafe { launch_kernel(loaded, stream, grid, arguments) }
    }
}

fn count(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::Length {
            what,
            expected,
            got,
        })
    }
}

fn span(name: &'static str, address: u64, len: usize, conv: &Conv2d) -> Span {
    Span::new(name, address, len, conv.dtype().size())
}

/// Calls `visit` with every buffer that a launch reads or writes.
fn for_each_operand(
    problem: &Branches,
    pointers: &BranchesPointers,
    mut visit: impl FnMut(&Span) -> Result<(), Error>,
) -> Result<(), Error> {
    for (product, &x) in problem.products().iter().zip(&pointers.x) {
        let conv = product.merged();
        visit(&span("x", x, conv.input().len(), conv))?;
    }
    for (index, conv) in problem.convolutions().enumerate() {
        visit(&span("w", pointers.w[index], conv.filter_len(), conv))?;
        visit(&span("y", pointers.y[index], conv.output().len(), conv))?;
        if conv.bias() {
            visit(&span("bias", pointers.bias[index], conv.k(), conv))?;
        }
    }
    Ok(())
}

fn check_pointers(
    problem: &Branches,
    kernel: &Kernel,
    pointers: &BranchesPointers,
) -> Result<(), Error> {
    let element = kernel.dtype.size() as u64;
    for (product, &x) in problem.products().iter().zip(&pointers.x) {
        let conv = product.merged();
        let x = span("x", x, conv.input().len(), conv);
        x.check(u64::from(kernel.vector).max(element))?;
    }
    for (index, conv) in problem.convolutions().enumerate() {
        let w = span("w", pointers.w[index], conv.filter_len(), conv);
        w.check(PACKED_BYTES as u64)?;
        let given = Some(pointers.bias[index]).filter(|&address| address != 0);
        if let Some(address) = check::optional("bias", conv.bias(), given)? {
            span("bias", address, conv.k(), conv).check(element)?;
        }
    }
    // What one convolution writes no other reads or writes.
    for (index, conv) in problem.convolutions().enumerate() {
        let y = span("y", pointers.y[index], conv.output().len(), conv);
        y.check(element)?;
        for (product, &x) in problem.products().iter().zip(&pointers.x) {
            let read = product.merged();
            let x = span("x", x, read.input().len(), read);
            if !check::disjoint_slices((&y, conv.output()), (&x, read.input())) {
                y.apart_from(&x)?;
            }
        }
        for (other, with) in problem.convolutions().enumerate() {
            y.apart_from(&span("w", pointers.w[other], with.filter_len(), with))?;
            if with.bias() {
                y.apart_from(&span("bias", pointers.bias[other], with.k(), with))?;
            }
            let theirs = span("y", pointers.y[other], with.output().len(), with);
            let apart = check::disjoint_slices((&y, conv.output()), (&theirs, with.output()));
            if other != index && !apart {
                y.apart_from(&theirs)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
