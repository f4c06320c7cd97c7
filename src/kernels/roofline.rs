//! The least time that a problem can take: arithmetic or memory, whichever is longer.

use std::fmt;
use std::ops::Add;

use crate::kernels::{DType, Math};

/// Peak rates of a card, as measured by the best programs for it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PeakRates {
    /// Operations per second; a multiply-add counts as two.
    pub flops: f64,
    /// Device-memory bytes per second.
    pub bytes: f64,
}

impl PeakRates {
    /// An H200's CUDA cores in f32: 67 TFLOP/s and 4.3 TB/s.
    pub const H200_FP32: PeakRates = PeakRates {
        flops: 67e12,
        bytes: 4.3e12,
    };

    /// An H200's tensor cores in bf16 or f16: 790 TFLOP/s and 4.3 TB/s.
    pub(crate) const H200_TENSOR: PeakRates = PeakRates {
        flops: 790e12,
        bytes: 4.3e12,
    };

    /// An H200's tensor cores in tf32: 417 TFLOP/s and 4.3 TB/s.
    pub(crate) const H200_TF32: PeakRates = PeakRates {
        flops: 417e12,
        bytes: 4.3e12,
    };

    /// An H200's tensor cores with three products in tf32 for one: 139 TFLOP/s and 4.3 TB/s.
    pub(crate) const H200_TF32X3: PeakRates = PeakRates {
        flops: 139e12,
        bytes: 4.3e12,
    };

    /// Peak rates of an H200 for a convolution stored as `dtype` and multiplied in the mode `math`.
    pub(crate) const fn of_products(dtype: DType, math: Math) -> PeakRates {
        match (dtype, math) {
            (DType::F32, Math::Strict) => PeakRates::H200_FP32,
            (DType::F32, Math::Tf32x3) => PeakRates::H200_TF32X3,
            (DType::F32, Math::Tf32) => PeakRates::H200_TF32,
            (DType::F16 | DType::Bf16, _) => PeakRates::H200_TENSOR,
        }
    }

    /// Peak rates of an H200 for elements stored as `dtype`: tensor cores if they take the type.
    pub const fn h200(dtype: DType) -> PeakRates {
        PeakRates::of_products(dtype, Math::Strict)
    }

    /// Operations per byte at which arithmetic and memory take the same time.
    pub fn balance(&self) -> f64 {
        self.flops / self.bytes
    }

    /// The bound of a launch that does `macs` multiply-adds and moves `bytes`.
    pub fn bound(&self, macs: u64, bytes: u64) -> Roofline {
        let compute_us = 2.0 * macs as f64 / self.flops * 1e6;
        let memory_us = bytes as f64 / self.bytes * 1e6;
        Roofline {
            macs,
            bytes,
            compute_us,
            memory_us,
            floor_us: compute_us.max(memory_us),
        }
    }
}

/// The longer one of the two bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Bound {
    /// Arithmetic takes longer.
    Compute,
    /// Memory takes longer.
    Memory,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Bound::Compute => "arithmetic",
            Bound::Memory => "memory",
        })
    }
}

/// The least time of a launch, or of several one after the other (they add up).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Roofline {
    /// Multiply-adds.
    pub macs: u64,
    /// Bytes from and to device memory: each operand once.
    pub bytes: u64,
    /// Time of the arithmetic alone, in microseconds.
    pub compute_us: f64,
    /// Time of the memory traffic alone, in microseconds.
    pub memory_us: f64,
    /// The floor, in microseconds: for one launch the longer of the two, for several the sum of
    /// their floors.
    pub floor_us: f64,
}

impl Roofline {
    /// Bound that takes longer.
    pub fn bound(&self) -> Bound {
        if self.compute_us >= self.memory_us {
            Bound::Compute
        } else {
            Bound::Memory
        }
    }

    /// Operations per byte of device memory.
    pub fn intensity(&self) -> f64 {
        2.0 * self.macs as f64 / self.bytes as f64
    }

    /// The share of the roofline that a run of `us` microseconds reaches; 1 is the roofline itself.
    pub fn reached(&self, us: f64) -> f64 {
        self.floor_us / us
    }
}

impl Add for Roofline {
    type Output = Roofline;

    fn add(self, other: Roofline) -> Roofline {
        Roofline {
            macs: self.macs.saturating_add(other.macs),
            bytes: self.bytes.saturating_add(other.bytes),
            compute_us: self.compute_us + other.compute_us,
            memory_us: self.memory_us + other.memory_us,
            floor_us: self.floor_us + other.floor_us,
        }
    }
}

impl std::iter::Sum for Roofline {
    fn sum<I: Iterator<Item = Roofline>>(launches: I) -> Roofline {
        launches.fold(Roofline::default(), Add::add)
    }
}

impl fmt::Display for Roofline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:.2} us, bound by {} (arithmetic {:.2} us for {} multiply-adds, memory {:.2} us for \
             {} bytes)",
            self.floor_us,
            self.bound(),
            self.compute_us,
            self.macs,
            self.memory_us,
            self.bytes
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIXELS: u64 = 128 * 56 * 56;

    fn naive(peak_rates: PeakRates, size: u64) -> Roofline {
        let bytes = (2 * PIXELS * 252 + 252 * 252 * 9) * size;
        peak_rates.bound(PIXELS * 571_536, bytes)
    }

    /// 252 -> 63 -> 63 -> 252, three launches.
    fn bottleneck(peak_rates: PeakRates, size: u64) -> Roofline {
        [(252, 63, 1), (63, 63, 9), (63, 252, 1)]
            .into_iter()
            .map(|(c, k, taps)| {
                peak_rates.bound(
                    PIXELS * c * k * taps,
                    (PIXELS * (c + k) + c * k * taps) * size,
                )
            })
            .sum()
    }

    #[test]
    fn the_main_job_has_the_known_floors() {
        let close = |us: f64, want: f64| assert!((us - want).abs() < 1.0, "{us} is not {want}");
        close(naive(PeakRates::H200_FP32, 4).floor_us, 6848.0);
        close(naive(PeakRates::H200_TENSOR, 2).floor_us, 581.0);
        close(bottleneck(PeakRates::H200_FP32, 4).floor_us, 808.0);
        close(bottleneck(PeakRates::H200_TENSOR, 2).floor_us, 154.0);
        assert_eq!(bottleneck(PeakRates::H200_FP32, 4).macs, PIXELS * 67_473);
        let bytes = PIXELS * (2 * 315 + 126) + 252 * 63 * 2 + 63 * 63 * 9;
        assert_eq!(bottleneck(PeakRates::H200_FP32, 4).bytes, 4 * bytes);
        assert_eq!(naive(PeakRates::H200_FP32, 4).bound(), Bound::Compute);
        assert_eq!(bottleneck(PeakRates::H200_TENSOR, 2).bound(), Bound::Memory);
    }

    #[test]
    fn balance_and_share() {
        assert!((PeakRates::H200_FP32.balance() - 15.58).abs() < 0.01);
        assert!((PeakRates::h200(DType::Bf16).balance() - 183.7).abs() < 0.1);
        let bound = PeakRates::H200_FP32.bound(67_000_000, 43);
        assert!((bound.floor_us - 2.0).abs() < 1e-9);
        assert!((bound.reached(4.0) - 0.5).abs() < 1e-9);
    }
}
