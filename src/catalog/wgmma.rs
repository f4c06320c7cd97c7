//! The kernels that compute on tensor cores by `wgmma`.

use super::Kernel;

/// Adds them in a fixed order.
pub(super) fn kernels(_all: &mut Vec<Kernel>) {}

/// Bytes of dynamic shared memory of a block, as `kernels/wgmma_tile.cuh` lays it out. A stage holds 128 bytes of
/// channels of each filter and pixel of the tile: narrow channel blocks come several taps at a time. Each warpgroup
/// that computes has two staging buffers of 8 KiB and the biases of the tile.
pub(super) fn dynamic_shared(kernel: &Kernel) -> u32 {
    let consumers = kernel.threads / 128 - 1;
    let stages = kernel.stages * (kernel.tile_m + kernel.tile_n) * 128;
    stages + consumers * (2 * 8192 + kernel.tile_m * 4) + BARRIERS
}

/// What is set aside for barriers.
const BARRIERS: u32 = 256;
