//! A network ready to be planned: a graph, and the names of its weights.

use warpconv::error::Error;
use warpconv::graph::{FuseOptions, FusionDecision, Graph, Step};
use warpconv::problem::{Conv2d, TensorDesc};

/// One set of filters with its bias, by the names under which files hold them.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// `NAME.weight` and `NAME.bias`.
    pub name: String,
    /// Prefix `NORM` of the batch normalisation to fold into it, if a file holds `NORM.weight`,
    /// `NORM.bias`, `NORM.running_mean` and `NORM.running_var`.
    pub norm: Option<String>,
    /// Constant that the normalisation adds to the variance.
    pub norm_epsilon: f64,
    /// The convolution that uses it.
    pub conv: Conv2d,
    /// The channels that each filter reads, one bit each, if not all: weights of other channels are
    /// zero.
    pub sees: Option<&'static [u16]>,
    /// True if it is trained; fixed patterns are not.
    pub trained: bool,
    /// Index among the network's parameters, in the order of the description. Random weights depend
    /// on it, so they do not change when launches are reordered.
    pub(super) index: u64,
}

impl Parameter {
    /// Its shape: filters, channels of a group, rows, columns.
    pub fn shape(&self) -> [usize; 4] {
        let conv = &self.conv;
        [
            conv.output().c(),
            conv.filter().c,
            conv.filter().r,
            conv.filter().s,
        ]
    }

    /// Number of trained values in it, bias included.
    pub fn count(&self) -> u64 {
        if !self.trained {
            return 0;
        }
        let [_, _, r, s] = self.shape();
        let weights = match self.sees {
            None => self.conv.filter().elements() as u64,
            Some(sees) => {
                let seen: u32 = sees.iter().map(|channels| channels.count_ones()).sum();
                u64::from(seen) * (r * s) as u64
            }
        };
        let bias = if self.conv.bias() {
            self.conv.output().c()
        } else {
            0
        };
        weights + bias as u64
    }

    /// Sets the weights of channels that a filter does not read to zero.
    pub(super) fn mask(&self, w: &mut [f64]) {
        let [_, channels, r, s] = self.shape();
        for (filter, &seen) in w
            .chunks_mut(channels * r * s)
            .zip(self.sees.into_iter().flatten())
        {
            for (channel, taps) in filter.chunks_mut(r * s).enumerate() {
                if seen >> channel & 1 == 0 {
                    taps.fill(0.0);
                }
            }
        }
    }
}

/// A network ready to be planned: a graph, and the names of its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    pub(super) graph: Graph,
    pub(super) parameters: Vec<Parameter>,
    pub(super) output: TensorDesc,
}

impl Network {
    /// The launches. Intermediate tensors have buffers of their own; see
    /// [`Graph::sharing_buffers`].
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// One for each of [`Graph::weights`], in the same order.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The names of the layers whose outputs a launch writes: one per output of its step, in their
    /// order. An unfused launch has its own name only.
    pub fn layers_of(&self, launch: usize) -> Vec<&str> {
        let nodes = self.graph.nodes();
        let Some(node) = nodes.get(launch) else {
            return Vec::new();
        };
        let Step::Branches(_) = node.step else {
            return vec![&node.name];
        };
        let before = nodes[..launch].iter().map(|node| node.step.weights().len());
        let own = self.parameters.iter().skip(before.sum());
        let own = own.take(node.to.len());
        own.map(|parameter| parameter.name.as_str()).collect()
    }

    /// The same network in fewer launches, with each decision: see [`Graph::fuse`]. The parameters
    /// follow the order of the graph's weights.
    ///
    /// # Errors
    /// As [`Graph::fuse`]; none that a valid network could cause.
    pub fn fused(self, options: &FuseOptions<'_>) -> Result<(Network, Vec<FusionDecision>), Error> {
        let fusion = self.graph.fuse(options)?;
        let parameters = fusion.weights.iter();
        let network = Network {
            parameters: parameters
                .map(|&old| self.parameters[old].clone())
                .collect(),
            graph: fusion.graph,
            ..self
        };
        Ok((network, fusion.decisions))
    }

    /// Tensor of the logits.
    pub fn output(&self) -> &TensorDesc {
        &self.output
    }

    /// Number of trained values: filters and biases.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(Parameter::count).sum()
    }
}
