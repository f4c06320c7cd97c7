//! A network ready to be planned: a module, and what its weights are called.

use warpconv::graph::{Graph, Step};
use warpconv::problem::{Conv2d, TensorDesc};

/// One set of filters with its bias, by the names under which files hold them.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// `NAME.weight` and `NAME.bias`.
    pub name: String,
    /// The batch normalisation to be folded into it, if a file holds `NORM.weight`, `NORM.bias`,
    /// `NORM.running_mean` and `NORM.running_var`.
    pub norm: Option<String>,
    /// Constant that the normalisation adds to the variance.
    pub norm_epsilon: f64,
    /// The convolution that takes it.
    pub conv: Conv2d,
    /// The channels that each filter sees, a bit each, if not all: its other weights are zero.
    pub sees: Option<&'static [u16]>,
    /// True if it is trained; patterns that are set by hand are not.
    pub trained: bool,
    /// Index among the network's parameters, in the order of the description: its random numbers
    /// stay the same in whatever order launches take them.
    pub(super) index: u64,
}

impl Parameter {
    /// Its shape: filters, channels of a group, rows, columns.
    pub fn shape(&self) -> [usize; 4] {
        let conv = &self.conv;
        [conv.k(), conv.group_c(), conv.r(), conv.s()]
    }

    /// Numbers in it that are trained, the bias among them.
    pub fn count(&self) -> u64 {
        if !self.trained {
            return 0;
        }
        let [_, _, r, s] = self.shape();
        let weights = match self.sees {
            None => self.conv.filter_elements() as u64,
            Some(sees) => {
                let seen: u32 = sees.iter().map(|channels| channels.count_ones()).sum();
                u64::from(seen) * (r * s) as u64
            }
        };
        let bias = if self.conv.bias() { self.conv.k() } else { 0 };
        weights + bias as u64
    }

    /// Sets the weights of channels that a filter does not see to zero.
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

/// A network ready to be planned: a module, and what its weights are called.
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

    /// The layers that a launch computes the last of: one for each output of its step, in their
    /// order. A launch by itself has its own name only.
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
        let own = own.take(node.step.outputs().len());
        own.map(|parameter| parameter.name.as_str()).collect()
    }

    /// The same with its launches put together in another way: they take parameter `order[i]` as
    /// their `i`-th.
    pub(super) fn with_graph(self, graph: Graph, order: &[usize]) -> Network {
        let parameters = order.iter().map(|&old| self.parameters[old].clone());
        Network {
            parameters: parameters.collect(),
            graph,
            ..self
        }
    }

    /// The logits.
    pub fn output(&self) -> &TensorDesc {
        &self.output
    }

    /// Numbers that are trained: filters and biases.
    pub fn parameter_count(&self) -> u64 {
        self.parameters.iter().map(Parameter::count).sum()
    }
}
