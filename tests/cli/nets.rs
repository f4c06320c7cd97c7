//! `warpconv nets` and `classify` as a user meets them, and weights from a file. Everything runs on
//! the emulator.

use crate::command::Scratch;
use std::collections::HashMap;
use std::fs;
use std::process::{Command, Output, Stdio};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use warpconv::Error;
use warpconv_nets::{Edges, Network, NetworkConfig, Variant, squeezenet1_1};

fn warpconv<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Output {
    Command::new(crate::paths::warpconv())
        .args(args)
        .args(["--device", "emulator:80"])
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// At full size, against PyTorch's logits and the statistics of every layer; a wrong number is
/// found.
#[test]
fn squeezenet_equals_the_stored_one_layer_by_layer() {
    let stored = crate::paths::data().join("fullnets/squeezenet11");
    let output = warpconv(&["nets".as_ref(), "--check".as_ref(), stored.as_os_str()]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("30 layers, 0 failed"));

    let scratch = Scratch::new("check");
    for name in ["graph.json", "logits.npy"] {
        fs::write(scratch.file(name), fs::read(stored.join(name)).unwrap()).unwrap();
    }
    let text = fs::read_to_string(stored.join("layers.json")).unwrap();
    let mut layers: Value = serde_json::from_str(&text).unwrap();
    let rms = layers[1]["rms"].as_f64().unwrap();
    layers[1]["rms"] = (rms * 1.001).into();
    fs::write(scratch.file("layers.json"), layers.to_string()).unwrap();
    let output = warpconv(&["nets".as_ref(), "--check".as_ref(), scratch.0.as_os_str()]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("30 layers, 1 failed"));
}

#[test]
fn a_small_network_is_checked_and_the_picture_drawn() {
    let scratch = Scratch::new("run");
    let (svg, json) = (scratch.file("nets.svg"), scratch.file("nets.json"));
    let mut args: Vec<std::ffi::OsString> = vec!["nets".into(), "lenet".into(), "--svg".into()];
    args.extend([svg.clone().into(), "--json".into(), json.clone().into()]);
    let output = warpconv(&args);
    assert!(output.status.success(), "{}", said(&output));
    let found: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let rows = found["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    assert!(rows.iter().all(|row| row["verified"] == true));
    assert_eq!(rows[0]["parameters"], 60_000);
    assert!(said(&output).contains("2 checks of networks against the f64 reference, 0 failed"));

    args[1] = "squeezenet".into();
    args.push("--count-only".into());
    let output = warpconv(&args);
    assert!(output.status.success(), "{}", said(&output));
    let picture = fs::read_to_string(&svg).unwrap();
    assert!(picture.contains("SqueezeNet 1.1 (1.2 M)") && picture.contains("<circle"));
    let found: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let macs = |row: usize| found["rows"][row]["macs"].as_f64().unwrap();
    assert!((macs(1) / macs(0) - 0.14).abs() < 0.001);

    assert_eq!(warpconv(&["nets", "nothing"]).status.code(), Some(2));
}

#[test]
fn a_picture_is_classified_and_bad_input_is_said() {
    let scratch = Scratch::new("classify");
    let (picture, json) = (scratch.file("picture.png"), scratch.file("top.json"));
    let gradient = image::RgbImage::from_fn(90, 70, |x, y| image::Rgb([x as u8, y as u8, 90]));
    gradient.save(&picture).unwrap();
    let mut args: Vec<std::ffi::OsString> = vec!["classify".into(), picture.into()];
    args.extend(["--json".into(), json.clone().into()]);
    // Classes of weights that nobody trained are no answer: they have to be asked for.
    let output = warpconv(&args);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    for option in ["--weights", "--random"] {
        assert!(said(&output).contains(option), "{}", said(&output));
    }
    assert!(!json.exists(), "nothing was classified");
    let mut both = args.clone();
    both.extend(["--random".into(), "--weights".into(), "w".into()]);
    assert_eq!(warpconv(&both).status.code(), Some(2));
    let mut random = args.clone();
    random.push("--random".into());
    let output = warpconv(&random);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("drawn by seed"));
    let found: Value = serde_json::from_str(&fs::read_to_string(&json).unwrap()).unwrap();
    let top = found["top"].as_array().unwrap();
    let share = |rank: usize| top[rank]["share"].as_f64().unwrap();
    assert!(top.len() == 5 && share(0) >= share(4) && share(4) > 0.0);

    let missing = scratch.file("nothing.safetensors");
    args.extend(["--weights".into(), missing.into()]);
    let output = warpconv(&args);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said(&output).contains("nothing.safetensors"),
        "{}",
        said(&output)
    );
    let none = scratch.file("none.png");
    assert_eq!(
        warpconv(&["classify".as_ref(), none.as_os_str(), "--random".as_ref()])
            .status
            .code(),
        Some(2)
    );
}

fn network() -> Network {
    squeezenet1_1(
        &NetworkConfig::new(1, 35),
        Edges::TORCHVISION,
        Variant::Bottlenecked,
    )
    .unwrap()
}

/// Exact numbers of bf16 and f32 come back; what is missing or of another shape is named.
#[test]
fn weights_are_read_from_a_file() {
    let network = network();
    let weights = network.random(10);
    let mut files = HashMap::new();
    for (parameter, operands) in network.parameters().iter().zip(&weights) {
        let filters: Vec<u8> = operands
            .w
            .iter()
            .flat_map(|w| (*w as f32).to_le_bytes())
            .collect();
        files.insert(
            format!("{}.weight", parameter.name),
            (Dtype::F32, parameter.shape().to_vec(), filters),
        );
        let bias = operands.bias.iter().flatten();
        let bias: Vec<u8> = bias
            .flat_map(|b| half::bf16::from_f64(*b).to_le_bytes())
            .collect();
        files.insert(
            format!("{}.bias", parameter.name),
            (Dtype::BF16, vec![parameter.conv.output().c()], bias),
        );
    }
    let scratch = Scratch::new("weights");
    let path = scratch.file("weights.safetensors");
    let write = |files: &HashMap<String, (Dtype, Vec<usize>, Vec<u8>)>| {
        let views = files.iter().map(|(name, (dtype, shape, data))| {
            (
                name.clone(),
                TensorView::new(*dtype, shape.clone(), data).unwrap(),
            )
        });
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    };
    write(&files);
    let read = network.read_safetensors(&path).unwrap();
    for (read, drawn) in read.iter().zip(&weights) {
        assert_eq!(read.w, drawn.w);
        let rounded = drawn
            .bias
            .iter()
            .flatten()
            .map(|&b| half::bf16::from_f64(b).to_f64());
        assert_eq!(read.bias, Some(rounded.collect()));
    }

    let name = "features.3.squeeze.weight";
    files.get_mut(name).unwrap().1 = vec![64, 16, 1, 1];
    write(&files);
    let reason = String::from("shape [64, 16, 1, 1], the layer takes [16, 64, 1, 1]");
    let wrong = Error::Weights {
        name: format!("{}: {name}", path.display()),
        reason,
    };
    assert_eq!(network.read_safetensors(&path).unwrap_err(), wrong);
    files.remove(name);
    write(&files);
    let reason = String::from("missing, the layer takes shape [16, 64, 1, 1]");
    let wrong = Error::Weights {
        name: format!("{}: {name}", path.display()),
        reason,
    };
    assert_eq!(network.read_safetensors(&path).unwrap_err(), wrong);
    fs::write(&path, b"not a file of tensors").unwrap();
    assert!(matches!(
        network.read_safetensors(&path),
        Err(Error::Weights { .. })
    ));
}
