//! VGG.

use super::network::Network;
use super::{Builder, Conv, NetworkConfig};
use warpconv::error::Error;

/// Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition,
/// 2014: configuration D, sixteen layers with weights, every window 3x3.
///
/// Names are torchvision's: `features.0` to `features.28`, `classifier.0`, `.3`, `.6`. The picture
/// has 224 pixels; another multiple of 32 changes the first fully connected layer.
///
/// # Errors
/// As [`Builder::finish`].
pub fn vgg16(config: &NetworkConfig) -> Result<Network, Error> {
    let (mut net, mut x) = Builder::new(config, 3);
    // torchvision counts every layer, ReLUs and poolings included.
    let mut index = 0;
    for (width, depth) in [(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)] {
        for _ in 0..depth {
            let conv = Conv::new(width, 3).padding(1).relu();
            x = net.conv(format!("features.{index}"), x, conv);
            index += 2;
        }
        x = net.max_pool(format!("features.{index}"), x, 2, 2);
        index += 1;
    }
    let x = net.linear("classifier.0", x, 4096, true);
    let x = net.linear("classifier.3", x, 4096, true);
    let x = net.linear("classifier.6", x, 1000, false);
    net.finish(x)
}
