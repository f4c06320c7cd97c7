//! Graphs of layers, as described in `case.json`, and their cut into launches.

use serde_json::Value;
pub use warpconv_testing::case_files::Tensor;

use super::activation::{self, Subsampling};
use super::report::Steps;

/// A sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Rows and columns.
    pub size: [usize; 2],
    /// Strides of rows and columns.
    pub stride: [usize; 2],
    /// Padding: top, bottom, left, right.
    pub pad: [usize; 4],
    /// Dilation of rows and columns.
    pub dilation: [usize; 2],
    /// True if the output's size is rounded up.
    pub ceil: bool,
}

/// Operation of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Inputs: x, filters, and the bias if there is one. The window's size is the filters'.
    Conv { window: Window, groups: usize },
    /// Inputs: x (N, features), weights (outputs, features), and the bias if there is one.
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// Maximum over windows, with the index of each if `indices` is true.
    MaxPool { window: Window, indices: bool },
    /// Mean over windows.
    AvgPool {
        window: Window,
        count_include_pad: bool,
        divisor: Option<i32>,
    },
    /// Mean over windows that adapt to the output's size.
    AdaptiveAvgPool { output: [usize; 2] },
    /// Mean over the plane.
    GlobalAvgPool,
    /// Maximum over the plane.
    GlobalMaxPool,
    /// Local response normalisation across channels.
    Lrn {
        size: usize,
        alpha: f64,
        beta: f64,
        k: f64,
    },
    /// Softmax over channels.
    Softmax,
    /// `amplitude * tanh(slope * x)`.
    Tanh { amplitude: f64, slope: f64 },
    /// LeNet-5's trainable subsampling. Inputs: x, a coefficient and a bias for each channel.
    Subsample(Subsampling),
    /// Concatenation of the inputs along the channels.
    Concat,
    /// Flattening of all dimensions except the batch.
    Flatten,
    /// Sum of two tensors.
    Add,
    /// 1x1, 3x3 and 1x1 in one launch; only [`modules`](super::modules::modules) creates it.
    /// Inputs: x and the three filters.
    Bottleneck {
        stride: usize,
        bias: [Option<String>; 3],
    },
}

impl Op {
    /// The name of the operation in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv { .. } => "conv2d",
            Op::Linear => "linear",
            Op::Relu => "relu",
            Op::MaxPool { .. } => "maxpool2d",
            Op::AvgPool { .. } => "avgpool2d",
            Op::AdaptiveAvgPool { .. } => "adaptive_avgpool2d",
            Op::GlobalAvgPool => "global_avgpool2d",
            Op::GlobalMaxPool => "global_maxpool2d",
            Op::Lrn { .. } => "lrn",
            Op::Softmax => "softmax",
            Op::Tanh { .. } => "tanh",
            Op::Subsample(_) => "subsample",
            Op::Concat => "concat",
            Op::Flatten => "flatten",
            Op::Add => "add",
            Op::Bottleneck { .. } => "bottleneck",
        }
    }

    /// Returns whether the layer multiplies by filters.
    fn has_filters(&self) -> bool {
        matches!(self, Op::Conv { .. } | Op::Linear)
    }
}

/// A layer: its operation, and the names of its inputs and its output.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub op: Op,
    pub inputs: Vec<String>,
    pub output: String,
}

/// One launch (or one step on the host) of a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// The layer's operation and inputs; `output` is that of the last layer fused into it.
    pub layer: Layer,
    /// The tensor added before the ReLU.
    pub residual: Option<String>,
    /// True if a ReLU is fused.
    pub relu: bool,
    /// Slice of the concatenation, if the output is read by a concat only.
    pub concat: Option<Slice>,
}

/// Slice of a concatenation that a step writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Slice {
    /// The concatenation's inputs.
    pub parts: Vec<String>,
    /// Index of the part that the step writes.
    pub part: usize,
}

/// Cuts layers into launches.
pub fn steps(layers: &[Layer], how: Steps) -> Vec<Step> {
    let plain = |layer: &Layer| Step {
        layer: layer.clone(),
        residual: None,
        relu: false,
        concat: None,
    };
    if how == Steps::Layers {
        return layers.iter().map(plain).collect();
    }
    let mut fused = vec![false; layers.len()];
    let mut steps = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        if fused[index] {
            continue;
        }
        let mut step = plain(layer);
        if layer.op.has_filters() {
            if let Some((add, other)) = fusible_add(layers, index, &step.layer.output) {
                fused[add] = true;
                step.residual = Some(other);
                step.layer.output.clone_from(&layers[add].output);
            }
            if let Some(relu) =
                only_reader(layers, &step.layer.output).filter(|&i| layers[i].op == Op::Relu)
            {
                fused[relu] = true;
                step.relu = true;
                step.layer.output.clone_from(&layers[relu].output);
            }
        }
        if layer.op != Op::Concat
            && let Some(concat) =
                only_reader(layers, &step.layer.output).filter(|&i| layers[i].op == Op::Concat)
        {
            let parts = layers[concat].inputs.clone();
            let part = parts.iter().position(|name| *name == step.layer.output);
            step.concat = part.map(|part| Slice { parts, part });
        }
        steps.push(step);
    }
    steps
}

/// The only layer that reads `tensor`, if there is exactly one and it reads it once.
fn only_reader(layers: &[Layer], tensor: &str) -> Option<usize> {
    let mut readers = layers.iter().enumerate().flat_map(|(index, layer)| {
        layer
            .inputs
            .iter()
            .filter(|name| *name == tensor)
            .map(move |_| index)
    });
    let reader = readers.next()?;
    readers.next().is_none().then_some(reader)
}

/// The add that is the only reader of `tensor`, the output of layer `index`, and its other input,
/// if that is computed before.
fn fusible_add(layers: &[Layer], index: usize, tensor: &str) -> Option<(usize, String)> {
    let add = only_reader(layers, tensor).filter(|&i| layers[i].op == Op::Add)?;
    let other = layers[add].inputs.iter().find(|name| *name != tensor)?;
    let made_later = layers[index..].iter().any(|layer| layer.output == *other);
    (!made_later && layers[add].inputs.len() == 2).then(|| (add, other.clone()))
}

/// Maximum number of layers in a graph: cutting it into launches takes time quadratic in their
/// number.
pub const MAX_LAYERS: usize = 4096;

/// Reads the `graph` of a case.
pub fn parse(graph: &Value) -> Result<Vec<Layer>, String> {
    let layers = graph.as_array().ok_or("`graph` is no list")?;
    if layers.len() > MAX_LAYERS {
        return Err(format!(
            "`graph` has {} layers, the most is {MAX_LAYERS}: make several cases of it",
            layers.len()
        ));
    }
    layers
        .iter()
        .enumerate()
        .map(|(i, layer)| parse_layer(layer).map_err(|why| format!("layer {i}: {why}")))
        .collect()
}

/// Reads a layer.
fn parse_layer(layer: &Value) -> Result<Layer, String> {
    let op = text(layer, "op")?;
    let params = layer.get("params").unwrap_or(&Value::Null);
    let inputs = layer
        .get("inputs")
        .and_then(Value::as_array)
        .and_then(|names| {
            names
                .iter()
                .map(|name| name.as_str().map(str::to_owned))
                .collect::<Option<Vec<_>>>()
        })
        .ok_or("`inputs` is no list of names")?;
    let op = operation(op, params)?;
    let least = match op {
        Op::Subsample(_) => 3,
        Op::Conv { .. } | Op::Linear | Op::Add => 2,
        _ => 1,
    };
    if inputs.len() < least {
        return Err(format!(
            "{} has {} inputs, needs {least}",
            op.name(),
            inputs.len()
        ));
    }
    Ok(Layer {
        op,
        inputs,
        output: text(layer, "output")?.to_owned(),
    })
}

/// Parses an operation and its parameters, in the notation of golden cases.
pub fn operation(op: &str, params: &Value) -> Result<Op, String> {
    Ok(match op {
        "conv2d" => Op::Conv {
            window: window(params, [1, 1])?,
            groups: params.get("groups").map_or(Ok(1), |v| size(v, "groups"))?,
        },
        "linear" => Op::Linear,
        "relu" => Op::Relu,
        "maxpool2d" => Op::MaxPool {
            window: window(params, pair(params, "kernel")?)?,
            indices: false,
        },
        "avgpool2d" => Op::AvgPool {
            window: window(params, pair(params, "kernel")?)?,
            count_include_pad: params
                .get("count_include_pad")
                .and_then(Value::as_bool)
                .unwrap_or(true),
            divisor: match params.get("divisor_override") {
                None | Some(Value::Null) => None,
                Some(divisor) => Some(
                    divisor
                        .as_i64()
                        .and_then(|d| i32::try_from(d).ok())
                        .ok_or("`divisor_override` is no i32")?,
                ),
            },
        },
        "adaptive_avgpool2d" => Op::AdaptiveAvgPool {
            output: pair(params, "out")?,
        },
        "global_avgpool2d" => Op::GlobalAvgPool,
        "global_maxpool2d" => Op::GlobalMaxPool,
        "lrn" => Op::Lrn {
            size: size(params.get("size").ok_or("no `size`")?, "size")?,
            alpha: real(params, "alpha")?,
            beta: real(params, "beta")?,
            k: real(params, "k")?,
        },
        // The loss of a training step is not computed, but its softmax is.
        "softmax" | "softmax_cross_entropy" => Op::Softmax,
        "tanh" => activation::tanh(params)?,
        "subsample" => activation::subsample(params)?,
        "concat" => match params.get("axis").and_then(Value::as_i64).unwrap_or(1) {
            1 => Op::Concat,
            axis => {
                return Err(format!(
                    "concat along axis {axis}; only channels (1) are joined"
                ));
            }
        },
        "flatten" => Op::Flatten,
        "add" => Op::Add,
        other => return Err(format!("unknown operation `{other}`")),
    })
}

/// The window of a layer; `kernel` is its size.
fn window(params: &Value, kernel: [usize; 2]) -> Result<Window, String> {
    let or = |name: &str, default: [usize; 2]| match params.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(_) => pair(params, name),
    };
    let pad = match params.get("pad") {
        None | Some(Value::Null) => [0; 4],
        Some(pad) => sizes(pad, "pad")?
            .try_into()
            .map_err(|_| "`pad` has not 4 numbers")?,
    };
    Ok(Window {
        size: kernel,
        stride: or("stride", [1, 1])?,
        pad,
        dilation: or("dilation", [1, 1])?,
        ceil: params
            .get("ceil_mode")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    })
}

/// Reads a string member.
pub fn text<'a>(value: &'a Value, name: &str) -> Result<&'a str, String> {
    value
        .get(name)
        .and_then(Value::as_str)
        .ok_or_else(|| format!("`{name}` is missing or no text"))
}

/// Reads a number member.
pub fn real(value: &Value, name: &str) -> Result<f64, String> {
    value
        .get(name)
        .and_then(Value::as_f64)
        .ok_or_else(|| format!("`{name}` is missing or no number"))
}

/// Reads a size.
fn size(value: &Value, name: &str) -> Result<usize, String> {
    value
        .as_u64()
        .and_then(|v| usize::try_from(v).ok())
        .ok_or_else(|| format!("`{name}` holds {value}, not a size"))
}

/// Reads a list of sizes.
pub fn sizes(value: &Value, name: &str) -> Result<Vec<usize>, String> {
    value
        .as_array()
        .ok_or_else(|| format!("`{name}` is no list"))?
        .iter()
        .map(|v| size(v, name))
        .collect()
}

/// Reads a pair of sizes.
pub fn pair(value: &Value, name: &str) -> Result<[usize; 2], String> {
    let list = sizes(value.get(name).unwrap_or(&Value::Null), name)?;
    list.try_into()
        .map_err(|_| format!("`{name}` has not 2 numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn layer(op: &str, inputs: &[&str], output: &str) -> Value {
        json!({"op": op, "inputs": inputs, "output": output, "params": {"kernel": [3, 3]}})
    }

    fn outputs(steps: &[Step]) -> Vec<&str> {
        steps
            .iter()
            .map(|step| step.layer.output.as_str())
            .collect()
    }

    #[test]
    fn a_bottleneck_becomes_three_launches() {
        let graph = parse(&json!([
            layer("conv2d", &["x", "w_a", "b_a"], "t0"),
            layer("relu", &["t0"], "t1"),
            layer("conv2d", &["t1", "w_b"], "t2"),
            layer("relu", &["t2"], "t3"),
            layer("conv2d", &["t3", "w_c"], "t4"),
            layer("add", &["t4", "x"], "t5"),
            layer("relu", &["t5"], "y"),
        ]))
        .expect("a graph");
        let fused = steps(&graph, Steps::Fused);
        assert_eq!(outputs(&fused), ["t1", "t3", "y"]);
        assert!(fused.iter().all(|step| step.relu));
        assert_eq!(fused[2].residual.as_deref(), Some("x"));
        assert_eq!(steps(&graph, Steps::Layers).len(), 7);
    }

    #[test]
    fn branches_write_their_slices() {
        let graph = parse(&json!([
            layer("conv2d", &["x", "w"], "a"),
            layer("maxpool2d", &["x"], "b"),
            layer("relu", &["x"], "c"),
            layer("concat", &["a", "b", "c"], "y"),
            layer("relu", &["c"], "z"),
        ]))
        .expect("a graph");
        let fused = steps(&graph, Steps::Fused);
        let part = |i: usize| fused[i].concat.as_ref().map(|slice| slice.part);
        // c is read by another layer too, so it stays a separate tensor.
        assert_eq!((part(0), part(1), part(2)), (Some(0), Some(1), None));
    }

    #[test]
    fn a_value_read_twice_is_not_fused_away() {
        let graph = parse(&json!([
            layer("conv2d", &["x", "w"], "a"),
            layer("relu", &["a"], "b"),
            layer("add", &["a", "b"], "y"),
        ]))
        .expect("a graph");
        assert_eq!(steps(&graph, Steps::Fused).len(), 3);
    }

    #[test]
    fn an_add_waits_for_its_other_input() {
        let graph = parse(&json!([
            layer("conv2d", &["x", "w"], "a"),
            layer("conv2d", &["x", "v"], "b"),
            layer("add", &["a", "b"], "y"),
        ]))
        .expect("a graph");
        let fused = steps(&graph, Steps::Fused);
        assert_eq!(outputs(&fused), ["a", "y"]);
        assert_eq!(fused[1].residual.as_deref(), Some("a"));
    }

    #[test]
    fn nonsense_is_refused_in_words() {
        for (graph, word) in [
            (json!(3), "list"),
            (json!([{"op": "conv2d"}]), "inputs"),
            (
                json!([{"op": "fft", "inputs": ["x"], "output": "y"}]),
                "fft",
            ),
            (
                json!([{"op": "maxpool2d", "inputs": ["x"], "output": "y"}]),
                "kernel",
            ),
            (
                json!([{"op": "conv2d", "inputs": ["x"], "output": "y"}]),
                "needs 2",
            ),
            (
                json!([{"op": "maxpool2d", "inputs": ["x"], "output": "y",
                "params": {"kernel": [-1, 2]}}]),
                "not a size",
            ),
        ] {
            let why = parse(&graph).expect_err("nonsense");
            assert!(why.contains(word), "{why}");
        }
    }
}
