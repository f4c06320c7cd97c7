//! Cases of `case.json`, read into graphs with their expected results: golden ones (PyTorch's
//! operators) here, ONNX's in [`onnx`].

mod onnx;

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use warpconv::DType;
use warpconv::kernels::Math;
use warpconv::problem::PoolKind;

use super::layers::{self, Layer, Op, Tensor, text};
use warpconv_testing::case_files::json;
use warpconv_testing::case_files::npy;

/// A case to run.
#[derive(Debug)]
pub struct Case {
    /// The operation's name in the case.
    pub op: String,
    /// Layers to compute.
    pub layers: Vec<Layer>,
    /// True if the layers are parts of one operation, such as `conv2d+add+relu`. Its result is
    /// rounded once, so only the fused form is compared with it.
    pub one_operation: bool,
    /// Stored inputs and filters.
    pub tensors: HashMap<String, Tensor>,
    /// Stored results to compare with.
    pub expected: Vec<Expected>,
    /// Types in the case.
    pub dtypes: Vec<DType>,
    /// Modes of f32 multiplication that suit the stored results.
    pub maths: &'static [Math],
    /// Types in the case for which this crate has no kernels.
    pub other_dtypes: Vec<String>,
}

/// Outcome of reading a case.
#[derive(Debug)]
pub enum Read {
    /// A case that can be run.
    Case(Box<Case>),
    /// A case that this crate does not support, with the reason.
    Skip(String),
}

/// A stored result.
#[derive(Debug)]
pub struct Expected {
    /// Name of the tensor in the graph.
    pub tensor: String,
    /// Its stored values. Indices are row * width + column within the plane.
    pub values: Tensor,
    /// Acceptance of a result, per type or mode (`tf32`). Types without an entry are compared with
    /// the f64 reference.
    pub acceptance: HashMap<&'static str, Acceptance>,
}

/// Rule by which a result is accepted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Acceptance {
    /// The result is not compared.
    Skip,
    /// Equal to the reference, rounded once to the type.
    Exact,
    /// Within a bound per element, and within a bound of the whole.
    Close {
        atol: Option<f64>,
        rtol: f64,
        rel_l2: Option<f64>,
    },
}

/// The name under which the indices of a max pooling are kept.
pub fn indices_of(tensor: &str) -> String {
    format!("{tensor}#indices")
}

/// Reads `folder/case.json`, whichever kind it is.
pub fn read(folder: &Path) -> Result<Read, String> {
    let json = json::read(&folder.join("case.json"))?;
    if json.get("suite").is_some() {
        onnx::read(folder, &json)
    } else {
        golden(folder, &json)
    }
}

/// A golden case.
fn golden(folder: &Path, json: &Value) -> Result<Read, String> {
    let op = text(json, "op")?.to_owned();
    let layers = match json.get("graph") {
        Some(graph) => layers::parse(graph)?,
        None => golden_layers(&op, json)?,
    };
    let mut tensors = HashMap::new();
    for (name, description) in members(json, "inputs")? {
        // Incoming gradients are not inputs of a forward pass, nor are the class labels of a loss.
        if !matches!(name.as_str(), "dy" | "labels") {
            tensors.insert(name.clone(), stored(folder, name, description)?);
        }
    }
    let y = layers
        .last()
        .map(|layer| layer.output.clone())
        .ok_or("`graph` has no layer")?;
    let (dtypes, mut other_dtypes) = golden_dtypes(json)?;
    // tf32 is a mode of f32; a case that does not list it has operands that tf32 cannot hold.
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

/// The types of a golden case: those of the crate, and the names of others.
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

/// The layers of a golden case without a `graph`: `conv2d+relu` is two.
fn golden_layers(op: &str, json: &Value) -> Result<Vec<Layer>, String> {
    let params = json.get("params").unwrap_or(&Value::Null);
    let inputs = json.get("inputs").unwrap_or(&Value::Null);
    let parts = op.split('+').count();
    if parts > layers::MAX_LAYERS {
        return Err(format!(
            "`op` has {parts} parts, the most is {}: make several cases of it",
            layers::MAX_LAYERS
        ));
    }
    let mut layers: Vec<Layer> = Vec::new();
    for (index, part) in op.split('+').enumerate() {
        // A pooling after a convolution has its own parameters.
        let params = if index > 0 {
            params.get("pool").unwrap_or(params)
        } else {
            params
        };
        let mut operation = layers::operation(part, params)?;
        if let Op::Pool {
            kind: PoolKind::Max { indices },
            ..
        } = &mut operation
        {
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

/// A tensor of a golden case, checked against its description.
fn stored(folder: &Path, name: &str, description: &Value) -> Result<Tensor, String> {
    let shape = layers::sizes(description.get("shape").unwrap_or(&Value::Null), "shape")
        .map_err(|why| format!("`{name}`: {why}"))?;
    let tensor = npy::read(&folder.join(format!("{name}.npy")))?;
    if tensor.shape != shape {
        return Err(format!(
            "{name}.npy has shape {:?}, case.json has {shape:?}",
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
