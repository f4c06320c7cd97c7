//! Fuses each bottleneck of a network into one launch.

use super::{FusePolicy, only_reader, renumber};
use crate::Network;
use warpconv::error::Error;
use warpconv::graph::{Graph, Node, Step};
use warpconv::plan::{BottleneckPlan, BottleneckWay, Capability};
use warpconv::problem::{Added, Bottleneck2d, Conv2d, Padding};

impl Network {
    /// Fuses each 1x1, 3x3, 1x1 sequence into one launch if no other launch reads the tensors in
    /// between and `policy` permits it. The weights are the same, in the same order.
    ///
    /// # Errors
    /// As [`Graph::new`]; none that a valid network could cause.
    pub fn with_fused_bottlenecks(
        self,
        capability: &Capability,
        policy: FusePolicy,
    ) -> Result<Network, Error> {
        let nodes = self.graph().nodes();
        let mut fused = Vec::new();
        let mut next = 0;
        while let Some(node) = nodes.get(next) {
            let three = nodes.get(next..next + 3);
            let one = three.and_then(|three| bottleneck(nodes, three));
            let taken = one.filter(|(problem, _)| match policy {
                FusePolicy::IfFaster => {
                    matches!(BottleneckWay::new(problem, capability), Ok(way) if way.is_fused())
                }
                FusePolicy::Always => BottleneckPlan::new(problem, capability).is_ok(),
            });
            match taken {
                Some((_, node)) => {
                    fused.push(node);
                    next += 3;
                }
                None => {
                    fused.push(node.clone());
                    next += 1;
                }
            }
        }
        renumber(&mut fused);
        let graph = Graph::new(fused, self.graph().dtype())?;
        let order: Vec<usize> = (0..self.parameters().len()).collect();
        Ok(self.with_graph(graph, &order))
    }
}

/// Returns three launches as one bottleneck, if they form one.
fn bottleneck(nodes: &[Node], three: &[Node]) -> Option<(Bottleneck2d, Node)> {
    let [reduce, middle, expand] = three else {
        return None;
    };
    let (Step::Conv(first), Step::Conv(second), Step::Conv(third)) =
        (&reduce.step, &middle.step, &expand.step)
    else {
        return None;
    };
    let chained = only_reader(nodes, reduce, middle) && only_reader(nodes, middle, expand);
    let plain = |conv: &Conv2d, size: usize| {
        [conv.r(), conv.s()] == [size, size]
            && conv.padding() == Padding::same(size / 2)
            && conv.groups() == 1
            && conv.dilation() == [1, 1]
    };
    let [stride, other] = second.stride();
    let shaped = plain(first, 1)
        && plain(second, 3)
        && plain(third, 1)
        && first.stride() == [1, 1]
        && third.stride() == [1, 1]
        && stride == other
        && first.relu()
        && second.relu()
        && first.residual().is_none()
        && second.residual().is_none()
        && second.k() == first.k();
    if !chained || !shaped {
        return None;
    }
    let itself =
        expand.residual == reduce.from.first().copied() && third.residual() == Some(first.input());
    let (added, residual) = match expand.residual {
        None => (Added::Nothing, None),
        Some(_) if itself => (Added::Input, None),
        Some(place) => (Added::Tensor, Some(place)),
    };
    let mut problem = Bottleneck2d::builder()
        .input(first.n(), first.c(), first.h(), first.w())
        .mid_channels(first.k())
        .filters(third.k())
        .stride(stride)
        .biases([first.bias(), second.bias(), third.bias()])
        .added(added)
        .relu(third.relu())
        .dtype(first.dtype())
        .layout(first.layout())
        .filter_layout(first.filter_layout())
        .math(first.math())
        .alignment(first.alignment());
    if !first.input().is_dense() {
        let input = first.input();
        problem = problem.input_slice(input.channel_pitch(), input.channel_offset());
    }
    if !third.output().is_dense() {
        let output = third.output();
        problem = problem.output_slice(output.channel_pitch(), output.channel_offset());
    }
    if let Some(desc) = third.residual().filter(|_| added == Added::Tensor)
        && !desc.is_dense()
    {
        problem = problem.residual_slice(desc.channel_pitch(), desc.channel_offset());
    }
    let problem = problem.build().ok()?;
    let node = Node {
        name: expand.name.clone(),
        step: Step::Bottleneck(problem.clone()),
        from: reduce.from.clone(),
        to: expand.to.clone(),
        residual,
    };
    Some((problem, node))
}
