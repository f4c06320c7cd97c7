//! The instruction sets that modules are compiled for.

/// The instruction set that a module was compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Arch {
    /// compute_75: the baseline, no `cp.async`; `mma.sync` for f16.
    Sm75,
    /// compute_80: `cp.async`, `mma.sync` for bf16 and tf32.
    Sm80,
    /// compute_90a: `wgmma`, bulk tensor copies. Runs on compute capability 9.0 and on nothing
    /// else.
    Sm90a,
}

impl Arch {
    /// The lowest compute capability that runs the architecture, as (major, minor).
    pub const fn capability(self) -> (u32, u32) {
        match self {
            Arch::Sm75 => (7, 5),
            Arch::Sm80 => (8, 0),
            Arch::Sm90a => (9, 0),
        }
    }

    /// Returns whether a device of this compute capability, (major, minor), runs the architecture's
    /// modules.
    pub(crate) fn runs_on(self, capability: (u32, u32)) -> bool {
        match self {
            Arch::Sm75 | Arch::Sm80 => capability >= self.capability(),
            // What is specific to an architecture stays with it.
            Arch::Sm90a => capability == self.capability(),
        }
    }

    /// `sm75`, `sm80` or `sm90a`: the suffix of kernel ids.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::Sm75 => "sm75",
            Arch::Sm80 => "sm80",
            Arch::Sm90a => "sm90a",
        }
    }

    /// nvcc's `-arch` for the architecture.
    pub const fn nvcc_arch(self) -> &'static str {
        match self {
            Arch::Sm75 => "compute_75",
            Arch::Sm80 => "compute_80",
            Arch::Sm90a => "compute_90a",
        }
    }
}
