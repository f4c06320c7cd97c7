//! Limits of a plan.

use crate::kernels::KernelId;

/// Limits of a plan, and its fixed choices.
///
/// ```
/// use warpconv::plan::{Capability, ConvPlan, Limits};
/// use warpconv::problem::Conv2d;
/// let problem: Conv2d = "mb1ic512ih7oc512kh3ph1+bf16+nhwc+packed".parse()?;
/// let frugal = Limits { workspace: 0, ..Limits::default() };
/// let plan = ConvPlan::within(&problem, &Capability::h200(), &frugal)?;
/// assert_eq!(plan.score().workspace, 0);
/// # Ok::<(), warpconv::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Bytes of workspace at most: counters, packed filters and the partial tiles of split-K.
    pub workspace: u64,
    /// Kernel to take; `None` takes the best one.
    pub kernel: Option<KernelId>,
    /// Split-K to take; `None` takes the best one. Kernels without split-K refuse all but 1.
    pub split_k: Option<u32>,
}

impl Limits {
    /// Default bound of a plan's workspace: 256 MiB.
    pub const WORKSPACE: u64 = 256 << 20;
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            workspace: Limits::WORKSPACE,
            kernel: None,
            split_k: None,
        }
    }
}
