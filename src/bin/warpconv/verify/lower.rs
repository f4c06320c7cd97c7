//! From the steps of a graph to problems of the crate: shapes, slices, types and layouts.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use warpconv::catalog::{KernelId, Math};
use warpconv::plan::{
    BottleneckPlan, Capability, ConvPlan, Limits, LrnPlan, PoolPlan, ReluPlan, SoftmaxPlan,
};
use warpconv::problem::{
    Added, Bottleneck2d, Conv2d, FilterLayout, Lrn, LrnParameters, Padding, Pool2d, Pool2dBuilder,
    PoolKind, Relu, Softmax,
};
use warpconv::{DType, Layout};

use super::graph::{Op, Slice, Step, Window};

/// How the tensors of a graph are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Storage {
    pub dtype: DType,
    pub layout: Layout,
    pub filter_layout: FilterLayout,
    pub math: Math,
}

/// What a step is to the crate.
#[derive(Clone, Debug)]
pub enum Problem {
    Conv(Conv2d),
    Pool(Pool2d),
    Relu(Relu),
    Lrn(Lrn),
    Bottleneck(Bottleneck2d),
    Softmax(Softmax),
    /// Nothing to compute on the device: joined, reshaped or added on the host.
    Host,
}

impl Problem {
    /// Every kernel that accepts the problem.
    pub fn accepting(&self, device: &Capability) -> Vec<KernelId> {
        let candidates = match self {
            Problem::Conv(conv) => ConvPlan::candidates(conv, device),
            Problem::Pool(pool) => PoolPlan::candidates(pool, device),
            Problem::Relu(relu) => ReluPlan::candidates(relu, device),
            Problem::Lrn(lrn) => LrnPlan::candidates(lrn, device),
            Problem::Bottleneck(bottleneck) => BottleneckPlan::candidates(bottleneck, device),
            Problem::Softmax(softmax) => SoftmaxPlan::candidates(softmax, device),
            Problem::Host => return Vec::new(),
        };
        candidates
            .into_iter()
            .filter(|candidate| candidate.verdict.is_ok())
            .map(|candidate| candidate.kernel)
            .collect()
    }
}

/// Whether any of the problems is a convolution that the kernel takes with as many blocks sharing the sum of a tile.
pub fn shares(problems: &[Problem], device: &Capability, kernel: KernelId, splits: u32) -> bool {
    let limits = Limits {
        kernel: Some(kernel),
        splits: Some(splits),
        ..Limits::default()
    };
    problems.iter().any(|problem| match problem {
        Problem::Conv(conv) => ConvPlan::within(conv, device, &limits).is_ok(),
        _ => false,
    })
}

/// What to say where every kernel refuses: the reasons are a page, which `explain` prints.
pub fn no_kernel(problem: &impl fmt::Display) -> String {
    format!("no kernel takes {problem} (`warpconv explain` says why)")
}

/// Every kernel that accepts any of the problems.
pub fn accepting(problems: &[Problem], device: &Capability) -> BTreeSet<KernelId> {
    problems
        .iter()
        .flat_map(|problem| problem.accepting(device))
        .collect()
}

/// The shapes of all tensors that the steps make, and of those given.
pub type Shapes = HashMap<String, Vec<usize>>;

/// The problem of each step, in order. `shapes` holds those of the inputs and receives the others.
pub fn lower(
    steps: &[Step],
    shapes: &mut Shapes,
    storage: Storage,
) -> Result<Vec<Problem>, String> {
    // Shapes first: a slice's place depends on branches that run later.
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

/// The pitch and the offset of a step's output in the concatenation that it is part of.
fn place(slice: &Slice, shapes: &Shapes) -> Result<(usize, usize), String> {
    let widths = slice
        .parts
        .iter()
        .map(|name| extents(shapes, name).map(|[_, c, _, _]| c));
    let widths = widths.collect::<Result<Vec<_>, _>>()?;
    Ok((widths.iter().sum(), widths[..slice.part].iter().sum()))
}

/// The window of a linear layer.
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
            let relu = Relu::new(n, c, h, w, storage.layout, storage.dtype).map_err(named)?;
            let relu = match slice {
                Some((pitch, offset)) => relu.output_slice(pitch, offset).map_err(named)?,
                None => relu,
            };
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
            let lrn = Lrn::new(x, storage.layout, storage.dtype, parameters).map_err(named)?;
            let lrn = match slice {
                Some((pitch, offset)) => lrn.output_slice(pitch, offset).map_err(named)?,
                None => lrn,
            };
            Ok(Problem::Lrn(lrn))
        }
        Op::Softmax => {
            let softmax = Softmax::new(x, storage.layout, storage.dtype).map_err(named)?;
            let softmax = match slice {
                Some((pitch, offset)) => softmax.output_slice(pitch, offset).map_err(named)?,
                None => softmax,
            };
            Ok(Problem::Softmax(softmax))
        }
        Op::Concat | Op::Flatten | Op::Add => Ok(Problem::Host),
    }
}

/// A pool's window.
fn windowed(window: Window) -> Pool2dBuilder {
    Pool2d::builder()
        .window(window.size[0], window.size[1])
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
            "filters `{}` have {group_c} channels, the input's {c} in {groups} groups make {expected}",
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
    let [narrow, ..] = extents(shapes, &inputs[1])?;
    let [k, ..] = extents(shapes, &inputs[3])?;
    let added = match &step.residual {
        None => Added::Nothing,
        Some(name) if *name == inputs[0] => Added::Input,
        Some(_) => Added::Tensor,
    };
    let builder = Bottleneck2d::builder()
        .input(n, c, h, w)
        .narrow(narrow)
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

/// The shape that a step makes.
fn output_shape(step: &Step, problem: &Problem, shapes: &Shapes) -> Result<Vec<usize>, String> {
    let input = &step.layer.inputs[0];
    let shape = |name: &String| {
        shapes
            .get(name)
            .cloned()
            .ok_or_else(|| format!("no tensor `{name}`"))
    };
    Ok(match (problem, &step.layer.op) {
        (Problem::Conv(conv), Op::Linear) => vec![conv.n(), conv.k()],
        (Problem::Conv(conv), _) => vec![conv.n(), conv.k(), conv.p(), conv.q()],
        (Problem::Bottleneck(problem), _) => {
            vec![problem.n(), problem.k(), problem.p(), problem.q()]
        }
        (Problem::Pool(pool), _) => vec![pool.n(), pool.c(), pool.p(), pool.q()],
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

#[cfg(test)]
mod tests {
    use super::super::graph::{parse, steps};
    use super::super::report::Steps;
    use super::*;
    use serde_json::json;

    const STORAGE: Storage = Storage {
        dtype: DType::F32,
        layout: Layout::Nchw,
        filter_layout: FilterLayout::Kcrs,
        math: Math::Strict,
    };

    #[test]
    fn branches_get_their_place_in_the_concat() {
        let graph = parse(&json!([
            {"op": "conv2d", "inputs": ["x", "w_a"], "output": "a", "params": {}},
            {"op": "relu", "inputs": ["a"], "output": "ra", "params": {}},
            {"op": "maxpool2d", "inputs": ["x"], "output": "b",
             "params": {"kernel": [3, 3], "stride": [1, 1], "pad": [1, 1, 1, 1]}},
            {"op": "concat", "inputs": ["ra", "b"], "output": "c", "params": {"axis": 1}},
            {"op": "flatten", "inputs": ["c"], "output": "f", "params": {}},
            {"op": "linear", "inputs": ["f", "w_f", "b_f"], "output": "y", "params": {}},
        ]))
        .expect("a graph");
        let steps = steps(&graph, Steps::Fused);
        let mut shapes: Shapes = [
            ("x", vec![2, 3, 4, 5]),
            ("w_a", vec![7, 3, 1, 1]),
            ("w_f", vec![11, 200]),
            ("b_f", vec![11]),
        ]
        .into_iter()
        .map(|(name, shape)| (name.to_owned(), shape))
        .collect();
        let problems = lower(&steps, &mut shapes, STORAGE).expect("a chain of problems");
        let Problem::Conv(conv) = &problems[0] else {
            panic!("a convolution first")
        };
        assert!(conv.relu());
        assert_eq!(
            (
                conv.output().channel_pitch(),
                conv.output().channel_offset()
            ),
            (10, 0)
        );
        let Problem::Pool(pool) = &problems[1] else {
            panic!("a pool second")
        };
        assert_eq!(
            (
                pool.output().channel_pitch(),
                pool.output().channel_offset()
            ),
            (10, 7)
        );
        let Problem::Conv(linear) = &problems[4] else {
            panic!("a linear layer last")
        };
        assert_eq!((linear.c(), linear.k(), linear.bias()), (200, 11, true));
        assert_eq!(shapes["y"], [2, 11]);
    }

    #[test]
    fn extents_whose_product_overflows_are_refused_in_words() {
        let graph =
            parse(&json!([{"op": "flatten", "inputs": ["x"], "output": "y"}])).expect("a graph");
        let steps = steps(&graph, Steps::Layers);
        // No elements, so that a file of a few bytes may say so.
        let mut shapes: Shapes = [("x".to_owned(), vec![0, 1 << 32, 1 << 32])]
            .into_iter()
            .collect();
        let why = lower(&steps, &mut shapes, STORAGE).expect_err("2^64 features");
        assert!(
            why.contains("flatten of `x`") && why.contains("4294967296"),
            "{why}"
        );
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused_in_words() {
        let graph = parse(&json!([{"op": "conv2d", "inputs": ["x", "w"], "output": "y", "params": {"groups": 0}}]))
            .expect("a graph");
        let steps = steps(&graph, Steps::Layers);
        for (x, w) in [
            (vec![1, 4, 3, 3], vec![2, 4, 1, 1]),
            (vec![1, 1, 1, 1, 1], vec![2, 4, 1, 1]),
        ] {
            let mut shapes: Shapes = [("x".to_owned(), x), ("w".to_owned(), w)]
                .into_iter()
                .collect();
            assert!(lower(&steps, &mut shapes, STORAGE).is_err());
        }
        assert!(
            lower(&steps, &mut Shapes::new(), STORAGE)
                .expect_err("no x")
                .contains("no tensor `x`")
        );
    }
}
