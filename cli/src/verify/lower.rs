//! Lowers the launches of a case to the library's operations, each by itself; [`network`] makes a
//! graph of them.
//!
//! [`network`]: super::network::network

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use warpconv::error::Error;
use warpconv::graph::Step;
use warpconv::kernels::{KernelId, Math};
use warpconv::launch::Unary;
use warpconv::plan::{Candidate, Capability, Limits, Score};
use warpconv::problem::{
    Builder, Conv2d, FilterLayout, Lrn, Pool2d, PoolKind, Relu, Softmax, Tanh, TensorDesc, Window,
};
use warpconv::{DType, Layout};

use super::layers::{Launch, Op};

/// Storage of a case's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Storage {
    pub dtype: DType,
    pub layout: Layout,
    pub filter_layout: FilterLayout,
    pub math: Math,
}

/// The shapes of all tensors: inputs, filters and the outputs of launches.
pub type Shapes = HashMap<String, Vec<usize>>;

/// Every kernel that accepts the step, with its multiplications, tile padding included; empty for
/// steps without matrix products.
pub fn padded_macs(step: &Step, device: &Capability) -> Vec<(KernelId, f64)> {
    if !matches!(
        step,
        Step::Conv(_) | Step::Bottleneck(_) | Step::Branches(_)
    ) {
        return Vec::new();
    }
    let candidates = step.candidates_within(device, &Limits::default());
    let padded = |candidate: Candidate| {
        let score = candidate.evaluation.ok()?;
        Some((candidate.id, padded(step.macs(), &score)))
    };
    candidates.into_iter().filter_map(padded).collect()
}

/// Multiplications, or for a pooling the elements of its windows; 0 for operations that read each
/// element once.
pub fn work(step: &Step) -> u64 {
    let windows = |outputs: usize, [r, s]: [usize; 2]| {
        (outputs as u64)
            .saturating_mul(r as u64)
            .saturating_mul(s as u64)
    };
    match step {
        Step::Conv(_) | Step::Bottleneck(_) | Step::Branches(_) => step.macs(),
        Step::Pool(pool) => windows(pool.output().elements(), pool.window().kernel),
        Step::Lrn(lrn) => {
            let channels = lrn.parameters().size.min(lrn.input().c());
            windows(lrn.input().elements(), [channels, 1])
        }
        Step::Subsample(subsample) => {
            windows(subsample.output().elements(), subsample.window().kernel)
        }
        Step::Relu(_) | Step::Softmax(_) | Step::Tanh(_) => 0,
    }
}

/// Every kernel that accepts the step, best first.
pub fn accepting(step: &Step, device: &Capability) -> Vec<KernelId> {
    let candidates = step.candidates_within(device, &Limits::default());
    let accepting = candidates.into_iter().filter(|one| one.evaluation.is_ok());
    accepting.map(|candidate| candidate.id).collect()
}

/// Every kernel that accepts any of the steps.
pub fn accepting_any<'a>(
    steps: impl Iterator<Item = &'a Step>,
    device: &Capability,
) -> BTreeSet<KernelId> {
    steps.flat_map(|step| accepting(step, device)).collect()
}

/// Multiplications of a kernel with a score, tile padding included, for `macs` of the problem.
pub fn padded(macs: u64, score: &Score) -> f64 {
    macs as f64 / score.tile_efficiency.max(f64::MIN_POSITIVE)
}

/// Returns whether the step splits sums and the kernel accepts it with `split_k`.
pub fn splits(step: &Step, device: &Capability, kernel: KernelId, split_k: u32) -> bool {
    let limits = Limits {
        kernel: Some(kernel),
        split_k: Some(split_k),
        ..Limits::default()
    };
    matches!(step, Step::Conv(_) | Step::Branches(_)) && accepts(step, device, &limits)
}

/// Returns whether the kernel that the limits name accepts the step within them.
fn accepts(step: &Step, device: &Capability, limits: &Limits) -> bool {
    let candidates = step.candidates_within(device, limits);
    let mut named = candidates
        .iter()
        .filter(|one| limits.kernel == Some(one.id));
    named.any(|candidate| candidate.evaluation.is_ok())
}

/// Limits of a step's plan: the kernel and the split-K if it accepts both, else the kernel alone,
/// else none.
pub fn forced(
    step: &Step,
    device: &Capability,
    kernel: Option<KernelId>,
    split_k: Option<u32>,
) -> Limits {
    let Some(kernel) = kernel else {
        return Limits::default();
    };
    let choices = [split_k, None].map(|split_k| Limits {
        kernel: Some(kernel),
        split_k,
        ..Limits::default()
    });
    let mut accepted = choices.into_iter().filter(|one| accepts(step, device, one));
    accepted.next().unwrap_or_default()
}

/// Message for a problem that every kernel refuses: the reasons fill a page, which `explain`
/// prints.
pub fn no_kernel(problem: &impl fmt::Display) -> String {
    format!("no kernel takes {problem} (`warpconv explain` lists the reasons)")
}

/// Message for a plan that failed.
pub fn planning_error(error: Error) -> String {
    match error {
        Error::NoKernel { problem, .. } => no_kernel(&problem),
        error => error.to_string(),
    }
}

/// The filter layout that matches the layout of the activations.
pub fn natural(layout: Layout) -> FilterLayout {
    match layout {
        Layout::Nchw => FilterLayout::Kcrs,
        Layout::Nhwc => FilterLayout::Krsc,
    }
}

/// The step of each launch, in order; `None` where there is none: a concatenation, a flattening or
/// an addition. `shapes` has those of the inputs, and the others are added.
pub fn lower(
    launches: &[Launch],
    shapes: &mut Shapes,
    storage: Storage,
) -> Result<Vec<Option<Step>>, String> {
    let mut steps = Vec::with_capacity(launches.len());
    for launch in launches {
        let step = step(launch, shapes, storage)?;
        let shape = output_shape(launch, step.as_ref(), shapes)?;
        shapes.insert(launch.layer.output.clone(), shape);
        steps.push(step);
    }
    Ok(steps)
}

/// The step of a launch between dense tensors.
fn step(launch: &Launch, shapes: &Shapes, storage: Storage) -> Result<Option<Step>, String> {
    let inputs = &launch.layer.inputs;
    let x = extents(shapes, &inputs[0])?;
    let ([n, c, h, w], Storage { dtype, layout, .. }) = (x, storage);
    let dense = || TensorDesc::new(x, layout, dtype);
    let step = match &launch.layer.op {
        Op::Conv { .. } | Op::Linear => {
            let conv = convolution(launch, shapes, c)?
                .input(n, c, h, w)
                .residual(launch.residual.is_some())
                .dtype(dtype)
                .layout(layout)
                .filter_layout(storage.filter_layout)
                .math(storage.math);
            conv.build().map(Step::Conv)
        }
        &Op::Pool { kind, window, ceil } => {
            let pool = pooling(kind, window, ceil).input(n, c, h, w);
            pool.dtype(dtype).layout(layout).build().map(Step::Pool)
        }
        Op::Relu => dense().and_then(|x| Relu::new(&x, &x)).map(Step::Relu),
        &Op::Lrn(parameters) => dense()
            .and_then(|x| Lrn::new(&x, &x, parameters))
            .map(Step::Lrn),
        Op::Softmax => dense()
            .and_then(|x| Softmax::new(&x, &x))
            .map(Step::Softmax),
        &Op::Tanh { amplitude, slope } => dense()
            .and_then(|x| Tanh::new(&x, &x, [amplitude, slope]))
            .map(Step::Tanh),
        Op::Subsample(subsampling) => {
            one_per_channel(launch, shapes, c)?;
            let subsample = subsampling.builder().input(n, c, h, w);
            let subsample = subsample.dtype(dtype).layout(layout).build();
            subsample.map(Step::Subsample)
        }
        Op::Concat | Op::Flatten | Op::Add => return Ok(None),
    };
    let named = |error| format!("{} of `{}`: {error}", launch.layer.op.name(), inputs[0]);
    step.map(Some).map_err(named)
}

/// Fails unless a subsampling's coefficients and biases are one per channel of the input.
pub fn one_per_channel(launch: &Launch, shapes: &Shapes, channels: usize) -> Result<(), String> {
    for name in &launch.layer.inputs[1..3] {
        let shape = shapes.get(name).map_or(&[][..], |shape| shape);
        if shape != [channels] {
            return Err(format!(
                "`{name}` has shape {shape:?}, a subsampling of {channels} channels takes \
                 [{channels}]"
            ));
        }
    }
    Ok(())
}

/// The convolution of a launch over `channels` channels, without its input and storage.
pub fn convolution(
    launch: &Launch,
    shapes: &Shapes,
    channels: usize,
) -> Result<Builder<Conv2d>, String> {
    let (window, groups) = match &launch.layer.op {
        Op::Conv { window, groups } => (*window, *groups),
        _ => (Window::new(1, 1), 1),
    };
    let inputs = &launch.layer.inputs;
    let [k, group_c, r, s] = extents(shapes, &inputs[1])?;
    let expected = channels.checked_div(groups).unwrap_or(0);
    if group_c != expected {
        return Err(format!(
            "filters `{}` have {group_c} channels, the input's {channels} in {groups} groups make \
             {expected}",
            inputs[1]
        ));
    }
    Ok(Conv2d::builder()
        .filters(k)
        .window(window)
        .kernel(r, s)
        .groups(groups)
        .bias(inputs.len() > 2)
        .relu(launch.relu))
}

/// A pooling without its input and storage.
pub fn pooling(kind: PoolKind, window: Window, ceil: bool) -> Builder<Pool2d> {
    let pool = Pool2d::builder().kind(kind);
    match matches!(kind, PoolKind::Max { .. } | PoolKind::Average { .. }) {
        true => pool.window(window).ceil_mode(ceil),
        false => pool,
    }
}

/// The output shape of a launch.
fn output_shape(
    launch: &Launch,
    step: Option<&Step>,
    shapes: &Shapes,
) -> Result<Vec<usize>, String> {
    let input = &launch.layer.inputs[0];
    let shape = |name: &String| {
        shapes
            .get(name)
            .cloned()
            .ok_or_else(|| format!("no tensor `{name}`"))
    };
    let dense = |desc: &TensorDesc| vec![desc.n(), desc.c(), desc.h(), desc.w()];
    Ok(match (step, &launch.layer.op) {
        (Some(Step::Conv(conv)), Op::Linear) => vec![conv.output().n(), conv.output().c()],
        (Some(Step::Conv(conv)), _) => dense(conv.output()),
        (Some(Step::Pool(pool)), _) => dense(pool.output()),
        (Some(Step::Subsample(made)), _) => dense(made.output()),
        (None, Op::Concat) => {
            let [n, _, h, w] = extents(shapes, input)?;
            let mut channels = 0usize;
            for name in &launch.layer.inputs {
                let part = extents(shapes, name)?;
                if [part[0], part[2], part[3]] != [n, h, w] {
                    return Err(format!(
                        "concat of `{input}` and `{name}`: {part:?} does not fit {n}x?x{h}x{w}"
                    ));
                }
                channels = channels
                    .checked_add(part[1])
                    .ok_or_else(|| format!("concat of `{input}`: too many channels"))?;
            }
            vec![n, channels, h, w]
        }
        (None, Op::Flatten) => {
            let shape = shape(input)?;
            let features = shape
                .iter()
                .skip(1)
                .try_fold(1usize, |product, &extent| product.checked_mul(extent));
            let features =
                features.ok_or_else(|| format!("flatten of `{input}`, {shape:?}: too large"))?;
            vec![shape.first().copied().unwrap_or(1), features]
        }
        (None, Op::Add) => {
            let (a, b) = (shape(input)?, shape(&launch.layer.inputs[1])?);
            if a != b {
                return Err(format!("add of {a:?} and {b:?}: only equal shapes"));
            }
            a
        }
        _ => shape(input)?,
    })
}

/// A tensor's shape as four extents: (N, C, H, W), (N, C, W), (N, C) or (C).
pub fn extents(shapes: &Shapes, name: &str) -> Result<[usize; 4], String> {
    let shape = shapes
        .get(name)
        .ok_or_else(|| format!("no tensor `{name}`"))?;
    match shape[..] {
        [n, c, h, w] => Ok([n, c, h, w]),
        [n, c, w] => Ok([n, c, 1, w]),
        [n, c] => Ok([n, c, 1, 1]),
        [c] => Ok([1, c, 1, 1]),
        [] => Ok([1, 1, 1, 1]),
        _ => Err(format!(
            "`{name}` has {} dimensions, more than 4",
            shape.len()
        )),
    }
}
