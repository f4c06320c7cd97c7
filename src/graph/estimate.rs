//! Estimate of a graph.

use super::fuse::{FuseOptions, Refused};
use super::{Graph, Node, Step};
use crate::error::Error;
use crate::kernels::KernelId;
use crate::plan::{Capability, LAUNCH_US, Operation, Plan};
use crate::problem::TensorDesc;

/// Estimate of a graph's launches on a device, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphEstimate {
    /// The model's time in microseconds: of every plan, and [`LAUNCH_US`] between two. It ranks,
    /// and is no prediction to quote.
    pub us: f64,
    /// Kernels that are launched, those that bring filters into order among them.
    pub launches: u32,
    /// Bytes that they move at least.
    pub bytes: u64,
}

impl Graph {
    /// Plans every launch for the device, and adds up what the plans say. Pure: no device is
    /// touched.
    ///
    /// # Errors
    /// [`Error::NoKernel`] if no kernel takes one of the launches.
    pub fn estimate(&self, device: &Capability) -> Result<GraphEstimate, Error> {
        FuseOptions::new(device).estimate(self.nodes())
    }

    /// As [`Graph::estimate`] with these options; the error has the reason of each kernel.
    ///
    /// # Errors
    /// [`Refused`] if no kernel accepts one of the launches.
    pub fn planned(&self, options: &FuseOptions<'_>) -> Result<GraphEstimate, Refused> {
        let (estimate, _) = options.plan(self.nodes())?;
        Ok(estimate)
    }
}

/// Plan of a node, as far as an estimate needs it.
struct Planned {
    us: f64,
    launches: u32,
    kernel: KernelId,
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
        let planned = planned.collect::<Result<Vec<Planned>, Error>>()?;
        Ok(total(nodes, &planned))
    }

    /// The same with the kernels; the error has the reason of each kernel.
    pub(super) fn plan(&self, nodes: &[Node]) -> Result<(GraphEstimate, Vec<KernelId>), Refused> {
        let mut planned = Vec::with_capacity(nodes.len());
        for node in nodes {
            let plan = self.step(&node.step);
            planned.push(plan.map_err(|_| self.refused(node))?);
        }
        let kernels = planned.iter().map(|one| one.kernel).collect();
        Ok((total(nodes, &planned), kernels))
    }

    fn step(&self, step: &Step) -> Result<Planned, Error> {
        match step {
            Step::Conv(conv) => {
                let plan = self.one(conv)?;
                Ok(planned(&plan, plan.launches()))
            }
            Step::Branches(branches) => {
                let plan = self.one(&**branches)?;
                Ok(planned(&plan, plan.launches()))
            }
            Step::Bottleneck(bottleneck) => self.single(bottleneck),
            Step::Pool(pool) => self.single(pool),
            Step::Relu(relu) => self.single(relu),
            Step::Lrn(lrn) => self.single(lrn),
            Step::Softmax(softmax) => self.single(softmax),
            Step::Tanh(tanh) => self.single(tanh),
            Step::Subsample(subsample) => self.single(subsample),
        }
    }

    /// The plan of an operation, without a record in the log: it may not be taken.
    fn one<P: Operation>(&self, problem: &P) -> Result<Plan<P>, Error> {
        Plan::unlogged(problem, self.capability, &self.limits, self.tuning)
    }

    /// An operation of one kernel.
    fn single<P: Operation>(&self, problem: &P) -> Result<Planned, Error> {
        let plan = self.one(problem)?;
        Ok(planned(&plan, u32::from(plan.grid() > 0)))
    }

    /// Reasons of all kernels against a node that none accepts.
    fn refused(&self, node: &Node) -> Refused {
        let kernels = match &node.step {
            Step::Conv(conv) => self.reasons(conv),
            Step::Branches(branches) => self.reasons(&**branches),
            Step::Bottleneck(bottleneck) => self.reasons(bottleneck),
            Step::Pool(pool) => self.reasons(pool),
            Step::Relu(relu) => self.reasons(relu),
            Step::Lrn(lrn) => self.reasons(lrn),
            Step::Softmax(softmax) => self.reasons(softmax),
            Step::Tanh(tanh) => self.reasons(tanh),
            Step::Subsample(subsample) => self.reasons(subsample),
        };
        let node = node.name.to_string();
        Refused { node, kernels }
    }

    /// The kernels of an operation with their reasons; only those that store the type, if any does.
    fn reasons<P: Operation>(&self, problem: &P) -> Vec<(KernelId, crate::kernels::Refusal)> {
        let output: &TensorDesc = problem.output();
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

fn planned<P: Operation>(plan: &Plan<P>, launches: u32) -> Planned {
    Planned {
        us: plan.score().us,
        launches,
        kernel: plan.kernel_id(),
    }
}
