//! Resources that a kernel needs of a device.

use crate::driver::device_profiles::{Card, REGISTERS};
use crate::driver::state::{Function, driver};
use crate::driver::status::Result;
use crate::ir::Kernel;

/// The card of the device that a function was loaded on.
pub fn card(function: &Function) -> Result<&'static Card> {
    Ok(driver()?.contexts.get(function.module.context)?.device.card)
}

/// Registers per thread, rounded as by a real compiler.
pub fn registers(kernel: &Kernel) -> u32 {
    kernel.registers.clamp(8, 255).next_multiple_of(8).min(255)
}

/// The maximum of threads per block. Registers do not limit it: those of a real compiler are only
/// estimated.
pub fn max_threads(kernel: &Kernel) -> u32 {
    let required = kernel
        .required_block
        .map(|[x, y, z]| x.saturating_mul(y).saturating_mul(z));
    required.or(kernel.max_threads).unwrap_or(1024).min(1024)
}

/// Allocation granularity of shared memory, in bytes.
pub fn shared_piece(card: &Card) -> u32 {
    if card.capability >= 80 { 128 } else { 256 }
}

/// Resident blocks per SM of the card; 0 if a block does not fit at all.
pub fn blocks_per_multiprocessor(
    card: &Card,
    kernel: &Kernel,
    threads: u32,
    dynamic_shared: usize,
) -> u32 {
    if threads == 0 || threads > max_threads(kernel) {
        return 0;
    }
    let warps = threads.div_ceil(32);
    let by_threads = card.threads_per_multiprocessor as u32 / (warps * 32);
    // A warp's registers are allocated in units of 256.
    let by_registers = REGISTERS as u32 / (warps * (registers(kernel) * 32).next_multiple_of(256));
    let dynamic = u32::try_from(dynamic_shared).unwrap_or(u32::MAX / 2);
    let shared = if dynamic == 0 {
        kernel.static_shared
    } else {
        kernel.dynamic_shared_offset().saturating_add(dynamic)
    };
    if shared > card.shared_per_block_optin as u32 {
        return 0;
    }
    let shared = (shared + card.reserved_shared as u32).next_multiple_of(shared_piece(card));
    let by_shared = (card.shared_per_multiprocessor as u32)
        .checked_div(shared)
        .unwrap_or(u32::MAX);
    by_threads
        .min(by_registers)
        .min(by_shared)
        .min(card.blocks_per_multiprocessor as u32)
}
