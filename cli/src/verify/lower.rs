//! Lowers the steps of a graph to problems of the crate: shapes, slices, types and layouts.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use warpconv::kernels::{KernelId, Math};
use warpconv::plan::{Candidate, Capability, Limits, Operation, Plan, Score};
use warpconv::problem::{
    Added, Bottleneck2d, Conv2d, FilterLayout, Lrn, LrnParameters, Padding, Pool2d, Pool2dBuilder,
    PoolKind, Relu, Softmax, Subsample, Tanh, TensorDesc,
};
use warpconv::{DType, Layout};

use super::activation::{Subsampling, tanh_problem};
use super::graph::{Op, Slice, Step, Window};

/// Storage of a graph's tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Storage {
    pub dtype: DType,
    pub layout: Layout,
    pub filter_layout: FilterLayout,
    pub math: Math,
}

/// Problem of a step.
#[derive(Clone, Debug)]
pub enum Problem {
    Conv(Conv2d),
    Pool(Pool2d),
    Relu(Relu),
    Lrn(Lrn),
    Bottleneck(Bottleneck2d),
    Softmax(Softmax),
    Tanh(Tanh),
    Subsample(Subsample),
    /// No launch: concatenated, reshaped or added on the host.
    Host,
}

impl Problem {
    /// Every kernel that accepts the problem, with its multiplications, tile padding included;
    /// empty for problems without multiplications.
    pub fn padded_macs(&self, device: &Capability) -> Vec<(KernelId, f64)> {
        let (candidates, macs) = match self {
            Problem::Conv(conv) => (Plan::candidates(conv, device), conv.macs()),
            Problem::Bottleneck(module) => (Plan::candidates(module, device), module.macs()),
            _ => return Vec::new(),
        };
        let padded = |candidate: Candidate| {
            let score = candidate.evaluation.ok()?;
            Some((candidate.id, padded(macs, &score)))
        };
        candidates.into_iter().filter_map(padded).collect()
    }

    /// Multiplications, or for a pooling the elements of its windows; 0 for operations that read
    /// each element once.
    pub fn work(&self) -> u64 {
        let windows = |outputs: u64, [r, s]: [usize; 2]| {
            outputs.saturating_mul(r as u64).saturating_mul(s as u64)
        };
        match self {
            Problem::Conv(conv) => conv.macs(),
            Problem::Bottleneck(module) => module.macs(),
            Problem::Pool(pool) => windows(
                pool.output().elements() as u64,
                [pool.window().kernel[0], pool.window().kernel[1]],
            ),
            Problem::Lrn(lrn) => windows(
                lrn.input().elements() as u64,
                [lrn.parameters().size.min(lrn.input().c()), 1],
            ),
            Problem::Subsample(subsample) => windows(
                subsample.output().elements() as u64,
                subsample.window().kernel,
            ),
            _ => 0,
        }
    }

    /// Every kernel that accepts the problem.
    pub fn accepting(&self, device: &Capability) -> Vec<KernelId> {
        let candidates = match self {
            Problem::Conv(conv) => Plan::candidates(conv, device),
            Problem::Pool(pool) => Plan::candidates(pool, device),
            Problem::Relu(relu) => Plan::candidates(relu, device),
            Problem::Lrn(lrn) => Plan::candidates(lrn, device),
            Problem::Bottleneck(bottleneck) => Plan::candidates(bottleneck, device),
            Problem::Softmax(softmax) => Plan::candidates(softmax, device),
            Problem::Tanh(tanh) => Plan::candidates(tanh, device),
            Problem::Subsample(subsample) => Plan::candidates(subsample, device),
            Problem::Host => return Vec::new(),
        };
        candidates
            .into_iter()
            .filter(|candidate| candidate.evaluation.is_ok())
            .map(|candidate| candidate.id)
            .collect()
    }
}

/// Multiplications of a kernel with a score, tile padding included, for `macs` of the problem.
pub fn padded(macs: u64, score: &Score) -> f64 {
    macs as f64 / score.tile_efficiency.max(f64::MIN_POSITIVE)
}

/// Returns whether any of the problems is a convolution for which the kernel accepts `split_k`.
pub fn shares(problems: &[Problem], device: &Capability, kernel: KernelId, split_k: u32) -> bool {
    let limits = Limits {
        kernel: Some(kernel),
        split_k: Some(split_k),
        ..Limits::default()
    };
    problems.iter().any(|problem| match problem {
        Problem::Conv(conv) => Plan::within(conv, device, &limits).is_ok(),
        _ => false,
    })
}

/// Message for a problem that every kernel refuses: the reasons fill a page, which `explain`
/// prints.
pub fn no_kernel(problem: &impl fmt::Display) -> String {
    format!("no kernel takes {problem} (`warpconv explain` lists the reasons)")
}

/// Every kernel that accepts any of the problems.
pub fn accepting(problems: &[Problem], device: &Capability) -> BTreeSet<KernelId> {
    problems
        .iter()
        .flat_map(|problem| problem.accepting(device))
        .collect()
}

/// The shapes of all tensors: inputs, filters and the outputs of steps.
pub type Shapes = HashMap<String, Vec<usize>>;

/// The problem of each step, in order. `shapes` contains those of the inputs, and the others are
/// added.
pub fn lower(
    steps: &[Step],
    shapes: &mut Shapes,
    storage: Storage,
) -> Result<Vec<Problem>, String> {
    // Shapes are computed first: the offset of a slice depends on branches that run later.
    for step in steps {
        let problem = problem(step, shapes, storage, None)?;
        let shape = output_shape(step, &problem, shapes)?;
        shapes.insert(step.layer.output.clone(), shape);
    }
    steps
        .iter()
        .map(|step| {
            let slice = step
                .concat
                .as_ref()
                .map(|slice| place(slice, shapes))
                .transpose()?;
            problem(step, shapes, storage, slice)
        })
        .collect()
}

/// The pitch and the offset of a step's output in its concatenation.
fn place(slice: &Slice, shapes: &Shapes) -> Result<(usize, usize), String> {
    let widths = slice
        .parts
        .iter()
        .map(|name| extents(shapes, name).map(|[_, c, _, _]| c));
    let widths = widths.collect::<Result<Vec<_>, _>>()?;
    Ok((widths.iter().sum(), widths[..slice.part].iter().sum()))
}

/// The window of a fully connected layer.
const ONE_BY_ONE: Window = Window {
    size: [1, 1],
    stride: [1, 1],
    pad: [0; 4],
    dilation: [1, 1],
    ceil: false,
};

/// The problem of a step.
fn problem(
    step: &Step,
    shapes: &Shapes,
    storage: Storage,
    slice: Option<(usize, usize)>,
) -> Result<Problem, String> {
    let input = &step.layer.inputs[0];
    let x = extents(shapes, input)?;
    let [n, c, h, w] = x;
    let named = |error: warpconv::Error| format!("{} of `{input}`: {error}", step.layer.op.name());
    let pooled = |builder: Pool2dBuilder| {
        let builder = builder
            .input(n, c, h, w)
            .dtype(storage.dtype)
            .layout(storage.layout);
        let builder = match slice {
            Some((pitch, offset)) => builder.output_slice(pitch, offset),
            None => builder,
        };
        builder.build().map(Problem::Pool).map_err(named)
    };
    match &step.layer.op {
        Op::Conv { window, groups } => {
            convolution(step, shapes, storage, slice, *window, *groups).map(Problem::Conv)
        }
        Op::Linear => convolution(step, shapes, storage, slice, ONE_BY_ONE, 1).map(Problem::Conv),
        Op::Relu => {
            let [input, output] = tensors(x, storage, slice).map_err(named)?;
            let relu = Relu::between(input, output).map_err(named)?;
            Ok(Problem::Relu(relu))
        }
        Op::MaxPool { window, indices } => {
            pooled(windowed(*window).kind(PoolKind::Max { indices: *indices }))
        }
        Op::AvgPool {
            window,
            count_include_pad,
            divisor,
        } => pooled(windowed(*window).kind(PoolKind::Average {
            count_include_pad: *count_include_pad,
            divisor_override: *divisor,
        })),
        Op::AdaptiveAvgPool { output: [p, q] } => {
            pooled(Pool2d::builder().kind(PoolKind::AdaptiveAverage { p: *p, q: *q }))
        }
        Op::GlobalAvgPool => pooled(Pool2d::builder().kind(PoolKind::GlobalAverage)),
        Op::GlobalMaxPool => pooled(Pool2d::builder().kind(PoolKind::GlobalMax)),
        Op::Bottleneck { stride, bias } => {
            bottleneck(step, shapes, storage, slice, *stride, bias).map(Problem::Bottleneck)
        }
        &Op::Lrn {
            size,
            alpha,
            beta,
            k,
        } => {
            let parameters = LrnParameters {
                size,
                alpha,
                beta,
                k,
            };
            let [input, output] = tensors(x, storage, slice).map_err(named)?;
            let lrn = Lrn::between(input, output, parameters).map_err(named)?;
            Ok(Problem::Lrn(lrn))
        }
        Op::Softmax => {
            let [input, output] = tensors(x, storage, slice).map_err(named)?;
            let softmax = Softmax::between(input, output).map_err(named)?;
            Ok(Problem::Softmax(softmax))
        }
        &Op::Tanh { amplitude, slope } => tanh_problem(x, storage, slice, [amplitude, slope])
            .map(Problem::Tanh)
            .map_err(named),
        Op::Subsample(subsampling) => {
            subsample(step, shapes, storage, slice, subsampling).map(Problem::Subsample)
        }
        Op::Concat | Op::Flatten | Op::Add => Ok(Problem::Host),
    }
}

/// The subsampling of a step, with one coefficient and bias per channel.
fn subsample(
    step: &Step,
    shapes: &Shapes,
    storage: Storage,
    slice: Option<(usize, usize)>,
    subsampling: &Subsampling,
) -> Result<Subsample, String> {
    let inputs = &step.layer.inputs;
    let x = extents(shapes, &inputs[0])?;
    for name in &inputs[1..3] {
        let shape = shapes.get(name).map_or(&[][..], |shape| shape);
        if shape != [x[1]] {
            return Err(format!(
                "`{name}` has shape {shape:?}, a subsampling of {} channels takes [{}]",
                x[1], x[1]
            ));
        }
    }
    let made = subsampling.problem(x, storage, slice);
    made.map_err(|error| format!("subsample of `{}`: {error}", inputs[0]))
}

/// A pooling builder with the window.
fn windowed(window: Window) -> Pool2dBuilder {
    Pool2d::builder()
        .kernel(window.size[0], window.size[1])
        .stride(window.stride[0], window.stride[1])
        .dilation(window.dilation[0], window.dilation[1])
        .padding(padding(window))
        .ceil_mode(window.ceil)
}

/// A window's padding.
fn padding(window: Window) -> Padding {
    let [top, bottom, left, right] = window.pad;
    Padding {
        top,
        bottom,
        left,
        right,
    }
}

/// Input and output of an operation that keeps the extents; the output may be a slice.
fn tensors(
    [n, c, h, w]: [usize; 4],
    storage: Storage,
    slice: Option<(usize, usize)>,
) -> Result<[TensorDesc; 2], warpconv::Error> {
    let input = TensorDesc::new(n, c, h, w, storage.layout, storage.dtype)?;
    let output = match slice {
        Some((pitch, offset)) => input.slice(pitch, offset)?,
        None => input.clone(),
    };
    Ok([input, output])
}

/// The convolution of a step.
fn convolution(
    step: &Step,
    shapes: &Shapes,
    storage: Storage,
    slice: Option<(usize, usize)>,
    window: Window,
    groups: usize,
) -> Result<Conv2d, String> {
    let inputs = &step.layer.inputs;
    let [n, c, h, w] = extents(shapes, &inputs[0])?;
    let [k, group_c, r, s] = extents(shapes, &inputs[1])?;
    let expected = c.checked_div(groups).unwrap_or(0);
    if group_c != expected {
        return Err(format!(
            "filters `{}` have {group_c} channels, the input's {c} in {groups} groups make \
             {expected}",
            inputs[1]
        ));
    }
    let builder = Conv2d::builder()
        .input(n, c, h, w)
        .filters(k)
        .kernel(r, s)
        .stride(window.stride[0], window.stride[1])
        .dilation(window.dilation[0], window.dilation[1])
        .padding(padding(window))
        .groups(groups)
        .bias(inputs.len() > 2)
        .relu(step.relu)
        .residual(step.residual.is_some())
        .dtype(storage.dtype)
        .layout(storage.layout)
        .filter_layout(storage.filter_layout)
        .math(storage.math);
    let builder = match slice {
        Some((pitch, offset)) => builder.output_slice(pitch, offset),
        None => builder,
    };
    builder
        .build()
        .map_err(|error| format!("{} of `{}`: {error}", step.layer.op.name(), inputs[0]))
}

/// The bottleneck of a step.
fn bottleneck(
    step: &Step,
    shapes: &Shapes,
    storage: Storage,
    slice: Option<(usize, usize)>,
    stride: usize,
    bias: &[Option<String>; 3],
) -> Result<Bottleneck2d, String> {
    let inputs = &step.layer.inputs;
    let [n, c, h, w] = extents(shapes, &inputs[0])?;
    let [mid_channels, ..] = extents(shapes, &inputs[1])?;
    let [k, ..] = extents(shapes, &inputs[3])?;
    let added = match &step.residual {
        None => Added::Nothing,
        Some(name) if *name == inputs[0] => Added::Input,
        Some(_) => Added::Tensor,
    };
    let builder = Bottleneck2d::builder()
        .input(n, c, h, w)
        .mid_channels(mid_channels)
        .filters(k)
        .stride(stride)
        .biases(bias.each_ref().map(Option::is_some))
        .added(added)
        .relu(step.relu)
        .dtype(storage.dtype)
        .layout(storage.layout)
        .filter_layout(storage.filter_layout)
        .math(storage.math);
    let builder = match slice {
        Some((pitch, offset)) => builder.output_slice(pitch, offset),
        None => builder,
    };
    builder
        .build()
        .map_err(|error| format!("bottleneck of `{}`: {error}", inputs[0]))
}

/// The output shape of a step.
fn output_shape(step: &Step, problem: &Problem, shapes: &Shapes) -> Result<Vec<usize>, String> {
    let input = &step.layer.inputs[0];
    let shape = |name: &String| {
        shapes
            .get(name)
            .cloned()
            .ok_or_else(|| format!("no tensor `{name}`"))
    };
    Ok(match (problem, &step.layer.op) {
        (Problem::Conv(conv), Op::Linear) => vec![conv.input().n(), conv.output().c()],
        (Problem::Conv(conv), _) => vec![
            conv.input().n(),
            conv.output().c(),
            conv.output().h(),
            conv.output().w(),
        ],
        (Problem::Bottleneck(problem), _) => {
            vec![
                problem.input().n(),
                problem.output().c(),
                problem.output().h(),
                problem.output().w(),
            ]
        }
        (Problem::Pool(pool), _) => vec![
            pool.input().n(),
            pool.input().c(),
            pool.output().h(),
            pool.output().w(),
        ],
        (Problem::Subsample(made), _) => vec![
            made.input().n(),
            made.input().c(),
            made.output().h(),
            made.output().w(),
        ],
        (Problem::Host, Op::Concat) => {
            let [n, _, h, w] = extents(shapes, input)?;
            let mut channels = 0usize;
            for name in &step.layer.inputs {
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
        (Problem::Host, Op::Flatten) => {
            let shape = shape(input)?;
            let features = shape
                .iter()
                .skip(1)
                .try_fold(1usize, |product, &extent| product.checked_mul(extent));
            let features =
                features.ok_or_else(|| format!("flatten of `{input}`, {shape:?}: too large"))?;
            vec![shape.first().copied().unwrap_or(1), features]
        }
        (Problem::Host, Op::Add) => {
            let (a, b) = (shape(input)?, shape(&step.layer.inputs[1])?);
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
