//! Bottlenecks in one launch: expected results and their tolerance.
//!
//! Intermediates are rounded when stored. A small error of a sum may move it to the neighbouring
//! number, one unit in the last place away. The error of each intermediate follows from the bound
//! `e` of its sum `a`, since rounding is monotonic: the stored value lies between the rounded `a -
//! e` and the rounded `a + e`. The next convolution multiplies this error by the magnitudes of its
//! filters and adds its own.

use super::compare::Tolerance;
use super::convert::{Stored, half_of_least, round, with_stored};
use super::guard::{Guarded, Guards};
use super::pack::{pack, pack_filter};
use super::run::{RunError, finish};
use crate::reference::{self, BottleneckOperands};
use warpconv::device::Gpu;
use warpconv::error::Error;
use warpconv::kernels::{DType, Kernel};
use warpconv::launch::{BottleneckBuffers, DeviceBuffer};
use warpconv::plan::Plan;
use warpconv::problem::{Bottleneck2d, Conv2d};

/// Expected result of a bottleneck, and the bound of each element's error.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedBottleneck {
    /// The output, with intermediates rounded to the storage type.
    pub values: Vec<f64>,
    /// Bound of the error of each element's sum, before it is stored.
    pub sums: Vec<f64>,
}

impl ExpectedBottleneck {
    /// Expected result for kernels whose first, second and third convolution use `kernels`: one
    /// fused kernel three times, or those of three launches.
    ///
    /// # Errors
    /// [`Error::Length`] if a slice does not have the problem's number of elements.
    pub fn of(
        problem: &Bottleneck2d,
        kernels: [&Kernel; 3],
        operands: &BottleneckOperands<'_>,
    ) -> Result<ExpectedBottleneck, Error> {
        let [reduce, middle, expand] = problem.convolutions();
        let BottleneckOperands { x, w, bias, .. } = *operands;
        let dtype = problem.input().dtype();
        let exact = vec![0.0; x.len()];
        let first = Sums::of(reduce, kernels[0], [x, &exact], w[0], bias[0], None)?;
        let [mid1, off1] = first.stored(dtype);
        let second = Sums::of(middle, kernels[1], [&mid1, &off1], w[1], bias[1], None)?;
        let [mid2, off2] = second.stored(dtype);
        let added = operands.added(problem);
        let last = Sums::of(expand, kernels[2], [&mid2, &off2], w[2], bias[2], added)?;
        Ok(ExpectedBottleneck {
            values: match expand.relu() {
                true => reference::relu(&last.values),
                false => last.values,
            },
            sums: last.off,
        })
    }

    /// The tolerance for [`compare`](super::compare()).
    pub fn tolerance(&self) -> Tolerance<'_> {
        Tolerance::Off { sums: &self.sums }
    }
}

/// Sums of a convolution, before its ReLU, and the bound of a kernel's error in them.
struct Sums {
    values: Vec<f64>,
    off: Vec<f64>,
}

impl Sums {
    /// Sums over an input that may itself have an error.
    fn of(
        conv: &Conv2d,
        kernel: &Kernel,
        [x, off]: [&[f64]; 2],
        w: &[f64],
        bias: Option<&[f64]>,
        residual: Option<&[f64]>,
    ) -> Result<Sums, Error> {
        let plain = conv
            .to_builder()
            .bias(bias.is_some())
            .residual(residual.is_some())
            .relu(false)
            .build()?;
        let (share, least) = sum_error(conv, kernel);
        // The sum is linear in its operands: the error of x propagates, and the sum's own error is
        // a share of the magnitudes.
        let x_off: Vec<f64> = x
            .iter()
            .zip(off)
            .map(|(x, off)| off + share * (x.abs() + off))
            .collect();
        let shared =
            |values: &[f64]| -> Vec<f64> { values.iter().map(|value| share * value).collect() };
        let [bias_off, residual_off] = [bias.map(shared), residual.map(shared)];
        let off = reference::conv2d_abs(
            &plain,
            &x_off,
            w,
            bias_off.as_deref(),
            residual_off.as_deref(),
        )?;
        Ok(Sums {
            values: reference::conv2d(&plain, x, w, bias, residual)?,
            off: off.into_iter().map(|off| off + least).collect(),
        })
    }

    /// Stored values after the ReLU, and the bound of a kernel's error in them. Infinities and NaN
    /// are the same in any order of summation.
    fn stored(&self, dtype: DType) -> [Vec<f64>; 2] {
        let store = |sum: f64| round(dtype, if sum < 0.0 { 0.0 } else { sum });
        let values: Vec<f64> = self.values.iter().map(|&sum| store(sum)).collect();
        let sums = self.values.iter().zip(&self.off).zip(&values);
        let off = sums.map(|((&sum, &off), &stored)| match sum.is_finite() {
            true => (store(sum + off) - stored).max(stored - store(sum - off)),
            false => 0.0,
        });
        let off = off.collect();
        [values, off]
    }
}

/// Bound of the error of a kernel's sum: relative to its magnitudes, and absolute for values below
/// the least f32 number.
fn sum_error(conv: &Conv2d, kernel: &Kernel) -> (f64, f64) {
    let least = |roundings: usize| 2.0 * roundings as f64 * half_of_least(DType::F32);
    match Tolerance::of_conv(conv, kernel, 1, &[]) {
        Tolerance::Products {
            relative,
            roundings,
            ..
        } => (relative, least(roundings)),
        _ => {
            let terms = conv.filter().gemm_k() + 4;
            (terms as f64 * 2f64.powi(-24), least(terms))
        }
    }
}

/// Runs a bottleneck by one launch.
///
/// # Errors
/// As [`run_conv`](super::run_conv).
pub fn run_bottleneck(
    gpu: &Gpu,
    plan: &Plan<Bottleneck2d>,
    operands: &BottleneckOperands<'_>,
) -> Result<Vec<f64>, RunError> {
    run_bottleneck_with_guards(gpu, plan, Guards::of(gpu), operands)
}

/// [`run_bottleneck`] with given guards.
///
/// # Errors
/// As [`run_conv`](super::run_conv).
pub fn run_bottleneck_with_guards(
    gpu: &Gpu,
    plan: &Plan<Bottleneck2d>,
    guards: Guards,
    operands: &BottleneckOperands<'_>,
) -> Result<Vec<f64>, RunError> {
    with_stored!(plan.problem().input().dtype(), T => run::<T>(gpu, plan, guards, operands))
}

fn run<T: Stored>(
    gpu: &Gpu,
    plan: &Plan<Bottleneck2d>,
    guards: Guards,
    operands: &BottleneckOperands<'_>,
) -> Result<Vec<f64>, RunError> {
    const FILTERS: [&str; 3] = ["w1", "w2", "w3"];
    const BIASES: [&str; 3] = ["bias1", "bias2", "bias3"];
    let problem = plan.problem();
    let prepared = gpu.prepare(plan)?;
    let upload = |name, content: Vec<T>| Guarded::upload(gpu, name, guards, content);
    let x = upload("x", pack(problem.input(), operands.x, T::guard())?)?;
    let (mut w, mut biases) = (Vec::new(), Vec::new());
    for (index, conv) in problem.convolutions().iter().enumerate() {
        w.push(upload(
            FILTERS[index],
            pack_filter(conv, operands.w[index])?,
        )?);
        let bias =
            operands.bias[index].map(|bias| bias.iter().map(|&value| T::nearest(value)).collect());
        biases.push(bias.map(|bias| upload(BIASES[index], bias)).transpose()?);
    }
    let residual = operands.residual.map(|residual| {
        let desc = problem.convolutions()[2]
            .residual()
            .unwrap_or(problem.output());
        upload("residual", pack(desc, residual, T::guard())?)
    });
    let residual = residual.transpose()?;
    let mut y = Guarded::<T>::poisoned(gpu, guards, problem.output())?;

    let (x_view, mut y_view) = (x.view(), y.view_mut());
    let [w1, w2, w3] = [w[0].view(), w[1].view(), w[2].view()];
    let bias_views: Vec<_> = biases
        .iter()
        .map(|bias| bias.as_ref().map(Guarded::view))
        .collect();
    let residual_view = residual.as_ref().map(Guarded::view);
    let bias = |index: usize| {
        bias_views[index]
            .as_ref()
            .map(|b| b as &dyn DeviceBuffer<T>)
    };
    prepared.launch(
        gpu.stream(),
        BottleneckBuffers {
            x: &x_view,
            w: [&w1, &w2, &w3],
            bias: [bias(0), bias(1), bias(2)],
            residual: residual_view.as_ref().map(|r| r as &dyn DeviceBuffer<T>),
            y: &mut y_view,
        },
    )?;

    let dense = finish(gpu, problem.output(), &y, true)?;
    let biases = biases.iter().flatten();
    for input in biases.chain(&w).chain(&residual).chain([&x]) {
        input.expect_untouched(gpu)?;
    }
    Ok(dense)
}
