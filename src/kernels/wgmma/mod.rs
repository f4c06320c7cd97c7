//! Convolutions on the tensor cores of compute capability 9.0 by `wgmma`.

use super::operation::{ConvArguments, ConvFamily};
use super::tensor::{self, aligned};
use super::tensor::{Copies, TensorTraits};
use super::tensor_args::TensorArgs;
use super::{Algorithm, Capability, Kernel, Limits, Refusal, Roofline, Score};
use crate::problem::Conv2d;

/// Family of the convolution kernels by `wgmma`.
pub(crate) struct Wgmma;

impl ConvFamily for Wgmma {
    fn accepts(&self, problem: &Conv2d, kernel: &Kernel) -> Result<(), Refusal> {
        if kernel.algorithm == Algorithm::Wgmma {
            boxes(problem, kernel)?;
        }
        aligned(problem, kernel)
    }

    fn estimate(
        &self,
        problem: &Conv2d,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        tensor::estimate(problem, kernel, device, roofline, limits)
    }

    fn arguments(&self, problem: &Conv2d, kernel: &Kernel, split_k: u32) -> ConvArguments {
        ConvArguments::TensorMaps(TensorArgs::new(problem, kernel, split_k))
    }

    fn tensor_traits(&self, kernel: &Kernel) -> TensorTraits {
        TensorTraits {
            copies: match kernel.algorithm {
                Algorithm::Wgmma => Copies::Boxes,
                _ => Copies::Vectors,
            },
            persistent: true,
            cuts_operands: true,
            ..TensorTraits::default()
        }
    }
}

/// Checks the limits of a tensor map in im2col mode; see `kernels/wgmma/args.cuh`.
pub(super) fn boxes(problem: &Conv2d, kernel: &Kernel) -> Result<(), Refusal> {
    let multiple = kernel.tile_k as usize;
    if problem.groups() > 1 && !problem.group_c().is_multiple_of(multiple) {
        return Err(Refusal::GroupChannels {
            group_c: problem.group_c(),
            multiple,
        });
    }
    let refuse = |what, value: usize, most| Err(Refusal::TensorMap { what, value, most });
    let sides = problem.padding();
    let taps = [problem.r(), problem.s()];
    let axes = [
        (problem.h(), problem.p(), sides.top),
        (problem.w(), problem.q(), sides.left),
    ];
    for (axis, (input, outputs, before)) in axes.into_iter().enumerate() {
        let stride = problem.stride()[axis];
        if stride > 8 {
            return refuse("a stride", stride, 8);
        }
        let span = (taps[axis] - 1).saturating_mul(problem.dilation()[axis]);
        if span > 255 {
            return refuse("the distance of a filter's first and last tap", span, 255);
        }
        if before > 128 {
            return refuse("the padding before the image", before, 128);
        }
        // The last window begins at (outputs - 1) * stride - before; the corner is its distance
        // from the last pixel.
        let (window, last) = (outputs.saturating_sub(1) * stride, input - 1 + before);
        if last > window + 128 {
            let short = last - window;
            return refuse(
                "the distance of the last window from the image's end",
                short,
                128,
            );
        }
        if window > last + 127 {
            let beyond = window - last;
            return refuse(
                "the distance of the last window from the image's end",
                beyond,
                127,
            );
        }
    }
    Ok(())
}
