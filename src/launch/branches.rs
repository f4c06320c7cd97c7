//! Preparing and launching several convolutions as one.

use std::array::from_fn;

use cudarc::driver::{CudaStream, sys};

use super::Launch;
use super::buffer::{Element, Workspace};
use super::prepared::{
    self, DeviceBuffer, DeviceBufferMut, Prepared, Span, address_or_null, check_buffer,
    check_optional, check_workspace, disjoint_slices,
};
use crate::device::Gpu;
use crate::error::Error;
use crate::kernels::Kernel;
use crate::kernels::multi_conv::args::MultiConvArgs;
use crate::kernels::multi_conv::partials_layout;
use crate::kernels::operation::{Arguments, offset_bytes};
use crate::plan::{Plan, WORKSPACE_ALIGNMENT};
use crate::problem::{Branches, Conv2d, MAX_CONVOLUTIONS, MAX_PRODUCTS, PACKED_BYTES};

/// The operands of several convolutions, as cudarc's slices or views. Lengths in elements.
pub struct BranchesBuffers<'a, 'b, T> {
    /// Tensor of each of [`Branches::inputs`].
    pub x: &'b [&'a dyn DeviceBuffer<T>],
    /// The filters of each of [`Branches::convolutions`].
    pub w: &'b [&'a dyn DeviceBuffer<T>],
    /// The bias of each, exactly if it has one.
    pub bias: &'b [Option<&'a dyn DeviceBuffer<T>>],
    /// The buffers that are written, from the first on.
    pub y: [Option<&'b mut dyn DeviceBufferMut<T>>; MAX_CONVOLUTIONS],
    /// Output that each convolution writes: one that several write is a tensor of which each has a
    /// slice.
    pub y_of: &'b [usize],
    /// Workspace of the plan, if it needs any: at least
    /// [`Plan::workspace_bytes`](crate::plan::Plan::workspace_bytes).
    pub workspace: Option<&'a mut Workspace>,
}

/// The operands of several convolutions as device addresses: each that of the whole buffer's first
/// element, those of products and convolutions that are not there 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BranchesPointers {
    /// Operands of each product; of products over one input all the same.
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

/// Parts of prepared branches: the arguments without the pointers, and the places of partial tiles.
#[derive(Clone, Debug)]
pub struct BranchesKernel {
    arguments: MultiConvArgs,
    /// First counter and first byte of partial tiles, per product.
    shared: [(u64, u64); MAX_PRODUCTS],
}

impl Launch for Branches {
    type Buffers<'a, T: Element> = BranchesBuffers<'a, 'a, T>;
    type Pointers = BranchesPointers;
    type Arguments = BranchesKernel;

    fn arguments(_gpu: &Gpu, plan: &Plan<Branches>) -> Result<BranchesKernel, Error> {
        let (problem, kernel) = (plan.problem(), plan.kernel());
        let (places, _) = partials_layout(problem, kernel, plan.split_k());
        Ok(BranchesKernel {
            arguments: MultiConvArgs::new(problem, kernel, plan.split_k()),
            shared: from_fn(|index| places.get(index).copied().unwrap_or_default()),
        })
    }

    fn launch<T: Element>(
        prepared: &Prepared<Branches>,
        stream: &CudaStream,
        buffers: BranchesBuffers<'_, '_, T>,
    ) -> Result<(), Error> {
        prepared.check_call::<T>(stream)?;
        prepared.check_buffers(&buffers)?;
        let needs = prepared.plan().workspace_bytes();
        let workspace = check_workspace(prepared.context(), needs, buffers.workspace)?;
        if prepared.problem().is_empty() {
            return Ok(());
        }
        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (mut xs, mut ws) = (buffers.x.iter(), buffers.w.iter());
        let mut biases = buffers.bias.iter();
        let x: [_; MAX_PRODUCTS] = from_fn(|_| xs.next().map(|x| prepared::read(*x, stream)));
        let w: [_; MAX_CONVOLUTIONS] = from_fn(|_| ws.next().map(|w| prepared::read(*w, stream)));
        let bias: [_; MAX_CONVOLUTIONS] =
            from_fn(|_| biases.next()?.map(|bias| prepared::read(bias, stream)));
        let mut ys = buffers.y;
        let y = ys
            .each_mut()
            .map(|y| y.as_mut().map(|y| prepared::write(&mut **y, stream)));
        let workspace = workspace.map(|workspace| workspace.pointer(stream));
        prepared.check_ordering()?;
        let inputs = prepared.problem().inputs().count();
        let pointers = BranchesPointers {
            x: from_fn(|product| address_or_null(&x[product.min(inputs - 1)])),
            w: w.each_ref().map(address_or_null),
            bias: bias.each_ref().map(address_or_null),
            y: from_fn(|conv| {
                buffers
                    .y_of
                    .get(conv)
                    .map_or(0, |&of| address_or_null(&y[of]))
            }),
            workspace: address_or_null(&workspace),
        };
        // SAFETY: every pointer is a buffer of this context, as long as the problem or the plan
        // says, and borrowed for the call; each `Use`, dropped behind the launch, makes cudarc
        // order frees and later uses behind it, in every stream and for as long as the context
        // lives (see `prepared::Use`). The stream is of this context. A `Workspace` begins
        // with counters that are zero between launches.
        unsafe { prepared.launch_raw(stream.cu_stream(), pointers) }
    }

    unsafe fn launch_raw(
        prepared: &Prepared<Branches>,
        stream: sys::CUstream,
        pointers: BranchesPointers,
    ) -> Result<(), Error> {
        let problem = prepared.problem();
        if problem.is_empty() {
            return Ok(());
        }
        let loaded = prepared.loaded_kernel();
        check_pointers(problem, loaded.kernel(), &pointers)?;
        if prepared.plan().workspace_bytes() > 0 {
            let bytes = prepared.plan().workspace_bytes() as usize;
            let workspace = Span::new("workspace", pointers.workspace, bytes, 1);
            workspace.check(WORKSPACE_ALIGNMENT)?;
            for_each_operand(problem, &pointers, |operand| workspace.apart_from(operand))?;
        }
        let mut arguments = prepared.arguments().arguments;
        let mut index = 0;
        for (number, product) in problem.products().iter().enumerate() {
            let args = &mut arguments.product[number];
            args.tensor.conv.x = pointers.x[number] + offset_bytes(product.merged().input());
            if args.tensor.split_k > 1 {
                let (counter, parts) = prepared.arguments().shared[number];
                args.tensor.counters = pointers.workspace + 4 * counter;
                args.tensor.partials = pointers.workspace + parts;
            }
            for (to, conv) in args.merged.iter_mut().zip(product.convolutions()) {
                to.w = pointers.w[index];
                to.bias = pointers.bias[index];
                to.y = pointers.y[index] + offset_bytes(conv.output());
                index += 1;
            }
        }
        let grid = arguments.set_grid(loaded.kernel());
        // SAFETY: the caller's promise is this function's own; counters and parts of each product
        // lie in the workspace where the plan counted them.
        unsafe { loaded.launch(stream, grid, arguments) }
    }
}

impl Prepared<Branches> {
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
            check_buffer(context, "x", *x, desc.len())?;
        }
        for (index, conv) in problem.convolutions().enumerate() {
            check_buffer(context, "w", buffers.w[index], conv.filter().len())?;
            if let Some(bias) = check_optional("bias", conv.bias(), buffers.bias[index])? {
                check_buffer(context, "bias", bias, conv.k())?;
            }
            let y = buffers.y.get(buffers.y_of[index]).and_then(Option::as_ref);
            let y = y.ok_or(Error::MissingBuffer { buffer: "y" })?;
            check_buffer(context, "y", &**y, conv.output().len())?;
        }
        Ok(())
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
        visit(&span("w", pointers.w[index], conv.filter().len(), conv))?;
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
        let w = span("w", pointers.w[index], conv.filter().len(), conv);
        w.check(PACKED_BYTES as u64)?;
        let given = Some(pointers.bias[index]).filter(|&address| address != 0);
        if let Some(address) = check_optional("bias", conv.bias(), given)? {
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
            if !disjoint_slices((&y, conv.output()), (&x, read.input())) {
                y.apart_from(&x)?;
            }
        }
        for (other, with) in problem.convolutions().enumerate() {
            y.apart_from(&span("w", pointers.w[other], with.filter().len(), with))?;
            if with.bias() {
                y.apart_from(&span("bias", pointers.bias[other], with.k(), with))?;
            }
            let theirs = span("y", pointers.y[other], with.output().len(), with);
            let apart = disjoint_slices((&y, conv.output()), (&theirs, with.output()));
            if other != index && !apart {
                y.apart_from(&theirs)?;
            }
        }
    }
    Ok(())
}
