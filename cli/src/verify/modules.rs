//! Fuses steps of a graph that one launch can compute.

use super::graph::{Layer, Op, Step, Window};
use super::lower::Shapes;

/// Fuses the convolutions of a bottleneck: 1x1, 3x3 and 1x1, each the only reader of the previous
/// one's output. `shapes` contains at least those of the filters.
pub fn modules(steps: &[Step], shapes: &Shapes) -> Vec<Step> {
    let mut merged = Vec::new();
    let mut rest = steps;
    while let [first, others @ ..] = rest {
        match bottleneck(steps, rest, shapes) {
            Some(step) => {
                merged.push(step);
                rest = &rest[3..];
            }
            None => {
                merged.push(first.clone());
                rest = others;
            }
        }
    }
    merged
}

/// Matches the first three of `rest` with a bottleneck.
fn bottleneck(all: &[Step], rest: &[Step], shapes: &Shapes) -> Option<Step> {
    let [reduce, middle, expand, ..] = rest else {
        return None;
    };
    let sizes = [(reduce, 1), (middle, 3), (expand, 1)];
    let [Some(1), Some(stride @ (1 | 2)), Some(1)] =
        sizes.map(|(step, size)| plain(step, shapes, size))
    else {
        return None;
    };
    for (step, next) in [(reduce, middle), (middle, expand)] {
        let intermediates = readers(all, &step.layer.output) == 1
            && next.layer.inputs[0] == step.layer.output
            && step.relu
            && step.residual.is_none()
            && step.concat.is_none();
        if !intermediates {
            return None;
        }
    }
    let layers = [reduce, middle, expand].map(|step| &step.layer.inputs);
    let inputs = std::iter::once(&layers[0][0]).chain(layers.map(|inputs| &inputs[1]));
    Some(Step {
        layer: Layer {
            op: Op::Bottleneck {
                stride,
                bias: layers.map(|inputs| inputs.get(2).cloned()),
            },
            inputs: inputs.cloned().collect(),
            output: expand.layer.output.clone(),
        },
        ..expand.clone()
    })
}

/// The stride of a convolution with `size` x `size` taps and padding that keeps the image's size at
/// stride 1; `None` for other steps.
pub(super) fn plain(step: &Step, shapes: &Shapes, size: usize) -> Option<usize> {
    let Op::Conv { window, groups: 1 } = &step.layer.op else {
        return None;
    };
    let Window {
        stride,
        pad,
        dilation,
        ..
    } = *window;
    let filters = shapes.get(step.layer.inputs.get(1)?)?;
    let fits = filters.get(2..) == Some(&[size, size][..])
        && stride[0] == stride[1]
        && pad == [size / 2; 4]
        && dilation == [1, 1];
    fits.then_some(stride[0])
}

/// Number of steps that read a tensor.
pub(super) fn readers(steps: &[Step], tensor: &str) -> usize {
    let read = steps
        .iter()
        .flat_map(|step| step.layer.inputs.iter().chain(&step.residual));
    read.filter(|name| *name == tensor).count()
}

#[cfg(test)]
mod tests {
    use super::super::graph::{parse, steps};
    use super::super::report::Steps;
    use super::*;
    use serde_json::json;

    fn shapes() -> Shapes {
        [
            ("w_a", [3, 8, 1, 1]),
            ("w_b", [3, 3, 3, 3]),
            ("w_c", [8, 3, 1, 1]),
        ]
        .into_iter()
        .map(|(name, shape)| (name.to_owned(), shape.to_vec()))
        .collect()
    }

    #[test]
    fn three_convolutions_become_a_bottleneck_if_nobody_else_reads_between() {
        let conv = |inputs: &[&str], output: &str, pad: usize, stride: usize| {
            json!({"op": "conv2d", "inputs": inputs, "output": output,
                   "params": {"pad": [pad, pad, pad, pad], "stride": [stride, stride]}})
        };
        let relu =
            |input: &str, output: &str| json!({"op": "relu", "inputs": [input], "output": output});
        let graph = |last: serde_json::Value| {
            let layers = json!([
                conv(&["x", "w_a", "b_a"], "t0", 0, 1),
                relu("t0", "t1"),
                conv(&["t1", "w_b"], "t2", 1, 2),
                relu("t2", "t3"),
                conv(&["t3", "w_c"], "t4", 0, 1),
                last,
            ]);
            steps(&parse(&layers).expect("a graph"), Steps::Fused)
        };
        let merged = modules(&graph(relu("t4", "y")), &shapes());
        let [step] = &merged[..] else {
            panic!("{merged:?}")
        };
        assert_eq!(step.layer.inputs, ["x", "w_a", "w_b", "w_c"]);
        assert_eq!((step.layer.output.as_str(), step.relu), ("y", true));
        let Op::Bottleneck { stride: 2, bias } = &step.layer.op else {
            panic!("{step:?}")
        };
        assert_eq!(bias, &[Some("b_a".to_owned()), None, None]);
        // The middle tensor has a second reader.
        let shared = graph(json!({"op": "add", "inputs": ["t4", "t1"], "output": "y"}));
        assert_eq!(modules(&shared, &shapes()), shared);
    }
}
