//! The pooling kernels.

use super::simt::one_by_one;
use super::{Algorithm, Kernel};
use super::{DType, Layout};

/// Adds the kernels of max, average and global pooling.
pub(super) fn kernels(all: &mut Vec<Kernel>) {
    for dtype in DType::ALL {
        for layout in Layout::ALL {
            all.push(Kernel {
                // Output rows per thread.
                tile_m: if layout == Layout::Nchw { 8 } else { 1 },
                ..one_by_one(Algorithm::MaxPool, dtype, Some(layout), 256)
            });
            all.push(one_by_one(Algorithm::AvgPool, dtype, Some(layout), 256));
            all.push(one_by_one(Algorithm::GlobalPool, dtype, Some(layout), 256));
        }
    }
}
