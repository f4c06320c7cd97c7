use super::graph::{parse, steps};
use super::lower::{Problem, Shapes, Storage, lower};
use super::report::Steps;
use serde_json::json;
use warpconv::kernels::Math;
use warpconv::problem::FilterLayout;
use warpconv::{DType, Layout};

const STORAGE: Storage = Storage {
    dtype: DType::F32,
    layout: Layout::Nchw,
    filter_layout: FilterLayout::Kcrs,
    math: Math::Strict,
};

#[test]
fn branches_get_their_place_in_the_concat() {
    let graph = parse(&json!([
        {"op": "conv2d", "inputs": ["x", "w_a"], "output": "a", "params": {}},
        {"op": "relu", "inputs": ["a"], "output": "ra", "params": {}},
        {"op": "maxpool2d", "inputs": ["x"], "output": "b",
         "params": {"kernel": [3, 3], "stride": [1, 1], "pad": [1, 1, 1, 1]}},
        {"op": "concat", "inputs": ["ra", "b"], "output": "c", "params": {"axis": 1}},
        {"op": "flatten", "inputs": ["c"], "output": "f", "params": {}},
        {"op": "linear", "inputs": ["f", "w_f", "b_f"], "output": "y", "params": {}},
    ]))
    .expect("a graph");
    let steps = steps(&graph, Steps::Fused);
    let mut shapes: Shapes = [
        ("x", vec![2, 3, 4, 5]),
        ("w_a", vec![7, 3, 1, 1]),
        ("w_f", vec![11, 200]),
        ("b_f", vec![11]),
    ]
    .into_iter()
    .map(|(name, shape)| (name.to_owned(), shape))
    .collect();
    let problems = lower(&steps, &mut shapes, STORAGE).expect("a chain of problems");
    let Problem::Conv(conv) = &problems[0] else {
        panic!("a convolution first")
    };
    assert!(conv.relu());
    assert_eq!(
        (
            conv.output().channel_pitch(),
            conv.output().channel_offset()
        ),
        (10, 0)
    );
    let Problem::Pool(pool) = &problems[1] else {
        panic!("a pool second")
    };
    assert_eq!(
        (
            pool.output().channel_pitch(),
            pool.output().channel_offset()
        ),
        (10, 7)
    );
    let Problem::Conv(linear) = &problems[4] else {
        panic!("a linear layer last")
    };
    assert_eq!(
        (linear.input().c(), linear.output().c(), linear.bias()),
        (200, 11, true)
    );
    assert_eq!(shapes["y"], [2, 11]);
}

#[test]
fn extents_whose_product_overflows_are_refused_in_words() {
    let graph =
        parse(&json!([{"op": "flatten", "inputs": ["x"], "output": "y"}])).expect("a graph");
    let steps = steps(&graph, Steps::Layers);
    // A shape without elements, which a file of a few bytes can declare.
    let mut shapes: Shapes = [("x".to_owned(), vec![0, 1 << 32, 1 << 32])]
        .into_iter()
        .collect();
    let why = lower(&steps, &mut shapes, STORAGE).expect_err("2^64 features");
    assert!(
        why.contains("flatten of `x`") && why.contains("4294967296"),
        "{why}"
    );
}

#[test]
fn shapes_that_do_not_fit_are_refused_in_words() {
    let graph = parse(
        &json!([{"op": "conv2d", "inputs": ["x", "w"], "output": "y", "params": {"groups": 0}}]),
    )
    .expect("a graph");
    let steps = steps(&graph, Steps::Layers);
    for (x, w) in [
        (vec![1, 4, 3, 3], vec![2, 4, 1, 1]),
        (vec![1, 1, 1, 1, 1], vec![2, 4, 1, 1]),
    ] {
        let mut shapes: Shapes = [("x".to_owned(), x), ("w".to_owned(), w)]
            .into_iter()
            .collect();
        assert!(lower(&steps, &mut shapes, STORAGE).is_err());
    }
    assert!(
        lower(&steps, &mut Shapes::new(), STORAGE)
            .expect_err("no x")
            .contains("no tensor `x`")
    );
}
