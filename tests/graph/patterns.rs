//! The patterns of `Graph::fuse`, each on a small graph: the nodes that become one, those that
//! stay, and the fused graph against the reference.

use warpconv::graph::{FuseOptions, FusePolicy, Graph, Node, Pattern, Step, TensorId};
use warpconv::kernels::{DType, Layout};
use warpconv::problem::{Conv2d, Padding};
use warpconv_testing::GraphOnDevice;

use crate::common::gpu;

/// A graph as a user writes it, through [`Graph::fuse`]: three convolutions become one step, and a
/// layer behind them stays.
#[test]
fn a_bottleneck_of_a_graph_becomes_one_step() {
    let conv = |c: usize, k: usize, size: usize| {
        let builder = Conv2d::builder().input(2, c, 5, 7).filters(k);
        let builder = builder.kernel(size, size).padding(Padding::same(size / 2));
        builder.bias(true).relu(true).layout(Layout::Nhwc).build()
    };
    let sizes = [(24, 8, 1), (8, 8, 3), (8, 24, 1), (24, 12, 3)];
    let last = sizes.len() - 1;
    let nodes = (0..=last).map(|at| {
        let (c, k, size) = sizes[at];
        let from = match at {
            0 => TensorId::Input,
            _ => TensorId::Intermediate(at - 1),
        };
        let to = match at == last {
            true => TensorId::Output,
            false => TensorId::Intermediate(at),
        };
        Node::new(
            at.to_string(),
            Step::Conv(conv(c, k, size).unwrap()),
            from,
            to,
        )
    });
    let graph = Graph::new(nodes.collect(), DType::F32).unwrap();
    let capability = gpu().capability();
    let mut options = FuseOptions::new(capability);
    options.policy = FusePolicy::Always;
    let fusion = graph.fuse(&options).unwrap();
    let patterns: Vec<Pattern> = fusion.decisions.iter().map(|one| one.pattern).collect();
    assert_eq!(patterns, [Pattern::Bottleneck]);
    assert!(fusion.decisions[0].is_fused(), "{:?}", fusion.decisions);
    let [fused, kept] = fusion.graph.nodes() else {
        panic!("{:?}", fusion.graph.nodes());
    };
    assert!(
        matches!(fused.step, Step::Bottleneck(_)),
        "{:?}",
        fused.step
    );
    assert!(matches!(kept.step, Step::Conv(_)), "{:?}", kept.step);
    let count = graph.weights().len();
    assert_eq!(fusion.weights, (0..count).collect::<Vec<_>>());
    let mut loaded = GraphOnDevice::<f32>::new(gpu(), &fusion.graph).unwrap();
    assert_eq!(loaded.launches(), 2);
    loaded.launch().unwrap();
    assert_eq!(loaded.check(u64::MAX).unwrap().failure, None);
}
