//! What each convolution kernel accepts, and how well it does.

use super::args::ConvArgs;
use super::cost::{Product, streaming};
use super::fill::Arguments;
use super::{
    Capability, Limits, Operation, PeakRates, Refusal, Roofline, Score, estimate_simt, tensor,
};
use crate::kernels::{Algorithm, FEW_CHANNELS_MAX_GEMM_K, Kernel};
use crate::problem::{Conv2d, FilterLayout, TensorDesc};

impl Operation for Conv2d {
    const NAME: &'static str = "a convolution";

    fn computed_by(algorithm: Algorithm) -> bool {
        matches!(
            algorithm,
            Algorithm::Direct
                | Algorithm::DirectFewChannels
                | Algorithm::Pointwise
                | Algorithm::Grouped
                | Algorithm::SmallGroups
                | Algorithm::Depthwise
        ) || (algorithm.tensor() && !algorithm.bottleneck() && algorithm != Algorithm::MmaMultiConv)
    }

    fn describe(&self) -> String {
        self.to_string()
    }

    fn output(&self) -> &TensorDesc {
        self.output()
    }

    fn work(&self) -> (u64, u64) {
        (self.macs(), self.min_bytes())
    }

    fn peak_rates(&self) -> PeakRates {
        PeakRates::of_products(self.dtype(), self.math())
    }

    fn accepts(&self, kernel: &Kernel) -> Result<(), Refusal> {
        if !self.math().allows(kernel.math) {
            return Err(Refusal::Math {
                kernel: kernel.math,
                problem: self.math(),
            });
        }
        if kernel.algorithm.tensor() {
            return tensor::accepts(self, kernel);
        }
        let one_group = || match self.groups() {
            1 => Ok(()),
            groups => Err(Refusal::OneGroupOnly { groups }),
        };
        match kernel.algorithm {
            Algorithm::Direct => one_group(),
            Algorithm::DirectFewChannels => {
                one_group()?;
                at_most(self.gemm_k(), FEW_CHANNELS_MAX_GEMM_K as usize)
            }
            Algorithm::Pointwise => {
                one_group()?;
                pointwise(self)
            }
            Algorithm::Grouped | Algorithm::SmallGroups if self.groups() == 1 => {
                Err(Refusal::SeveralGroupsOnly)
            }
            Algorithm::Depthwise if self.group_c() != 1 => Err(Refusal::OneChannelAGroupOnly {
                group_c: self.group_c(),
            }),
            // One weight a tap, which makes the other two layouts the same.
            Algorithm::Depthwise if self.filter_layout() == FilterLayout::Packed => {
                Err(Refusal::FilterLayout {
                    problem: FilterLayout::Packed,
                })
            }
            Algorithm::Depthwise => fixed_filter(self, kernel.tile_k as usize),
            _ => Ok(()),
        }
    }

    fn blocks(&self, kernel: &Kernel) -> u64 {
        ConvArgs::from(self).set_grid(kernel)
    }

    fn estimate(
        &self,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        if kernel.algorithm.tensor() {
            tensor::estimate(self, kernel, device, roofline, limits)
        } else {
            estimate_simt(self, kernel, device, roofline, limits)
        }
    }

    fn score(&self, kernel: &Kernel, device: &Capability, roofline: &Roofline) -> Score {
        let tile_k = u64::from(kernel.tile_k.max(1));
        let taps = (self.r() * self.s()) as u64;
        let channels = self.group_c() as u64;
        let product = |padded_k| Product {
            groups: self.groups() as u64,
            gemm_m: self.group_k() as u64,
            gemm_n: self.gemm_n() as u64,
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
                let filters = (self.group_k() as u64).next_multiple_of(u64::from(kernel.tile_m));
                let work = (self.macs() / self.group_k() as u64).saturating_mul(filters);
                // With one channel a group finding the few terms outweighs them: the emulator
                // counted 248 instructions for a multiplication, where the depthwise kernels take
                // 10.
                let cost = if self.group_c() == 1 { 31.0 } else { 2.0 };
                streaming(kernel, device, roofline, self.blocks(kernel), work, cost)
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
                    self.blocks(kernel),
                    self.macs(),
                    cost,
                )
            }
            _ => product(taps * channels.next_multiple_of(tile_k)).score(kernel, device, roofline),
        }
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
