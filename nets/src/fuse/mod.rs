//! Fuses launches of a network: bottlenecks, and branches that share an input.

mod bottleneck;
mod branches;

use std::collections::HashMap;

use super::network::Network;
use warpconv::error::Error;
use warpconv::graph::{Node, TensorId};
use warpconv::plan::Capability;

/// Policy of fusing a network's launches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FusePolicy {
    /// Fuses launches that one kernel accepts and that the model ranks before separate ones.
    IfFaster,
    /// Fuses all launches that one kernel accepts, for example to check those kernels.
    Always,
}

impl Network {
    /// The same network in fewer launches: [`Network::with_fused_bottlenecks`], then
    /// [`Network::with_fused_branches`].
    ///
    /// # Errors
    /// As [`Graph::new`](warpconv::graph::Graph::new); none that a valid network could cause.
    pub fn fused(self, capability: &Capability, policy: FusePolicy) -> Result<Network, Error> {
        self.with_fused_bottlenecks(capability, policy)?
            .with_fused_branches(capability, policy)
    }
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

/// Renumbers the remaining intermediate tensors in the order in which they are written.
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
