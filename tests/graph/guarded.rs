//! Graphs between guards, with every launch examined: fused, and with a kernel forced on one node.

use warpconv::graph::{FuseOptions, FusePolicy, Graph, Node, Step};
use warpconv::kernels::{DType, Layout};
use warpconv::plan::{Limits, Tuning};
use warpconv::problem::FilterLayout;
use warpconv_testing::{Guards, Operands, integers, run_graph_with_guards};

use crate::common::gpu;
use crate::common::inception::{IMAGE, fuses, module};

/// The graph with packed filters, which kernels of several convolutions need.
fn packed(graph: &Graph) -> Graph {
    let packed = |node: &Node| match &node.step {
        Step::Conv(conv) => {
            let conv = conv.to_builder().filter_layout(FilterLayout::Packed);
            Node {
                step: Step::Conv(conv.build().unwrap()),
                ..node.clone()
            }
        }
        _ => node.clone(),
    };
    Graph::new(graph.nodes().iter().map(packed).collect(), graph.dtype()).unwrap()
}

/// An inception module fused into two and into three launches, between guards: each gives the bits
/// of separate launches, one of which has a forced kernel.
#[test]
fn a_fused_graph_gives_the_bits_of_separate_launches() {
    if !fuses() {
        return;
    }
    let (gpu, widths) = (gpu(), [32, 16, 24, 40, 8, 16, 8]);
    let job = module(widths, 2, IMAGE, DType::Bf16, Layout::Nhwc);
    let separate = packed(&job.separate().unwrap());
    let options = FuseOptions {
        policy: FusePolicy::Always,
        ..FuseOptions::new(gpu.capability())
    };
    let separate_poolings = FuseOptions {
        separate_poolings: true,
        ..options
    };
    let guards = Guards {
        bytes: 512,
        shift: 0,
    };
    let x = integers(separate.input().unwrap().elements(), 2, 1);
    let operands = |graph: &Graph, order: &[usize]| -> Vec<Operands> {
        let each = graph.weights().into_iter().zip(order);
        each.map(|(conv, &seed)| Operands {
            w: integers(conv.filter().elements(), 1, 10 + seed as u64),
            bias: Some(integers(conv.output().c(), 3, 50 + seed as u64)),
        })
        .collect()
    };
    let mut outputs = Vec::new();
    for (options, launches) in [(options, 2), (separate_poolings, 3)] {
        let fusion = separate.fuse(&options).unwrap();
        assert_eq!(fusion.graph.launches(), launches);
        let branches = |node: &Node| matches!(node.step, Step::Branches(_));
        assert!(fusion.graph.nodes().iter().all(branches));
        let prepared = fusion.graph.prepare(gpu).unwrap();
        let operands = operands(&fusion.graph, &fusion.weights);
        outputs.push(run_graph_with_guards(gpu, &prepared, guards, &x, &operands).unwrap());
    }
    // A kernel of one node only: the others keep their plans'.
    let order: Vec<usize> = (0..separate.weights().len()).collect();
    let first = &separate.nodes()[0];
    let candidates = first
        .step
        .candidates_within(gpu.capability(), &Limits::default());
    let mut accepted = candidates.iter().filter(|one| one.evaluation.is_ok());
    let last = accepted.next_back().unwrap();
    let limits = |node: &Node| Limits {
        kernel: (node == first).then_some(last.id),
        ..Limits::default()
    };
    let prepared = separate
        .prepare_each(gpu, &Tuning::new(gpu.card()), limits)
        .unwrap();
    let kernels: Vec<_> = prepared.kernels().map(|(kernel, _)| kernel).collect();
    let planned = separate.prepare(gpu).unwrap();
    let planned: Vec<_> = planned.kernels().map(|(kernel, _)| kernel).collect();
    assert_eq!(kernels[0], last.id.kernel());
    assert_ne!(kernels[0], planned[0]);
    assert_eq!(kernels[1..], planned[1..]);
    let want = run_graph_with_guards(gpu, &prepared, guards, &x, &operands(&separate, &order));
    let want = want.unwrap();
    assert!(outputs.iter().all(|got| *got == want));
}
