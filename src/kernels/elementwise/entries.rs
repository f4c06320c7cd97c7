//! The kernels of the layers between convolutions: ReLU, normalisation, softmax, tanh, subsampling.

use super::simt::one_by_one;
use super::{Algorithm, Kernel};
use super::{DType, Layout};

/// Adds the ReLU kernels.
pub(super) fn relu(all: &mut Vec<Kernel>) {
    for dtype in DType::ALL {
        all.push(Kernel {
            // Elements a block makes: four 16-byte vectors per thread.
            tile_n: 16384 / dtype.size() as u32,
            ..one_by_one(Algorithm::Relu, dtype, None, 256)
        });
    }
}

/// Adds the kernels of the other elementwise operations.
pub(super) fn kernels(all: &mut Vec<Kernel>) {
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            all.push(one_by_one(Algorithm::Lrn, dtype, Some(layout), 256));
            all.push(one_by_one(Algorithm::Subsample, dtype, Some(layout), 256));
        }
        all.push(one_by_one(Algorithm::Softmax, dtype, None, 256));
        all.push(Kernel {
            // Elements a block makes: four 16-byte vectors per thread.
            tile_n: 16384 / dtype.size() as u32,
            ..one_by_one(Algorithm::Tanh, dtype, None, 256)
        });
    }
}
