//! Occupancy: resident blocks per SM.

use std::ffi::{c_int, c_uint};

use super::attributes::{card, max_threads, registers};
use super::cluster;
use super::current::healthy;
use super::device_profiles::{Card, REGISTERS};
use super::state::{Function, driver};
use super::status::Result;
use super::types::{Handle, In, LaunchConfigC, Out, check};
use crate::ir::Kernel;

/// Allocation granularity of shared memory, in bytes.
fn shared_piece(card: &Card) -> u32 {
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

/// Callback of type `CUoccupancyB2DSize`: the dynamic shared memory of a block with a given number
/// of threads.
type SharedOfBlock = Option<unsafe extern "C" fn(c_int) -> usize>;

/// The block size with the highest occupancy, the largest of several, and the grid that fills the
/// device.
fn best_block(
    card: &Card,
    function: &Function,
    shared: impl Fn(u32) -> usize,
    limit: c_int,
) -> (u32, u32) {
    let kernel = function.kernel.kernel();
    let most = max_threads(kernel).min(
        u32::try_from(limit)
            .ok()
            .filter(|&limit| limit > 0)
            .unwrap_or(1024),
    );
    let (mut best, mut best_blocks, mut best_threads) = (0, 0, 0);
    for threads in (1..=most.div_ceil(32))
        .rev()
        .map(|warps| (warps * 32).min(most))
    {
        let blocks = blocks_per_multiprocessor(card, kernel, threads, shared(threads));
        if blocks * threads > best_threads {
            (best, best_blocks, best_threads) = (threads, blocks, blocks * threads);
        }
    }
    (best_blocks * card.multiprocessors as u32, best)
}

fn active_blocks(
    out: Out<c_int>,
    handle: Handle,
    threads: c_int,
    dynamic_shared: usize,
    flags: c_uint,
) -> Result {
    check(!out.is_null() && threads > 0 && flags <= 1)?;
    healthy()?;
    let function = driver()?.functions.get(handle)?;
    let blocks = blocks_per_multiprocessor(
        card(&function)?,
        function.kernel.kernel(),
        threads as u32,
        dynamic_shared,
    );
    out.set(blocks as c_int)
}

fn potential_block(
    min_grid: Out<c_int>,
    block: Out<c_int>,
    handle: Handle,
    shared_of_block: SharedOfBlock,
    dynamic_shared: usize,
    limit: c_int,
) -> Result {
    check(!min_grid.is_null() && !block.is_null())?;
    healthy()?;
    let function = driver()?.functions.get(handle)?;
    let shared = |threads: u32| match shared_of_block {
        // SAFETY: the caller of the driver guarantees that the function may be called.
        Some(shared) => unsafe { shared(threads as c_int) },
        None => dynamic_shared,
    };
    let (grid, threads) = best_block(card(&function)?, &function, shared, limit);
    min_grid.set(grid as c_int)?;
    block.set(threads as c_int)
}

driver! {
    fn cuOccupancyMaxActiveBlocksPerMultiprocessor(
        out: Out<c_int>,
        function: Handle,
        threads: c_int,
        dynamic_shared: usize,
    ) {
        active_blocks(out, function, threads, dynamic_shared, 0)
    }

    fn cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(
        out: Out<c_int>,
        function: Handle,
        threads: c_int,
        dynamic_shared: usize,
        flags: c_uint,
    ) {
        active_blocks(out, function, threads, dynamic_shared, flags)
    }

    fn cuOccupancyMaxPotentialBlockSize(
        min_grid: Out<c_int>,
        block: Out<c_int>,
        function: Handle,
        shared_of_block: SharedOfBlock,
        dynamic_shared: usize,
        limit: c_int,
    ) {
        potential_block(min_grid, block, function, shared_of_block, dynamic_shared, limit)
    }

    fn cuOccupancyMaxPotentialBlockSizeWithFlags(
        min_grid: Out<c_int>,
        block: Out<c_int>,
        function: Handle,
        shared_of_block: SharedOfBlock,
        dynamic_shared: usize,
        limit: c_int,
        flags: c_uint,
    ) {
        check(flags <= 1)?;
        potential_block(min_grid, block, function, shared_of_block, dynamic_shared, limit)
    }

    fn cuOccupancyAvailableDynamicSMemPerBlock(
        out: Out<usize>, handle: Handle, blocks: c_int, threads: c_int,
    ) {
        check(!out.is_null() && blocks > 0 && threads > 0)?;
        healthy()?;
        let function = driver()?.functions.get(handle)?;
        let card = card(&function)?;
        let kernel = function.kernel.kernel();
        check(blocks_per_multiprocessor(card, kernel, threads as u32, 0) >= blocks as u32)?;
        let share = card.shared_per_multiprocessor as u32 / blocks as u32;
        let share = share / shared_piece(card) * shared_piece(card);
        let room = share.saturating_sub(card.reserved_shared as u32)
            .min(card.shared_per_block_optin as u32);
        out.set(room.saturating_sub(kernel.dynamic_shared_offset()) as usize)
    }

    fn cuOccupancyMaxActiveClusters(out: Out<c_int>, handle: Handle, config: In<LaunchConfigC>) {
        check(!out.is_null())?;
        healthy()?;
        let function = driver()?.functions.get(handle)?;
        let config = config.get()?;
        out.set(cluster::active(&function, &config, cluster_of(&config)?)? as c_int)
    }

    fn cuOccupancyMaxPotentialClusterSize(
        out: Out<c_int>, handle: Handle, config: In<LaunchConfigC>,
    ) {
        check(!out.is_null())?;
        healthy()?;
        let function = driver()?.functions.get(handle)?;
        out.set(cluster::potential(&function, &config.get()?)? as c_int)
    }
}

/// `CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION` of a launch.
fn cluster_of(config: &LaunchConfigC) -> Result<Option<[u32; 3]>> {
    for index in 0..config.attribute_count as usize {
        let attribute = In(config.attributes).at(index)?;
        if attribute.id == 4 {
            return Ok(Some([
                attribute.value[0],
                attribute.value[1],
                attribute.value[2],
            ]));
        }
    }
    Ok(None)
}
