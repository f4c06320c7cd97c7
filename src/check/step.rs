//! What each kind of step should have made, and how near it must be.

use super::compare::Tolerance;
use super::module::Operands;
use super::verdict::{Buffers, part};
use crate::error::Error;
use crate::ops::{Node, PreparedStep, Step};
use crate::reference;

/// What a launch should have made of one tensor.
pub(super) struct Reference {
    /// The tensor's own channels, dense NCHW.
    pub values: Vec<f64>,
    /// The sum of magnitudes behind each value; none if the result is exact.
    magnitudes: Option<Vec<f64>>,
}

impl Reference {
    /// The results of a launch for `n` images, one for each of its outputs, from whole tensors by their place.
    pub(super) fn of(
        node: &Node,
        buffers: &Buffers,
        operands: &[Operands],
        n: usize,
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
                let magnitudes = reference::conv2d_abs(&conv, x, w, bias, residual)?;
                Reference {
                    values: reference::conv2d(&conv, x, w, bias, residual)?,
                    magnitudes: Some(magnitudes),
                }
            }
            Step::Pool(pool) => {
                let pool = pool.with_batch(n)?;
                Reference {
                    values: reference::pool2d(&pool, x)?.0,
                    magnitudes: Some(reference::pool2d_abs(&pool, x)?),
                }
            }
            Step::Relu(relu) => Reference {
                values: reference::relu(&super::verdict::slice(x, relu.input())),
                magnitudes: None,
            },
        };
        Ok(vec![one])
    }

    /// How near a result must be, given the kernels that computed it.
    pub(super) fn tolerance(&self, step: &Step, prepared: &PreparedStep) -> Tolerance<'_> {
        let Some(magnitudes) = &self.magnitudes else {
            return Tolerance::Exact;
        };
        match (step, prepared) {
            (Step::Conv(conv), PreparedStep::Conv(prepared)) => {
                let plan = prepared.plan();
                Tolerance::of_conv(conv, plan.kernel().kernel(), plan.splits(), magnitudes)
            }
            (Step::Pool(pool), _) => Tolerance::of_pool(pool, magnitudes),
            _ => Tolerance::Exact,
        }
    }
}
