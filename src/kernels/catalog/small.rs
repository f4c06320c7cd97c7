//! The kernels of the small layers between convolutions: normalisation, softmax, squashing,
//! subsampling.

use super::simt::one_by_one;
use super::{Algorithm, Kernel};
use crate::problem::{DType, Layout};

/// All of them.
pub(super) fn kernels(all: &mut Vec<Kernel>) {
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            all.push(one_by_one(Algorithm::Lrn, dtype, Some(layout), 256));
            all.push(one_by_one(Algorithm::Subsample, dtype, Some(layout), 256));
        }
        all.push(one_by_one(Algorithm::Softmax, dtype, None, 256));
        all.push(Kernel {
            // Elements a block makes: four 16-byte vectors a thread.
            tile_n: 16384 / dtype.size() as u32,
            ..one_by_one(Algorithm::Tanh, dtype, None, 256)
        });
    }
}
