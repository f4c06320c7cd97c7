//! Predicted time on an H200, computed from counters; every output calls it a prediction.
//!
//! Each counter divided by the card's highest rate is a time. The longest of these bounds the
//! launch. A tenth of the second longest is added, for imperfect overlap, and the launch overhead.
//! Work that is divided among SMs takes as long as on the busiest SM. The plan's cost model
//! includes latencies and occupancy, which no counter shows: if its time is longer, it is the
//! prediction.

use warpconv::kernels::{Kernel, Math};
use warpconv::plan::{Capability, PeakRates};

/// Counters of a plan's launches together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Bytes from and to device memory.
    pub device_bytes: u64,
    /// Bytes of the sectors that requests touched, between the SMs and their L1 caches.
    pub sector_bytes: u64,
    /// Number of warp instructions.
    pub instructions: u64,
    /// f32 multiply-adds, in warp instructions.
    pub fma_warps: u64,
    /// Multiply-adds on tensor cores.
    pub matrix_macs: u64,
    /// Wavefronts of shared memory.
    pub wavefronts: u64,
    /// Number of launches.
    pub launches: u64,
}

/// Time that one resource takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Resource, as in "bound by".
    pub what: &'static str,
    /// Time in microseconds.
    pub us: f64,
}

/// Predicted time of a plan, with the times of all resources.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// Predicted time in microseconds.
    pub us: f64,
    /// Resource that bounds the time.
    pub bound: &'static str,
    /// Each part's time, the longest first.
    pub parts: Vec<Part>,
}

/// Microseconds of a launch before its first useful instruction and after its last: `setup` of the
/// cost model for CUDA cores (`src/kernels/cost.rs`).
const SETUP_US: f64 = 1.5;

/// The time on an H200 of work in `blocks` blocks; `model_us` is the cost model's.
pub fn predict(work: &Work, kernel: &Kernel, blocks: u64, model_us: f64) -> Prediction {
    let card = Capability::h200();
    let sms = f64::from(card.sm_count);
    // Work of the busiest SM, as a multiple of the mean.
    let tail = match blocks {
        0 => 1.0,
        _ => blocks.div_ceil(u64::from(card.sm_count)) as f64 * sms / blocks as f64,
    };
    let clocks = sms * f64::from(card.clock_khz) * 1e3;
    let us = |amount: u64, rate: f64| amount as f64 / rate * 1e6;
    let shared_out = |amount: u64, rate: f64| us(amount, rate) * tail;
    let mut parts = vec![
        Part {
            what: "device memory",
            us: us(
                work.device_bytes,
                PeakRates::h200(warpconv::DType::F32).bytes,
            ),
        },
        Part {
            what: "multiply-adds on CUDA cores",
            us: shared_out(
                work.fma_warps * 64,
                PeakRates::h200(warpconv::DType::F32).flops,
            ),
        },
        Part {
            what: "tensor cores",
            us: shared_out(2 * work.matrix_macs, clocks * matrix_rate(&card, kernel)),
        },
        Part {
            what: "instruction issue",
            // Four schedulers, one instruction per clock each.
            us: shared_out(work.instructions, 4.0 * clocks),
        },
        Part {
            what: "shared memory",
            us: shared_out(work.wavefronts, clocks),
        },
        Part {
            what: "L1 cache",
            // 128 bytes per clock.
            us: shared_out(work.sector_bytes, 128.0 * clocks),
        },
    ];
    parts.sort_by(|a, b| b.us.total_cmp(&a.us));
    let counted = parts[0].us + 0.1 * parts[1].us + SETUP_US * work.launches as f64;
    if model_us > counted {
        return Prediction {
            us: model_us,
            bound: "latency and fill (the cost model)",
            parts,
        };
    }
    let launching = SETUP_US * work.launches as f64 > parts[0].us;
    Prediction {
        us: counted,
        bound: if launching {
            "launching"
        } else {
            parts[0].what
        },
        parts,
    }
}

/// Multiply-adds per clock of an SM's tensor cores in the kernel's math mode.
fn matrix_rate(card: &Capability, kernel: &Kernel) -> f64 {
    // tf32 has half the rate of 16-bit types.
    let width = match kernel.math {
        Math::Strict => 1.0,
        Math::Tf32 | Math::Tf32x3 => 0.5,
    };
    2.0 * card.tensor_rate(kernel.arch) * width
}

#[cfg(test)]
mod tests {
    use super::*;
    use approx::assert_abs_diff_eq;
    use warpconv::kernels::kernels;

    fn any() -> &'static Kernel {
        &kernels()[0]
    }

    #[test]
    fn the_longest_part_bounds() {
        let work = Work {
            device_bytes: 4_300_000_000,
            fma_warps: 1,
            launches: 1,
            ..Work::default()
        };
        let found = predict(&work, any(), 132, 0.0);
        assert_eq!(found.bound, "device memory");
        assert_abs_diff_eq!(found.us, 1000.0 + SETUP_US, epsilon = 0.01);
        assert_eq!(predict(&work, any(), 132, 2000.0).us, 2000.0);
    }

    #[test]
    fn a_block_too_many_costs_a_turn() {
        let work = Work {
            fma_warps: 1_000_000_000,
            launches: 1,
            ..Work::default()
        };
        let even = predict(&work, any(), 132, 0.0).us - SETUP_US;
        let uneven = predict(&work, any(), 133, 0.0).us - SETUP_US;
        assert_abs_diff_eq!(uneven / even, 2.0 * 132.0 / 133.0, epsilon = 1e-9);
        // 64e9 operations at 67e12 per second.
        assert_abs_diff_eq!(even, 955.2, epsilon = 0.1);
    }

    #[test]
    fn little_work_is_bound_by_launching() {
        let work = Work {
            device_bytes: 1000,
            launches: 1,
            ..Work::default()
        };
        assert_eq!(predict(&work, any(), 1, 0.0).bound, "launching");
        assert!(predict(&Work::default(), any(), 0, 0.0).us == 0.0);
    }
}
