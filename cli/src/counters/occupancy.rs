//! Occupancy: blocks per SM, as CUDA's occupancy calculator computes it.

use warpconv::plan::Capability;

/// Resources of a block.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    /// Threads per block.
    pub threads: u32,
    /// Registers per thread.
    pub registers: u32,
    /// Bytes of shared memory per block.
    pub shared: u32,
}

/// Resident blocks per SM, and the limiting resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupancy {
    /// Resident blocks per SM.
    pub blocks: u32,
    /// Resident warps per SM.
    pub warps: u32,
    /// Maximum of resident warps per SM.
    pub most_warps: u32,
    /// Resource that limits the occupancy: `registers`, `shared memory`, `threads` or `blocks`.
    pub limit: &'static str,
}

/// The occupancy of a kernel on a device.
pub fn occupancy(block: Block, device: &Capability) -> Occupancy {
    let warps = block.threads.div_ceil(32).max(1);
    let most_warps = device.max_threads_per_sm / 32;
    let (most_blocks, shared_piece, reserved) = match device.version() {
        (..=7, _) => (16, 256, 0),
        // The driver reserves 1 KB of shared memory per block.
        (8, 6 | 7) => (16, 128, 1024),
        (8, 9) => (24, 128, 1024),
        _ => (32, 128, 1024),
    };
    // Registers are allocated per warp in units of 256, each warp on one of four partitions.
    let a_warp = (block.registers.max(1) * 32).next_multiple_of(256);
    let by_registers = 4 * (device.registers_per_sm / 4 / a_warp) / warps;
    let shared = (block.shared + reserved).next_multiple_of(shared_piece);
    let by_shared = device.shared_per_sm.checked_div(shared).unwrap_or(u32::MAX);
    let limits = [
        (by_registers, "registers"),
        (by_shared, "shared memory"),
        (most_warps / warps, "threads"),
        (most_blocks, "blocks"),
    ];
    let (mut blocks, mut limit) = limits[0];
    for (other, name) in limits {
        if other < blocks {
            (blocks, limit) = (other, name);
        }
    }
    Occupancy {
        blocks,
        warps: blocks * warps,
        most_warps,
        limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(threads: u32, registers: u32, shared: u32, device: &Capability) -> (u32, &'static str) {
        let block = Block {
            threads,
            registers,
            shared,
        };
        let found = occupancy(block, device);
        assert_eq!(found.warps, found.blocks * threads.div_ceil(32));
        (found.blocks, found.limit)
    }

    /// Blocks agree with NVIDIA's occupancy calculator.
    #[test]
    fn blocks_are_the_calculators() {
        let (h200, t4) = (&Capability::h200(), &Capability::sm75());
        assert_eq!(of(256, 128, 33_280, h200), (2, "registers"));
        assert_eq!(of(128, 96, 110_000, h200), (2, "shared memory"));
        assert_eq!(of(256, 32, 0, h200), (8, "registers"));
        assert_eq!(of(1024, 32, 0, h200), (2, "registers"));
        assert_eq!(of(32, 16, 0, h200), (32, "blocks"));
        assert_eq!(of(256, 32, 0, t4), (4, "threads"));
        assert_eq!(of(384, 168, 230_000, h200), (1, "registers"));
        assert_eq!(of(128, 255, 0, h200), (2, "registers"));
        assert_eq!(of(128, 32, 300_000, h200), (0, "shared memory"));
    }
}
