//! One launch between guard regions.

use super::convert::{Stored, with_stored};
use super::guard::{Guarded, GuardedBytes, GuardedWorkspace, Guards};
use super::pack::{disturbed_gap, each_element, pack, pack_filter, unpack};
use warpconv::device::Gpu;
use warpconv::error::Error;
use warpconv::launch::{ConvBuffers, PoolBuffers, SubsampleBuffers, Unary, UnaryBuffers};
use warpconv::plan::Plan;
use warpconv::problem::{Conv2d, Pool2d, Relu, Subsample, TensorDesc};

/// The reason why a run has no result to compare.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The launch, or a copy to or from the device, failed.
    #[error(transparent)]
    Device(#[from] Error),
    /// Something outside a buffer was written.
    #[error("{distance} elements {side} {buffer} were overwritten with {bits:#x}")]
    Guard {
        /// Name of the operand.
        buffer: &'static str,
        /// `before` or `after`.
        side: &'static str,
        /// Distance from the buffer's first or last element.
        distance: usize,
        /// The bits found there.
        bits: u32,
    },
    /// A channel of the wider tensor outside the output's own channels was written.
    #[error(
        "element {index} of the buffer of {buffer} was overwritten; it belongs to other channels"
    )]
    Gap {
        /// Name of the operand.
        buffer: &'static str,
        /// Index of the element in the buffer.
        index: usize,
    },
    /// An element of the output was not written.
    #[error("element {index} of the buffer of {buffer} was not written")]
    Unwritten {
        /// Name of the operand.
        buffer: &'static str,
        /// Index of the element in the buffer.
        index: usize,
    },
    /// A counter of the workspace is not zero after the launch.
    #[error(
        "byte {index} of the workspace, a counter, is {value:#x} after the launch instead of 0"
    )]
    Counter {
        /// Offset of the byte in the workspace.
        index: usize,
        /// Value of the byte after the launch.
        value: u8,
    },
    /// A launch of a graph failed one of these checks.
    #[error("{node}: {error}")]
    Node {
        /// Name of the node.
        node: String,
        /// Failure of its launch.
        error: Box<RunError>,
    },
    /// A read-only operand was written.
    #[error("element {index} of the buffer of {buffer}, an input, was overwritten")]
    Input {
        /// Name of the operand.
        buffer: &'static str,
        /// Index of the element in the buffer.
        index: usize,
    },
}

/// Runs a convolution. `x`, `w`, `bias` and `residual` as for [`crate::reference::conv2d`].
///
/// # Errors
/// [`RunError`] if the launch fails, a guard or gap was overwritten, or part of the output was not
/// written.
pub fn run_conv(
    gpu: &Gpu,
    plan: &Plan<Conv2d>,
    x: &[f64],
    w: &[f64],
    bias: Option<&[f64]>,
    residual: Option<&[f64]>,
) -> Result<Vec<f64>, RunError> {
    run_conv_with_guards(
        gpu,
        plan,
        Guards::of(gpu),
        [Some(x), Some(w), bias, residual],
    )
}

/// [`run_conv`] with given guards; the operands are x, w, bias and residual.
///
/// # Errors
/// As [`run_conv`].
pub fn run_conv_with_guards(
    gpu: &Gpu,
    plan: &Plan<Conv2d>,
    guards: Guards,
    operands: [Option<&[f64]>; 4],
) -> Result<Vec<f64>, RunError> {
    with_stored!(plan.problem().input().dtype(), T => conv::<T>(gpu, plan, guards, operands))
}

/// Runs a pooling; the result is the output and, if the problem has them, the indices, dense NCHW.
///
/// # Errors
/// As [`run_conv`].
pub fn run_pool(
    gpu: &Gpu,
    plan: &Plan<Pool2d>,
    x: &[f64],
) -> Result<(Vec<f64>, Option<Vec<u8>>), RunError> {
    run_pool_with_guards(gpu, plan, Guards::of(gpu), x)
}

/// [`run_pool`] with given guards.
///
/// # Errors
/// As [`run_conv`].
pub fn run_pool_with_guards(
    gpu: &Gpu,
    plan: &Plan<Pool2d>,
    guards: Guards,
    x: &[f64],
) -> Result<(Vec<f64>, Option<Vec<u8>>), RunError> {
    with_stored!(plan.problem().input().dtype(), T => pool::<T>(gpu, plan, guards, x))
}

/// Runs an operation that keeps the extents: ReLU, local response normalisation.
///
/// # Errors
/// As [`run_conv`].
pub fn run_unary<P: Unary>(gpu: &Gpu, plan: &Plan<P>, x: &[f64]) -> Result<Vec<f64>, RunError> {
    run_unary_with_guards(gpu, plan, Guards::of(gpu), x)
}

/// [`run_unary`] with given guards.
///
/// # Errors
/// As [`run_conv`].
pub fn run_unary_with_guards<P: Unary>(
    gpu: &Gpu,
    plan: &Plan<P>,
    guards: Guards,
    x: &[f64],
) -> Result<Vec<f64>, RunError> {
    with_stored!(plan.problem().dtype(), T => map::<P, T>(gpu, plan, guards, x))
}

/// [`run_unary`] in place; the problem's input and output must be the same channels.
///
/// # Errors
/// As [`run_conv`].
pub fn run_unary_in_place<P: Unary>(
    gpu: &Gpu,
    plan: &Plan<P>,
    x: &[f64],
) -> Result<Vec<f64>, RunError> {
    with_stored!(plan.problem().dtype(), T => {
        let problem = plan.problem();
        let prepared = gpu.prepare(plan)?;
        let image = pack(problem.input(), x, T::poison())?;
        let mut y = Guarded::upload(gpu, "y", Guards::of(gpu), image)?;
        prepared.launch_in_place::<T>(gpu.stream(), &mut y.view_mut())?;
        finish::<T>(gpu, problem.output(), &y, false)
    })
}

/// Runs a trainable subsampling with given guards; the operands are x, coefficients and biases.
///
/// # Errors
/// As [`run_conv`].
pub fn run_subsample(
    gpu: &Gpu,
    plan: &Plan<Subsample>,
    guards: Guards,
    [x, coefficient, bias]: [&[f64]; 3],
) -> Result<Vec<f64>, RunError> {
    with_stored!(plan.problem().input().dtype(), T => {
        let problem = plan.problem();
        let prepared = gpu.prepare(plan)?;
        let x = Guarded::upload(gpu, "x", guards, pack(problem.input(), x, T::guard())?)?;
        let row = |values: &[f64]| values.iter().map(|&value| T::nearest(value)).collect();
        let coefficient = Guarded::<T>::upload(gpu, "coefficient", guards, row(coefficient))?;
        let bias = Guarded::<T>::upload(gpu, "bias", guards, row(bias))?;
        let mut y = Guarded::<T>::poisoned(gpu, guards, problem.output())?;
        let buffers = SubsampleBuffers {
            x: &x.view(),
            coefficient: &coefficient.view(),
            bias: &bias.view(),
            y: &mut y.view_mut(),
        };
        prepared.launch(gpu.stream(), buffers)?;
        let dense = finish(gpu, problem.output(), &y, true)?;
        for input in [&x, &coefficient, &bias] {
            input.expect_untouched(gpu)?;
        }
        Ok(dense)
    })
}

/// [`run_unary`] of a ReLU.
///
/// # Errors
/// As [`run_conv`].
pub fn run_relu(gpu: &Gpu, plan: &Plan<Relu>, x: &[f64]) -> Result<Vec<f64>, RunError> {
    run_unary(gpu, plan, x)
}

/// [`run_unary_with_guards`] of a ReLU.
///
/// # Errors
/// As [`run_conv`].
pub fn run_relu_with_guards(
    gpu: &Gpu,
    plan: &Plan<Relu>,
    guards: Guards,
    x: &[f64],
) -> Result<Vec<f64>, RunError> {
    run_unary_with_guards(gpu, plan, guards, x)
}

/// [`run_unary_in_place`] of a ReLU.
///
/// # Errors
/// As [`run_conv`].
pub fn run_relu_in_place(gpu: &Gpu, plan: &Plan<Relu>, x: &[f64]) -> Result<Vec<f64>, RunError> {
    run_unary_in_place(gpu, plan, x)
}

fn conv<T: Stored>(
    gpu: &Gpu,
    plan: &Plan<Conv2d>,
    guards: Guards,
    [x, w, bias, residual]: [Option<&[f64]>; 4],
) -> Result<Vec<f64>, RunError> {
    let problem: &Conv2d = plan.problem();
    let prepared = gpu.prepare(plan)?;
    let x = pack(problem.input(), x.unwrap_or(&[]), T::guard())?;
    let x = Guarded::upload(gpu, "x", guards, x)?;
    let w = Guarded::upload(
        gpu,
        "w",
        guards,
        pack_filter::<T>(problem, w.unwrap_or(&[]))?,
    )?;
    let bias = bias.map(|bias| bias.iter().map(|&value| T::nearest(value)).collect());
    let bias = bias
        .map(|bias| Guarded::upload(gpu, "bias", guards, bias))
        .transpose()?;
    let residual = residual.map(|residual| {
        let desc = problem.residual().unwrap_or(problem.output());
        Guarded::upload(gpu, "residual", guards, pack(desc, residual, T::guard())?)
    });
    let residual = residual.transpose()?;
    let mut y = Guarded::<T>::poisoned(gpu, guards, problem.output())?;
    let mut workspace = GuardedWorkspace::new(gpu, guards, plan.workspace_bytes())?;

    let (bias_view, residual_view) = (
        bias.as_ref().map(Guarded::view),
        residual.as_ref().map(Guarded::view),
    );
    let (x_view, w_view, mut y_view) = (x.view(), w.view(), y.view_mut());
    let mut buffers = ConvBuffers::new(&x_view, &w_view, &mut y_view);
    if let Some(bias) = &bias_view {
        buffers = buffers.bias(bias);
    }
    if let Some(residual) = &residual_view {
        buffers = buffers.residual(residual);
    }
    if let Some(workspace) = &mut workspace {
        buffers = buffers.workspace(&mut workspace.inner);
    }
    prepared.launch(gpu.stream(), buffers)?;

    let dense = finish(gpu, problem.output(), &y, true)?;
    if let Some(workspace) = &workspace {
        workspace.expect_ready(gpu)?;
    }
    for input in [Some(&x), Some(&w), bias.as_ref(), residual.as_ref()]
        .into_iter()
        .flatten()
    {
        input.expect_untouched(gpu)?;
    }
    Ok(dense)
}

fn pool<T: Stored>(
    gpu: &Gpu,
    plan: &Plan<Pool2d>,
    guards: Guards,
    x: &[f64],
) -> Result<(Vec<f64>, Option<Vec<u8>>), RunError> {
    let problem: &Pool2d = plan.problem();
    let prepared = gpu.prepare(plan)?;
    let x = Guarded::upload(gpu, "x", guards, pack(problem.input(), x, T::guard())?)?;
    let mut y = Guarded::<T>::poisoned(gpu, guards, problem.output())?;
    let index_desc = problem.indices().then(|| index_desc(problem)).transpose()?;
    let mut indices = match &index_desc {
        // Bytes have no NaN: an unwritten byte shows in the comparison, since no window has this
        // many positions.
        Some(_) => Some(GuardedBytes::filled(
            gpu,
            guards,
            problem.output().elements(),
        )?),
        None => None,
    };

    let (x_view, mut y_view) = (x.view(), y.view_mut());
    let mut index_view = indices.as_mut().map(GuardedBytes::view_mut);
    let mut buffers = PoolBuffers {
        x: &x_view,
        y: &mut y_view,
        indices: None,
    };
    if let Some(indices) = &mut index_view {
        buffers.indices = Some(indices);
    }
    prepared.launch(gpu.stream(), buffers)?;

    let dense = finish(gpu, problem.output(), &y, true)?;
    x.expect_untouched(gpu)?;
    let found = match (&index_desc, &indices) {
        (Some(desc), Some(indices)) => {
            let stored = indices.download(gpu)?;
            let mut dense = Vec::with_capacity(stored.len());
            each_element(desc, |place| dense.push(stored[place]));
            Some(dense)
        }
        _ => None,
    };
    Ok((dense, found))
}

fn map<P: Unary, T: Stored>(
    gpu: &Gpu,
    plan: &Plan<P>,
    guards: Guards,
    x: &[f64],
) -> Result<Vec<f64>, RunError> {
    let problem = plan.problem();
    let prepared = gpu.prepare(plan)?;
    let x = Guarded::upload(gpu, "x", guards, pack(problem.input(), x, T::guard())?)?;
    let mut y = Guarded::<T>::poisoned(gpu, guards, problem.output())?;
    let (x_view, mut y_view) = (x.view(), y.view_mut());
    prepared.launch(
        gpu.stream(),
        UnaryBuffers {
            x: &x_view,
            y: &mut y_view,
        },
    )?;
    let dense = finish(gpu, problem.output(), &y, true)?;
    x.expect_untouched(gpu)?;
    Ok(dense)
}

/// Tensor of a pooling's indices: dense, in the output's layout.
fn index_desc(pool: &Pool2d) -> Result<TensorDesc, Error> {
    let y = pool.output();
    TensorDesc::new([y.n(), y.c(), y.h(), y.w()], y.layout(), y.dtype())
}

/// The output, dense, after all checks; with `whole`, every element must have been written.
pub(super) fn finish<T: Stored>(
    gpu: &Gpu,
    desc: &TensorDesc,
    y: &Guarded<T>,
    whole: bool,
) -> Result<Vec<f64>, RunError> {
    gpu.synchronize()?;
    let stored = y.download(gpu)?;
    if let Some(index) = disturbed_gap(desc, &stored, T::poison()) {
        return Err(RunError::Gap { buffer: "y", index });
    }
    if whole {
        let mut unwritten = None;
        each_element(desc, |place| {
            if stored[place].bits() == T::poison().bits() {
                unwritten.get_or_insert(place);
            }
        });
        if let Some(index) = unwritten {
            return Err(RunError::Unwritten { buffer: "y", index });
        }
    }
    Ok(unpack(desc, &stored)?)
}
