//! Expected results of each kind of step, and their tolerance.

use super::bottleneck::ExpectedBottleneck;
use super::check_result::{Buffers, part, slice};
use super::compare::{Mismatch, Stats, Tolerance, compare};
use super::convert::round;
use super::extents;
use super::graph_on_device::Operands;
use crate::reference::{self, BottleneckOperands};
use warpconv::error::Error;
use warpconv::graph::{Node, Step, TensorId};
use warpconv::kernels::{Kernel, KernelId};
use warpconv::launch::Unary;
use warpconv::plan::Operation;
use warpconv::problem::{Bottleneck2d, Branches, Pool2d};

/// The kernel of a launch, and the number of partial sums per output tile (split-K).
type Launched = (&'static Kernel, u32);

/// Compares the result of a step by itself with the f64 reference of its rounded operands, within
/// the error bound of the kernel that computed it with `split_k` partial sums. All tensors are
/// dense NCHW; `operands` has one entry per entry of [`Step::weights`].
///
/// # Errors
/// [`Error::Length`] if an operand does not have the step's elements, [`Error::MissingBuffer`] if
/// one is missing; the inner error is a wrong result.
pub fn compare_step(
    step: &Step,
    (kernel, split_k): (KernelId, u32),
    x: &[f64],
    operands: &[Operands],
    got: &[f64],
) -> Result<Result<Stats, Mismatch>, Error> {
    let node = Node::new("", step.clone(), TensorId::Input, TensorId::Output);
    let missing = Error::MissingBuffer { buffer: "output" };
    let (_, desc) = node.writes().next().ok_or(missing)?;
    let rounded = |values: &[f64]| -> Vec<f64> {
        let values = values.iter();
        values.map(|&value| round(desc.dtype(), value)).collect()
    };
    let operands: Vec<Operands> = operands
        .iter()
        .map(|operands| Operands {
            w: rounded(&operands.w),
            bias: operands.bias.as_deref().map(rounded),
        })
        .collect();
    let buffers = Buffers::from([(TensorId::Input, rounded(x))]);
    let launched = (kernel.kernel(), split_k);
    let references = Reference::of(&node, &buffers, &operands, desc.n(), Some(launched))?;
    let reference = references
        .first()
        .ok_or(Error::MissingBuffer { buffer: "output" })?;
    let tolerance = reference.tolerance(step, 0, launched);
    let (values, extents) = (&reference.values, extents(desc));
    Ok(compare(got, values, extents, desc.dtype(), tolerance))
}

/// Expected content of one tensor after a launch.
pub(super) struct Reference {
    /// The tensor's own channels, dense NCHW.
    pub values: Vec<f64>,
    /// The sum of magnitudes behind each value of a convolution or a mean; for other operations the
    /// error bound of each value before it is stored. `None` if the result is exact.
    magnitudes: Option<Vec<f64>>,
}

impl Reference {
    /// The results of a launch for `n` images, one per output, from whole tensors by their id.
    /// Intermediates are rounded as on the device by the kernel of `launched`, or not at all
    /// without one.
    pub(super) fn of(
        node: &Node,
        buffers: &Buffers,
        operands: &[Operands],
        n: usize,
        launched: Option<Launched>,
    ) -> Result<Vec<Reference>, Error> {
        let x = node
            .from
            .first()
            .map_or(&[][..], |&from| part(buffers, from));
        let residual = node.residual.map(|place| part(buffers, place));
        let one = match &node.step {
            Step::Conv(conv) => {
                let conv = conv.with_batch(n)?;
                let own = operands.first();
                let (w, bias) = own.map_or((&[][..], None), |o| (&o.w[..], o.bias.as_deref()));
                let magnitudes = || reference::conv2d_abs(&conv, x, w, bias, residual);
                Reference {
                    values: reference::conv2d(&conv, x, w, bias, residual)?,
                    // Without a device there is nothing to compare.
                    magnitudes: launched.map(|_| magnitudes()).transpose()?,
                }
            }
            Step::Pool(pool) => {
                let pool = pool.with_batch(n)?;
                Reference {
                    values: reference::pool2d(&pool, x)?.0,
                    magnitudes: Some(reference::pool2d_abs(&pool, x)?),
                }
            }
            Step::Bottleneck(bottleneck) => {
                let bottleneck = bottleneck.with_batch(n)?;
                let x = slice(x, bottleneck.input());
                let residual = residual.zip(bottleneck.convolutions()[2].residual());
                let residual = residual.map(|(whole, desc)| slice(whole, desc));
                of_bottleneck(&bottleneck, &x, residual.as_deref(), operands, launched)?
            }
            Step::Branches(branches) => return of_branches(node, branches, buffers, operands, n),
            Step::Relu(relu) => Reference {
                values: reference::relu(&slice(x, relu.input())),
                magnitudes: None,
            },
            Step::Lrn(lrn) => {
                let (lrn, x) = (lrn.with_batch(n)?, slice(x, lrn.input()));
                Reference {
                    values: reference::lrn(&lrn, &x)?,
                    magnitudes: Some(reference::lrn_bound(&lrn, &x)?),
                }
            }
            Step::Softmax(softmax) => {
                let (softmax, x) = (softmax.with_batch(n)?, slice(x, softmax.input()));
                Reference {
                    values: reference::softmax(&softmax, &x)?,
                    magnitudes: Some(reference::softmax_bound(&softmax, &x)?),
                }
            }
            Step::Tanh(tanh) => {
                let x = slice(x, tanh.input());
                Reference {
                    values: reference::tanh(tanh, &x),
                    magnitudes: Some(reference::tanh_bound(tanh, &x)),
                }
            }
            Step::Subsample(subsample) => {
                let (subsample, x) = (subsample.with_batch(n)?, slice(x, subsample.input()));
                let own = operands.first();
                let weights = own.and_then(|o| Some((&o.w[..], o.bias.as_deref()?)));
                let (w, bias) = weights.unwrap_or_default();
                Reference {
                    values: reference::subsample(&subsample, &x, w, bias)?,
                    magnitudes: Some(reference::subsample_bound(&subsample, &x, w, bias)?),
                }
            }
        };
        Ok(vec![one])
    }

    /// Tolerance of the step's output number `output`, given the kernels that computed it.
    pub(super) fn tolerance(
        &self,
        step: &Step,
        output: usize,
        (kernel, split_k): Launched,
    ) -> Tolerance<'_> {
        let Some(magnitudes) = &self.magnitudes else {
            return Tolerance::Exact;
        };
        let of_conv = |conv| Tolerance::of_conv(conv, kernel, split_k, magnitudes);
        match step {
            Step::Conv(conv) => of_conv(conv),
            Step::Branches(branches) => {
                let conv = branches.convolutions().nth(output);
                conv.map_or(Tolerance::Exact, of_conv)
            }
            Step::Pool(pool) => Tolerance::of_pool(pool, magnitudes),
            Step::Bottleneck(_)
            | Step::Lrn(_)
            | Step::Softmax(_)
            | Step::Tanh(_)
            | Step::Subsample(_) => Tolerance::Off { sums: magnitudes },
            Step::Relu(_) => Tolerance::Exact,
        }
    }
}

/// Expected result of a bottleneck in one launch.
fn of_bottleneck(
    problem: &Bottleneck2d,
    x: &[f64],
    residual: Option<&[f64]>,
    operands: &[Operands],
    launched: Option<Launched>,
) -> Result<Reference, Error> {
    let missing = Error::MissingBuffer { buffer: "filter" };
    let [first, second, third] = operands else {
        return Err(missing);
    };
    let all = [first, second, third];
    let operands = BottleneckOperands {
        x,
        w: all.map(|operands| &operands.w[..]),
        bias: all.map(|operands| operands.bias.as_deref()),
        residual,
    };
    Ok(match launched {
        Some((kernel, _)) => {
            let expected = ExpectedBottleneck::of(problem, [kernel; 3], &operands)?;
            Reference {
                values: expected.values,
                magnitudes: Some(expected.sums),
            }
        }
        None => Reference {
            values: reference::bottleneck2d(problem, &operands, |value| value)?,
            magnitudes: None,
        },
    })
}

/// Expected results of fused branches: each convolution by itself, after its max pooling if it has
/// one.
fn of_branches(
    node: &Node,
    branches: &Branches,
    buffers: &Buffers,
    operands: &[Operands],
    n: usize,
) -> Result<Vec<Reference>, Error> {
    let mut results = Vec::new();
    for (index, product) in branches.products().iter().enumerate() {
        let from = node.from.get(index).or(node.from.first());
        let whole = from.map_or(&[][..], |&from| part(buffers, from));
        let mut x = slice(
            whole,
            product
                .pooling()
                .map_or(product.convolutions()[0].input(), Pool2d::input),
        );
        if let Some(pooling) = product.pooling() {
            x = reference::pool2d(&pooling.with_batch(n)?, &x)?.0;
        }
        for conv in product.convolutions() {
            let conv = conv.with_batch(n)?;
            let own = operands.get(results.len());
            let (w, bias) = own.map_or((&[][..], None), |o| (&o.w[..], o.bias.as_deref()));
            results.push(Reference {
                values: reference::conv2d(&conv, &x, w, bias, None)?,
                magnitudes: Some(reference::conv2d_abs(&conv, &x, w, bias, None)?),
            });
        }
    }
    Ok(results)
}
