//! Fusion: nodes of a graph that fewer launches compute.
//!
//! A pattern finds its nodes (`bottleneck.rs`, `branches.rs`) and leaves the choice to
//! [`FusionDecision`], which compares estimates. A new pattern is a file here, a variant of
//! [`Pattern`] and a line in [`Graph::fuse`].

mod bottleneck;
mod branches;
mod decision;

use std::collections::HashMap;

pub use decision::{Alternative, FusionDecision, Pattern, Refused};

use super::{Graph, Node, TensorId};
use crate::error::Error;
use crate::kernels::Limits;
use crate::plan::{Capability, Tuning};

/// Policy of fusion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FusePolicy {
    /// Fuses where the model estimates that it is faster.
    #[default]
    IfFaster,
    /// Fuses wherever a kernel accepts the nodes, for instance to test that kernel.
    Always,
}

impl FusePolicy {
    /// Index of the alternative to take: of equal times the first, that with fewer launches.
    fn choose(self, alternatives: &[Alternative]) -> usize {
        let mut best = None;
        for (index, alternative) in alternatives.iter().enumerate() {
            let Ok(estimate) = &alternative.estimate else {
                continue;
            };
            match best {
                Some(_) if self == FusePolicy::Always => {}
                Some((_, least)) if estimate.us >= least => {}
                _ => best = Some((index, estimate.us)),
            }
        }
        best.map_or(alternatives.len() - 1, |(index, _)| index)
    }
}

/// Options of [`Graph::fuse`]: the device, and what its plans are made with.
#[derive(Clone, Copy, Debug)]
pub struct FuseOptions<'a> {
    /// Capability of the device.
    pub capability: &'a Capability,
    /// Limits of every plan.
    pub limits: Limits,
    /// Measurements, to prefer kernels that were measured.
    pub tuning: Option<&'a Tuning>,
    /// Policy of fusion.
    pub policy: FusePolicy,
    /// The only pattern to fuse; all if `None`.
    pub pattern: Option<Pattern>,
    /// Fuses a pooling only with the convolution behind it, in a launch of their own. By default
    /// they join the convolutions over the same input. An Inception module then takes three
    /// launches instead of two, as [`Inception::fused_in_three`](crate::ops::Inception).
    pub separate_poolings: bool,
}

impl<'a> FuseOptions<'a> {
    /// Options for a device: every pattern, where it is faster, with the default limits.
    pub fn new(capability: &'a Capability) -> FuseOptions<'a> {
        FuseOptions {
            capability,
            limits: Limits::default(),
            tuning: None,
            policy: FusePolicy::IfFaster,
            pattern: None,
            separate_poolings: false,
        }
    }
}

/// Result of [`Graph::fuse`].
#[derive(Clone, Debug, PartialEq)]
pub struct Fusion {
    /// The graph in fewer launches.
    pub graph: Graph,
    /// Order of its weights: the `i`-th of [`Graph::weights`] is number `weights[i]` of the graph
    /// before.
    pub weights: Vec<usize>,
    /// Each decision, in the order of the graph.
    pub decisions: Vec<FusionDecision>,
}

impl Graph {
    /// Puts nodes together that one launch computes: bottlenecks first, then branches. The order of
    /// weights can change; [`Fusion::weights`] has it.
    ///
    /// # Errors
    /// As [`Graph::new`]; none that a valid graph could cause.
    pub fn fuse(&self, options: &FuseOptions<'_>) -> Result<Fusion, Error> {
        let mut fusion = Fusion {
            weights: (0..self.weights().len()).collect(),
            graph: self.clone(),
            decisions: Vec::new(),
        };
        let wanted = |pattern| options.pattern.is_none_or(|only| only == pattern);
        if wanted(Pattern::Bottleneck) {
            let nodes = bottleneck::fuse(fusion.graph.nodes(), options, &mut fusion.decisions);
            fusion.graph = Graph::new(nodes, self.dtype())?;
        }
        if wanted(Pattern::Branches) {
            let (nodes, weights) =
                branches::fuse(fusion.graph.nodes(), options, &mut fusion.decisions);
            fusion.graph = Graph::new(nodes, self.dtype())?;
            fusion.weights = weights;
        }
        Ok(fusion)
    }
}

/// Chooses between graphs of the same operations, those with fewer launches first.
pub(crate) fn choose<const N: usize>(
    pattern: Pattern,
    graphs: [(&'static str, Graph); N],
    options: &FuseOptions<'_>,
) -> (Graph, FusionDecision) {
    let alternatives = graphs
        .each_ref()
        .map(|(name, graph)| (*name, graph.nodes()));
    let decision = FusionDecision::between(pattern, &alternatives, options);
    let taken = graphs.into_iter().nth(decision.taken);
    let (_, graph) = taken.expect("the decision is about these graphs");
    (graph, decision)
}

/// Returns whether `to` is the only launch that reads what `from` writes, and nothing else writes
/// there.
fn only_reader(nodes: &[Node], from: &Node, to: &Node) -> bool {
    let ([place @ TensorId::Intermediate(_)], [read]) = (&from.to[..], &to.from[..]) else {
        return false;
    };
    let readers = nodes.iter().flat_map(Node::reads);
    let writers = nodes.iter().flat_map(Node::writes);
    place == read
        && readers.filter(|(other, _)| other == place).count() == 1
        && writers.filter(|(other, _)| other == place).count() == 1
}

/// Numbers the intermediate tensors that are left, in the order of their writing.
fn renumber(nodes: &mut [Node]) {
    let mut numbers = HashMap::new();
    let mut number = |place: &mut TensorId| {
        if let TensorId::Intermediate(index) = place {
            let next = numbers.len();
            *index = *numbers.entry(*index).or_insert(next);
        }
    };
    for node in nodes {
        let residual = node.residual.iter_mut();
        for place in node.from.iter_mut().chain(&mut node.to).chain(residual) {
            number(place);
        }
    }
}
