//! Problems of benchdnn's shape files: operands are integers, so that every kernel must be exact.
//!
//! A shape file names no types: every kernel runs in f32, or in the types of the options; other
//! types run with their plan's kernel.

use warpconv::kernels::{KernelId, Math};
use warpconv::plan::{Candidate, Limits, Operation, Plan};
use warpconv::problem::notation::{self, Problem};
use warpconv::problem::{Conv2d, FilterLayout, NO_INDEX, NotationReason, Pool2d, PoolKind};
use warpconv::{DType, Error};
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{Stats, Tolerance, extents};

use super::discover::ShapeLine;
use super::lower::{natural, no_kernel, padded};
use super::report::{Report, Variation};
use super::{Context, Selection};
use crate::exit::Failure;

/// The largest magnitude of inputs and filters: small enough that the sums of every problem of
/// moderate size are exact in f32.
const MAX: u32 = 2;

/// Runs a problem in every type, layout and kernel.
pub fn shape(
    context: &Context,
    label: &str,
    shape: &ShapeLine,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let batch = context.select.batch;
    let problem = match notation::parse(&shape.text) {
        Ok(named) => {
            for warning in &named.warnings {
                report.warn(format!("{label}: {warning}"));
            }
            named.problem
        }
        Err(Error::Notation {
            reason: NotationReason::ThreeDimensional,
            ..
        }) => {
            report.skip(label, "three-dimensional problems");
            return Ok(());
        }
        Err(error) => return report.unreadable(label, &error.to_string()),
    };
    let problem = match problem {
        Problem::Conv(conv) => conv
            .with_batch(batch)
            .and_then(|conv| {
                conv.to_builder()
                    .bias(true)
                    .residual(false)
                    .relu(false)
                    .build()
            })
            .map(Problem::Conv),
        Problem::Pool(pool) => pool.with_batch(batch).map(Problem::Pool),
    };
    let problem = match problem {
        Ok(problem) => problem,
        Err(error) => return report.unreadable(label, &error.to_string()),
    };
    if let Some(why) = too_large(&problem, &context.select) {
        report.skip(label, why);
        return Ok(());
    }
    match problem {
        Problem::Conv(conv) => convolution(context, label, &conv, report),
        Problem::Pool(pool) => pooling(context, label, &pool, report),
    }
}

/// Reason why a problem is skipped for its size, if it is.
fn too_large(problem: &Problem, select: &Selection) -> Option<String> {
    let (work, what) = match problem {
        Problem::Conv(conv) => (conv.macs(), "multiplications"),
        Problem::Pool(pool) => (comparisons(pool), "elements of windows"),
    };
    // A problem of little work may have tensors too large for memory: a large stride skips most
    // elements.
    let elements = match problem {
        Problem::Conv(conv) => [
            conv.input().elements(),
            conv.filter().elements(),
            conv.output().elements(),
        ],
        Problem::Pool(pool) => [pool.input().elements(), 0, pool.output().elements()],
    };
    let elements = elements
        .iter()
        .fold(0u64, |sum, &len| sum.saturating_add(len as u64));
    let limits = [
        (work, select.max_macs, what, "--max-macs"),
        (
            elements,
            select.max_elements,
            "elements in all tensors",
            "--max-elements",
        ),
    ];
    limits
        .into_iter()
        .find(|&(has, most, ..)| has > most)
        .map(|(_, most, what, option)| {
            format!("problems of more than {most} {what} at this batch ({option})")
        })
}

/// Number of elements that a pooling reads.
fn comparisons(pool: &Pool2d) -> u64 {
    (pool.output().elements() as u64)
        .saturating_mul((pool.window().kernel[0] * pool.window().kernel[1]) as u64)
}

/// Runs a convolution with bias and without ReLU, which would hide wrong negative numbers.
fn convolution(
    context: &Context,
    label: &str,
    conv: &Conv2d,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let operands = Operands::draw(conv, label);
    let want = match operands.reference(conv) {
        Ok(want) => want,
        Err(error) => return report.unreadable(label, &error),
    };
    for variation in variations(context, true) {
        let stored = conv
            .to_builder()
            .dtype(variation.dtype)
            .layout(variation.layout)
            .filter_layout(variation.filter_layout.unwrap_or(FilterLayout::Kcrs))
            .math(variation.math.unwrap_or_default())
            .build();
        let stored = match stored {
            Ok(stored) => stored,
            Err(error) => {
                context.fail(report, label, "conv2d", &variation, &error.to_string())?;
                continue;
            }
        };
        let candidates = Plan::candidates(&stored, &context.capability);
        if accepting(&candidates).is_empty() {
            context.fail(report, label, "conv2d", &variation, &no_kernel(&stored))?;
        }
        let accepting = affordable(context, label, &stored, &candidates, report);
        for kernel in chosen(context, accepting, &variation) {
            for limits in limits(context, &stored, kernel) {
                let outcome = run_conv(context, &stored, &limits, &operands, &want);
                let variation = Variation {
                    split_k: limits.split_k,
                    ..variation.clone()
                };
                record(
                    context, report, label, "conv2d", &variation, kernel, outcome,
                )?;
            }
        }
    }
    Ok(())
}

/// The split-K values to run, with the kernel: all of them if the options name types or modes, else
/// the plan's.
fn limits(context: &Context, conv: &Conv2d, kernel: KernelId) -> Vec<Limits> {
    let select = &context.select;
    let with = |split_k| Limits {
        kernel: Some(kernel),
        split_k,
        ..Limits::default()
    };
    let wanted = match select.split_k {
        Some(only) => vec![only],
        None if select.is_thorough() && kernel.kernel().algorithm.tensor() => vec![1, 2, 3],
        None => return vec![with(None)],
    };
    let all = wanted.into_iter().map(|split_k| with(Some(split_k)));
    all.filter(|limits| Plan::within(conv, &context.capability, limits).is_ok())
        .collect()
}

/// Runs a convolution with one kernel and compares.
fn run_conv(
    context: &Context,
    conv: &Conv2d,
    limits: &Limits,
    operands: &Operands,
    want: &[f64],
) -> Result<Stats, String> {
    let plan =
        Plan::within(conv, &context.capability, limits).map_err(|error| error.to_string())?;
    let Operands { x, w, bias } = operands;
    let got = check::run_conv(&context.gpu()?, &plan, x, w, Some(bias), None)
        .map_err(|error| error.to_string())?;
    check::compare(
        &got,
        want,
        extents(conv.output()),
        conv.input().dtype(),
        Tolerance::Exact,
    )
    .map_err(|mismatch| mismatch.to_string())
}

/// The operands of a convolution.
struct Operands {
    x: Vec<f64>,
    w: Vec<f64>,
    bias: Vec<f64>,
}

impl Operands {
    /// Draws integer operands, seeded by the problem's name.
    fn draw(conv: &Conv2d, label: &str) -> Operands {
        let seed = label
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
        Operands {
            x: check::integers(conv.input().elements(), MAX, seed),
            w: check::integers(conv.filter().elements(), MAX, seed ^ 1),
            bias: check::integers(conv.output().c(), MAX, seed ^ 2),
        }
    }

    /// Computes the expected results of a convolution.
    fn reference(&self, conv: &Conv2d) -> Result<Vec<f64>, String> {
        reference::conv2d(conv, &self.x, &self.w, Some(&self.bias), None)
            .map_err(|error| error.to_string())
    }
}

/// Runs a pooling as each kind that the shape permits.
fn pooling(
    context: &Context,
    label: &str,
    pool: &Pool2d,
    report: &mut Report<'_>,
) -> Result<(), Failure> {
    let average = |count_include_pad| PoolKind::Average {
        count_include_pad,
        divisor_override: None,
    };
    let mut kinds = vec![("maxpool2d", PoolKind::Max { indices: false })];
    if pool.window().kernel[0] * pool.window().kernel[1] <= usize::from(NO_INDEX) {
        kinds.push(("maxpool2d with indices", PoolKind::Max { indices: true }));
    }
    // Average pooling runs without dilation only, as PyTorch defines it.
    if pool.window().dilation == [1, 1] {
        kinds.push(("avgpool2d counting padding", average(true)));
        kinds.push(("avgpool2d", average(false)));
    }
    let x = check::integers(pool.input().elements(), 100, 7);
    for (op, kind) in kinds {
        let pool = match pool.to_builder().kind(kind).build() {
            Ok(pool) => pool,
            Err(error) => return report.unreadable(label, &error.to_string()),
        };
        let want = match Pooled::reference(&pool, &x) {
            Ok(want) => want,
            Err(error) => return report.unreadable(label, &error.to_string()),
        };
        for variation in variations(context, false) {
            let stored = pool
                .to_builder()
                .dtype(variation.dtype)
                .layout(variation.layout)
                .build();
            let stored = match stored {
                Ok(stored) => stored,
                Err(error) => {
                    context.fail(report, label, op, &variation, &error.to_string())?;
                    continue;
                }
            };
            let accepting = accepting(&Plan::candidates(&stored, &context.capability));
            if accepting.is_empty() {
                context.fail(report, label, op, &variation, &no_kernel(&stored))?;
            }
            for kernel in chosen(context, accepting, &variation) {
                let outcome = run_pool(context, &stored, kernel, &x, &want);
                record(context, report, label, op, &variation, kernel, outcome)?;
            }
        }
    }
    Ok(())
}

/// Expected result of a pool, in every type and layout.
struct Pooled {
    values: Vec<f64>,
    positions: Option<Vec<u8>>,
    magnitudes: Vec<f64>,
}

impl Pooled {
    fn reference(pool: &Pool2d, x: &[f64]) -> Result<Pooled, Error> {
        let (values, positions) = reference::pool2d(pool, x)?;
        Ok(Pooled {
            values,
            positions,
            magnitudes: reference::pool2d_abs(pool, x)?,
        })
    }
}

/// Runs a pool with one kernel and compares.
fn run_pool(
    context: &Context,
    pool: &Pool2d,
    kernel: KernelId,
    x: &[f64],
    want: &Pooled,
) -> Result<Stats, String> {
    let plan =
        Plan::with_kernel(pool, &context.capability, kernel).map_err(|error| error.to_string())?;
    let (got, positions) =
        check::run_pool(&context.gpu()?, &plan, x).map_err(|error| error.to_string())?;
    let extents = extents(pool.output());
    if let (Some(positions), Some(wanted)) = (&positions, &want.positions) {
        check::compare_indices(positions, wanted, extents)
            .map_err(|mismatch| format!("indices: {mismatch}"))?;
    }
    check::compare(
        &got,
        &want.values,
        extents,
        pool.input().dtype(),
        Tolerance::of_pool(pool, &want.magnitudes),
    )
    .map_err(|mismatch| mismatch.to_string())
}

/// The kernels whose multiplications, tile padding included, are within `--max-macs`: kernels with
/// tiles for wider groups may multiply 32 times as much for a depthwise convolution. The plan's
/// kernel in strict mode is always included, and so are kernels that the options name.
fn affordable(
    context: &Context,
    label: &str,
    conv: &Conv2d,
    candidates: &[Candidate],
    report: &mut Report<'_>,
) -> Vec<KernelId> {
    let select = &context.select;
    let strict = conv.math() == Math::Strict;
    let mut kernels = Vec::new();
    for (rank, candidate) in candidates.iter().enumerate() {
        let Ok(score) = candidate.evaluation else {
            continue;
        };
        let planned = strict && rank == 0;
        let affordable = padded(conv.macs(), &score) <= select.max_macs as f64;
        if planned || select.is_thorough() || affordable {
            kernels.push(candidate.id);
        }
    }
    if kernels.len() < accepting(candidates).len() {
        let most = select.max_macs;
        report.skip(
            label,
            format!(
                "kernels whose tiles pad a problem to more than {most} multiplications \
                (--max-macs, --every-kernel)"
            ),
        );
    }
    kernels
}

/// The kernels that accept.
fn accepting(candidates: &[Candidate]) -> Vec<KernelId> {
    candidates
        .iter()
        .filter(|candidate| candidate.evaluation.is_ok())
        .map(|candidate| candidate.id)
        .collect()
}

/// The kernels to run: every one that accepts, or the one of the options. A shape file names no
/// types, so without such options every kernel runs in strict f32 only, and other types and modes
/// run their best kernel. Otherwise a thousand shapes would take the emulator hours.
fn chosen(context: &Context, accepting: Vec<KernelId>, variation: &Variation) -> Vec<KernelId> {
    let select = &context.select;
    let math = variation.math.unwrap_or_default();
    let strict = (variation.dtype, math) == (DType::F32, Math::Strict);
    let most = if strict || select.is_thorough() {
        usize::MAX
    } else {
        1
    };
    let taken = accepting
        .into_iter()
        .filter(|&kernel| select.takes(kernel, math));
    taken.take(most).collect()
}

/// The types and layouts that the options permit. Filters have the layout that matches the
/// activations, unless the options name one: the cases test all four pairs.
fn variations(context: &Context, filters: bool) -> Vec<Variation> {
    let mut all = Vec::new();
    for &dtype in &context.select.dtypes {
        for &layout in &context.select.layouts {
            let chosen = || context.select.filter_layout.unwrap_or(natural(layout));
            let filter_layout = filters.then(chosen);
            // Without filters there are no multiplications, hence no modes.
            let maths = context.select.maths(dtype);
            for math in maths.filter(|&math| filters || math == Math::Strict) {
                all.push(Variation {
                    dtype,
                    layout,
                    filter_layout,
                    math: filters.then_some(math),
                    kernel: None,
                    split_k: None,
                    steps: None,
                });
            }
        }
    }
    all
}

/// Records the outcome of one kernel.
fn record(
    context: &Context,
    report: &mut Report<'_>,
    label: &str,
    op: &str,
    variation: &Variation,
    kernel: KernelId,
    outcome: Result<Stats, String>,
) -> Result<(), Failure> {
    let variation = Variation {
        kernel: Some(kernel.kernel().name()),
        ..variation.clone()
    };
    match outcome {
        Ok(stats) => {
            report.pass(label, op, &variation, stats);
            Ok(())
        }
        Err(why) => context.fail(report, label, op, &variation, &why),
    }
}
