//! Real networks on real images: the pretrained SqueezeNet, and the trained networks with their
//! test images.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};
use warpconv::DType;
use warpconv::kernels::Math;
use warpconv_testing::network_tolerance;

use super::case::{Acceptance, Case, Expected};
use super::execute::Tensors;
use super::layers::{self, Layer, Tensor};
use crate::image::{self, Preprocessing};
use warpconv_testing::case_files::json;
use warpconv_testing::case_files::npy;

/// A network with its images and expected classes.
pub struct Classified {
    /// The graph, the weights, the images as one batch `x`, and the logits to compare with.
    pub case: Case,
    /// Expected classes of the images.
    pub classes: Classes,
}

/// Expected classes of a network's images.
pub enum Classes {
    /// The five most probable classes of the image, in order.
    Top5(Vec<usize>),
    /// The labels of the images, to count correct classes as for the reference.
    Labels(Vec<usize>),
}

/// Maximum rows and columns of an image for SqueezeNet, four times those in training: images are
/// not resized here.
const MAX_SIDE: u32 = 1024;

/// The name of the logits in a trained network's case.
const LOGITS: &str = "logits.npy";

/// Reads a folder of `trained/`, with the first `count` test images.
pub fn trained(folder: &Path, count: usize) -> Result<Classified, String> {
    let json = json::read(&folder.join("case.json"))?;
    let layers = layers::parse(json.get("graph").ok_or("`graph` is missing")?)?;
    let images = npy::read(&folder.join("images.npy"))?;
    let &[stored, h, w] = &images.shape[..] else {
        return Err(format!(
            "images.npy has shape {:?}, not (images, rows, columns)",
            images.shape
        ));
    };
    let count = count.min(stored);
    let mut tensors = weights(folder, &layers)?;
    let pixels = images.data[..count * h * w]
        .iter()
        .map(|value| value / 255.0 - 0.5)
        .collect();
    tensors.insert(
        "x".to_owned(),
        Tensor {
            shape: vec![count, 1, h, w],
            data: pixels,
        },
    );

    let logits = npy::read(&folder.join(LOGITS))?;
    let classes = match logits.shape[..] {
        [rows, classes] if rows >= count => classes,
        _ => {
            return Err(format!(
                "{LOGITS} has shape {:?} for {count} images",
                logits.shape
            ));
        }
    };
    let labels = npy::read(&folder.join("labels.npy"))?;
    let labels: Vec<usize> = labels
        .data
        .iter()
        .take(count)
        .map(|&label| label as usize)
        .collect();
    if labels.len() < count {
        return Err(format!(
            "labels.npy has {} labels for {count} images",
            labels.len()
        ));
    }
    let values = Tensor {
        shape: vec![count, classes],
        data: logits.data[..count * classes].to_vec(),
    };
    let case = network_case(layers, tensors, values)?;
    Ok(Classified {
        case,
        classes: Classes::Labels(labels),
    })
}

/// Reads SqueezeNet and one of its images, `input_NAME.png`.
pub fn squeezenet(picture: &Path) -> Result<Classified, String> {
    let folder = picture.parent().unwrap_or(Path::new(""));
    let stem = picture
        .file_stem()
        .and_then(|stem| stem.to_str())
        .and_then(|stem| stem.strip_prefix("input_"));
    let stem = stem.ok_or_else(|| format!("{}: not named input_*.png", picture.display()))?;
    let json = json::read(&folder.join("expected.json"))?;
    let results = json
        .get("results")
        .and_then(Value::as_array)
        .ok_or("`results` is no list")?;
    let named = |result: &&Value| {
        let image = result
            .get("image")
            .and_then(Value::as_str)
            .and_then(|image| image.split('.').next());
        image == Some(stem)
    };
    let result = results
        .iter()
        .find(named)
        .ok_or_else(|| format!("expected.json has no `{stem}`"))?;
    let top5 = layers::sizes(result.get("top5").unwrap_or(&Value::Null), "top5")?;

    let layers = layers::parse(&squeezenet_graph())?;
    let mut tensors = weights(folder, &layers)?;
    tensors.insert("x".to_owned(), pixels(picture)?);
    let mut values = npy::read(&folder.join(format!("logits_{stem}.npy")))?;
    values.shape.insert(0, 1);
    let case = network_case(layers, tensors, values)?;
    Ok(Classified {
        case,
        classes: Classes::Top5(top5),
    })
}

/// The case of a network: its types, and the tolerance of its logits.
fn network_case(layers: Vec<Layer>, tensors: Tensors, values: Tensor) -> Result<Case, String> {
    let y = layers
        .last()
        .map(|layer| layer.output.clone())
        .ok_or("`graph` has no layer")?;
    let largest = values
        .data
        .iter()
        .fold(0.0f64, |largest, value| largest.max(value.abs()));
    // Each f32 logit has the bound stored with the full-size networks; other types have twice the
    // norm's bound, relative to the largest logit.
    let near = |dtype: DType| {
        let rel_l2 = network_tolerance(dtype);
        let atol = match dtype {
            DType::F32 => 1e-4,
            DType::F16 | DType::Bf16 => 2.0 * rel_l2 * largest,
        };
        Acceptance::Close {
            atol: Some(atol),
            rtol: 0.0,
            rel_l2: Some(rel_l2),
        }
    };
    let acceptance = DType::ALL.map(|dtype| (dtype.name(), near(dtype)));
    let acceptance = HashMap::from(acceptance);
    let expected = vec![Expected {
        tensor: y,
        values,
        acceptance,
    }];
    let (dtypes, other_dtypes) = (DType::ALL.to_vec(), Vec::new());
    // There are no stored bounds for the other modes.
    let maths = &[Math::Strict];
    Ok(Case {
        op: "network".to_owned(),
        layers,
        one_operation: false,
        tensors,
        expected,
        dtypes,
        maths,
        other_dtypes,
    })
}

/// Reads every tensor that the layers read and none of them writes, except `x`.
fn weights(folder: &Path, layers: &[Layer]) -> Result<Tensors, String> {
    let mut tensors = HashMap::new();
    for name in layers.iter().flat_map(|layer| &layer.inputs) {
        let made = layers.iter().any(|layer| layer.output == *name);
        if name != "x" && !made && !tensors.contains_key(name) {
            tensors.insert(
                name.clone(),
                npy::read(&folder.join(format!("{name}.npy")))?,
            );
        }
    }
    Ok(tensors)
}

/// Reads an image in its own size, preprocessed for SqueezeNet.
fn pixels(path: &Path) -> Result<Tensor, String> {
    let picture = image::read(path)?.to_rgb8();
    let (width, height) = picture.dimensions();
    if width.max(height) > MAX_SIDE {
        return Err(format!(
            "{}: {width}x{height} pixels, the network is computed of up to {MAX_SIDE} per side: \
             scale the picture down",
            path.display()
        ));
    }
    Ok(Tensor {
        shape: vec![1, 3, height as usize, width as usize],
        data: Preprocessing::Ndf.normalised(&picture),
    })
}

/// SqueezeNet 1.1 as the JSON of a case; tensors are named like the files.
fn squeezenet_graph() -> Value {
    let mut layers = conv(
        "conv1",
        "x",
        json!({"stride": [2, 2], "pad": [1, 1, 1, 1]}),
        true,
    );
    layers.push(pool("conv1", "pool1"));
    let mut input = "pool1".to_owned();
    for fire in 2..=9 {
        let part = |name: &str| format!("fire{fire}_{name}");
        let (squeeze, small, large) = (part("squeeze1x1"), part("expand1x1"), part("expand3x3"));
        layers.extend(conv(&squeeze, &input, json!({}), true));
        layers.extend(conv(&small, &squeeze, json!({}), true));
        layers.extend(conv(&large, &squeeze, json!({"pad": [1, 1, 1, 1]}), true));
        let output = format!("fire{fire}");
        let parts = [small, large];
        layers.push(
            json!({"op": "concat", "inputs": parts, "output": output, "params": {"axis": 1}}),
        );
        input = output;
        if fire == 3 || fire == 5 {
            let pooled = format!("pool{fire}");
            layers.push(pool(&input, &pooled));
            input = pooled;
        }
    }
    layers.extend(conv("conv10", &input, json!({}), false));
    layers.push(json!({"op": "global_avgpool2d", "inputs": ["conv10"], "output": "mean"}));
    layers.push(json!({"op": "flatten", "inputs": ["mean"], "output": "logits"}));
    Value::Array(layers)
}

/// A convolution of SqueezeNet, with its ReLU if it has one.
fn conv(name: &str, input: &str, params: Value, relu: bool) -> Vec<Value> {
    let made = if relu {
        format!("{name}_before_relu")
    } else {
        name.to_owned()
    };
    let inputs = [input.to_owned(), format!("{name}_w"), format!("{name}_b")];
    let mut layers =
        vec![json!({"op": "conv2d", "inputs": inputs, "output": made, "params": params})];
    if relu {
        layers.push(json!({"op": "relu", "inputs": [made], "output": name}));
    }
    layers
}

/// A pool of SqueezeNet.
fn pool(input: &str, output: &str) -> Value {
    let params = json!({"kernel": [3, 3], "stride": [2, 2]});
    json!({"op": "maxpool2d", "inputs": [input], "output": output, "params": params})
}

impl Classes {
    /// Compares the classes of the logits with the reference's. In f32 they must be equal. In other
    /// types the order of two classes counts only if their reference logits differ enough: by more
    /// than twice `slack`, the error bound of each logit.
    pub fn compare(&self, logits: &[f64], reference: &[f64], slack: f64) -> Result<String, String> {
        match self {
            Classes::Top5(expected) => {
                let got = best(logits, expected.len());
                let apart = |a: usize, b: usize| match (reference.get(a), reference.get(b)) {
                    (Some(a), Some(b)) => (a - b).abs() > 2.0 * slack,
                    _ => true,
                };
                let wrong = got
                    .iter()
                    .zip(expected)
                    .any(|(&got, &wanted)| got != wanted && apart(got, wanted));
                if wrong || got.len() < expected.len() {
                    return Err(format!(
                        "the best classes are {got:?} instead of {expected:?}"
                    ));
                }
                Ok(format!("top-{} {got:?}", expected.len()))
            }
            Classes::Labels(labels) => {
                let width = logits.len() / labels.len().max(1);
                let (mut right, mut different) = (0, 0);
                for (image, &label) in labels.iter().enumerate() {
                    let row = image * width..(image + 1) * width;
                    let (got, wanted) = (
                        best(&logits[row.clone()], 1),
                        best(&reference[row.clone()], 2),
                    );
                    right += usize::from(got.first() == Some(&label));
                    let margin = match wanted[..] {
                        [first, second] => {
                            reference[row.start + first] - reference[row.start + second]
                        }
                        _ => f64::INFINITY,
                    };
                    if got.first() != wanted.first() && margin > 2.0 * slack {
                        different += 1;
                    }
                }
                if different > 0 {
                    return Err(format!(
                        "{different} of {} images get another class than the reference's",
                        labels.len()
                    ));
                }
                Ok(format!("{right} of {} images right", labels.len()))
            }
        }
    }
}

/// The `count` classes with the largest logits, best first.
pub fn best(logits: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));
    order.truncate(count);
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::layers::with_epilogues;

    #[test]
    fn squeezenet_fuses_into_its_convolutions_and_pools() {
        let layers = layers::parse(&squeezenet_graph()).expect("a graph");
        let launches = with_epilogues(&layers);
        let count = |name: &str| {
            let named = launches
                .iter()
                .filter(|launch| launch.layer.op.name() == name);
            named.count()
        };
        assert_eq!(
            (
                count("conv2d"),
                count("maxpool2d"),
                count("concat"),
                count("relu")
            ),
            (26, 3, 8, 0)
        );
        assert_eq!(launches.iter().filter(|launch| launch.relu).count(), 25);
    }

    #[test]
    fn classes_are_judged_with_the_slack_that_the_type_has() {
        let reference = [0.0, 3.0, 2.9, 1.0];
        let top = Classes::Top5(vec![1, 2]);
        assert!(top.compare(&[0.0, 3.0, 2.9, 1.0], &reference, 0.0).is_ok());
        assert!(top.compare(&[0.0, 2.9, 3.0, 1.0], &reference, 0.0).is_err());
        assert!(top.compare(&[0.0, 2.9, 3.0, 1.0], &reference, 0.1).is_ok());
        assert!(top.compare(&[0.0, 2.9, 1.0, 3.0], &reference, 0.1).is_err());
        let labels = Classes::Labels(vec![0, 1]);
        assert_eq!(
            labels.compare(&[1.0, 0.0, 1.0, 0.0], &[1.0, 0.0, 1.0, 0.0], 0.0),
            Ok("1 of 2 images right".into())
        );
        assert!(
            labels
                .compare(&[0.0, 1.0, 1.0, 0.0], &[1.0, 0.0, 1.0, 0.0], 0.0)
                .is_err()
        );
    }
}
