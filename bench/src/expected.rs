//! Expected results: one reference per shape, for all its types, layouts and batches.

use std::cell::RefCell;
use std::rc::Rc;

use warpconv::kernels::Math;
use warpconv::plan::Operation;
use warpconv::problem::{Conv2d, FilterLayout, TensorDesc};
use warpconv::{DType, Error, Layout};
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{Stored, Tolerance, pack, unpack};

use super::timed_graph::text;

/// Number of different images in a batch; the others repeat them, which makes large batches cheap
/// to fill and to check.
pub const IMAGES: usize = 2;

/// The largest magnitude of operands of a check: they are small integers, so that every type holds
/// them and results must be exact.
const MAX: u32 = 2;

/// Seeds of the random input, filters and bias that launches are timed with.
const SEEDS: [u64; 3] = [11, 12, 13];

/// A shape's operands and result, dense, for `IMAGES` images.
pub struct Expected {
    /// Input, NCHW.
    pub x: Vec<f64>,
    /// Filters, KCRS.
    pub w: Vec<f64>,
    /// Bias, one value per filter.
    pub bias: Vec<f64>,
    /// Output, NCHW.
    pub y: Vec<f64>,
}

/// The last shape's reference: shapes are measured one after the other.
#[derive(Default)]
pub struct References {
    last: RefCell<Option<(String, Rc<Expected>)>>,
}

impl References {
    /// The reference of the problem's shape, computed unless it is the last shape's.
    pub fn of(&self, problem: &Conv2d) -> Result<Rc<Expected>, String> {
        let shape = canonical(problem).map_err(text)?;
        let key = shape.to_string();
        if let Some((last, expected)) = &*self.last.borrow()
            && *last == key
        {
            return Ok(expected.clone());
        }
        let x = check::integers(shape.input().elements(), MAX, 1);
        let w = check::integers(shape.filter().len(), MAX, 2);
        let bias = check::integers(shape.output().c(), MAX, 3);
        let given = shape.bias().then_some(&bias[..]);
        let y = reference::conv2d(&shape, &x, &w, given, None).map_err(text)?;
        let expected = Rc::new(Expected { x, w, bias, y });
        *self.last.borrow_mut() = Some((key, expected.clone()));
        Ok(expected)
    }
}

/// Random reals with all significant bits of the type in use, as launches are timed with: integers
/// of two bits switch fewer wires, so that a card clocks higher. Sums keep the magnitude of the
/// input.
pub struct Random {
    /// Input, NCHW, for `IMAGES` images.
    pub x: Vec<f64>,
    /// Filters, KCRS.
    pub w: Vec<f64>,
    /// Bias, one value per filter.
    pub bias: Vec<f64>,
}

impl Random {
    /// The operands of a convolution.
    pub fn of(problem: &Conv2d) -> Result<Random, String> {
        let dtype = problem.input().dtype();
        let x = few(problem.input()).map_err(text)?.elements();
        let [seed_x, seed_w, seed_bias] = SEEDS;
        // The mean square of a number of [-1, 1) is a third.
        let scale = (3.0 / problem.filter().gemm_k().max(1) as f64).sqrt();
        let mut w = check::reals(problem.filter().elements(), dtype, seed_w);
        w.iter_mut().for_each(|value| *value *= scale);
        Ok(Random {
            x: check::reals(x, dtype, seed_x),
            w,
            bias: check::reals(problem.output().c(), dtype, seed_bias),
        })
    }
}

/// The canonical problem of a shape: f32, NCHW, `IMAGES` images.
fn canonical(problem: &Conv2d) -> Result<Conv2d, Error> {
    problem
        .to_builder()
        .math(Math::Strict)
        .dtype(DType::F32)
        .layout(Layout::Nchw)
        .filter_layout(FilterLayout::Kcrs)
        .build()?
        .with_batch(IMAGES)
}

/// The distinct images of a batch, in the tensor's layout and type, from dense ones.
pub fn images<T: Stored>(desc: &TensorDesc, dense: &[f64]) -> Result<Vec<T>, String> {
    let few = few(desc).map_err(text)?;
    pack(&few, &dense[..few.elements()], T::poison()).map_err(text)
}

/// The tensor with at most `IMAGES` images.
pub fn few(desc: &TensorDesc) -> Result<TensorDesc, Error> {
    let n = desc.n().min(IMAGES);
    TensorDesc::new(
        [n, desc.c(), desc.h(), desc.w()],
        desc.layout(),
        desc.dtype(),
    )
}

/// Compares a batch with the expected first images; `read` downloads elements of it. `slack` is the
/// accepted error relative to the largest magnitude: 0 for exact.
pub fn compare<T: Stored>(
    desc: &TensorDesc,
    want: &[f64],
    slack: f64,
    read: impl Fn(std::ops::Range<usize>) -> Result<Vec<T>, String>,
) -> Result<(), String> {
    let few = few(desc).map_err(text)?;
    let image = few.len() / few.n().max(1);
    let got = unpack(&few, &read(0..few.len())?).map_err(text)?;
    let want = &want[..few.elements()];
    if slack == 0.0 {
        check::compare(&got, want, check::extents(&few), T::DTYPE, Tolerance::Exact)
            .map_err(text)?;
    } else {
        let most = want
            .iter()
            .fold(0.0f64, |most, value| most.max(value.abs()));
        let worst = got
            .iter()
            .zip(want)
            .map(|(got, want)| (got - want).abs())
            .fold(
                0.0,
                |worst: f64, off| if off <= worst { worst } else { off },
            );
        let fits = worst <= slack * most;
        // Negated, so that NaN fails.
        if !fits {
            return Err(format!("off by {worst} where the largest value is {most}"));
        }
    }
    let last = desc.n().saturating_sub(1);
    let twin = last % few.n().max(1);
    let got = read(last * image..(last + 1) * image)?;
    let first = read(twin * image..(twin + 1) * image)?;
    let same = got.iter().zip(&first).all(|(a, b)| a.bits() == b.bits());
    if slack == 0.0 && !same {
        return Err(String::from(
            "equal images of a batch have different results",
        ));
    }
    Ok(())
}
