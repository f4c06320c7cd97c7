//! ResNet.

use super::network::Network;
use super::{Builder, Conv, NetworkConfig, Tensor, Variant};
use warpconv::error::Error;

/// He, Zhang, Ren and Sun, Deep Residual Learning for Image Recognition, 2015: fifty layers,
/// sixteen bottlenecks. The batch normalisations are folded into the convolutions. A stride of 2
/// sits on the 3x3, as in torchvision; the paper has it on the first 1x1.
///
/// [`Variant::Naive`] has one 3x3 convolution of all channels in place of each bottleneck's three.
///
/// Names are torchvision's: `conv1` with `bn1`, `layer1.0.conv1` with `layer1.0.bn1`,
/// `layer1.0.downsample.0` with `layer1.0.downsample.1`, `fc`.
///
/// # Errors
/// As [`Builder::finish`].
pub fn resnet50(config: &NetworkConfig, variant: Variant) -> Result<Network, Error> {
    let (mut net, x) = Builder::new(config, 3);
    let x = net.conv_norm(
        "conv1",
        "bn1",
        x,
        Conv::new(64, 7).stride(2).padding(3).relu(),
    );
    let mut x = net.max_pool_padded("maxpool", x, [3, 2, 1]);
    for (stage, blocks, mid_channels) in [(1, 3, 64), (2, 4, 128), (3, 6, 256), (4, 3, 512)] {
        for block in 0..blocks {
            let stride = if block == 0 && stage > 1 { 2 } else { 1 };
            x = residual_block(
                &mut net,
                &format!("layer{stage}.{block}"),
                x,
                mid_channels,
                stride,
                variant,
            );
        }
    }
    let x = net.global_mean("avgpool", x);
    let x = net.linear("fc", x, 1000, false);
    net.finish(x)
}

/// A bottleneck and its shortcut: `mid_channels` channels inside, four times as many at the output.
fn residual_block(
    net: &mut Builder,
    name: &str,
    x: Tensor,
    mid_channels: usize,
    stride: usize,
    variant: Variant,
) -> Tensor {
    let wide = 4 * mid_channels;
    let [channels, ..] = net.extents(x);
    // The shortcut comes first, so that the bottleneck's own launches are adjacent and can be
    // fused.
    let past = if stride != 1 || channels != wide {
        let names = (
            format!("{name}.downsample.0"),
            format!("{name}.downsample.1"),
        );
        net.conv_norm(names.0, names.1, x, Conv::new(wide, 1).stride(stride))
    } else {
        x
    };
    let mut layer = |index: usize, x: Tensor, conv: Conv| {
        let names = (format!("{name}.conv{index}"), format!("{name}.bn{index}"));
        net.conv_norm(names.0, names.1, x, conv.relu())
    };
    let (from, last) = match variant {
        Variant::Bottlenecked => {
            let y = layer(1, x, Conv::new(mid_channels, 1));
            let y = layer(2, y, Conv::new(mid_channels, 3).stride(stride).padding(1));
            (y, Conv::new(wide, 1))
        }
        Variant::Naive => (x, Conv::new(wide, 3).stride(stride).padding(1)),
    };
    let last = last.relu().add(past);
    net.conv_norm(format!("{name}.conv3"), format!("{name}.bn3"), from, last)
}
