//! Estimate of a graph.

use super::fuse::{FuseOptions, Refused};
use super::{Graph, Node, Step};
use crate::error::Error;
use crate::kernels::{KernelId, LAUNCH_US, Limits, Refusal};
use crate::plan::{Candidate, Capability, Operation, Plan};

/// Estimate of a graph's launches on a device, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphEstimate {
    /// The model's time in microseconds: of every plan, and `LAUNCH_US` between two. It ranks,
    /// and is no prediction to quote.
    pub us: f64,
    /// Kernels that are launched, those that bring filters into order among them.
    pub launches: u32,
    /// Bytes that they move at least.
    pub bytes: u64,
}

impl Graph {
    /// Plans every launch for the device of the options, and adds up the estimates of the plans.
    /// Pure: no device is touched.
    ///
    /// # Errors
    /// [`Refused`], with the reason of each kernel, if none accepts one of the launches.
    pub fn estimate(&self, options: &FuseOptions<'_>) -> Result<GraphEstimate, Refused> {
        let (estimate, _) = options.plan(self.nodes())?;
        Ok(estimate)
    }
}

impl Step {
    /// Every kernel that computes the operation with its verdict, as
    /// `Plan::candidates`: those that accept, best first, then the others.
    pub fn candidates_within(&self, device: &Capability, limits: &Limits) -> Vec<Candidate> {
        match self {
            Step::Conv(conv) => Plan::candidates_within(conv, device, limits),
            Step::Branches(branches) => Plan::candidates_within(&**branches, device, limits),
            Step::Bottleneck(bottleneck) => Plan::candidates_within(bottleneck, device, limits),
            Step::Pool(pool) => Plan::candidates_within(pool, device, limits),
            Step::Relu(relu) => Plan::candidates_within(relu, device, limits),
            Step::Lrn(lrn) => Plan::candidates_within(lrn, device, limits),
            Step::Softmax(softmax) => Plan::candidates_within(softmax, device, limits),
            Step::Tanh(tanh) => Plan::candidates_within(tanh, device, limits),
            Step::Subsample(subsample) => Plan::candidates_within(subsample, device, limits),
        }
    }
}

/// Plan of a node, as far as an estimate needs it.
struct Planned {
    us: f64,
    launches: u32,
    kernel: KernelId,
}

/// An operation without a plan: the error, and the reason of each kernel.
struct Failure {
    error: Box<Error>,
    kernels: Vec<(KernelId, Refusal)>,
}

fn total(nodes: &[Node], planned: &[Planned]) -> GraphEstimate {
    let gaps = LAUNCH_US * nodes.len().saturating_sub(1) as f64;
    GraphEstimate {
        us: gaps + planned.iter().map(|one| one.us).sum::<f64>(),
        launches: planned.iter().map(|one| one.launches).sum(),
        bytes: nodes
            .iter()
            .map(Node::min_bytes)
            .fold(0, u64::saturating_add),
    }
}

impl FuseOptions<'_> {
    /// Estimate of nodes that are launched one after the other.
    pub(crate) fn estimate(&self, nodes: &[Node]) -> Result<GraphEstimate, Error> {
        let planned = nodes.iter().map(|node| self.step(&node.step));
        let planned = planned.collect::<Result<Vec<Planned>, Failure>>();
        Ok(total(nodes, &planned.map_err(|failure| *failure.error)?))
    }

    /// The same with the kernels; the error has the reason of each kernel.
    pub(super) fn plan(&self, nodes: &[Node]) -> Result<(GraphEstimate, Vec<KernelId>), Refused> {
        let mut planned = Vec::with_capacity(nodes.len());
        for node in nodes {
            planned.push(self.step(&node.step).map_err(|failure| Refused {
                node: node.name.to_string(),
                kernels: failure.kernels,
            })?);
        }
        let kernels = planned.iter().map(|one| one.kernel).collect();
        Ok((total(nodes, &planned), kernels))
    }

    fn step(&self, step: &Step) -> Result<Planned, Failure> {
        match step {
            Step::Conv(conv) => self.operation(conv, Plan::launches),
            Step::Branches(branches) => self.operation(&**branches, Plan::launches),
            Step::Bottleneck(bottleneck) => self.operation(bottleneck, one_kernel),
            Step::Pool(pool) => self.operation(pool, one_kernel),
            Step::Relu(relu) => self.operation(relu, one_kernel),
            Step::Lrn(lrn) => self.operation(lrn, one_kernel),
            Step::Softmax(softmax) => self.operation(softmax, one_kernel),
            Step::Tanh(tanh) => self.operation(tanh, one_kernel),
            Step::Subsample(subsample) => self.operation(subsample, one_kernel),
        }
    }

    /// Plans an operation that launches `launches` kernels. The plan leaves no record in the log,
    /// since it may not be taken.
    fn operation<P: Operation>(
        &self,
        problem: &P,
        launches: fn(&Plan<P>) -> u32,
    ) -> Result<Planned, Failure> {
        match Plan::unlogged(problem, self.capability, &self.limits, self.tuning) {
            Ok(plan) => Ok(Planned {
                us: plan.score().us,
                launches: launches(&plan),
                kernel: plan.kernel_id(),
            }),
            Err(error) => Err(Failure {
                error: Box::new(error),
                kernels: self.reasons(problem),
            }),
        }
    }

    /// The kernels of an operation with their reasons; only those that store the type, if any does.
    fn reasons<P: Operation>(&self, problem: &P) -> Vec<(KernelId, Refusal)> {
        let output = problem.output();
        let candidates = Plan::candidates_within(problem, self.capability, &self.limits);
        let mut refused: Vec<_> = candidates
            .into_iter()
            .filter_map(|candidate| Some((candidate.id, candidate.evaluation.err()?)))
            .collect();
        let stores = |id: KernelId| id.kernel().dtype == output.dtype();
        if refused.iter().any(|(id, _)| stores(*id)) {
            refused.retain(|(id, _)| stores(*id));
        }
        refused.sort_by_key(|(id, _)| {
            let kernel = id.kernel();
            (kernel.layout != Some(output.layout()), kernel.vector)
        });
        refused
    }
}

/// Kernels of a plan that has at most one.
fn one_kernel<P: Operation>(plan: &Plan<P>) -> u32 {
    u32::from(plan.grid() > 0)
}
