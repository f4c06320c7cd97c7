//! Preparing and launching a whole bottleneck.

use cudarc::driver::{CudaStream, sys};

use super::Launch;
use super::buffer::Element;
use super::prepared::{
    self, DeviceBuffer, DeviceBufferMut, Prepared, Span, address_or_null, check_buffer,
    check_optional, disjoint_slices,
};
use crate::device::Gpu;
use crate::error::Error;
use crate::kernels::Kernel;
use crate::kernels::bottleneck::args::BottleneckArgs;
use crate::kernels::cost::resident;
use crate::kernels::operation::{Arguments, offset_bytes};
use crate::plan::Plan;
use crate::problem::{Added, Bottleneck2d, TensorDesc};

/// The operands of a bottleneck, as cudarc's slices or views. Lengths in elements; the three
/// convolutions are those of [`Bottleneck2d::convolutions`].
pub struct BottleneckBuffers<'a, T> {
    /// The input: [`Bottleneck2d::input`]`().len()`.
    pub x: &'a dyn DeviceBuffer<T>,
    /// The filters of each convolution: its
    /// [`FilterDesc::len`](crate::problem::FilterDesc::len).
    pub w: [&'a dyn DeviceBuffer<T>; 3],
    /// The bias of each convolution, one per filter, exactly if it has one.
    pub bias: [Option<&'a dyn DeviceBuffer<T>>; 3],
    /// Tensor added before the last ReLU, exactly if that is [`Added::Tensor`]:
    /// as long as the residual of its last convolution.
    pub residual: Option<&'a dyn DeviceBuffer<T>>,
    /// The output: [`Bottleneck2d::output`]`().len()`. Of a wider tensor only the slice's channels
    /// are written.
    pub y: &'a mut dyn DeviceBufferMut<T>,
}

/// The operands of a bottleneck as device addresses: each that of the whole buffer's first element.
/// The address of an operand that the problem does not have is 0. The output may not be the
/// residual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BottleneckPointers {
    /// The input.
    pub x: sys::CUdeviceptr,
    /// The filters of each convolution.
    pub w: [sys::CUdeviceptr; 3],
    /// The bias of each convolution or 0.
    pub bias: [sys::CUdeviceptr; 3],
    /// The residual, if it is a tensor of its own, or 0.
    pub residual: sys::CUdeviceptr,
    /// The output.
    pub y: sys::CUdeviceptr,
}

/// The names of the operands in errors.
const FILTERS: [&str; 3] = ["w1", "w2", "w3"];
const BIASES: [&str; 3] = ["bias1", "bias2", "bias3"];

/// Parts of a prepared bottleneck: the arguments without the pointers, for as many blocks as the
/// device holds at once.
#[derive(Clone, Copy, Debug)]
pub struct BottleneckKernel {
    arguments: BottleneckArgs,
    most_blocks: u64,
}

impl Launch for Bottleneck2d {
    type Buffers<'a, T: Element> = BottleneckBuffers<'a, T>;
    type Pointers = BottleneckPointers;
    type Arguments = BottleneckKernel;

    fn arguments(gpu: &Gpu, plan: &Plan<Bottleneck2d>) -> Result<BottleneckKernel, Error> {
        let (device, kernel) = (gpu.capability(), plan.kernel());
        Ok(BottleneckKernel {
            arguments: BottleneckArgs::from(plan.problem()),
            most_blocks: resident(kernel, device) * u64::from(device.sm_count.max(1)),
        })
    }

    fn launch<T: Element>(
        prepared: &Prepared<Bottleneck2d>,
        stream: &CudaStream,
        buffers: BottleneckBuffers<'_, T>,
    ) -> Result<(), Error> {
        prepared.check_call::<T>(stream)?;
        prepared.check_buffers(&buffers)?;
        if prepared.problem().output().is_empty() {
            return Ok(());
        }
        let BottleneckBuffers {
            x,
            w,
            bias,
            residual,
            y,
        } = buffers;
        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (x, _x) = prepared::read(x, stream);
        let w = w.map(|w| prepared::read(w, stream));
        let bias = bias.map(|bias| bias.map(|bias| prepared::read(bias, stream)));
        let residual = residual.map(|residual| prepared::read(residual, stream));
        let (y, _y) = prepared::write(y, stream);
        prepared.check_ordering()?;
        let pointers = BottleneckPointers {
            x,
            w: w.each_ref().map(|(at, _)| *at),
            bias: bias.each_ref().map(address_or_null),
            residual: address_or_null(&residual),
            y,
        };
        // SAFETY: every pointer is a buffer of this context, as long as the problem states, and
        // borrowed for the call; each `Use`, dropped behind the launch, makes cudarc order frees
        // and later uses behind it, in every stream and for as long as the context lives
        // (see `prepared::Use`). The stream is of this context.
        unsafe { prepared.launch_raw(stream.cu_stream(), pointers) }
    }

    unsafe fn launch_raw(
        prepared: &Prepared<Bottleneck2d>,
        stream: sys::CUstream,
        pointers: BottleneckPointers,
    ) -> Result<(), Error> {
        let problem = prepared.problem();
        if problem.output().is_empty() {
            return Ok(());
        }
        let loaded = prepared.loaded_kernel();
        check_pointers(problem, loaded.kernel(), &pointers)?;
        let BottleneckKernel {
            mut arguments,
            most_blocks,
        } = *prepared.arguments();
        arguments.x = pointers.x + offset_bytes(problem.input());
        (arguments.w, arguments.bias) = (pointers.w, pointers.bias);
        arguments.residual = match (problem.added(), problem.residual()) {
            (Added::Input, _) => arguments.x,
            (Added::Tensor, Some(desc)) => pointers.residual + offset_bytes(desc),
            _ => 0,
        };
        arguments.y = pointers.y + offset_bytes(problem.output());
        let grid = arguments.set_grid(loaded.kernel()).min(most_blocks);
        // SAFETY: the caller's promise is this function's own; every block takes tiles until there
        // are no more, so fewer blocks than tiles compute all of them.
        unsafe { loaded.launch(stream, grid, arguments) }
    }
}

impl Prepared<Bottleneck2d> {
    fn check_buffers<T: Element>(&self, buffers: &BottleneckBuffers<'_, T>) -> Result<(), Error> {
        let (problem, context) = (self.problem(), self.context());
        check_buffer(context, "x", buffers.x, problem.input().len())?;
        for (index, conv) in problem.convolutions().iter().enumerate() {
            check_buffer(
                context,
                FILTERS[index],
                buffers.w[index],
                conv.filter().len(),
            )?;
            let bias = check_optional(BIASES[index], conv.bias(), buffers.bias[index])?;
            if let Some(bias) = bias {
                check_buffer(context, BIASES[index], bias, conv.k())?;
            }
        }
        let added = problem.added() == Added::Tensor;
        let residual = check_optional("residual", added, buffers.residual)?;
        if let (Some(residual), Some(desc)) = (residual, problem.residual()) {
            check_buffer(context, "residual", residual, desc.len())?;
        }
        check_buffer(context, "y", &*buffers.y, problem.output().len())
    }
}

fn check_pointers(
    problem: &Bottleneck2d,
    kernel: &Kernel,
    pointers: &BottleneckPointers,
) -> Result<(), Error> {
    let element = problem.dtype().size();
    let span = |name, address, len| Span::new(name, address, len, element);
    let tensor = |name, address, desc: &TensorDesc| span(name, address, desc.len());
    let given = |address: u64| (address != 0).then_some(address);

    let y = tensor("y", pointers.y, problem.output());
    let x = tensor("x", pointers.x, problem.input());
    x.check(u64::from(kernel.vector).max(element as u64))?;
    y.check(element as u64)?;
    if !disjoint_slices((&y, problem.output()), (&x, problem.input())) {
        y.apart_from(&x)?;
    }
    for (index, conv) in problem.convolutions().iter().enumerate() {
        let w = span(FILTERS[index], pointers.w[index], conv.filter().len());
        w.check(element as u64)?;
        y.apart_from(&w)?;
        let bias = check_optional(BIASES[index], conv.bias(), given(pointers.bias[index]))?;
        if let Some(address) = bias {
            let bias = span(BIASES[index], address, conv.k());
            bias.check(element as u64)?;
            y.apart_from(&bias)?;
        }
    }
    let added = problem.added() == Added::Tensor;
    let residual = check_optional("residual", added, given(pointers.residual))?;
    if let (Some(address), Some(desc)) = (residual, problem.residual()) {
        let residual = tensor("residual", address, desc);
        residual.check(element as u64)?;
        if !disjoint_slices((&y, problem.output()), (&residual, desc)) {
            y.apart_from(&residual)?;
        }
    }
    Ok(())
}
