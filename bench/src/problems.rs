//! The problems that the benchmarks measure.

use std::path::Path;

use warpconv::problem::{Conv2d, Pool2d, notation};

use super::timed_graph::text;

/// Network, layer and problem, one per line.
const LAYERS: &str = include_str!("../../benches/layers.txt");

/// The layers of `--quick`: a few of each family.
pub const QUICK_LAYERS: [&str; 16] = [
    "alexnet/conv2",
    "alexnet/conv3",
    "googlenet/conv1",
    "googlenet/conv2",
    "googlenet/3a_1x1",
    "googlenet/3a_3x3",
    "googlenet/4c_3x3",
    "googlenet/5b_5x5",
    "vgg16/conv1_2",
    "vgg16/conv4_2",
    "resnet50/res2a_3x3",
    "resnet50/res3a_proj",
    "resnet50/res5b_3x3",
    "resnext50_32x4d/g32_512_14",
    "mobilenet_dw/dw512_14_s1",
    "bottleneck252/naive_3x3_252_252",
];

/// Name and problem of each pooling, in benchdnn notation.
const POOLS: &[(&str, &str)] = &[
    ("alexnet_pool1", "ic96ih55oh27kh3sh2ph0"),
    ("alexnet_pool2", "ic256ih27oh13kh3sh2ph0"),
    ("googlenet_pool1", "ic64ih112oh56kh3sh2ph0+ceil"),
    (
        "googlenet_pool1_indices",
        "ic64ih112oh56kh3sh2ph0+ceil+indices",
    ),
    ("googlenet_pool2", "ic192ih56oh28kh3sh2ph0+ceil"),
    ("googlenet_pool3", "ic480ih28oh14kh3sh2ph0+ceil"),
    ("googlenet_pool4", "ic832ih14oh7kh3sh2ph0+ceil"),
    ("inception_3a_pool", "ic192ih28oh28kh3sh1ph1"),
    ("inception_5b_pool", "ic832ih7oh7kh3sh1ph1"),
    ("vgg16_pool1", "ic64ih224oh112kh2sh2ph0"),
    ("resnet_pool1", "ic64ih112oh56kh3sh2ph1"),
    ("average_2x2", "ic256ih28oh14kh2sh2ph0+avg_np"),
    ("global_average", "ic1024ih7+global_avg"),
];

/// The pools of `--quick`.
pub const QUICK_POOLS: [&str; 4] = [
    "googlenet_pool1",
    "inception_3a_pool",
    "resnet_pool1",
    "global_average",
];

/// GoogLeNet's modules: name, input channels, pixels per side, 1x1, 3x3 (from), 5x5 (from), pool
/// projection.
pub const INCEPTIONS: [(&str, [usize; 8]); 9] = [
    ("3a", [192, 28, 64, 96, 128, 16, 32, 32]),
    ("3b", [256, 28, 128, 128, 192, 32, 96, 64]),
    ("4a", [480, 14, 192, 96, 208, 16, 48, 64]),
    ("4b", [512, 14, 160, 112, 224, 24, 64, 64]),
    ("4c", [512, 14, 128, 128, 256, 24, 64, 64]),
    ("4d", [512, 14, 112, 144, 288, 32, 64, 64]),
    ("4e", [528, 14, 256, 160, 320, 32, 128, 128]),
    ("5a", [832, 7, 256, 160, 320, 32, 128, 128]),
    ("5b", [832, 7, 384, 192, 384, 48, 128, 128]),
];

/// Bottlenecks: channels of the input and output, and channels between the 1x1s.
pub const BOTTLENECKS: [(usize, usize); 2] = [(252, 63), (256, 64)];

/// The networks' convolutions with bias and ReLU, each with its name.
pub fn layers() -> Result<Vec<(String, Conv2d)>, String> {
    table(LAYERS)
}

/// The poolings, each with its name.
pub fn pools() -> Result<Vec<(&'static str, Pool2d)>, String> {
    let pools = POOLS.iter();
    pools
        .map(|&(name, problem)| Ok((name, problem.parse().map_err(text)?)))
        .collect()
}

/// Parses a table of layers: one name and problem per line.
fn table(table: &str) -> Result<Vec<(String, Conv2d)>, String> {
    let mut layers = Vec::new();
    for (number, line) in table.lines().enumerate() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let wrong = |why: String| format!("layers.txt:{}: {why}", number + 1);
        let (name, problem) = line
            .split_once(char::is_whitespace)
            .ok_or_else(|| wrong(String::from("a name and a problem are expected")))?;
        let problem = epilogue(problem.trim()).map_err(wrong)?;
        layers.push((name.to_owned(), problem));
    }
    Ok(layers)
}

/// Reads a benchdnn shape file; three-dimensional problems and poolings are skipped.
pub fn file(path: &Path) -> Result<Vec<(String, Conv2d)>, String> {
    let text = warpconv::files::text(path, warpconv::files::SHAPES)
        .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let mut layers = Vec::new();
    for (number, line) in notation::lines(&text) {
        match epilogue(line) {
            Ok(problem) => layers.push((format!("{stem}/{number}"), problem)),
            Err(why) => println!("{}:{number}: left out: {why}", path.display()),
        }
    }
    Ok(layers)
}

/// Parses a problem and adds bias and ReLU.
fn epilogue(problem: &str) -> Result<Conv2d, String> {
    let problem: Conv2d = problem.parse().map_err(text)?;
    problem
        .to_builder()
        .bias(true)
        .residual(false)
        .relu(true)
        .build()
        .map_err(text)
}
