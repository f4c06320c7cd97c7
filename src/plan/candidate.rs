//! Evaluation of one kernel: whether it accepts the problem and runs on the device, and its score.

use std::fmt;

use super::{Capability, Limits, Operation, Refusal, Roofline, Score};
use crate::kernels::operation::check_entry;
use crate::kernels::{Kernel, KernelId};
use crate::ptx;

/// A kernel with its verdict on a problem.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Index of the kernel in the catalog.
    pub id: KernelId,
    /// Score of the kernel, or the one reason of its refusal.
    pub evaluation: Result<Score, Refusal>,
}

impl Candidate {
    /// The kernel.
    pub fn kernel(&self) -> &'static Kernel {
        self.id.kernel()
    }
}

impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.kernel().name())?;
        match &self.evaluation {
            Ok(score) => write!(
                f,
                "accepts, {} blocks, {} per SM, tile efficiency {:.1}%, estimate {:.2} us",
                score.blocks,
                score.blocks_per_sm,
                score.tile_efficiency * 100.0,
                score.us
            ),
            Err(refusal) => write!(f, "{refusal}"),
        }
    }
}

/// The bound of the problem on an H200.
pub(super) fn bound<P: Operation>(problem: &P) -> Roofline {
    let (macs, bytes) = (problem.macs(), problem.min_bytes());
    problem.peak_rates().bound(macs, bytes)
}

/// Evaluates one kernel for a problem.
pub(super) fn evaluate<P: Operation>(
    problem: &P,
    device: &Capability,
    limits: &Limits,
    id: KernelId,
    kernel: &Kernel,
) -> Result<Score, Refusal> {
    check_entry(problem, kernel, device)?;
    problem.accepts(kernel)?;
    let needs = ptx::shared_bytes(id);
    // What a launch asks for may go beyond what a module may declare.
    let has = match kernel.dynamic_shared() {
        0 => device.shared_per_block,
        _ => device.shared_per_block_optin,
    };
    if needs > has {
        return Err(Refusal::SharedMemory { needs, has });
    }
    if kernel.threads > device.max_threads_per_block {
        return Err(Refusal::Threads {
            needs: kernel.threads,
            has: device.max_threads_per_block,
        });
    }
    if problem.is_empty() {
        return Ok(Score::EMPTY);
    }
    problem.estimate(kernel, device, &bound(problem), limits)
}
