//! Cases of `case.json`: golden ones (PyTorch's operators) and ONNX's, read into graphs with their expected results.
//! With its tests a little over 500 lines; both formats stay here because they share the reading of tensors.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use warpconv::DType;
use warpconv::catalog::Math;
use warpconv::files;

use super::graph::{self, Layer, Op, Tensor, Window, text};
use super::npy;

/// A case to run.
#[derive(Debug)]
pub struct Case {
    /// The operation as the case names it.
    pub op: String,
    /// What to compute.
    pub layers: Vec<Layer>,
    /// Whether the layers are parts of one operation, `conv2d+add+relu`: its result is rounded once, so only its
    /// fused form is held to it.
    pub one_operation: bool,
    /// Inputs and filters.
    pub tensors: HashMap<String, Tensor>,
    /// Results to compare with.
    pub expected: Vec<Expected>,
    /// Types that the case names.
    pub dtypes: Vec<DType>,
    /// Modes in which f32 may be multiplied to give its results.
    pub maths: &'static [Math],
    /// Types that it names and this crate has no kernels for.
    pub other_dtypes: Vec<String>,
}

/// What came of reading a case.
#[derive(Debug)]
pub enum Read {
    /// It can be run.
    Case(Box<Case>),
    /// It is something that the crate does not do.
    Skip(String),
}

/// A stored result.
#[derive(Debug)]
pub struct Expected {
    /// The tensor of the graph.
    pub tensor: String,
    /// Its stored values. Indices are rows * width + columns within the plane.
    pub values: Tensor,
    /// How close a result must be, per type or mode (`tf32`). A type without an entry is judged by the f64 reference instead.
    pub acceptance: HashMap<&'static str, Acceptance>,
}

/// When a result is accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Acceptance {
    /// Not looked at.
    Skip,
    /// Equal to the reference, rounded once to the type.
    Exact,
    /// Element by element, and as a whole.
    Close {
        atol: Option<f64>,
        rtol: f64,
        rel_l2: Option<f64>,
    },
}

/// The name under which the indices of a maximum are kept.
pub fn indices_of(tensor: &str) -> String {
    format!("{tensor}#indices")
}

/// Reads `folder/case.json`, whichever kind it is.
pub fn read(folder: &Path) -> Result<Read, String> {
    let path = folder.join("case.json");
    let text =
        files::text(&path, files::JSON).map_err(|error| format!("{}: {error}", path.display()))?;
    let json: Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    if json.get("suite").is_some() {
        onnx(folder, &json)
    } else {
        golden(folder, &json)
    }
}

/// A golden case.
fn golden(folder: &Path, json: &Value) -> Result<Read, String> {
    let op = text(json, "op")?.to_owned();
    let layers = match json.get("graph") {
        Some(graph) => graph::parse(graph)?,
        None => golden_layers(&op, json)?,
    };
    let mut tensors = HashMap::new();
    for (name, description) in members(json, "inputs")? {
        // Gradients that come in are no inputs of a forward pass, nor are the classes that a loss is computed for.
        if !matches!(name.as_str(), "dy" | "labels") {
            tensors.insert(name.clone(), stored(folder, name, description)?);
        }
    }
    let y = layers
        .last()
        .map(|layer| layer.output.clone())
        .ok_or("`graph` has no layer")?;
    let (dtypes, mut other_dtypes) = golden_dtypes(json)?;
    // tf32 is f32 multiplied in another way; a case that does not name it has operands that it cannot hold.
    let maths: &[Math] = match other_dtypes.iter().any(|name| name == "tf32") {
        true => &Math::ALL,
        false => &[Math::Strict],
    };
    other_dtypes.retain(|name| name != "tf32");
    Ok(Read::Case(Box::new(Case {
        expected: golden_results(folder, json, &y)?,
        op,
        layers,
        one_operation: json.get("graph").is_none(),
        tensors,
        dtypes,
        maths,
        other_dtypes,
    })))
}

/// The stored results of a golden case whose last tensor is `y`.
fn golden_results(folder: &Path, json: &Value, y: &str) -> Result<Vec<Expected>, String> {
    let mut expected = Vec::new();
    for (name, description) in members(json, "outputs")? {
        let tensor = match name.as_str() {
            "y" | "softmax" => y.to_owned(),
            "indices" => indices_of(y),
            _ => continue,
        };
        expected.push(Expected {
            tensor,
            values: stored(folder, name, description)?,
            acceptance: golden_acceptance(json, name)?,
        });
    }
    if expected.is_empty() {
        return Err("`outputs` has no y".to_owned());
    }
    Ok(expected)
}

/// The types that a golden case names: those of the crate, and others.
fn golden_dtypes(json: &Value) -> Result<(Vec<DType>, Vec<String>), String> {
    let (mut dtypes, mut others) = (Vec::new(), Vec::new());
    for dtype in json
        .get("dtypes")
        .and_then(Value::as_array)
        .ok_or("`dtypes` is missing or no list")?
    {
        let name = dtype.as_str().ok_or("`dtypes` holds no text")?;
        match DType::ALL.into_iter().find(|dtype| dtype.name() == name) {
            Some(dtype) => dtypes.push(dtype),
            None => others.push(name.to_owned()),
        }
    }
    Ok((dtypes, others))
}

/// The layers of a golden case that is no graph: `conv2d+relu` is two.
fn golden_layers(op: &str, json: &Value) -> Result<Vec<Layer>, String> {
    let params = json.get("params").unwrap_or(&Value::Null);
    let inputs = json.get("inputs").unwrap_or(&Value::Null);
    let mut layers: Vec<Layer> = Vec::new();
    for (index, part) in op.split('+').enumerate() {
        // A pool after a convolution has parameters of its own.
        let params = if index > 0 {
            params.get("pool").unwrap_or(params)
        } else {
            params
        };
        let mut operation = graph::operation(part, params)?;
        if let Op::MaxPool { indices, .. } = &mut operation {
            *indices = json
                .get("outputs")
                .and_then(|outputs| outputs.get("indices"))
                .is_some();
        }
        let mut names = vec![
            layers
                .last()
                .map_or("x".to_owned(), |layer| layer.output.clone()),
        ];
        match operation {
            Op::Conv { .. } | Op::Linear => {
                names.push("w".to_owned());
                names.extend(inputs.get("b").map(|_| "b".to_owned()));
            }
            Op::Subsample(_) => names.extend(["w".to_owned(), "b".to_owned()]),
            Op::Add => names.push("r".to_owned()),
            _ => {}
        }
        layers.push(Layer {
            op: operation,
            inputs: names,
            output: format!("t{index}"),
        });
    }
    Ok(layers)
}

/// The acceptance rules of a golden case for one of its outputs.
fn golden_acceptance(
    json: &Value,
    name: &str,
) -> Result<HashMap<&'static str, Acceptance>, String> {
    let rules = json
        .get("tol")
        .and_then(|tol| tol.get(name))
        .ok_or_else(|| format!("`tol` has no `{name}`"))?;
    let mut acceptance = HashMap::new();
    for name in DType::ALL.map(DType::name).into_iter().chain(["tf32"]) {
        let Some(rule) = rules.get(name) else {
            continue;
        };
        acceptance.insert(
            name,
            golden_rule(rule).map_err(|why| format!("`tol.{name}`: {why}"))?,
        );
    }
    Ok(acceptance)
}

/// One acceptance rule: `{atol, rtol, rel_l2, exact}`, `{exact, if}` or `{skip}`.
fn golden_rule(rule: &Value) -> Result<Acceptance, String> {
    if rule.get("skip").is_some() || (rule.get("if").is_some()) {
        return Ok(Acceptance::Skip);
    }
    if rule.get("exact").and_then(Value::as_bool) == Some(true) {
        return Ok(Acceptance::Exact);
    }
    let number = |key: &str| match rule.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => value
            .as_f64()
            .map(Some)
            .ok_or_else(|| format!("`{key}` is no number")),
    };
    let (atol, rel_l2) = (number("atol")?, number("rel_l2")?);
    if atol.is_none() && rel_l2.is_none() {
        return Err("neither `atol` nor `rel_l2` nor `exact`".to_owned());
    }
    Ok(Acceptance::Close {
        atol,
        rtol: number("rtol")?.unwrap_or(0.0),
        rel_l2,
    })
}

/// An ONNX case.
fn onnx(folder: &Path, json: &Value) -> Result<Read, String> {
    let op = text(json, "op")?.to_owned();
    let attributes = json.get("attrs").unwrap_or(&Value::Null);
    let (inputs, outputs) = (list(json, "inputs")?, list(json, "outputs")?);
    let Some(mut operation) = onnx_operation(&op, attributes)? else {
        return Ok(Read::Skip(format!("ONNX {op}: no kernel of this crate")));
    };
    if let (Op::Softmax, Some(axis)) = (&operation, other_axis(json, inputs)) {
        return Ok(Read::Skip(format!(
            "softmax along axis {axis}, not over channels"
        )));
    }
    let present: Vec<&Value> = inputs.iter().filter(|input| !input.is_null()).collect();
    for tensor in present.iter().copied().chain(outputs.iter().take(1)) {
        let dtype = text(tensor, "dtype")?;
        if dtype != "float32" {
            return Ok(Read::Skip(format!("tensors of {dtype}")));
        }
    }
    let (names, tensors) = onnx_inputs(folder, &op, &present)?;
    if names.is_empty() || (matches!(operation, Op::Conv { .. }) && names.len() < 2) {
        return Err(format!("{} inputs are too few for {op}", names.len()));
    }
    if let Op::MaxPool { indices, .. } = &mut operation {
        *indices = outputs.len() > 1;
    }
    let x = tensors
        .get(&names[0])
        .map(|x| x.shape.clone())
        .unwrap_or_default();
    let y = "#y".to_owned();
    let expected = onnx_results(folder, json, &op, &x, &y)?;
    let layers = vec![Layer {
        op: operation,
        inputs: names,
        output: y,
    }];
    Ok(Read::Case(Box::new(Case {
        op,
        layers,
        one_operation: true,
        tensors,
        expected,
        dtypes: DType::ALL.to_vec(),
        maths: &Math::ALL,
        other_dtypes: Vec::new(),
    })))
}

/// The axis of a softmax of ONNX that does not go over channels: as written, or by default (before opset 13 the second, then
/// the last).
fn other_axis(json: &Value, inputs: &[Value]) -> Option<i64> {
    let rank = inputs
        .first()
        .and_then(|x| x.get("shape"))
        .and_then(Value::as_array)
        .map_or(0, Vec::len) as i64;
    let since_13 = json.get("opset").and_then(Value::as_i64) >= Some(13);
    let axis = json
        .get("attrs_raw")
        .and_then(|attributes| attributes.get("axis"))
        .and_then(Value::as_i64)
        .unwrap_or(if since_13 { -1 } else { 1 });
    let from_the_front = if axis < 0 { axis + rank } else { axis };
    (from_the_front != 1).then_some(axis)
}

/// The inputs of an ONNX case: their names in order, and what is stored of them.
fn onnx_inputs(
    folder: &Path,
    op: &str,
    inputs: &[&Value],
) -> Result<(Vec<String>, HashMap<String, Tensor>), String> {
    let mut names = Vec::new();
    let mut tensors = HashMap::new();
    for (index, description) in inputs.iter().enumerate() {
        let mut tensor = npy::read(&folder.join(text(description, "file")?))?;
        if index < 2 {
            widen(&mut tensor, op);
        }
        let name = text(description, "name")?.to_owned();
        tensors.insert(name.clone(), tensor);
        names.push(name);
    }
    Ok((names, tensors))
}

/// The stored results of an ONNX case: `y` and, of a maximum, the indices. `x` is the input's shape.
fn onnx_results(
    folder: &Path,
    json: &Value,
    op: &str,
    x: &[usize],
    y: &str,
) -> Result<Vec<Expected>, String> {
    let number = |key: &str| json.get(key).and_then(Value::as_f64);
    let column_major = json
        .get("attrs")
        .and_then(|attributes| attributes.get("storage_order"))
        .and_then(Value::as_i64)
        == Some(1);
    let outputs = list(json, "outputs")?;
    let mut expected = Vec::new();
    for (index, description) in outputs.iter().enumerate() {
        let mut values = npy::read(&folder.join(text(description, "file")?))?;
        widen(&mut values, op);
        let (tensor, rule) = if index == 0 {
            let close = Acceptance::Close {
                atol: Some(number("atol").unwrap_or(1e-7)),
                rtol: number("rtol").unwrap_or(1e-3),
                rel_l2: None,
            };
            (y.to_owned(), close)
        } else {
            in_plane(&mut values, x, column_major)?;
            (indices_of(y), Acceptance::Exact)
        };
        expected.push(Expected {
            tensor,
            values,
            acceptance: HashMap::from([("f32", rule)]),
        });
    }
    Ok(expected)
}

/// A member that is a list.
fn list<'a>(json: &'a Value, name: &str) -> Result<&'a [Value], String> {
    json.get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .ok_or_else(|| format!("`{name}` is no list"))
}

/// The operation of an ONNX node, if the crate has it. Attributes have their defaults and `auto_pad` resolved.
fn onnx_operation(op: &str, attributes: &Value) -> Result<Option<Op>, String> {
    let flag = |name: &str| attributes.get(name).and_then(Value::as_i64).unwrap_or(0) != 0;
    Ok(Some(match op {
        "Conv" => Op::Conv {
            window: onnx_window(attributes)?,
            groups: attributes.get("group").and_then(Value::as_u64).unwrap_or(1) as usize,
        },
        "MaxPool" => Op::MaxPool {
            window: onnx_window(attributes)?,
            indices: false,
        },
        "AveragePool" => Op::AvgPool {
            window: onnx_window(attributes)?,
            count_include_pad: flag("count_include_pad"),
            divisor: None,
        },
        "GlobalAveragePool" => Op::GlobalAvgPool,
        "GlobalMaxPool" => Op::GlobalMaxPool,
        "Relu" => Op::Relu,
        "Softmax" => Op::Softmax,
        "Tanh" => Op::Tanh {
            amplitude: 1.0,
            slope: 1.0,
        },
        _ => return Ok(None),
    }))
}

/// The window of an ONNX node of one or two dimensions.
fn onnx_window(attributes: &Value) -> Result<Window, String> {
    let two = |name: &str, default: usize| -> Result<[usize; 2], String> {
        match attributes.get(name) {
            None | Some(Value::Null) => Ok([default; 2]),
            Some(list) => match graph::sizes(list, name)?[..] {
                [h, w] => Ok([h, w]),
                [w] => Ok([1, w]),
                _ => Err(format!("`{name}` has neither 1 nor 2 numbers")),
            },
        }
    };
    let pad = match attributes.get("pads") {
        None | Some(Value::Null) => [0; 4],
        Some(list) => match graph::sizes(list, "pads")?[..] {
            // ONNX: the beginnings of all axes, then their ends.
            [top, left, bottom, right] => [top, bottom, left, right],
            [left, right] => [0, 0, left, right],
            _ => return Err("`pads` has neither 2 nor 4 numbers".to_owned()),
        },
    };
    let ceil = attributes
        .get("ceil_mode")
        .and_then(Value::as_i64)
        .unwrap_or(0)
        != 0;
    Ok(Window {
        size: two("kernel_shape", 1)?,
        stride: two("strides", 1)?,
        pad,
        dilation: two("dilations", 1)?,
        ceil,
    })
}

/// A one-dimensional tensor as an image of one row (ReLU takes any shape).
fn widen(tensor: &mut Tensor, op: &str) {
    if tensor.shape.len() == 3 && op != "Relu" {
        tensor.shape.insert(2, 1);
    }
}

/// ONNX counts a maximum's index over the whole tensor, within the plane by columns if `column_major`.
fn in_plane(indices: &mut Tensor, input: &[usize], column_major: bool) -> Result<(), String> {
    let &[.., h, w] = input else {
        return Err("indices of an input without a plane".to_owned());
    };
    let plane = h
        .checked_mul(w)
        .and_then(|plane| i64::try_from(plane).ok())
        .ok_or_else(|| format!("indices of a plane of {h}x{w}: too large"))?;
    for value in &mut indices.data {
        let index = (*value as i64)
            .checked_rem(plane)
            .ok_or("indices of an empty plane")?;
        // By columns, what is stored is column * h + row; by rows it is the place itself.
        if column_major {
            *value = (index % h as i64 * w as i64 + index / h as i64) as f64;
        } else {
            *value = index as f64;
        }
    }
    Ok(())
}

/// A tensor of a golden case, checked against its description.
fn stored(folder: &Path, name: &str, description: &Value) -> Result<Tensor, String> {
    let shape = graph::sizes(description.get("shape").unwrap_or(&Value::Null), "shape")
        .map_err(|why| format!("`{name}`: {why}"))?;
    let tensor = npy::read(&folder.join(format!("{name}.npy")))?;
    if tensor.shape != shape {
        return Err(format!(
            "{name}.npy has shape {:?}, case.json says {shape:?}",
            tensor.shape
        ));
    }
    Ok(tensor)
}

/// The members of an object.
fn members<'a>(
    json: &'a Value,
    name: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, String> {
    json.get(name)
        .and_then(Value::as_object)
        .map(|object| object.iter())
        .ok_or_else(|| format!("`{name}` is missing or no object"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indices(values: &[f64]) -> Tensor {
        Tensor {
            shape: vec![values.len()],
            data: values.to_vec(),
        }
    }

    #[test]
    fn indices_of_the_whole_tensor_become_places_in_the_plane() {
        // The second plane of 2x3, by rows and by columns.
        for (column_major, stored) in [(false, [6.0, 7.0, 9.0]), (true, [6.0, 8.0, 7.0])] {
            let mut tensor = indices(&stored);
            in_plane(&mut tensor, &[1, 2, 2, 3], column_major).expect("places");
            assert_eq!(tensor.data, [0.0, 1.0, 3.0], "by columns: {column_major}");
        }
    }

    #[test]
    fn planes_without_a_size_are_refused_in_words() {
        for (input, word) in [
            (&[0, 1 << 32, 1 << 32][..], "4294967296x4294967296"),
            (&[1, 1, 0, 5], "empty"),
            (&[7], "without a plane"),
        ] {
            let why = in_plane(&mut indices(&[1.0]), input, false).expect_err("no plane");
            assert!(why.contains(word), "{why}");
        }
    }
}
