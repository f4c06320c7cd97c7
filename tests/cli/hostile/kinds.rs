//! Replacements for every kind of file: nothing, a device, a pipe, a folder, half of itself, noise,
//! a terabyte.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::command::Scratch;
use crate::hostile::fixture::{Victim, copy, png, zeros};

/// Runs the table on a victim whose file is as it should be.
pub fn every_replacement(victim: &Victim) {
    let good = fs::read(&victim.file).expect("the file as it should be");
    victim.write(b"");
    victim.refuses("empty", &[]);
    victim.write(&good[..good.len() / 2]);
    victim.refuses("cut in half", &[]);
    victim.write([0xff; 300]);
    victim.refuses("no text of any kind", &[]);
    victim.write("[".repeat(100_000));
    victim.refuses("100,000 lists deep", &[]);

    victim.remove();
    symlink("/dev/zero", &victim.file).expect("a link");
    victim.refuses("a device without end", &["device", "regular file"]);
    victim.remove();
    let made = Command::new("mkfifo").arg(&victim.file).status();
    assert!(made.is_ok_and(|status| status.success()), "mkfifo");
    victim.refuses("a pipe that nobody writes to", &["pipe"]);
    victim.remove();
    fs::create_dir(&victim.file).expect("a folder");
    victim.refuses("a folder", &[]);
    victim.remove();
    let sparse = File::create(&victim.file).expect("a file");
    // Not every file system takes so much.
    if sparse.set_len(1 << 40).is_ok() {
        victim.refuses("a terabyte", &["bytes"]);
    }
    victim.write(&good);
    fs::set_permissions(&victim.file, Permissions::from_mode(0o0)).expect("no permissions");
    // Root may read it all the same.
    if File::open(&victim.file).is_err() {
        victim.refuses("unreadable", &["ermission denied"]);
    }
}

/// A golden case.
pub fn golden(name: &str, file: &str, case: &str) -> Victim {
    let scratch = Scratch::new(name);
    copy(&format!("golden/{case}"), &scratch.0.join("case"));
    let args = [
        "verify", "@/case", "--dtype", "f32", "--math", "strict", "--layout", "nchw",
    ];
    Victim::new(scratch, &format!("case/{file}"), &args)
}

#[test]
fn cases() {
    let victim = golden("kinds-golden", "case.json", "maxpool_2x2_s2");
    victim.accepts();
    every_replacement(&victim);
}

#[test]
fn arrays_of_cases() {
    every_replacement(&golden("kinds-array", "x.npy", "maxpool_2x2_s2"));
}

#[test]
fn arrays_of_onnx_cases() {
    let scratch = Scratch::new("kinds-onnx");
    let case = "onnx/2d/node__test_basic_conv_with_padding";
    copy(case, &scratch.0.join("case"));
    let args = ["verify", "@/case", "--dtype", "f32", "--layout", "nchw"];
    let victim = Victim::new(scratch, "case/y.npy", &args);
    victim.accepts();
    every_replacement(&victim);
}

/// A trained network of one fully connected layer.
fn trained(name: &str, file: &str) -> Victim {
    let scratch = Scratch::new(name);
    let folder = scratch.0.join("net");
    fs::create_dir(&folder).expect("a folder");
    let graph = r#"{"graph": [{"op": "conv2d", "inputs": ["x", "w"], "output": "y",
        "params": {"stride": [1, 1], "pad": [0, 0, 0, 0]}},
        {"op": "flatten", "inputs": ["y"], "output": "z"}]}"#;
    let arrays = [
        ("w", vec![2, 1, 4, 4]),
        ("images", vec![3, 4, 4]),
        ("labels", vec![3]),
        ("logits", vec![3, 2]),
    ];
    fs::write(folder.join("case.json"), graph).expect("a file");
    for (name, shape) in arrays {
        fs::write(folder.join(format!("{name}.npy")), zeros(&shape)).expect("an array");
    }
    let args = ["verify", "@/net", "--dtype", "f32", "--layout", "nchw"];
    Victim::new(scratch, &format!("net/{file}"), &args)
}

#[test]
fn trained_networks() {
    trained("kinds-trained", "w.npy").accepts();
    for file in ["images.npy", "labels.npy", "logits.npy"] {
        every_replacement(&trained("kinds-trained", file));
    }
}

/// The pretrained SqueezeNet's folder, as far as it is read before the first array that is missing.
pub fn squeezenet(name: &str, file: &str) -> Victim {
    let scratch = Scratch::new(name);
    let folder = scratch.0.join("net");
    fs::create_dir(&folder).expect("a folder");
    let expected = r#"{"results": [{"image": "a.png", "top5": [1, 2, 3, 4, 5]}]}"#;
    fs::write(folder.join("expected.json"), expected).expect("a file");
    fs::write(folder.join("input_a.png"), png(64, 64)).expect("a picture");
    for (array, shape) in squeezenet_arrays() {
        fs::write(folder.join(format!("{array}.npy")), zeros(&shape)).expect("an array");
    }
    fs::write(folder.join("logits_a.npy"), zeros(&[1000])).expect("an array");
    let args = [
        "verify",
        "@/net/input_a.png",
        "--dtype",
        "f32",
        "--layout",
        "nchw",
    ];
    Victim::new(scratch, &format!("net/{file}"), &args)
}

/// The arrays of the pretrained SqueezeNet 1.1, by the package ndf's names.
pub fn squeezenet_arrays() -> Vec<(String, Vec<usize>)> {
    let mut arrays = Vec::new();
    let mut layer = |name: String, shape: [usize; 4]| {
        arrays.push((format!("{name}_w"), shape.to_vec()));
        arrays.push((format!("{name}_b"), vec![shape[0]]));
    };
    layer("conv1".to_owned(), [64, 3, 3, 3]);
    let mut channels = 64;
    for (fire, squeeze) in (2..).zip([16, 16, 32, 32, 48, 48, 64, 64]) {
        let expand = 4 * squeeze;
        layer(format!("fire{fire}_squeeze1x1"), [squeeze, channels, 1, 1]);
        layer(format!("fire{fire}_expand1x1"), [expand, squeeze, 1, 1]);
        layer(format!("fire{fire}_expand3x3"), [expand, squeeze, 3, 3]);
        channels = 2 * expand;
    }
    layer("conv10".to_owned(), [1000, channels, 1, 1]);
    arrays
}

#[test]
fn the_pretrained_network() {
    for file in ["expected.json", "conv1_w.npy", "logits_a.npy"] {
        every_replacement(&squeezenet("kinds-squeezenet", file));
    }
}

#[test]
fn networks_of_full_size() {
    for file in ["graph.json", "layers.json", "logits.npy"] {
        let scratch = Scratch::new("kinds-full");
        copy("fullnets/squeezenet11", &scratch.0.join("net"));
        let args = ["nets", "--check", "@/net"];
        every_replacement(&Victim::new(scratch, &format!("net/{file}"), &args));
    }
}

#[test]
fn shape_files() {
    for command in ["verify", "counters", "tune"] {
        let scratch = Scratch::new(&format!("kinds-shapes-{command}"));
        let victim = Victim::new(scratch, "shapes_x", &[command, "@/shapes_x"]);
        // Half of it is no problem either.
        victim.write("ic3oc4_ih5kh9ph0_and_more_than_that");
        every_replacement(&victim);
    }
}

/// `classify` of a picture.
pub fn classify(name: &str, file: &str, args: &[&str]) -> Victim {
    let scratch = Scratch::new(name);
    fs::write(scratch.0.join("a.png"), png(64, 64)).expect("a picture");
    let names: String = (0..1000).map(|class| format!("class {class}\n")).collect();
    fs::write(scratch.0.join("labels.txt"), names).expect("a file");
    let all = [&["classify", "@/a.png"], args].concat();
    Victim::new(scratch, file, &all)
}

#[test]
fn pictures() {
    every_replacement(&classify("kinds-picture", "a.png", &["--random"]));
}

#[test]
fn labels() {
    let args = ["--random", "--labels", "@/labels.txt"];
    let victim = classify("kinds-labels", "labels.txt", &args);
    victim.accepts();
    every_replacement(&victim);
}
