//! LeNet-5.

use super::network::Network;
use super::{Builder, Conv, NetworkConfig};
use warpconv::error::Error;

/// The maps of S2 that each of the sixteen maps of C3 reads (table I of the paper), the lowest bit
/// the first.
const C3: [u16; 16] = [
    0b000111, 0b001110, 0b011100, 0b111000, 0b110001, 0b100011, // three side by side
    0b001111, 0b011110, 0b111100, 0b111001, 0b110011, 0b100111, // four side by side
    0b011011, 0b110110, 0b101101, // four
    0b111111,
];

/// LeCun, Bottou, Bengio and Haffner, Gradient-Based Learning Applied to Document Recognition,
/// 1998: images of 32 pixels, trainable subsampling, `1.7159 tanh(2/3 x)`. No map of the third
/// layer reads all maps of the second.
///
/// The last layer's units measure the distance of the 84 values `x` to a stored pattern `w`,
/// `|x|^2 - 2 w x + |w|^2`. Here they are a fully connected layer of filters `w` and biases
/// `-|w|^2 / 2`, half the distance less `|x|^2`, turned: the largest is the nearest. The patterns
/// are not trained, and not counted among the 60,000 parameters.
///
/// Names: `c1`, `s2`, `c3`, `s4`, `c5`, `f6`, `rbf`. The subsampling's coefficients are filters of
/// one number. What `c3.weight` has where a map does not see another is not taken.
///
/// # Errors
/// As [`Builder::finish`].
pub fn lenet5(config: &NetworkConfig) -> Result<Network, Error> {
    let (mut net, x) = Builder::new(config, 1);
    let x = net.conv("c1", x, Conv::new(6, 5));
    let x = net.tanh("c1.tanh", x);
    let x = net.subsample("s2", x);
    let x = net.conv_seeing("c3", x, Conv::new(16, 5), &C3);
    let x = net.tanh("c3.tanh", x);
    let x = net.subsample("s4", x);
    let x = net.conv("c5", x, Conv::new(120, 5));
    let x = net.tanh("c5.tanh", x);
    let x = net.linear("f6", x, 84, false);
    let x = net.tanh("f6.tanh", x);
    let x = net.patterns("rbf", x, 10);
    net.finish(x)
}

/// LeNet-5 in its modern form: ReLU for tanh, max pooling for the trained subsampling, and every
/// map of the third layer reads all of the second. Images of 28 pixels, ten digits.
///
/// Names: `c1`, `c3`, `f5`, `f6`, `f7`.
///
/// # Errors
/// As [`Builder::finish`].
pub fn lenet5_relu(config: &NetworkConfig) -> Result<Network, Error> {
    let (mut net, x) = Builder::new(config, 1);
    let x = net.conv("c1", x, Conv::new(6, 5).padding(2).relu());
    let x = net.max_pool("s2", x, 2, 2);
    let x = net.conv("c3", x, Conv::new(16, 5).relu());
    let x = net.max_pool("s4", x, 2, 2);
    let x = net.linear("f5", x, 120, true);
    let x = net.linear("f6", x, 84, true);
    let x = net.linear("f7", x, 10, false);
    net.finish(x)
}
