//! Convolutions on tensor cores by `mma.sync`.

use super::operation::{ConvArguments, ConvFamily};
use super::tensor::{self, aligned};
use super::tensor::{Copies, TensorTraits};
use super::tensor_args::TensorArgs;
use super::{
    Algorithm, Capability, FEW_CHANNELS_MAX_GEMM_K, Kernel, Limits, Refusal, Roofline, Score,
};
use crate::problem::Conv2d;

/// Family of the convolution kernels by `mma.sync`.
pub(crate) struct Mma;

impl ConvFamily for Mma {
    fn accepts(&self, problem: &Conv2d, kernel: &Kernel) -> Result<(), Refusal> {
        match kernel.algorithm {
            Algorithm::MmaFewChannels => {
                one_group(problem)?;
                let (terms, most) = (problem.gemm_k(), FEW_CHANNELS_MAX_GEMM_K as usize);
                if terms > most {
                    return Err(Refusal::SumTooLong { terms, most });
                }
            }
            Algorithm::MmaSmallGroups => small_groups(problem, kernel)?,
            _ => {}
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
        ConvArguments::Tensor(TensorArgs::new(problem, kernel, split_k))
    }

    fn tensor_traits(&self, kernel: &Kernel) -> TensorTraits {
        let all_taps = kernel.algorithm == Algorithm::MmaFewChannels;
        TensorTraits {
            all_taps,
            small_groups: kernel.algorithm == Algorithm::MmaSmallGroups,
            copies: if all_taps {
                Copies::Table
            } else {
                Copies::Vectors
            },
            ..TensorTraits::default()
        }
    }
}

fn one_group(problem: &Conv2d) -> Result<(), Refusal> {
    match problem.groups() {
        1 => Ok(()),
        groups => Err(Refusal::OneGroupOnly { groups }),
    }
}

/// A group's channels are one step of the sum, and its filters as many rows of the tile.
fn small_groups(problem: &Conv2d, kernel: &Kernel) -> Result<(), Refusal> {
    if problem.groups() == 1 {
        return Err(Refusal::SeveralGroupsOnly);
    }
    let most = kernel.tile_k as usize;
    if problem.group_c() > most || problem.group_k() > most {
        return Err(Refusal::WideGroups {
            group_c: problem.group_c(),
            group_k: problem.group_k(),
            most,
        });
    }
    Ok(())
}
