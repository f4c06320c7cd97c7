//! The kernels that compute on tensor cores by `wgmma`.

use super::{Algorithm, Kernel, Layout};

/// Adds them in a fixed order.
pub(super) fn kernels(_all: &mut Vec<Kernel>) {}

/// Bytes of dynamic shared memory of a block, as `kernels/wgmma_tile.cuh` lays it out. A stage holds 128 bytes of
/// channels of each filter and pixel of the tile: narrow channel blocks come several taps at a time. Each warpgroup
/// that computes has two staging buffers of 8 KiB and the biases of the tile; each that gathers x has 16 bytes a pixel.
pub(super) fn dynamic_shared(kernel: &Kernel) -> u32 {
    let consumers = consumers(kernel);
    let stages = kernel.stages * (kernel.tile_m + kernel.tile_n) * 128;
    let gathered = match kernel.algorithm {
        Algorithm::WgmmaGather => (kernel.threads / 128 - consumers) * kernel.tile_n * 16,
        _ => 0,
    };
    stages + consumers * (2 * 8192 + kernel.tile_m * 4) + gathered + BARRIERS
}

/// Warpgroups that compute: the side of the tile that is the instruction's 64 rows is shared out among them.
fn consumers(kernel: &Kernel) -> u32 {
    let rows = match kernel.layout {
        Some(Layout::Nchw) => kernel.tile_m,
        _ => kernel.tile_n,
    };
    if rows > 64 { 2 } else { 1 }
}

/// What is set aside for barriers.
const BARRIERS: u32 = 256;
