//! GoogLeNet.

use super::network::Network;
use super::{Builder, Conv, NetworkConfig, Tensor, Variant};
use warpconv::error::Error;

/// Widths of an inception module: 1x1, 3x3 reduction, 3x3, 5x5 reduction, 5x5, projection after the
/// pooling.
type Widths = [usize; 6];

/// Constant that torchvision's batch normalisations of this network add to the variance:
/// `BatchNorm2d(out_channels, eps=0.001)` in `BasicConv2d` of github.com/pytorch/vision,
/// `torchvision/models/googlenet.py`.
const NORM_EPSILON: f64 = 1e-3;

/// Szegedy et al., Going Deeper with Convolutions, 2014: nine inception modules, and a global mean
/// before the classifier. The two auxiliary classifiers, which serve training only, are left out.
///
/// [`Variant::Naive`] applies the 3x3 and 5x5 filters directly to the input of each module, without
/// reductions.
///
/// Names are torchvision's (`conv1.conv`, `inception3a.branch2.0.conv` and so on). Its batch
/// normalisations are folded where a file has them, with 1e-3 added to their variance.
/// torchvision's third branch has 3x3 filters by mistake; this one has the paper's 5x5.
///
/// # Errors
/// As [`Builder::finish`].
pub fn googlenet(config: &NetworkConfig, variant: Variant) -> Result<Network, Error> {
    let (mut net, x) = Builder::new(config, 3);
    net.norm_epsilon(NORM_EPSILON);
    let x = layer(&mut net, "conv1", x, Conv::new(64, 7).stride(2).padding(3));
    let x = net.max_pool_ceil("maxpool1", x, 3, 2);
    let x = net.lrn("norm1", x, crate::GOOGLENET_LRN);
    let x = layer(&mut net, "conv2", x, Conv::new(64, 1));
    let x = layer(&mut net, "conv3", x, Conv::new(192, 3).padding(1));
    let x = net.lrn("norm2", x, crate::GOOGLENET_LRN);
    let mut x = net.max_pool_ceil("maxpool2", x, 3, 2);
    for (name, widths) in [
        ("3a", [64, 96, 128, 16, 32, 32]),
        ("3b", [128, 128, 192, 32, 96, 64]),
    ] {
        x = inception(&mut net, name, x, widths, variant);
    }
    x = net.max_pool_ceil("maxpool3", x, 3, 2);
    for (name, widths) in [
        ("4a", [192, 96, 208, 16, 48, 64]),
        ("4b", [160, 112, 224, 24, 64, 64]),
        ("4c", [128, 128, 256, 24, 64, 64]),
        ("4d", [112, 144, 288, 32, 64, 64]),
        ("4e", [256, 160, 320, 32, 128, 128]),
    ] {
        x = inception(&mut net, name, x, widths, variant);
    }
    x = net.max_pool_ceil("maxpool4", x, 3, 2);
    for (name, widths) in [
        ("5a", [256, 160, 320, 32, 128, 128]),
        ("5b", [384, 192, 384, 48, 128, 128]),
    ] {
        x = inception(&mut net, name, x, widths, variant);
    }
    let x = net.global_mean("avgpool", x);
    let x = net.linear("fc", x, 1000, false);
    net.finish(x)
}

/// A convolution with its ReLU, under torchvision's names of the convolution and its normalisation.
fn layer(net: &mut Builder, name: &str, x: Tensor, conv: Conv) -> Tensor {
    net.conv_norm(format!("{name}.conv"), format!("{name}.bn"), x, conv.relu())
}

/// Four branches over the same input, concatenated along the channels.
fn inception(
    net: &mut Builder,
    module: &str,
    x: Tensor,
    [k1, reduce3, k3, reduce5, k5, projection]: Widths,
    variant: Variant,
) -> Tensor {
    let name = |branch: &str| format!("inception{module}.{branch}");
    let branch1 = layer(net, &name("branch1"), x, Conv::new(k1, 1));
    // Inputs of the 3x3 and 5x5 filters.
    let reduced = |net: &mut Builder, branch: &str, width: usize| match variant {
        Variant::Bottlenecked => layer(net, &name(branch), x, Conv::new(width, 1)),
        Variant::Naive => x,
    };
    let few = reduced(net, "branch2.0", reduce3);
    let branch2 = layer(net, &name("branch2.1"), few, Conv::new(k3, 3).padding(1));
    let few = reduced(net, "branch3.0", reduce5);
    let branch3 = layer(net, &name("branch3.1"), few, Conv::new(k5, 5).padding(2));
    let pooled = net.max_pool_same(name("branch4.0"), x);
    let branch4 = layer(net, &name("branch4.1"), pooled, Conv::new(projection, 1));
    net.concat(&[branch1, branch2, branch3, branch4])
}
