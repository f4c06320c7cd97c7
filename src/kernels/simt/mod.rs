//! Convolutions on CUDA cores.

use super::args::Arguments;
use super::args::ConvArgs;
use super::cost::{Product, streaming};
use super::operation::{ConvArguments, ConvFamily, TensorTraits};
use super::{
    Algorithm, Capability, FEW_CHANNELS_MAX_GEMM_K, Kernel, Limits, Refusal, Roofline, Score,
    estimate_simt,
};
use crate::problem::{Conv2d, FilterLayout};

/// Family of the convolution kernels on CUDA cores.
pub(crate) struct Simt;

impl ConvFamily for Simt {
    fn accepts(&self, problem: &Conv2d, kernel: &Kernel) -> Result<(), Refusal> {
        let one_group = || match problem.groups() {
            1 => Ok(()),
            groups => Err(Refusal::OneGroupOnly { groups }),
        };
        match kernel.algorithm {
            Algorithm::Direct => one_group(),
            Algorithm::DirectFewChannels => {
                one_group()?;
                at_most(problem.gemm_k(), FEW_CHANNELS_MAX_GEMM_K as usize)
            }
            Algorithm::Pointwise => {
                one_group()?;
                pointwise(problem)
            }
            Algorithm::Grouped | Algorithm::SmallGroups if problem.groups() == 1 => {
                Err(Refusal::SeveralGroupsOnly)
            }
            Algorithm::Depthwise if problem.group_c() != 1 => Err(Refusal::OneChannelAGroupOnly {
                group_c: problem.group_c(),
            }),
            // One weight per tap, which makes the other two layouts the same.
            Algorithm::Depthwise if problem.filter_layout() == FilterLayout::Packed => {
                Err(Refusal::FilterLayout {
                    problem: FilterLayout::Packed,
                })
            }
            Algorithm::Depthwise => fixed_filter(problem, kernel.tile_k as usize),
            _ => Ok(()),
        }
    }

    fn estimate(
        &self,
        problem: &Conv2d,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        estimate_simt(problem, kernel, device, roofline, limits)
    }

    fn arguments(&self, problem: &Conv2d, _: &Kernel, _: u32) -> ConvArguments {
        ConvArguments::Simt(ConvArgs::from(problem))
    }

    fn tensor_traits(&self, _: &Kernel) -> TensorTraits {
        TensorTraits::default()
    }
}

/// Blocks of a launch.
pub(super) fn blocks(problem: &Conv2d, kernel: &Kernel) -> u64 {
    ConvArgs::from(problem).set_grid(kernel)
}

/// Instructions that load one element into shared memory. A multiply-add of the tile needs
/// `1/tile_m + 1/tile_n` elements; from there a thread that keeps `outputs` sums, a square of them,
/// fetches 2 / sqrt(outputs) values for each.
pub(super) fn fill_instructions(kernel: &Kernel) -> f64 {
    match kernel.algorithm {
        // No bounds in the image, no taps.
        Algorithm::Pointwise => 2.0,
        // An entry of a table for each term.
        Algorithm::DirectFewChannels => 5.0,
        _ => 4.0,
    }
}

/// Returns whether a kernel reads pixels as they follow each other in a plane.
pub(super) fn reads_planes(kernel: &Kernel) -> bool {
    kernel.algorithm == Algorithm::Pointwise
}

/// Returns whether a kernel's blocks are strips of output rows, not tiles of a matrix product.
pub(super) fn has_strips(kernel: &Kernel) -> bool {
    kernel.algorithm == Algorithm::Depthwise
}

/// The estimate of a kernel's time.
pub(super) fn score(
    problem: &Conv2d,
    kernel: &Kernel,
    device: &Capability,
    roofline: &Roofline,
) -> Score {
    let tile_k = u64::from(kernel.tile_k.max(1));
    let taps = (problem.r() * problem.s()) as u64;
    let channels = problem.group_c() as u64;
    let product = |padded_k| Product {
        groups: problem.groups() as u64,
        gemm_m: problem.group_k() as u64,
        gemm_n: problem.gemm_n() as u64,
        gemm_k: taps * channels,
        padded_k,
    };
    match kernel.algorithm {
        Algorithm::DirectFewChannels => {
            product((taps * channels).next_multiple_of(tile_k)).score(kernel, device, roofline)
        }
        Algorithm::SmallGroups => {
            // Filters beyond the group's last are computed too. Two instructions for a
            // multiply-add: x comes straight from memory, for the filters of one tile.
            let filters = (problem.group_k() as u64).next_multiple_of(u64::from(kernel.tile_m));
            let work = (problem.macs() / problem.group_k() as u64).saturating_mul(filters);
            // With one channel per group finding the few terms outweighs them: the emulator
            // counted 248 instructions for a multiplication, where the depthwise kernels take
            // 10.
            let cost = if problem.group_c() == 1 { 31.0 } else { 2.0 };
            streaming(
                kernel,
                device,
                roofline,
                blocks(problem, kernel),
                work,
                cost,
            )
        }
        Algorithm::Depthwise => {
            // No tile is shared: a multiply-add costs loads of its own, about three
            // instructions in all; two where the kernel keeps a known filter in registers and
            // reuses each input row.
            let cost = if kernel.tile_k > 1 { 2.0 } else { 3.0 };
            streaming(
                kernel,
                device,
                roofline,
                blocks(problem, kernel),
                problem.macs(),
                cost,
            )
        }
        _ => product(taps * channels.next_multiple_of(tile_k)).score(kernel, device, roofline),
    }
}

fn at_most(terms: usize, most: usize) -> Result<(), Refusal> {
    if terms > most {
        Err(Refusal::SumTooLong { terms, most })
    } else {
        Ok(())
    }
}

/// The depthwise modules that are made for `size` x `size` filters; 1 stands for any.
fn fixed_filter(problem: &Conv2d, size: usize) -> Result<(), Refusal> {
    let (stride, dilation) = (problem.stride()[0], problem.dilation()[0]);
    let fits = (problem.r(), problem.s()) == (size, size) && stride <= 2 && dilation == 1;
    if size <= 1 || fits {
        return Ok(());
    }
    Err(Refusal::FixedFilter {
        size,
        r: problem.r(),
        s: problem.s(),
        stride,
        dilation,
    })
}

fn pointwise(problem: &Conv2d) -> Result<(), Refusal> {
    if (problem.r(), problem.s()) != (1, 1) {
        return Err(Refusal::PointwiseOnly {
            r: problem.r(),
            s: problem.s(),
        });
    }
    let sides = problem.padding();
    let padding = sides.top.max(sides.bottom).max(sides.left).max(sides.right);
    if padding > 0 {
        Err(Refusal::Padded { padding })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Operation;

    /// Filters of one size, steps of one or two rows, rows that are neighbours; columns are free.
    /// Kernels of size 1 take all.
    #[test]
    fn modules_of_one_filter_take_nothing_else() {
        for (axes, fits) in [
            ("kh3ph1", true),
            ("kh3ph1sh2", true),
            ("kh3ph1sh3", false),
            ("kh3ph1sh3sw1", false),
            ("kh3kw3ph1pw1sh1sw3", true),
            ("kh3ph1dh1", false),
            ("kh3kw3ph1pw1dh0dw1", true),
            ("kh5ph2", false),
            ("kh3kw5ph1pw2", false),
            ("kh5kw3ph2pw1", false),
        ] {
            let problem: Conv2d = format!("g8mb1ic8ih20iw20oc8{axes}")
                .parse()
                .expect("a valid problem");
            assert_eq!(fixed_filter(&problem, 3).is_ok(), fits, "{problem}");
            assert_eq!(fixed_filter(&problem, 1), Ok(()), "{problem}");
        }
        let problem: Conv2d = "g8mb1ic8ih20oc8kh3ph1sh3".parse().expect("a valid problem");
        let refused = Refusal::FixedFilter {
            size: 3,
            r: 3,
            s: 3,
            stride: 3,
            dilation: 1,
        };
        assert_eq!(fixed_filter(&problem, 3), Err(refused));
    }

    /// The model is asked for the terms that a kernel walks, padding included, and for what its
    /// multiplications cost.
    #[test]
    fn kernels_are_scored_by_the_work_that_they_do() {
        use crate::kernels::{DType, Layout};
        let made = |algorithm, tile_m, tile_k| Kernel {
            algorithm,
            dtype: DType::F32,
            layout: Some(Layout::Nchw),
            tile_m,
            tile_n: 32,
            tile_k,
            threads: 64,
            ..crate::kernels::kernels()[0]
        };
        let (device, roofline) = (Capability::h200(), Roofline::default());
        // Terms of a sum: nine taps of 10 channels, each as 16 or 90 in all as 96.
        for (algorithm, padded_k) in [(Algorithm::Direct, 144), (Algorithm::DirectFewChannels, 96)]
        {
            let (problem, kernel): (Conv2d, _) = (
                "mb2ic10ih9oc24kh3ph1".parse().expect("a valid problem"),
                made(algorithm, 16, 16),
            );
            let product = Product {
                groups: 1,
                gemm_m: 24,
                gemm_n: 162,
                gemm_k: 90,
                padded_k,
            };
            let want = product.score(&kernel, &device, &roofline);
            assert_eq!(problem.score(&kernel, &device, &roofline), want);
        }
        // Multiply-adds, filters of a group rounded up to the tile; their cost.
        for (line, algorithm, tile_k, work, cost) in [
            (
                "g4mb2ic8ih9oc24kh3ph1",
                Algorithm::SmallGroups,
                1,
                162 * 9 * 2 * 32,
                2.0,
            ),
            (
                "g4mb2ic4ih9oc24kh3ph1",
                Algorithm::SmallGroups,
                1,
                162 * 9 * 32,
                31.0,
            ),
            (
                "g8mb2ic8ih9oc8kh3ph1",
                Algorithm::Depthwise,
                3,
                162 * 9 * 8,
                2.0,
            ),
            (
                "g8mb2ic8ih9oc8kh3ph1",
                Algorithm::Depthwise,
                1,
                162 * 9 * 8,
                3.0,
            ),
        ] {
            let (problem, kernel): (Conv2d, _) = (
                line.parse().expect("a valid problem"),
                made(algorithm, 8, tile_k),
            );
            let blocks = problem.blocks(&kernel);
            let want = streaming(&kernel, &device, &roofline, blocks, work, cost);
            assert_eq!(
                problem.score(&kernel, &device, &roofline),
                want,
                "{line} {tile_k}"
            );
        }
    }
}
