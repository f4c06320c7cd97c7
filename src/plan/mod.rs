//! From a problem and a device's capability to a kernel, its tile and its grid. Pure: nothing here
//! touches a driver.
//!
//! A [`Plan`] is made once and launched as often as needed. Every kernel of the catalog that
//! computes the operation either accepts with a [`Score`] or refuses with a [`Refusal`]. The best
//! score wins.
//!
//! ```
//! use warpconv::plan::{Capability, Plan};
//! use warpconv::problem::Conv2d;
//!
//! let problem = Conv2d::builder().input(1, 252, 56, 56).filters(63).kernel(1, 1).build()?;
//! let plan = Plan::new(&problem, &Capability::h200())?;
//! println!("{plan}");
//! for candidate in plan.refused() {
//!     println!("{}", candidate);
//! }
//! # Ok::<(), warpconv::Error>(())
//! ```
//!
//! # Records
//! Each new plan is a record of the `log` facade: target [`LOG_TARGET`], level debug. It has the
//! kernel, its tile, split-K, the estimate and the main refusals. Any logger prints it, such as
//! env_logger with `RUST_LOG=warpconv::plan=debug`; the command line has one of its own, enabled by
//! `WARPCONV_LOG=plan`. A program without a logger prints nothing.

mod factors;
mod log;
pub(crate) mod refusal_groups;
mod tuning;
mod tuning_file;

use std::cmp::Ordering;
use std::fmt;

pub use factors::Factor;
pub use log::LOG_TARGET;
pub use tuning::{Card, Measure, TunedKernel, Tuning};
pub use tuning_file::{TuningError, TuningReason};

pub use crate::kernels::{
    Bound, Capability, Limits, Operation, PeakRates, Refusal, Roofline, Score, WORKSPACE_ALIGNMENT,
    WORKSPACE_COUNTERS,
};

use self::factors::Factors;
use crate::error::Error;
use crate::kernels::operation::check_entry;
use crate::kernels::{FilterRows, Kernel, KernelId, kernels};
use crate::problem::Conv2d;
use crate::ptx;

/// A kernel with its verdict on a problem.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Index of the kernel in the catalog.
    pub id: KernelId,
    /// Score of the kernel, or the one reason of its refusal.
    pub evaluation: Result<Score, Refusal>,
    /// Factor of the kernel's family that the estimate has been multiplied by, if the plan was made
    /// with a tuning that has one.
    pub factor: Option<Factor>,
}

impl Candidate {
    /// The kernel.
    pub(crate) fn kernel(&self) -> &'static Kernel {
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
            )?,
            Err(refusal) => write!(f, "{refusal}")?,
        }
        match self.factor {
            Some(factor) if self.evaluation.is_ok() => write!(f, " (factor {factor})"),
            _ => Ok(()),
        }
    }
}

/// A problem with the kernel that will compute it: reusable, `Send + Sync`, independent of any
/// device that is open.
///
/// [`Gpu::prepare`](crate::device::Gpu::prepare) and its siblings load the kernel and
/// give what launches it.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan<P> {
    problem: P,
    capability: Capability,
    kernel: KernelId,
    grid: u32,
    score: Score,
    roofline: Roofline,
    candidates: Vec<Candidate>,
    tuned_kernel: Option<TunedKernel>,
}

impl<P: Operation> Plan<P> {
    /// Plans the problem with the kernel of the best score.
    ///
    /// # Errors
    /// [`Error::NoKernel`] with each kernel's reason if every one of them refuses.
    pub fn new(problem: &P, capability: &Capability) -> Result<Plan<P>, Error> {
        Plan::within(problem, capability, &Limits::default())
    }

    /// Plans the problem with the given kernel.
    ///
    /// # Errors
    /// [`Error::KernelRefused`] with the kernel's reason if it is not for the problem,
    /// [`Error::UnknownKernel`] if the catalog has no such kernel.
    pub fn with_kernel(
        problem: &P,
        capability: &Capability,
        kernel: KernelId,
    ) -> Result<Plan<P>, Error> {
        let limits = Limits {
            kernel: Some(kernel),
            ..Limits::default()
        };
        Plan::within(problem, capability, &limits)
    }

    /// Plans the problem within limits.
    ///
    /// # Errors
    /// As [`Plan::with_kernel`] if the limits name a kernel, else as [`Plan::new`].
    pub fn within(problem: &P, capability: &Capability, limits: &Limits) -> Result<Plan<P>, Error> {
        let plan = Plan::unlogged(problem, capability, limits, None)?;
        plan.log_if_enabled();
        Ok(plan)
    }

    /// Emits a record of the plan where a logger takes it.
    fn log_if_enabled(&self) {
        if ::log::log_enabled!(target: LOG_TARGET, ::log::Level::Debug) {
            self.log();
        }
    }

    /// Chooses the kernel, without a record.
    fn choose(
        problem: &P,
        capability: &Capability,
        limits: &Limits,
        factors: Option<&Factors<'_>>,
    ) -> Result<Plan<P>, Error> {
        if let Some(kernel) = limits.kernel {
            let entry = kernels().get(kernel.0).ok_or(Error::UnknownKernel {
                index: kernel.0,
                kernels: kernels().len(),
            })?;
            if let Err(refusal) = evaluate(problem, capability, limits, kernel, entry) {
                return Err(Error::KernelRefused {
                    kernel: entry.name(),
                    refusal,
                });
            }
        }
        let candidates = Plan::ranked(problem, capability, limits, factors);
        let chosen = candidates
            .iter()
            .filter(|c| limits.kernel.is_none_or(|kernel| kernel == c.id))
            .find_map(|c| Some((c.id, c.evaluation.ok()?)));
        match chosen {
            Some((kernel, score)) => Ok(Plan::of(problem, capability, kernel, score, candidates)),
            None => Err(Error::NoKernel {
                problem: problem.describe(),
                refused: candidates
                    .iter()
                    .filter_map(|c| Some((c.kernel().name(), c.evaluation.err()?)))
                    .collect(),
            }),
        }
    }

    /// Plans the problem with the kernel and the split-K factor that were fastest when they were
    /// measured, or within the limits alone: if the problem was not measured, if the limits
    /// themselves name a kernel or a split-K factor, or do not leave that kernel its workspace.
    /// Estimates are multiplied by the factors of the tuning's card, if it has any.
    ///
    /// # Errors
    /// As [`Plan::within`].
    pub fn tuned(
        problem: &P,
        capability: &Capability,
        limits: &Limits,
        tuning: &Tuning,
    ) -> Result<Plan<P>, Error> {
        let plan = Plan::unlogged(problem, capability, limits, Some(tuning))?;
        plan.log_if_enabled();
        Ok(plan)
    }

    /// [`Plan::tuned`], or [`Plan::within`] without a tuning, without a record in the log.
    pub(crate) fn unlogged(
        problem: &P,
        capability: &Capability,
        limits: &Limits,
        tuning: Option<&Tuning>,
    ) -> Result<Plan<P>, Error> {
        let Some(tuning) = tuning else {
            return Plan::choose(problem, capability, limits, None);
        };
        let factors = tuning.factors();
        let free = limits.kernel.is_none() && limits.split_k.is_none();
        if let Some(tuned_kernel) = tuning.tuned_kernel(&problem.describe()).filter(|_| free) {
            let named = Limits {
                kernel: Some(tuned_kernel.kernel),
                split_k: Some(tuned_kernel.split_k),
                ..*limits
            };
            if let Ok(plan) = Plan::choose(problem, capability, &named, Some(&factors)) {
                return Ok(Plan {
                    tuned_kernel: Some(tuned_kernel),
                    // As without a measurement.
                    candidates: Plan::ranked(problem, capability, limits, Some(&factors)),
                    ..plan
                });
            }
        }
        Plan::choose(problem, capability, limits, Some(&factors))
    }

    /// Every kernel that computes the operation with its verdict: those that accept, best first,
    /// then the others in the catalog's order.
    pub fn candidates(problem: &P, capability: &Capability) -> Vec<Candidate> {
        Plan::candidates_within(problem, capability, &Limits::default())
    }

    /// [`Plan::candidates`] within limits; a kernel that they name is one of many here.
    pub(crate) fn candidates_within(
        problem: &P,
        capability: &Capability,
        limits: &Limits,
    ) -> Vec<Candidate> {
        Plan::ranked(problem, capability, limits, None)
    }

    /// [`Plan::candidates_within`], with estimates multiplied by the factors, if there are any.
    fn ranked(
        problem: &P,
        capability: &Capability,
        limits: &Limits,
        factors: Option<&Factors<'_>>,
    ) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = kernels()
            .iter()
            .enumerate()
            .filter(|(_, entry)| P::computed_by(entry.algorithm))
            .map(|(index, entry)| {
                let id = KernelId(index);
                let factor = factors.and_then(|factors| factors.of(entry.algorithm));
                let mut evaluation = evaluate(problem, capability, limits, id, entry);
                if let (Ok(score), Some(factor)) = (&mut evaluation, factor) {
                    score.us *= factor.value();
                }
                Candidate {
                    id,
                    evaluation,
                    factor,
                }
            })
            .collect();
        // Stable, so that of two equals the catalog's first is taken.
        all.sort_by(|a, b| {
            let us = |c: &Candidate| c.evaluation.map_or(f64::INFINITY, |score| score.us);
            let vector = |c: &Candidate| c.kernel().vector;
            us(a)
                .total_cmp(&us(b))
                .then_with(|| match (a.evaluation, b.evaluation) {
                    (Ok(_), Ok(_)) => vector(b).cmp(&vector(a)),
                    _ => Ordering::Equal,
                })
        });
        all
    }

    fn of(
        problem: &P,
        capability: &Capability,
        kernel: KernelId,
        score: Score,
        candidates: Vec<Candidate>,
    ) -> Plan<P> {
        Plan {
            problem: problem.clone(),
            capability: *capability,
            kernel,
            // `evaluate` has refused what the device's grid, at most 2^31 - 1, does not hold.
            grid: score.blocks as u32,
            score,
            roofline: bound(problem),
            candidates,
            tuned_kernel: None,
        }
    }

    /// The problem.
    pub fn problem(&self) -> &P {
        &self.problem
    }

    /// The capability that the plan was made for.
    pub(crate) fn capability(&self) -> &Capability {
        &self.capability
    }

    /// The kernel chosen.
    pub fn kernel(&self) -> &'static Kernel {
        self.kernel.kernel()
    }

    /// Index of the kernel in the catalog.
    pub fn kernel_id(&self) -> KernelId {
        self.kernel
    }

    /// Blocks of the launch, along x, with buffers that are aligned to 16 bytes (others can take
    /// more); 0 if there is nothing to compute and nothing will be launched.
    pub fn grid(&self) -> u32 {
        self.grid
    }

    /// Shared memory per block, in bytes.
    pub fn shared_bytes(&self) -> u32 {
        ptx::shared_bytes(self.kernel)
    }

    /// The figures by which the kernel was ranked.
    pub fn score(&self) -> &Score {
        &self.score
    }

    /// The measurement to which the plan owes its kernel, if [`Plan::tuned`] found one.
    pub fn tuned_kernel(&self) -> Option<TunedKernel> {
        self.tuned_kernel
    }

    /// Factor that the kernel's estimate has been multiplied by, if [`Plan::tuned`] found one.
    #[doc(hidden)]
    pub fn factor(&self) -> Option<Factor> {
        let own = self.candidates.iter().find(|c| c.id == self.kernel);
        own.and_then(|candidate| candidate.factor)
    }

    /// The kernels that accept the problem, best first, the chosen one among them.
    pub fn accepted(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates
            .iter()
            .filter(|candidate| candidate.evaluation.is_ok())
    }

    /// The kernels that refused the problem, each with its reason.
    pub fn refused(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates
            .iter()
            .filter(|candidate| candidate.evaluation.is_err())
    }

    /// The least time that the problem can take on an H200: on its tensor cores where type and mode
    /// are theirs, else on its CUDA cores.
    pub fn roofline(&self) -> Roofline {
        self.roofline
    }
}

impl<P: Operation> fmt::Display for Plan<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kernel = self.kernel.kernel();
        writeln!(f, "kernel   {}", kernel.name())?;
        writeln!(
            f,
            "tile     {} x {} x {}",
            kernel.tile_m, kernel.tile_n, kernel.tile_k
        )?;
        writeln!(
            f,
            "grid     {} blocks of {} threads",
            self.grid, kernel.threads
        )?;
        writeln!(f, "shared   {} bytes per block", self.shared_bytes())?;
        if let Some(factor) = self.factor() {
            writeln!(f, "factor   {factor}")?;
        }
        write!(f, "roofline {} (H200)", self.roofline)
    }
}

/// The bound of the problem on an H200.
fn bound<P: Operation>(problem: &P) -> Roofline {
    let (macs, bytes) = (problem.macs(), problem.min_bytes());
    problem.peak_rates().bound(macs, bytes)
}

/// Evaluates one kernel for a problem.
fn evaluate<P: Operation>(
    problem: &P,
    device: &Capability,
    limits: &Limits,
    id: KernelId,
    kernel: &Kernel,
) -> Result<Score, Refusal> {
    check_entry(problem, kernel, device)?;
    problem.accepts(kernel)?;
    if limits.excluded.contains(&id) {
        return Err(Refusal::Excluded);
    }
    let needs = ptx::shared_bytes(id);
    // The size of a launch may go beyond what a module may declare.
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

/// Layout of a plan's workspace, in bytes from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkspaceParts {
    /// The packed filters, behind the counters.
    pub filter: u64,
    /// Partial tiles, behind the packed filters.
    pub partials: u64,
}

impl<P: Operation> Plan<P> {
    /// Returns whether a launch packs the filters first, by a kernel of its own. To pack once
    /// instead of every time, see [`FilterLayout::Packed`](crate::problem::FilterLayout::Packed).
    pub(crate) fn packs_filter(&self) -> bool {
        self.grid() > 0 && self.problem().packs_filter(self.kernel())
    }

    /// Split-K: blocks per output tile; 1 if each block has tiles of its own. Of
    /// [`Branches`](crate::problem::Branches) that of the product with the longest gemm_k. The
    /// other products take as much as keeps their partial sums no longer.
    pub(crate) fn split_k(&self) -> u32 {
        self.score().split_k
    }

    /// Kernels that a launch runs: 0 if there is nothing to compute, 2 if it packs the filters.
    pub fn launches(&self) -> u32 {
        u32::from(self.grid() > 0) + u32::from(self.packs_filter())
    }

    /// Bytes of the [`Workspace`](crate::launch::Workspace) that a launch needs; 0 if it needs
    /// none.
    pub fn workspace_bytes(&self) -> u64 {
        self.score().workspace
    }
}

impl Plan<Conv2d> {
    /// Layout of the workspace, as [`Plan::workspace_bytes`] counts it.
    pub(crate) fn workspace_parts(&self) -> WorkspaceParts {
        let packed = match self.packs_filter() {
            true => FilterRows::of(self.problem(), self.kernel()).bytes(self.problem()),
            false => 0,
        };
        WorkspaceParts {
            filter: WORKSPACE_COUNTERS,
            partials: (WORKSPACE_COUNTERS + packed).next_multiple_of(WORKSPACE_ALIGNMENT),
        }
    }
}
