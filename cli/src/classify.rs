//! `classify`: classes of an image by SqueezeNet.

use std::path::Path;

use half::{bf16, f16};
use serde_json::{Value, json};
use warpconv::DType;
use warpconv::Error;
use warpconv::device::Gpu;
use warpconv::files;
use warpconv::plan::Tuning;
use warpconv_nets::{Edges, Named, Network, NetworkConfig, Variant, squeezenet1_1};
use warpconv_testing::{GraphOnDevice, Operands, Stored};

use crate::args::{ClassifyArgs, Global};
use crate::device;
use crate::exit::Failure;
use crate::image::{self, Preprocessing};
use crate::output::{JsonFile, say};
use crate::tuning;
use crate::verify::best;
use warpconv_testing::case_files::npy;

/// Number of classes that are printed.
const TOP: usize = 5;
/// Number of classes of the network.
const CLASSES: usize = 1000;

/// Runs the command.
pub fn command(global: &Global, args: &ClassifyArgs) -> Result<(), Failure> {
    let json = JsonFile::create(global.json.as_deref())?;
    let picture = image::read(&args.picture).map_err(Failure::input)?;
    let labels = args
        .labels
        .as_deref()
        .map(|path| labels(path, CLASSES))
        .transpose()?;
    // A folder has the arrays of the package ndf, a file torchvision's tensors.
    let folder = args.weights.as_deref().filter(|path| path.is_dir());
    let (preprocessing, edges, size) = match folder {
        Some(_) => (Preprocessing::Ndf, Edges::NDF, 227),
        None => (Preprocessing::Torchvision, Edges::TORCHVISION, 224),
    };
    let dtype = args.dtype.map_or(DType::F32, DType::from);
    let config = match dtype {
        DType::F32 => NetworkConfig::new(1, size),
        DType::F16 | DType::Bf16 => NetworkConfig::tensor(1, size, dtype),
    };
    let network = squeezenet1_1(&config, edges, Variant::Bottlenecked).map_err(Failure::input)?;
    let weights = match (&args.weights, folder) {
        (_, Some(folder)) => arrays(&network, folder)?,
        (Some(file), None) => network.read_safetensors(file).map_err(Failure::input)?,
        (None, None) => network.random(10),
    };
    let gpu = device::open(global.device)?;
    let tuning = tuning::load(global, &gpu);
    let x = preprocessing.square(&picture, size as u32);
    let logits = match dtype {
        DType::F32 => run::<f32>(&gpu, &tuning, &network, &x, weights)?,
        DType::F16 => run::<f16>(&gpu, &tuning, &network, &x, weights)?,
        DType::Bf16 => run::<bf16>(&gpu, &tuning, &network, &x, weights)?,
    };
    if let Some(logit) = logits.iter().find(|logit| !logit.is_finite()) {
        let (weights, dtype) = (args.weights.as_deref(), dtype.name());
        return Err(Failure::Input(format!(
            "{}: a logit is {logit} in {dtype}: give trained weights, or --dtype f32",
            weights.unwrap_or(Path::new("weights")).display()
        )));
    }
    let classes = best(&logits, TOP);
    let shares = softmax(&logits);
    if args.random {
        say("Weights are drawn by seed: the classes are meaningless. See --weights.")?;
    }
    let name = |class: usize| labels.as_ref().and_then(|labels| labels.get(class));
    for (rank, &class) in classes.iter().enumerate() {
        let share = shares[class] * 100.0;
        let name = name(class).map_or(String::new(), |name| format!("  {name}"));
        say(format_args!(
            "{}. class {class:>3}  {share:5.1}%{name}",
            rank + 1
        ))?;
    }
    if let Some(file) = json {
        let top: Vec<Value> = classes
            .iter()
            .map(|&class| {
                json!({"class": class, "share": shares[class], "logit": logits[class],
            "name": name(class)})
            })
            .collect();
        file.write(&json!({"device": device::to_json(&gpu), "dtype": dtype.name(), "top": top}))?;
    }
    Ok(())
}

fn run<T: Stored>(
    gpu: &Gpu,
    tuning: &Tuning,
    network: &Network,
    x: &[f64],
    weights: Vec<Operands>,
) -> Result<Vec<f64>, Failure> {
    let module = network.graph().clone().sharing_buffers();
    let loaded = GraphOnDevice::<T>::with(gpu, gpu.stream(), &module, tuning, x, weights);
    let mut loaded = loaded.map_err(Failure::device)?;
    loaded.launch().map_err(Failure::device)?;
    let outputs = loaded.outputs().map_err(Failure::device)?;
    Ok(outputs.into_iter().flat_map(|(_, values)| values).collect())
}

/// Reads the arrays of a folder, named `conv1_w`, `conv1_b`, `fire2_squeeze1x1_w` and so on, under
/// this crate's names.
fn arrays(network: &Network, folder: &Path) -> Result<Vec<Operands>, Failure> {
    let found = network.read(|name| {
        let Some(stem) = array_name(name) else {
            return Ok(None);
        };
        let path = folder.join(format!("{stem}.npy"));
        if !path.exists() {
            return Ok(None);
        }
        let array = npy::read(&path).map_err(|reason| Error::Weights {
            name: name.to_owned(),
            reason,
        })?;
        Ok(Some(Named {
            shape: array.shape,
            values: array.data,
        }))
    });
    found.map_err(|error| {
        let file = match &error {
            Error::Weights { name, .. } => array_name(name).map(|stem| format!(" ({stem}.npy)")),
            _ => None,
        };
        let file = file.unwrap_or_default();
        Failure::Input(format!("{}{file}: {error}", folder.display()))
    })
}

/// Name in the package ndf of a tensor of torchvision's: that of `features.3.squeeze.weight` is
/// `fire2_squeeze1x1_w`.
fn array_name(name: &str) -> Option<String> {
    const FIRE: [&str; 8] = ["3", "4", "6", "7", "9", "10", "11", "12"];
    let (layer, kind) = name.rsplit_once('.')?;
    let kind = match kind {
        "weight" => "w",
        "bias" => "b",
        _ => return None,
    };
    let stem = match layer {
        "features.0" => "conv1".to_owned(),
        "classifier.1" => "conv10".to_owned(),
        fire => {
            let (index, part) = fire.strip_prefix("features.")?.split_once('.')?;
            let fire = 2 + FIRE.iter().position(|known| *known == index)?;
            let part = if part == "squeeze" {
                "squeeze1x1"
            } else {
                part
            };
            format!("fire{fire}_{part}")
        }
    };
    Some(format!("{stem}_{kind}"))
}

/// Reads the names of `classes` classes, one per line.
fn labels(path: &Path, classes: usize) -> Result<Vec<String>, Failure> {
    let text = files::text(path, files::LABELS).map_err(|error| Failure::File {
        path: path.to_owned(),
        error,
    })?;
    let lines = text.lines().count();
    if lines != classes {
        // With one more name, as for a background class, every name would be shifted by one class.
        return Err(Failure::Input(format!(
            "{}: {lines} names, the network has {classes} classes: give one name per line, class 0 \
             first",
            path.display()
        )));
    }
    Ok(text.lines().map(str::to_owned).collect())
}

/// Softmax of the logits: shares that add up to one.
fn softmax(logits: &[f64]) -> Vec<f64> {
    let largest = logits
        .iter()
        .fold(f64::NEG_INFINITY, |most, &value| most.max(value));
    let powers: Vec<f64> = logits.iter().map(|value| (value - largest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|power| power / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_have_their_names() {
        let name = |name| array_name(name).expect("a name");
        assert_eq!(name("features.0.weight"), "conv1_w");
        assert_eq!(name("features.3.squeeze.bias"), "fire2_squeeze1x1_b");
        assert_eq!(name("features.12.expand3x3.weight"), "fire9_expand3x3_w");
        assert_eq!(name("classifier.1.bias"), "conv10_b");
        assert_eq!(array_name("fc.weight"), None);
    }

    #[test]
    fn shares_sum_to_one() {
        let shares = softmax(&[1000.0, 1000.0, f64::NEG_INFINITY]);
        assert_eq!(shares, [0.5, 0.5, 0.0]);
    }
}
