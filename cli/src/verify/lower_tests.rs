use super::layers::{one_per_layer, parse, with_epilogues};
use super::lower::{Shapes, Storage, lower};
use super::network::network;
use super::report::Steps;
use serde_json::{Value, json};
use warpconv::graph::{Node, Step};
use warpconv::kernels::Math;
use warpconv::plan::Capability;
use warpconv::problem::FilterLayout;
use warpconv::{DType, Layout};
use warpconv_nets::Network;

const STORAGE: Storage = Storage {
    dtype: DType::F32,
    layout: Layout::Nchw,
    filter_layout: FilterLayout::Kcrs,
    math: Math::Strict,
};

/// The graph of layers in a cut, for NVIDIA's H200.
fn cut(
    layers: &Value,
    tensors: &[(&str, &[usize])],
    storage: Storage,
    cut: Steps,
) -> Option<Network> {
    let launches = with_epilogues(&parse(layers).expect("layers"));
    let shapes = tensors.iter();
    let shapes = shapes.map(|(name, shape)| ((*name).to_owned(), shape.to_vec()));
    let mut shapes: Shapes = shapes.collect();
    lower(&launches, &mut shapes, storage).expect("a chain of problems");
    network(&launches, &shapes, storage, cut, &Capability::h200())
}

/// Number of launches of each cut; `None` where there is no graph.
fn launches(layers: &Value, tensors: &[(&str, &[usize])]) -> [Option<usize>; 3] {
    let storage = Storage {
        dtype: DType::Bf16,
        layout: Layout::Nhwc,
        filter_layout: FilterLayout::Packed,
        math: Math::Strict,
    };
    [Steps::Fused, Steps::Modules, Steps::InThree].map(|steps| {
        let network = cut(layers, tensors, storage, steps)?;
        Some(network.graph().launches())
    })
}

fn conv(inputs: &[&str], output: &str, pad: usize) -> Value {
    json!({"op": "conv2d", "inputs": inputs, "output": output,
           "params": {"pad": [pad, pad, pad, pad]}})
}

fn relu(input: &str, output: &str) -> Value {
    json!({"op": "relu", "inputs": [input], "output": output})
}

#[test]
fn branches_get_their_place_in_the_concat() {
    let layers = json!([
        conv(&["x", "w_a"], "a", 0),
        relu("a", "ra"),
        {"op": "maxpool2d", "inputs": ["x"], "output": "b",
         "params": {"kernel": [3, 3], "stride": [1, 1], "pad": [1, 1, 1, 1]}},
        {"op": "concat", "inputs": ["ra", "b"], "output": "c", "params": {"axis": 1}},
        {"op": "flatten", "inputs": ["c"], "output": "f", "params": {}},
        {"op": "linear", "inputs": ["f", "w_f", "b_f"], "output": "y", "params": {}},
    ]);
    let tensors: [(&str, &[usize]); 4] = [
        ("x", &[2, 3, 4, 5]),
        ("w_a", &[7, 3, 1, 1]),
        ("w_f", &[11, 200]),
        ("b_f", &[11]),
    ];
    let network = cut(&layers, &tensors, STORAGE, Steps::Fused).expect("a graph");
    let [first, pool, linear] = network.graph().nodes() else {
        panic!("{:?}", network.graph())
    };
    let placed = |node: &Node, pitch, offset| {
        let (_, desc) = node.writes().next().expect("an output");
        assert_eq!(
            (desc.channel_pitch(), desc.channel_offset()),
            (pitch, offset)
        );
    };
    placed(first, 10, 0);
    placed(pool, 10, 7);
    assert!(matches!(&first.step, Step::Conv(conv) if conv.relu() && !conv.bias()));
    // Behind a flattening the filters are as large as the image.
    let Step::Conv(conv) = &linear.step else {
        panic!("{linear:?}")
    };
    let filter = conv.filter();
    assert_eq!([filter.k, filter.c, filter.r, filter.s], [11, 10, 4, 5]);
    let names: Vec<&str> = network.parameters().iter().map(|p| &p.name[..]).collect();
    assert_eq!(names, ["ra", "y"]);
}

#[test]
fn three_convolutions_become_a_bottleneck_if_nothing_else_reads_between() {
    let tensors: [(&str, &[usize]); 5] = [
        ("x", &[1, 16, 6, 6]),
        ("w_a", &[8, 16, 1, 1]),
        ("b_a", &[8]),
        ("w_b", &[8, 8, 3, 3]),
        ("w_c", &[16, 8, 1, 1]),
    ];
    let three = [
        conv(&["x", "w_a", "b_a"], "t0", 0),
        relu("t0", "t1"),
        conv(&["t1", "w_b"], "t2", 1),
        relu("t2", "t3"),
        conv(&["t3", "w_c"], "t4", 0),
    ];
    let with = |last: &[Value]| Value::from([&three[..], last].concat());
    let add = json!({"op": "add", "inputs": ["t4", "x"], "output": "t5"});
    let whole = with(&[add, relu("t5", "y")]);
    assert_eq!(launches(&whole, &tensors), [Some(3), Some(1), None]);
    // The first tensor between has a second reader.
    let shared = with(&[
        conv(&["t1", "w_b"], "t5", 1),
        json!({"op": "concat", "inputs": ["t4", "t5"], "output": "y"}),
    ]);
    assert_eq!(launches(&shared, &tensors)[0], Some(4));
    // An addition without a convolution before it.
    let lone = with(&[
        relu("t4", "t5"),
        json!({"op": "add", "inputs": ["t5", "x"], "output": "y"}),
    ]);
    assert_eq!(launches(&lone, &tensors), [None; 3]);
}

#[test]
fn an_inception_module_takes_two_launches_or_three() {
    let mut layers = Vec::new();
    for (name, input, pad) in [
        ("a", "x", 0),
        ("b0", "x", 0),
        ("b", "b0", 1),
        ("c0", "x", 0),
        ("c", "c0", 2),
    ] {
        let (raw, filters) = (format!("{name} raw"), format!("w {name}"));
        layers.push(conv(&[input, &filters], &raw, pad));
        layers.push(relu(&raw, name));
    }
    layers.push(json!({"op": "maxpool2d", "inputs": ["x"], "output": "d0",
                       "params": {"kernel": [3, 3], "pad": [1, 1, 1, 1]}}));
    layers.push(conv(&["d0", "w d"], "d", 0));
    layers.push(json!({"op": "concat", "inputs": ["a", "b", "c", "d"], "output": "y"}));
    let tensors: [(&str, &[usize]); 7] = [
        ("x", &[2, 16, 5, 5]),
        ("w a", &[8, 16, 1, 1]),
        ("w b0", &[8, 16, 1, 1]),
        ("w b", &[16, 8, 3, 3]),
        ("w c0", &[8, 16, 1, 1]),
        ("w c", &[8, 8, 5, 5]),
        ("w d", &[8, 16, 1, 1]),
    ];
    let layers = Value::from(layers);
    assert_eq!(launches(&layers, &tensors), [Some(7), Some(2), Some(3)]);
}

#[test]
fn extents_whose_product_overflows_are_refused_in_words() {
    let graph =
        parse(&json!([{"op": "flatten", "inputs": ["x"], "output": "y"}])).expect("a graph");
    let steps = one_per_layer(&graph);
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
    let steps = one_per_layer(&graph);
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
