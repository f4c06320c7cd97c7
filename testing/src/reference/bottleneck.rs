//! A bottleneck by its definition: three convolutions, with stored intermediates.

use super::{conv2d, expect_len};
use warpconv::error::Error;
use warpconv::problem::{Added, Bottleneck2d};

/// The operands of a bottleneck, dense and in logical order, as for [`conv2d`].
#[derive(Clone, Copy, Debug)]
pub struct BottleneckOperands<'a> {
    /// The input, NCHW.
    pub x: &'a [f64],
    /// The filters of each convolution, KCRS.
    pub w: [&'a [f64]; 3],
    /// The bias of each convolution, exactly where it has one.
    pub bias: [Option<&'a [f64]>; 3],
    /// The residual, NCHW, exactly if the problem has [`Added::Tensor`].
    pub residual: Option<&'a [f64]>,
}

impl<'a> BottleneckOperands<'a> {
    /// Tensor that the last convolution adds: the residual, or the input.
    pub fn added(&self, problem: &Bottleneck2d) -> Option<&'a [f64]> {
        match problem.added() {
            Added::Input => Some(self.x),
            Added::Tensor | Added::Nothing => self.residual,
        }
    }
}

/// The output of a bottleneck, dense NCHW. `store` is applied to each intermediate value: rounding
/// to the storage type by [`check::round`](crate::round), or the identity.
///
/// # Errors
/// [`Error::Length`] if a slice does not have the problem's number of elements.
pub fn bottleneck2d(
    problem: &Bottleneck2d,
    operands: &BottleneckOperands<'_>,
    store: impl Fn(f64) -> f64,
) -> Result<Vec<f64>, Error> {
    let residuals = match problem.added() {
        Added::Tensor => problem.output().elements(),
        Added::Nothing | Added::Input => 0,
    };
    expect_len("residual", operands.residual.unwrap_or(&[]), residuals)?;
    let [reduce, middle, expand] = problem.convolutions();
    let BottleneckOperands { x, w, bias, .. } = *operands;
    let stored = |values: Vec<f64>| values.into_iter().map(&store).collect::<Vec<_>>();
    let mid1 = stored(conv2d(reduce, x, w[0], bias[0], None)?);
    let mid2 = stored(conv2d(middle, &mid1, w[1], bias[1], None)?);
    conv2d(expand, &mid2, w[2], bias[2], operands.added(problem))
}
