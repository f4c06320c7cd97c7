//! Network in Network.

use super::network::Network;
use super::{Builder, Conv, NetworkConfig, Tensor};
use warpconv::error::Error;

/// A convolution and the two 1x1 convolutions behind it.
fn mlpconv(net: &mut Builder, name: &str, x: Tensor, conv: Conv, widths: [usize; 2]) -> Tensor {
    let x = net.conv(format!("conv{name}"), x, conv.relu());
    let x = net.conv(format!("cccp{name}a"), x, Conv::new(widths[0], 1).relu());
    net.conv(format!("cccp{name}b"), x, Conv::new(widths[1], 1).relu())
}

/// Lin, Chen and Yan, Network In Network, 2013, for ImageNet, as its authors published it for
/// Caffe: AlexNet's filters, two 1x1 convolutions behind each, and a global mean as the score of
/// each class instead of fully connected layers.
///
/// Names: `conv1`, `cccp1a`, `cccp1b` (Caffe's `cccp1` and `cccp2`), and so on to `cccp4b`.
///
/// # Errors
/// As [`Builder::finish`].
pub fn nin_imagenet(config: &NetworkConfig) -> Result<Network, Error> {
    let (mut net, x) = Builder::new(config, 3);
    let x = mlpconv(&mut net, "1", x, Conv::new(96, 11).stride(4), [96, 96]);
    let x = net.max_pool_ceil("pool1", x, 3, 2);
    let x = mlpconv(&mut net, "2", x, Conv::new(256, 5).padding(2), [256, 256]);
    let x = net.max_pool_ceil("pool2", x, 3, 2);
    let x = mlpconv(&mut net, "3", x, Conv::new(384, 3).padding(1), [384, 384]);
    let x = net.max_pool_ceil("pool3", x, 3, 2);
    let x = mlpconv(
        &mut net,
        "4",
        x,
        Conv::new(1024, 3).padding(1),
        [1024, 1000],
    );
    let x = net.global_mean("pool4", x);
    net.finish(x)
}

/// The paper's network for CIFAR-10: 32x32 pixels, ten classes.
///
/// # Errors
/// As [`Builder::finish`].
pub fn nin_cifar(config: &NetworkConfig) -> Result<Network, Error> {
    let (mut net, x) = Builder::new(config, 3);
    let x = mlpconv(&mut net, "1", x, Conv::new(192, 5).padding(2), [160, 96]);
    let x = net.max_pool_ceil("pool1", x, 3, 2);
    let x = mlpconv(&mut net, "2", x, Conv::new(192, 5).padding(2), [192, 192]);
    let x = net.mean_pool_ceil("pool2", x, 3, 2);
    let x = mlpconv(&mut net, "3", x, Conv::new(192, 3).padding(1), [192, 10]);
    let x = net.global_mean("pool3", x);
    net.finish(x)
}
