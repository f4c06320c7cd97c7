//! Layers of a case, as `case.json` lists them.

use serde_json::Value;
use warpconv::problem::{LrnParameters, Padding, PoolKind, Window};
pub use warpconv_testing::case_files::Tensor;

use super::activation::{self, Subsampling};

/// Operation of a layer.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// Inputs: x, filters, and the bias if there is one. The window's kernel is the filters'.
    Conv { window: Window, groups: usize },
    /// Inputs: x (N, features), weights (outputs, features), and the bias if there is one.
    Linear,
    /// `max(x, 0)`.
    Relu,
    /// Pooling; `ceil` rounds the output's size up. Kinds without a window ignore it.
    Pool {
        kind: PoolKind,
        window: Window,
        ceil: bool,
    },
    /// Local response normalisation across channels.
    Lrn(LrnParameters),
    /// Softmax over channels.
    Softmax,
    /// `amplitude * tanh(slope * x)`.
    Tanh { amplitude: f64, slope: f64 },
    /// LeNet-5's trainable subsampling. Inputs: x, a coefficient and a bias per channel.
    Subsample(Subsampling),
    /// Concatenation of the inputs along the channels.
    Concat,
    /// Flattening of all dimensions except the batch.
    Flatten,
    /// Sum of two tensors.
    Add,
}

impl Op {
    /// The name of the operation in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Conv { .. } => "conv2d",
            Op::Linear => "linear",
            Op::Relu => "relu",
            Op::Pool { kind, .. } => match kind {
                PoolKind::Max { .. } => "maxpool2d",
                PoolKind::Average { .. } => "avgpool2d",
                PoolKind::AdaptiveAverage { .. } => "adaptive_avgpool2d",
                PoolKind::GlobalAverage => "global_avgpool2d",
                PoolKind::GlobalMax => "global_maxpool2d",
            },
            Op::Lrn(_) => "lrn",
            Op::Softmax => "softmax",
            Op::Tanh { .. } => "tanh",
            Op::Subsample(_) => "subsample",
            Op::Concat => "concat",
            Op::Flatten => "flatten",
            Op::Add => "add",
        }
    }

    /// Returns whether the layer multiplies by filters.
    pub fn has_filters(&self) -> bool {
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

/// A layer with the layers behind it that the epilogue of its launch computes.
#[derive(Clone, Debug, PartialEq)]
pub struct Launch {
    /// Operation and inputs of the first layer, and the output of the last.
    pub layer: Layer,
    /// The tensor that is added before the ReLU.
    pub residual: Option<String>,
    /// True if there is a ReLU.
    pub relu: bool,
}

/// One launch per layer.
pub fn one_per_layer(layers: &[Layer]) -> Vec<Launch> {
    layers.iter().map(Launch::of).collect()
}

/// Launches whose epilogues compute the residual add and the ReLU behind a convolution, if nothing
/// else reads the tensors between.
pub fn with_epilogues(layers: &[Layer]) -> Vec<Launch> {
    let mut is_epilogue = vec![false; layers.len()];
    let mut launches = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        if is_epilogue[index] {
            continue;
        }
        let mut launch = Launch::of(layer);
        if layer.op.has_filters() {
            if let Some((add, other)) = residual(layers, index, &launch.layer.output) {
                is_epilogue[add] = true;
                launch.residual = Some(other);
                launch.layer.output.clone_from(&layers[add].output);
            }
            let reader = only_reader(layers, &launch.layer.output);
            if let Some(relu) = reader.filter(|&reader| layers[reader].op == Op::Relu) {
                is_epilogue[relu] = true;
                launch.relu = true;
                launch.layer.output.clone_from(&layers[relu].output);
            }
        }
        launches.push(launch);
    }
    launches
}

impl Launch {
    fn of(layer: &Layer) -> Launch {
        Launch {
            layer: layer.clone(),
            residual: None,
            relu: false,
        }
    }
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
fn residual(layers: &[Layer], index: usize, tensor: &str) -> Option<(usize, String)> {
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
        "maxpool2d" => sliding(params, PoolKind::Max { indices: false })?,
        "avgpool2d" => sliding(
            params,
            PoolKind::Average {
                count_include_pad: params
                    .get("count_include_pad")
                    .and_then(Value::as_bool)
                    .unwrap_or(true),
                divisor_override: divisor(params)?,
            },
        )?,
        "adaptive_avgpool2d" => {
            let [p, q] = pair(params, "out")?;
            whole(PoolKind::AdaptiveAverage { p, q })
        }
        "global_avgpool2d" => whole(PoolKind::GlobalAverage),
        "global_maxpool2d" => whole(PoolKind::GlobalMax),
        "lrn" => Op::Lrn(LrnParameters {
            size: size(params.get("size").ok_or("no `size`")?, "size")?,
            alpha: real(params, "alpha")?,
            beta: real(params, "beta")?,
            k: real(params, "k")?,
        }),
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

/// A pooling of sliding windows.
fn sliding(params: &Value, kind: PoolKind) -> Result<Op, String> {
    Ok(Op::Pool {
        kind,
        window: window(params, pair(params, "kernel")?)?,
        ceil: params
            .get("ceil_mode")
            .and_then(Value::as_bool)
            .unwrap_or(false),
    })
}

/// A pooling without a sliding window.
pub fn whole(kind: PoolKind) -> Op {
    Op::Pool {
        kind,
        window: Window::new(1, 1),
        ceil: false,
    }
}

/// The divisor of a mean, if the case overrides it.
fn divisor(params: &Value) -> Result<Option<i32>, String> {
    match params.get("divisor_override") {
        None | Some(Value::Null) => Ok(None),
        Some(divisor) => {
            let divisor = divisor.as_i64().and_then(|d| i32::try_from(d).ok());
            Ok(Some(divisor.ok_or("`divisor_override` is no i32")?))
        }
    }
}

/// The window of a layer; `kernel` is its size.
fn window(params: &Value, kernel: [usize; 2]) -> Result<Window, String> {
    let or = |name: &str, default: [usize; 2]| match params.get(name) {
        None | Some(Value::Null) => Ok(default),
        Some(_) => pair(params, name),
    };
    let [top, bottom, left, right] = match params.get("pad") {
        None | Some(Value::Null) => [0; 4],
        Some(pad) => sizes(pad, "pad")?
            .try_into()
            .map_err(|_| "`pad` has not 4 numbers")?,
    };
    Ok(Window {
        kernel,
        stride: or("stride", [1, 1])?,
        dilation: or("dilation", [1, 1])?,
        padding: Padding {
            top,
            bottom,
            left,
            right,
        },
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

    fn outputs(steps: &[Launch]) -> Vec<&str> {
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
        let fused = with_epilogues(&graph);
        assert_eq!(outputs(&fused), ["t1", "t3", "y"]);
        assert!(fused.iter().all(|step| step.relu));
        assert_eq!(fused[2].residual.as_deref(), Some("x"));
        assert_eq!(one_per_layer(&graph).len(), 7);
    }

    #[test]
    fn a_value_read_twice_is_not_fused_away() {
        let graph = parse(&json!([
            layer("conv2d", &["x", "w"], "a"),
            layer("relu", &["a"], "b"),
            layer("add", &["a", "b"], "y"),
        ]))
        .expect("a graph");
        assert_eq!(with_epilogues(&graph).len(), 3);
    }

    #[test]
    fn an_add_waits_for_its_other_input() {
        let graph = parse(&json!([
            layer("conv2d", &["x", "w"], "a"),
            layer("conv2d", &["x", "v"], "b"),
            layer("add", &["a", "b"], "y"),
        ]))
        .expect("a graph");
        let fused = with_epilogues(&graph);
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
