//! Bottlenecks of a graph by one launch each.

use super::{FuseOptions, FusionDecision, Pattern, only_reader, renumber};
use crate::graph::{Node, Step};
use crate::problem::{Added, Bottleneck2d, Conv2d, Padding};

/// Computes each 1x1, 3x3, 1x1 of which nothing else reads the tensors between by one launch,
/// where that is decided. The weights are the same, in the same order.
pub(super) fn fuse(
    nodes: &[Node],
    options: &FuseOptions<'_>,
    decisions: &mut Vec<FusionDecision>,
) -> Vec<Node> {
    let mut fused = Vec::new();
    let mut next = 0;
    while let Some(node) = nodes.get(next) {
        let three = nodes.get(next..next + 3);
        let found = three.and_then(|three| Some((three, bottleneck(nodes, three)?)));
        let taken = found.and_then(|(three, one)| {
            let alternatives = [
                ("one launch", std::slice::from_ref(&one)),
                ("three launches", three),
            ];
            let decision = FusionDecision::between(Pattern::Bottleneck, &alternatives, options);
            let is_fused = decision.is_fused();
            decisions.push(decision);
            is_fused.then_some(one)
        });
        match taken {
            Some(one) => {
                fused.push(one);
                next += 3;
            }
            None => {
                fused.push(node.clone());
                next += 1;
            }
        }
    }
    renumber(&mut fused);
    fused
}

/// Three launches as one, if they are a bottleneck.
fn bottleneck(nodes: &[Node], three: &[Node]) -> Option<Node> {
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
        .bias([first.bias(), second.bias(), third.bias()])
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
    Some(Node {
        name: expand.name.clone(),
        step: Step::Bottleneck(problem.build().ok()?),
        from: reduce.from.clone(),
        to: expand.to.clone(),
        residual,
    })
}
