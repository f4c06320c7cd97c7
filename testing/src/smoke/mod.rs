//! The smoke list: small problems for each kernel that a device runs, found by asking the planner.
//!
//! [`of_kernel`] offers a kernel a few small problems of its operation, cheapest first, and keeps
//! the first that the kernel accepts. Then it offers variants of that problem: each option that the
//! kernel accepts (a residual, split-K, a stride, ...) is a case of its own. So the list follows
//! the catalog and the kernels' acceptance, and nothing of it is stored. [`run`] runs a case.

mod conv;
mod elementwise;
mod fused;
mod pool;
mod run;

use std::fmt;

use warpconv::kernels::{Algorithm, KernelId, kernels};
use warpconv::plan::{Capability, Limits, Operation, Plan};
use warpconv::problem::{
    Bottleneck2d, Branches, Conv2d, DType, Lrn, Pool2d, Relu, Softmax, Subsample, Tanh, TensorDesc,
};

pub use run::{LoadedImage, SmokeError, load, run};

/// First word of the label of a kernel's first problem, which has no options.
const PLAIN: &str = "plain";

/// Small problem for one kernel.
#[derive(Clone, Debug, PartialEq)]
pub struct SmokeCase {
    /// Kernel that runs it.
    pub kernel: KernelId,
    /// Option that the case is there for, such as `residual`; `plain` and its filter for none.
    pub label: String,
    /// Problem of the case.
    pub problem: SmokeProblem,
    /// Split-K; `None` leaves it to the plan.
    pub split_k: Option<u32>,
    /// Elements by which every buffer is shifted from its alignment.
    pub shift: usize,
}

impl SmokeCase {
    /// The limits of the case's plan: its kernel, and its split-K.
    pub fn limits(&self) -> Limits {
        Limits {
            kernel: Some(self.kernel),
            split_k: self.split_k,
            ..Limits::default()
        }
    }
}

/// Problem of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum SmokeProblem {
    /// A convolution.
    Conv(Conv2d),
    /// A pooling.
    Pool(Pool2d),
    /// A whole bottleneck.
    Bottleneck(Bottleneck2d),
    /// Several convolutions of one input in one launch.
    Branches(Branches),
    /// A ReLU.
    Relu(Relu),
    /// A local response normalisation.
    Lrn(Lrn),
    /// A softmax over channels.
    Softmax(Softmax),
    /// A hyperbolic tangent.
    Tanh(Tanh),
    /// A trainable subsampling.
    Subsample(Subsample),
    /// The packing of a convolution's filters.
    PackFilter(Conv2d),
}

impl fmt::Display for SmokeProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SmokeProblem::Conv(conv) => conv.fmt(f),
            SmokeProblem::Pool(pool) => pool.fmt(f),
            SmokeProblem::Bottleneck(bottleneck) => bottleneck.fmt(f),
            SmokeProblem::Branches(branches) => branches.fmt(f),
            SmokeProblem::Relu(relu) => f.write_str(&relu.describe()),
            SmokeProblem::Lrn(lrn) => f.write_str(&lrn.describe()),
            SmokeProblem::Softmax(softmax) => f.write_str(&softmax.describe()),
            SmokeProblem::Tanh(tanh) => f.write_str(&tanh.describe()),
            SmokeProblem::Subsample(subsample) => f.write_str(&subsample.describe()),
            SmokeProblem::PackFilter(conv) => write!(f, "the filters of {conv}"),
        }
    }
}

/// The kernels that a device of this capability runs: it has their architecture, and the shared
/// memory and the threads of their blocks.
pub fn runnable(capability: &Capability) -> impl Iterator<Item = KernelId> {
    let all = kernels().iter().enumerate();
    let runs = all.filter(|(_, kernel)| {
        capability.runs(kernel.arch)
            && kernel.dynamic_shared() <= capability.shared_per_block_optin
            && kernel.threads <= capability.max_threads_per_block
    });
    runs.map(|(index, _)| KernelId(index))
}

/// The cases of every kernel that a device of this capability runs, in the catalog's order.
pub fn list(capability: &Capability) -> Vec<SmokeCase> {
    runnable(capability)
        .flat_map(|kernel| of_kernel(capability, kernel))
        .collect()
}

/// The cases of one kernel; none if the device does not run it.
pub fn of_kernel(capability: &Capability, kernel: KernelId) -> Vec<SmokeCase> {
    let mut cases = Cases {
        capability,
        kernel,
        cases: Vec::new(),
    };
    if runnable(capability).any(|runnable| runnable == kernel) {
        cases.fill();
    }
    cases.cases
}

/// Cases of one kernel that are being collected.
struct Cases<'a> {
    capability: &'a Capability,
    kernel: KernelId,
    cases: Vec<SmokeCase>,
}

impl Cases<'_> {
    /// Adds the cases of the operation that the kernel computes; what computes none packs filters.
    fn fill(&mut self) {
        type Operations = [(fn(Algorithm) -> bool, fn(&mut Cases<'_>)); 9];
        const OPERATIONS: Operations = [
            (Conv2d::computed_by, |cases| conv::fill(cases)),
            (Bottleneck2d::computed_by, |cases| fused::bottlenecks(cases)),
            (Branches::computed_by, |cases| fused::branches(cases)),
            (Pool2d::computed_by, |cases| pool::fill(cases)),
            (Relu::computed_by, |cases| elementwise::relu(cases)),
            (Lrn::computed_by, |cases| elementwise::lrn(cases)),
            (Softmax::computed_by, |cases| elementwise::softmax(cases)),
            (Tanh::computed_by, |cases| elementwise::tanh(cases)),
            (Subsample::computed_by, |cases| {
                elementwise::subsample(cases)
            }),
        ];
        let algorithm = self.kernel.kernel().algorithm;
        let mut all = OPERATIONS.iter();
        match all.find(|(computed_by, _)| computed_by(algorithm)) {
            Some((_, fill)) => fill(self),
            None => elementwise::pack_filter(self),
        }
    }

    /// Returns whether the kernel accepts the problem with this split-K.
    fn accepts<P: Operation>(&self, problem: &P, split_k: Option<u32>) -> bool {
        let limits = Limits {
            kernel: Some(self.kernel),
            split_k,
            ..Limits::default()
        };
        Plan::within(problem, self.capability, &limits).is_ok()
    }

    /// Adds a case, unless the problem could not be built, the kernel refuses it, or the same is
    /// there already. Returns whether it was added.
    fn offer<P: Operation>(
        &mut self,
        label: &str,
        problem: Option<P>,
        wrap: impl FnOnce(P) -> SmokeProblem,
    ) -> bool {
        self.offer_with(label, problem, [None, None], wrap)
    }

    /// [`Cases::offer`] with a split-K and a shift.
    fn offer_with<P: Operation>(
        &mut self,
        label: &str,
        problem: Option<P>,
        [split_k, shift]: [Option<u32>; 2],
        wrap: impl FnOnce(P) -> SmokeProblem,
    ) -> bool {
        let Some(problem) = problem.filter(|problem| self.accepts(problem, split_k)) else {
            return false;
        };
        self.push(label, wrap(problem), split_k, shift)
    }

    /// Adds a case that the kernel accepts, unless the same is there already.
    fn push(
        &mut self,
        label: &str,
        problem: SmokeProblem,
        split_k: Option<u32>,
        shift: Option<u32>,
    ) -> bool {
        let case = SmokeCase {
            kernel: self.kernel,
            label: String::from(label),
            problem,
            split_k,
            shift: shift.unwrap_or(0) as usize,
        };
        let same = |other: &SmokeCase| {
            (&other.problem, other.split_k, other.shift)
                == (&case.problem, case.split_k, case.shift)
        };
        if self.cases.iter().any(same) {
            return false;
        }
        self.cases.push(case);
        true
    }
}

/// Dense tensor; `None` where it is not valid.
fn dense(extents: [usize; 4], layout: warpconv::Layout, dtype: DType) -> Option<TensorDesc> {
    TensorDesc::new(extents, layout, dtype).ok()
}

/// Channel counts that are offered, odd ones first: what begins at any element, at multiples of 2,
/// of 4 and of 8 elements, which are the vectors that kernels copy.
const CHANNELS: [usize; 4] = [5, 6, 12, 24];

/// Channels before a slice that keep the alignment of its pixels.
fn before(channels: usize) -> usize {
    1 << channels.trailing_zeros().min(3)
}

#[cfg(test)]
mod tests;
