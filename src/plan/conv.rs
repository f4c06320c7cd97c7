//! What each convolution kernel accepts, and how well it does.

use super::cost::{Product, streaming};
use super::{Capability, Ceilings, Limits, Operation, Refusal, Roofline, Score, on_cores, tensor};
use crate::catalog::{Algorithm, FLAT_GEMM_K, Kernel};
use crate::launch::{Arguments, args::ConvArgs};
use crate::problem::{Conv2d, FilterLayout, TensorDesc};

impl Operation for Conv2d {
    const NAME: &'static str = "a convolution";

    fn computed_by(algorithm: Algorithm) -> bool {
        matches!(
            algorithm,
            Algorithm::Direct
                | Algorithm::DirectFlat
                | Algorithm::Pointwise
                | Algorithm::Grouped
                | Algorithm::GroupedNarrow
                | Algorithm::Depthwise
        ) || (algorithm.tensor() && !algorithm.bottleneck() && algorithm != Algorithm::MmaBranches)
    }

    fn describe(&self) -> String {
        self.to_string()
    }

    fn result(&self) -> &TensorDesc {
        self.output()
    }

    fn work(&self) -> (u64, u64) {
        (self.macs(), self.min_bytes())
    }

    fn ceilings(&self) -> Ceilings {
        Ceilings::of_products(self.dtype(), self.math())
    }

    fn suits(&self, kernel: &Kernel) -> Result<(), Refusal> {
        if !self.math().allows(kernel.math) {
            return Err(Refusal::Math {
                kernel: kernel.math,
                problem: self.math(),
            });
        }
        if kernel.algorithm.tensor() {
            return tensor::suits(self, kernel);
        }
        let one_group = || match self.groups() {
            1 => Ok(()),
            groups => Err(Refusal::OneGroupOnly { groups }),
        };
        match kernel.algorithm {
            Algorithm::Direct => one_group(),
            Algorithm::DirectFlat => {
                one_group()?;
                at_most(self.gemm_k(), FLAT_GEMM_K as usize)
            }
            Algorithm::Pointwise => {
                one_group()?;
                pointwise(self)
            }
            Algorithm::Grouped | Algorithm::GroupedNarrow if self.groups() == 1 => {
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
        ConvArgs::from(self).share_out(kernel)
    }

    fn rate(
        &self,
        kernel: &Kernel,
        device: &Capability,
        roofline: &Roofline,
        limits: &Limits,
    ) -> Result<Score, Refusal> {
        if kernel.algorithm.tensor() {
            tensor::rate(self, kernel, device, roofline, limits)
        } else {
            on_cores(self, kernel, device, roofline, limits)
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
            Algorithm::DirectFlat => {
                product((taps * channels).next_multiple_of(tile_k)).score(kernel, device, roofline)
            }
            Algorithm::GroupedNarrow => {
                // Filters beyond the group's last are computed too. Two instructions for a multiply-add: x comes
                // straight from memory, for the filters of one tile.
                let filters = (self.group_k() as u64).next_multiple_of(u64::from(kernel.tile_m));
                let work = (self.macs() / self.group_k() as u64).saturating_mul(filters);
                // With one channel a group finding the few terms outweighs them: the emulator counted 248 instructions for
                // a multiplication, where the depthwise kernels take 10.
                let cost = if self.group_c() == 1 { 31.0 } else { 2.0 };
                streaming(kernel, device, roofline, self.blocks(kernel), work, cost)
            }
            Algorithm::Depthwise => {
                // No tile is shared: a multiply-add costs loads of its own, about three instructions in all; two where
                // the kernel keeps a known filter in registers and reuses each input row.
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
