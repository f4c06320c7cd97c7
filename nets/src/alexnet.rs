//! AlexNet.

use super::network::Network;
use super::{Builder, Conv, NetworkConfig};
use warpconv::error::Error;
use warpconv::problem::LrnParameters;

/// Krizhevsky, Sutskever and Hinton, ImageNet Classification with Deep Convolutional Neural
/// Networks, 2012: convolutions in two groups, one on each of two cards; overlapping pooling; ReLU;
/// local response normalisation.
///
/// The paper gives images of 224 pixels, but the 55x55 outputs of its first layer need 227. Both
/// sizes are accepted: from 224 pixels on the planes are 54, 26, 12 and 6 wide, from 227 on 55, 27,
/// 13 and 6. The normalisation is `lrn`: the paper's adds 2, Caffe's 1.
///
/// Names are Caffe's: `conv1` to `conv5`, `fc6` to `fc8`.
///
/// # Errors
/// As [`Builder::finish`].
pub fn alexnet(config: &NetworkConfig, lrn: LrnParameters) -> Result<Network, Error> {
    let (mut net, x) = Builder::new(config, 3);
    let x = net.conv("conv1", x, Conv::new(96, 11).stride(4).relu());
    let x = net.lrn("norm1", x, lrn);
    let x = net.max_pool("pool1", x, 3, 2);
    let x = net.conv("conv2", x, Conv::new(256, 5).padding(2).groups(2).relu());
    let x = net.lrn("norm2", x, lrn);
    let x = net.max_pool("pool2", x, 3, 2);
    let x = net.conv("conv3", x, Conv::new(384, 3).padding(1).relu());
    let x = net.conv("conv4", x, Conv::new(384, 3).padding(1).groups(2).relu());
    let x = net.conv("conv5", x, Conv::new(256, 3).padding(1).groups(2).relu());
    let x = net.max_pool_ceil("pool5", x, 3, 2);
    let x = net.linear("fc6", x, 4096, true);
    let x = net.linear("fc7", x, 4096, true);
    let x = net.linear("fc8", x, 1000, false);
    net.finish(x)
}

/// Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, 2013, with the 512 wide
/// layers of its last table: AlexNet with smaller windows in front and no groups, as the ONNX
/// collection's ZFNet-512 has it.
///
/// # Errors
/// As [`Builder::finish`].
pub fn zfnet512(config: &NetworkConfig) -> Result<Network, Error> {
    let lrn = LrnParameters {
        alpha: 5e-4,
        ..crate::ALEXNET_LRN
    };
    let (mut net, x) = Builder::new(config, 3);
    let x = net.conv("conv1", x, Conv::new(96, 7).stride(2).relu());
    let x = net.lrn("norm1", x, lrn);
    let x = net.max_pool("pool1", x, 3, 2);
    let x = net.conv("conv2", x, Conv::new(256, 5).stride(2).relu());
    let x = net.lrn("norm2", x, lrn);
    let x = net.max_pool("pool2", x, 3, 2);
    let x = net.conv("conv3", x, Conv::new(512, 3).padding(1).relu());
    let x = net.conv("conv4", x, Conv::new(512, 3).padding(1).relu());
    let x = net.conv("conv5", x, Conv::new(512, 3).padding(1).relu());
    let x = net.max_pool("pool5", x, 2, 2);
    let x = net.linear("fc6", x, 4096, true);
    let x = net.linear("fc7", x, 1024, true);
    let x = net.linear("fc8", x, 1000, false);
    net.finish(x)
}
