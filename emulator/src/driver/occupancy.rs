//! Occupancy: resident blocks per SM.

use std::ffi::{c_int, c_uint};

use crate::driver::cluster;
use crate::driver::current::healthy;
use crate::driver::device_profiles::Card;
use crate::driver::resources::{blocks_per_multiprocessor, card, max_threads, shared_piece};
use crate::driver::state::{Function, driver};
use crate::driver::status::Result;
use crate::driver::types::{Handle, In, LaunchConfigC, Out, check};

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
