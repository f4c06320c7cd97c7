//! Preparing and launching a convolution.

use std::sync::Arc;

use cudarc::driver::{CudaStream, sys};

use super::Launch;
use super::buffer::{Element, Workspace};
use super::pack::pack_kernel;
use super::prepared::{
    self, DeviceBuffer, DeviceBufferMut, Prepared, Span, address_or_null, check_buffer,
    check_optional, check_workspace, disjoint_slices, same_elements,
};
use crate::device::{Gpu, LoadedKernel, WgmmaArgs};
use crate::error::Error;
use crate::kernels::FilterRows;
use crate::kernels::operation::{Arguments, offset_bytes};
use crate::kernels::operation::{ConvArguments, conv_family};
use crate::kernels::pack_args::PackArgs;
use crate::kernels::simt::ConvArgs;
use crate::kernels::tensor_args::TensorArgs;
use crate::plan::{Plan, WORKSPACE_ALIGNMENT, WorkspaceParts};
use crate::problem::{Conv2d, PACKED_BYTES, TensorDesc};

/// The operands of a convolution, as cudarc's slices or views. Lengths in elements.
pub struct ConvBuffers<'a, T> {
    /// The input: [`Conv2d::input`](crate::problem::Conv2d::input)`().len()`.
    pub x: &'a dyn DeviceBuffer<T>,
    /// The filters: [`FilterDesc::len`](crate::problem::FilterDesc::len).
    pub w: &'a dyn DeviceBuffer<T>,
    /// The bias, one per filter, exactly if the problem has one.
    pub bias: Option<&'a dyn DeviceBuffer<T>>,
    /// Tensor added before the ReLU, exactly if the problem has one:
    /// [`Conv2d::residual`](crate::problem::Conv2d::residual)`().len()`.
    pub residual: Option<&'a dyn DeviceBuffer<T>>,
    /// The output: [`Conv2d::output`](crate::problem::Conv2d::output)`().len()`. Of a wider tensor
    /// only the slice's channels are written.
    pub y: &'a mut dyn DeviceBufferMut<T>,
    /// Workspace of the plan, if it needs any: at least
    /// [`Plan::workspace_bytes`](crate::plan::Plan::workspace_bytes).
    pub workspace: Option<&'a mut Workspace>,
}

impl<'a, T> ConvBuffers<'a, T> {
    /// Collects input, filters and output.
    pub fn new(
        x: &'a dyn DeviceBuffer<T>,
        w: &'a dyn DeviceBuffer<T>,
        y: &'a mut dyn DeviceBufferMut<T>,
    ) -> ConvBuffers<'a, T> {
        ConvBuffers {
            x,
            w,
            bias: None,
            residual: None,
            y,
            workspace: None,
        }
    }

    /// Adds the bias.
    pub fn bias(self, bias: &'a dyn DeviceBuffer<T>) -> ConvBuffers<'a, T> {
        ConvBuffers {
            bias: Some(bias),
            ..self
        }
    }

    /// Adds the residual.
    pub fn residual(self, residual: &'a dyn DeviceBuffer<T>) -> ConvBuffers<'a, T> {
        ConvBuffers {
            residual: Some(residual),
            ..self
        }
    }

    /// Adds the workspace of the plan.
    pub fn workspace(self, workspace: &'a mut Workspace) -> ConvBuffers<'a, T> {
        ConvBuffers {
            workspace: Some(workspace),
            ..self
        }
    }
}

/// The operands of a convolution as device addresses: each that of the whole buffer's first element
/// (a slice's channel offset is the problem's to add). `bias` and `residual` are 0 if the problem
/// has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConvPointers {
    /// The input.
    pub x: sys::CUdeviceptr,
    /// The filters.
    pub w: sys::CUdeviceptr,
    /// The bias or 0.
    pub bias: sys::CUdeviceptr,
    /// The residual or 0.
    pub residual: sys::CUdeviceptr,
    /// The output.
    pub y: sys::CUdeviceptr,
    /// Workspace of the plan: [`Plan::workspace_bytes`](crate::plan::Plan::workspace_bytes) or
    /// more, aligned to [`WORKSPACE_ALIGNMENT`] bytes, of which the first
    /// [`WORKSPACE_COUNTERS`](crate::plan::WORKSPACE_COUNTERS) are zero before the first launch
    /// (each leaves them so). 0 if it needs none.
    pub workspace: sys::CUdeviceptr,
}

impl Launch for Conv2d {
    type Buffers<'a, T: Element> = ConvBuffers<'a, T>;
    type Pointers = ConvPointers;
    type Arguments = ConvKernels;

    fn arguments(gpu: &Gpu, plan: &Plan<Conv2d>) -> Result<ConvKernels, Error> {
        ConvKernels::new(gpu, plan)
    }

    fn launch<T: Element>(
        prepared: &Prepared<Conv2d>,
        stream: &CudaStream,
        buffers: ConvBuffers<'_, T>,
    ) -> Result<(), Error> {
        prepared.check_call::<T>(stream)?;
        let (problem, context) = (prepared.problem(), prepared.context());
        let ConvBuffers {
            x,
            w,
            bias,
            residual,
            y,
            workspace,
        } = buffers;
        check_buffer(context, "x", x, problem.input().len())?;
        check_buffer(context, "w", w, problem.filter().len())?;
        let bias = check_optional("bias", problem.bias(), bias)?;
        let residual = check_optional("residual", problem.residual().is_some(), residual)?;
        if let Some(bias) = bias {
            check_buffer(context, "bias", bias, problem.k())?;
        }
        if let (Some(residual), Some(desc)) = (residual, problem.residual()) {
            check_buffer(context, "residual", residual, desc.len())?;
        }
        check_buffer(context, "y", y, problem.output().len())?;
        let workspace = check_workspace(context, prepared.plan().workspace_bytes(), workspace)?;
        if problem.output().is_empty() {
            return Ok(());
        }

        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (x, _x) = prepared::read(x, stream);
        let (w, _w) = prepared::read(w, stream);
        let bias = bias.map(|bias| prepared::read(bias, stream));
        let residual = residual.map(|residual| prepared::read(residual, stream));
        let (y, _y) = prepared::write(y, stream);
        let workspace = workspace.map(|workspace| workspace.pointer(stream));
        prepared.check_ordering()?;
        let pointers = ConvPointers {
            x,
            w,
            bias: address_or_null(&bias),
            residual: address_or_null(&residual),
            y,
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
        prepared: &Prepared<Conv2d>,
        stream: sys::CUstream,
        pointers: ConvPointers,
    ) -> Result<(), Error> {
        let problem = prepared.problem();
        if problem.output().is_empty() {
            return Ok(());
        }
        check_pointers(prepared.plan(), &pointers)?;
        // SAFETY: the caller's promise is this function's own.
        unsafe { prepared.arguments().launch(prepared, stream, &pointers) }
    }
}

fn check_pointers(plan: &Plan<Conv2d>, pointers: &ConvPointers) -> Result<(), Error> {
    let problem = plan.problem();
    let element = problem.dtype().size();
    let span = |name, address, len| Span::new(name, address, len, element);
    let tensor = |name, address, desc: &TensorDesc| span(name, address, desc.len());
    let given = |address: u64| (address != 0).then_some(address);

    let needs = needs(plan);
    let y = tensor("y", pointers.y, problem.output());
    let x = tensor("x", pointers.x, problem.input());
    let w = span("w", pointers.w, problem.filter().len());
    x.check(needs.x)?;
    w.check(needs.w)?;
    y.check(needs.y)?;
    if !disjoint_slices((&y, problem.output()), (&x, problem.input())) {
        y.apart_from(&x)?;
    }
    y.apart_from(&w)?;
    let bias = check_optional("bias", problem.bias(), given(pointers.bias))?;
    let bias = bias.map(|address| span("bias", address, problem.k()));
    if let Some(bias) = &bias {
        bias.check(element as u64)?;
        y.apart_from(bias)?;
    }
    let residual = check_optional(
        "residual",
        problem.residual().is_some(),
        given(pointers.residual),
    )?;
    let residual = residual.zip(problem.residual());
    let residual = residual.map(|(address, desc)| (tensor("residual", address, desc), desc));
    if let Some((residual, desc)) = &residual {
        residual.check(element as u64)?;
        let (output, added) = ((&y, problem.output()), (residual, *desc));
        if !same_elements(output, added) && !disjoint_slices(output, added) {
            y.apart_from(residual)?;
        }
    }
    let bytes = plan.workspace_bytes();
    if bytes > 0 {
        let workspace = check_optional("workspace", true, given(pointers.workspace))?;
        let workspace = Span::new("workspace", workspace.unwrap_or(0), bytes as usize, 1);
        workspace.check(WORKSPACE_ALIGNMENT)?;
        let residual = residual.as_ref().map(|(span, _)| span);
        for operand in [Some(&x), Some(&w), bias.as_ref(), residual, Some(&y)] {
            operand.map_or(Ok(()), |operand| workspace.apart_from(operand))?;
        }
    }
    Ok(())
}

/// Alignment of the buffers, in bytes.
struct Needs {
    x: u64,
    w: u64,
    y: u64,
}

fn needs(plan: &Plan<Conv2d>) -> Needs {
    let element = plan.problem().dtype().size() as u64;
    let kernel = plan.kernel();
    let tensor = kernel.algorithm.tensor();
    let x = kernel.x_vector() as u64;
    Needs {
        x: x.max(element),
        // Packed, they lie in the workspace.
        w: if tensor && !plan.packs_filter() {
            PACKED_BYTES as u64
        } else {
            element
        },
        y: element,
    }
}

/// Parts of a prepared convolution: its kernel's arguments without the pointers, and what has to
/// run before it.
#[derive(Clone, Debug)]
pub struct ConvKernels {
    arguments: PreparedArguments,
    /// Part of the workspace into which the plan packs the filters: the kernel that does, and how.
    pack: Option<(Arc<LoadedKernel>, PackArgs)>,
    parts: WorkspaceParts,
    multiprocessors: u32,
}

/// Arguments of a convolution kernel, one kind per family.
#[derive(Clone, Debug)]
enum PreparedArguments {
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
                    ConvArguments::Simt(conv) => PreparedArguments::Simt(conv),
                    ConvArguments::Tensor(tensor) => PreparedArguments::Tensor(tensor),
                    ConvArguments::TensorMaps(tensor) => {
                        PreparedArguments::Wgmma(Box::new(WgmmaArgs::new(problem, kernel, tensor)?))
                    }
                }
            }
            _ => PreparedArguments::Simt(ConvArgs::from(problem)),
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

    /// Queues the kernels.
    ///
    /// # Safety
    /// As [`Prepared::launch_raw`]; the pointers have been checked.
    unsafe fn launch(
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
            // plan states; both, and the stream, are the caller's promise.
            unsafe { kernel.launch(stream, grid, arguments) }?;
        }
        let problem = prepared.problem();
        match &self.arguments {
            PreparedArguments::Simt(conv) => {
                let mut conv = *conv;
                set_pointers(&mut conv, problem, pointers, w);
                // SAFETY: the caller's promise is this function's own.
                unsafe { prepared.launch_arguments(stream, conv) }
            }
            PreparedArguments::Tensor(tensor) => {
                let mut tensor = *tensor;
                self.point_tensor(&mut tensor, problem, pointers, w);
                // SAFETY: the caller's promise is this function's own; the parts of the workspace
                // are as large as the kernel makes use of them.
                unsafe { prepared.launch_arguments(stream, tensor) }
            }
            PreparedArguments::Wgmma(wgmma) => {
                let mut wgmma = **wgmma;
                self.point_tensor(&mut wgmma.tensor, problem, pointers, w);
                wgmma.set_pointers()?;
                let loaded = prepared.loaded_kernel();
                let grid = wgmma.set_grid(loaded.kernel(), self.multiprocessors);
                // SAFETY: as above; the maps describe the same operands.
                unsafe { loaded.launch(stream, grid, wgmma) }
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
