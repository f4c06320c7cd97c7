//! Launching a convolution.

use cudarc::driver::{CudaStream, sys};

use super::Launch;
use super::buffer::{DeviceBuffer, DeviceBufferMut};
use super::check::{self, Span};
use super::element::Element;
use super::uses;
use super::workspace::Workspace;
use crate::device::Prepared;
use crate::error::Error;
use crate::plan::{Plan, WORKSPACE_ALIGNMENT};
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
        check::buffer(context, "x", x, problem.input().len())?;
        check::buffer(context, "w", w, problem.filter().len())?;
        let bias = check::optional("bias", problem.bias(), bias)?;
        let residual = check::optional("residual", problem.residual().is_some(), residual)?;
        if let Some(bias) = bias {
            check::buffer(context, "bias", bias, problem.k())?;
        }
        if let (Some(residual), Some(desc)) = (residual, problem.residual()) {
            check::buffer(context, "residual", residual, desc.len())?;
        }
        check::buffer(context, "y", y, problem.output().len())?;
        let workspace = check::workspace(context, prepared.plan().workspace_bytes(), workspace)?;
        if problem.output().is_empty() {
            return Ok(());
        }

        // Each guard records the buffer's use in the stream when it is dropped, after the launch.
        let (x, _x) = uses::read(x, stream);
        let (w, _w) = uses::read(w, stream);
        let bias = bias.map(|bias| uses::read(bias, stream));
        let residual = residual.map(|residual| uses::read(residual, stream));
        let (y, _y) = uses::write(y, stream);
        let workspace = workspace.map(|workspace| workspace.pointer(stream));
        prepared.check_ordering()?;
        let address =
            |guarded: &Option<(sys::CUdeviceptr, _)>| guarded.as_ref().map_or(0, |(at, _)| *at);
        let pointers = ConvPointers {
            x,
            w,
            bias: address(&bias),
            residual: address(&residual),
            y,
            workspace: address(&workspace),
        };
        // SAFETY: every pointer is a buffer of this context, as long as the problem or the plan
        // says, and borrowed for the call; each `Use`, dropped behind the launch, makes cudarc
        // order frees and later uses behind it, in every stream and for as long as the context
        // lives (`uses` says why). The stream is of this context. A `Workspace` begins with
        // counters that are zero between launches.
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
    if !check::disjoint_slices((&y, problem.output()), (&x, problem.input())) {
        y.apart_from(&x)?;
    }
    y.apart_from(&w)?;
    let bias = check::optional("bias", problem.bias(), given(pointers.bias))?;
    let bias = bias.map(|address| span("bias", address, problem.k()));
    if let Some(bias) = &bias {
        bias.check(element as u64)?;
        y.apart_from(bias)?;
    }
    let residual = check::optional(
        "residual",
        problem.residual().is_some(),
        given(pointers.residual),
    )?;
    let residual = residual.zip(problem.residual());
    let residual = residual.map(|(address, desc)| (tensor("residual", address, desc), desc));
    if let Some((residual, desc)) = &residual {
        residual.check(element as u64)?;
        let (output, added) = ((&y, problem.output()), (residual, *desc));
        if !check::same_elements(output, added) && !check::disjoint_slices(output, added) {
            y.apart_from(residual)?;
        }
    }
    let bytes = plan.workspace_bytes();
    if bytes > 0 {
        let workspace = check::optional("workspace", true, given(pointers.workspace))?;
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
