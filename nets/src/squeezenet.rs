//! SqueezeNet.

use super::network::Network;
use super::{Builder, Conv, NetworkConfig, Tensor, Variant};
use warpconv::error::Error;

/// Options of the first and the last layer, in which the published forms differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edges {
    /// Zero padding of the first layer, in pixels.
    pub padding: usize,
    /// True if the classifier has a ReLU before the mean.
    pub relu: bool,
}

impl Edges {
    /// torchvision's and ONNX's: no padding, a ReLU.
    pub const TORCHVISION: Edges = Edges {
        padding: 0,
        relu: true,
    };
    /// The weights of the Python package `ndf`: a pixel of padding, no ReLU; pictures of 227
    /// pixels.
    pub const NDF: Edges = Edges {
        padding: 1,
        relu: false,
    };
}

/// Iandola et al., SqueezeNet, 2016, version 1.1: eight fire modules (bottlenecks without the last
/// layer), no fully connected layer.
///
/// [`Variant::Naive`] has one 3x3 convolution on all channels in place of each fire module.
///
/// Names are torchvision's: `features.0`, `features.3.squeeze`, `features.3.expand1x1`,
/// `features.3.expand3x3`, ..., `classifier.1`.
///
/// # Errors
/// As [`Builder::finish`].
pub fn squeezenet1_1(
    config: &NetworkConfig,
    edges: Edges,
    variant: Variant,
) -> Result<Network, Error> {
    let (mut net, x) = Builder::new(config, 3);
    let x = net.conv(
        "features.0",
        x,
        Conv::new(64, 3).stride(2).padding(edges.padding).relu(),
    );
    let mut x = net.max_pool("features.2", x, 3, 2);
    for (index, squeeze, expand) in [
        (3, 16, 64),
        (4, 16, 64),
        (6, 32, 128),
        (7, 32, 128),
        (9, 48, 192),
        (10, 48, 192),
        (11, 64, 256),
        (12, 64, 256),
    ] {
        // Layers between the modules have the number before the module's in torchvision.
        if index == 6 || index == 9 {
            x = net.max_pool(format!("features.{}", index - 1), x, 3, 2);
        }
        x = fire(
            &mut net,
            &format!("features.{index}"),
            x,
            squeeze,
            expand,
            variant,
        );
    }
    let classifier = Conv::new(1000, 1);
    let classifier = if edges.relu {
        classifier.relu()
    } else {
        classifier
    };
    let x = net.conv("classifier.1", x, classifier);
    let x = net.global_mean("classifier.3", x);
    net.finish(x)
}

/// A 1x1 squeeze layer to few channels, then 1x1 and 3x3 convolutions that are concatenated.
fn fire(
    net: &mut Builder,
    name: &str,
    x: Tensor,
    squeeze: usize,
    expand: usize,
    variant: Variant,
) -> Tensor {
    if variant == Variant::Naive {
        return net.conv(name, x, Conv::new(2 * expand, 3).padding(1).relu());
    }
    let x = net.conv(format!("{name}.squeeze"), x, Conv::new(squeeze, 1).relu());
    let pixels = net.conv(format!("{name}.expand1x1"), x, Conv::new(expand, 1).relu());
    let windows = Conv::new(expand, 3).padding(1).relu();
    let windows = net.conv(format!("{name}.expand3x3"), x, windows);
    net.concat(&[pixels, windows])
}
