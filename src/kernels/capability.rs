//! Capability of a device: the half of a plan's input that is not the problem.

use crate::kernels::Arch;

/// Figures of a device that decide which kernels it runs, and how fast.
///
/// Pure data: [`Gpu::capability`](crate::device::Gpu::capability) fills it in from a device, and
/// the constructors here let a plan be made, printed and tested where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Capability {
    /// Compute capability, major number.
    pub major: u32,
    /// Compute capability, minor number.
    pub minor: u32,
    /// Number of SMs.
    pub sm_count: u32,
    /// Shared memory that a block may have without asking for more, in bytes.
    pub shared_per_block: u32,
    /// Shared memory that a block may have at most, in bytes.
    pub shared_per_block_optin: u32,
    /// Shared memory per SM, in bytes.
    pub shared_per_sm: u32,
    /// 32-bit registers per SM.
    pub registers_per_sm: u32,
    /// Threads that an SM holds at most.
    pub max_threads_per_sm: u32,
    /// Threads that a block may have at most.
    pub max_threads_per_block: u32,
    /// Blocks along x that a launch may have at most.
    pub max_grid_x: u32,
    /// Highest clock of the SMs, in kHz.
    pub clock_khz: u32,
}

impl Capability {
    /// A Tesla T4: compute capability 7.5.
    pub const fn sm75() -> Capability {
        Capability {
            major: 7,
            minor: 5,
            sm_count: 40,
            shared_per_block: 48 << 10,
            shared_per_block_optin: 64 << 10,
            shared_per_sm: 64 << 10,
            registers_per_sm: 64 << 10,
            max_threads_per_sm: 1024,
            max_threads_per_block: 1024,
            max_grid_x: i32::MAX as u32,
            clock_khz: 1_590_000,
        }
    }

    /// An A100: compute capability 8.0.
    pub const fn sm80() -> Capability {
        Capability {
            major: 8,
            minor: 0,
            sm_count: 108,
            shared_per_block: 48 << 10,
            shared_per_block_optin: 163 << 10,
            shared_per_sm: 164 << 10,
            registers_per_sm: 64 << 10,
            max_threads_per_sm: 2048,
            max_threads_per_block: 1024,
            max_grid_x: i32::MAX as u32,
            clock_khz: 1_410_000,
        }
    }

    /// An H200: compute capability 9.0.
    pub const fn h200() -> Capability {
        Capability {
            major: 9,
            minor: 0,
            sm_count: 132,
            shared_per_block: 48 << 10,
            shared_per_block_optin: 227 << 10,
            shared_per_sm: 228 << 10,
            registers_per_sm: 64 << 10,
            max_threads_per_sm: 2048,
            max_threads_per_block: 1024,
            max_grid_x: i32::MAX as u32,
            clock_khz: 1_980_000,
        }
    }

    /// Compute capability as (major, minor), which compares as capabilities do.
    pub const fn version(&self) -> (u32, u32) {
        (self.major, self.minor)
    }

    /// Returns whether the device runs modules of `arch`.
    pub fn runs(&self, arch: Arch) -> bool {
        arch.runs_on(self.version())
    }

    /// Multiply-adds of 16-bit numbers per clock that the tensor cores of one SM do for kernels of
    /// `arch`, as far as the best programs get: of an H200's 2048 1511 (790 TFLOP/s) by `wgmma` and
    /// 63% of that by `mma.sync`.
    pub fn tensor_rate(&self, arch: Arch) -> f64 {
        match (self.major, self.minor, arch) {
            (9, 0, Arch::Sm90a) => 1511.0,
            (9, _, _) | (10, _, _) => 952.0,
            (8, 0, _) => 1024.0,
            // 7.5, and the 8.x and 12.x of graphics cards.
            _ => 512.0,
        }
    }

    /// FP32 lanes per SM: fused multiply-adds per clock.
    pub(crate) const fn fp32_lanes(&self) -> u32 {
        match (self.major, self.minor) {
            (..=7, _) | (8, 0) => 64,
            _ => 128,
        }
    }

    /// Peak rate of FP32 fused multiply-adds, a multiply-add counted as two operations, in
    /// operations per second.
    pub fn fp32_peak(&self) -> f64 {
        2.0 * f64::from(self.fp32_lanes())
            * f64::from(self.sm_count)
            * f64::from(self.clock_khz)
            * 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiers_follow_the_capability() {
        assert!(Capability::sm75().runs(Arch::Sm75));
        assert!(!Capability::sm75().runs(Arch::Sm80));
        assert!(Capability::sm80().runs(Arch::Sm80));
        assert!(Capability::h200().runs(Arch::Sm75));
        assert!(Capability::h200().runs(Arch::Sm80));
        assert!(Capability::h200().runs(Arch::Sm90a));
        let newer = Capability {
            major: 10,
            ..Capability::h200()
        };
        assert!(newer.runs(Arch::Sm80));
        for device in [Capability::sm75(), Capability::sm80(), newer] {
            assert!(!device.runs(Arch::Sm90a));
        }
        let turing_never = Capability {
            major: 7,
            minor: 0,
            ..Capability::sm75()
        };
        assert!(!turing_never.runs(Arch::Sm75));
    }

    #[test]
    fn tensor_rates_are_those_of_the_best_programs() {
        let peak = |device: Capability, arch| {
            let clock = f64::from(device.clock_khz) * 1e3;
            2.0 * device.tensor_rate(arch) * f64::from(device.sm_count) * clock / 1e12
        };
        for (device, arch, tflops) in [
            (Capability::h200(), Arch::Sm90a, 790.0),
            (Capability::h200(), Arch::Sm80, 0.63 * 790.0),
            (Capability::sm80(), Arch::Sm80, 312.0),
            (Capability::sm75(), Arch::Sm75, 65.0),
        ] {
            let ratio = peak(device, arch) / tflops;
            assert!((ratio - 1.0).abs() < 0.01, "{tflops}: {ratio}");
        }
    }

    #[test]
    fn peaks_are_the_published_ones() {
        // T4 8.1, A100 19.5, H200 67 TFLOP/s.
        assert!((Capability::sm75().fp32_peak() / 8.1e12 - 1.0).abs() < 0.01);
        assert!((Capability::sm80().fp32_peak() / 19.5e12 - 1.0).abs() < 0.01);
        assert!((Capability::h200().fp32_peak() / 67e12 - 1.0).abs() < 0.01);
    }
}
