//! Cases of ONNX: one node each.

use std::collections::HashMap;
use std::path::Path;

use serde_json::Value;
use warpconv::DType;
use warpconv::kernels::Math;
use warpconv::problem::{Padding, PoolKind, Window};

use super::super::layers::{self, Layer, Op, Tensor, text};
use super::{Acceptance, Case, Expected, Read, indices_of};
use warpconv_testing::case_files::npy;

/// Reads an ONNX case.
pub fn read(folder: &Path, json: &Value) -> Result<Read, String> {
    let op = text(json, "op")?.to_owned();
    let attributes = json.get("attrs").unwrap_or(&Value::Null);
    let (inputs, outputs) = (list(json, "inputs")?, list(json, "outputs")?);
    let Some(mut operation) = operation(&op, attributes)? else {
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
    let (names, tensors) = given(folder, &op, &present)?;
    if names.is_empty() || (matches!(operation, Op::Conv { .. }) && names.len() < 2) {
        return Err(format!("{} inputs are too few for {op}", names.len()));
    }
    if let Op::Pool {
        kind: PoolKind::Max { indices },
        ..
    } = &mut operation
    {
        *indices = outputs.len() > 1;
    }
    let x = tensors
        .get(&names[0])
        .map(|x| x.shape.clone())
        .unwrap_or_default();
    let y = "#y".to_owned();
    let expected = results(folder, json, &op, &x, &y)?;
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

/// The axis of an ONNX softmax if that is not the channels: the attribute, or the default (before
/// opset 13 the second axis, then the last).
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

/// The inputs of an ONNX case: their names in order, and the stored tensors.
fn given(
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

/// The stored results of an ONNX case: `y` and, for a max pooling, the indices. `x` is the input's
/// shape.
fn results(
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
    if outputs.is_empty() {
        return Err("`outputs` is empty: there is nothing to compare with".to_owned());
    }
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

/// Reads a member that is a list.
fn list<'a>(json: &'a Value, name: &str) -> Result<&'a [Value], String> {
    json.get(name)
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .ok_or_else(|| format!("`{name}` is no list"))
}

/// The operation of an ONNX node, if the crate has it. Attributes have their defaults and
/// `auto_pad` resolved.
fn operation(op: &str, attributes: &Value) -> Result<Option<Op>, String> {
    let flag = |name: &str| attributes.get(name).and_then(Value::as_i64).unwrap_or(0) != 0;
    Ok(Some(match op {
        "Conv" => Op::Conv {
            window: window(attributes)?,
            groups: attributes.get("group").and_then(Value::as_u64).unwrap_or(1) as usize,
        },
        "MaxPool" => Op::Pool {
            kind: PoolKind::Max { indices: false },
            window: window(attributes)?,
            ceil: flag("ceil_mode"),
        },
        "AveragePool" => Op::Pool {
            kind: PoolKind::Average {
                count_include_pad: flag("count_include_pad"),
                divisor_override: None,
            },
            window: window(attributes)?,
            ceil: flag("ceil_mode"),
        },
        "GlobalAveragePool" => layers::whole(PoolKind::GlobalAverage),
        "GlobalMaxPool" => layers::whole(PoolKind::GlobalMax),
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
fn window(attributes: &Value) -> Result<Window, String> {
    let two = |name: &str, default: usize| -> Result<[usize; 2], String> {
        match attributes.get(name) {
            None | Some(Value::Null) => Ok([default; 2]),
            Some(list) => match layers::sizes(list, name)?[..] {
                [h, w] => Ok([h, w]),
                [w] => Ok([1, w]),
                _ => Err(format!("`{name}` has neither 1 nor 2 numbers")),
            },
        }
    };
    let [top, bottom, left, right] = match attributes.get("pads") {
        None | Some(Value::Null) => [0; 4],
        Some(list) => match layers::sizes(list, "pads")?[..] {
            // ONNX order: the starts of all axes, then their ends.
            [top, left, bottom, right] => [top, bottom, left, right],
            [left, right] => [0, 0, left, right],
            _ => return Err("`pads` has neither 2 nor 4 numbers".to_owned()),
        },
    };
    Ok(Window {
        kernel: two("kernel_shape", 1)?,
        stride: two("strides", 1)?,
        dilation: two("dilations", 1)?,
        padding: Padding {
            top,
            bottom,
            left,
            right,
        },
    })
}

/// Reshapes a one-dimensional tensor to an image of one row (ReLU takes any shape).
fn widen(tensor: &mut Tensor, op: &str) {
    if tensor.shape.len() == 3 && op != "Relu" {
        tensor.shape.insert(2, 1);
    }
}

/// Converts a max pooling's indices to row-major indices within the plane. ONNX counts them over
/// the whole tensor, within the plane in column-major order if `column_major`.
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
        // In column-major order a stored index is column * h + row; in row-major order it is used
        // as is.
        if column_major {
            *value = (index % h as i64 * w as i64 + index / h as i64) as f64;
        } else {
            *value = index as f64;
        }
    }
    Ok(())
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
        // Indices in the second plane of 2x3, in row-major and column-major order.
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
