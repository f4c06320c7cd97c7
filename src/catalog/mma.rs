//! The kernels that compute on tensor cores by `mma.sync`.

use super::Kernel;

/// Adds them in a fixed order.
pub(super) fn kernels(_all: &mut Vec<Kernel>) {}

/// Bytes of dynamic shared memory of a block: a stage holds the tile's filters and pixels.
pub(super) fn dynamic_shared(kernel: &Kernel) -> u32 {
    let element = kernel.dtype.size() as u32;
    kernel.stages * (kernel.tile_m + kernel.tile_n) * kernel.tile_k * element
}
