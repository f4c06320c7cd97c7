//! Execution of kernels: blocks over the cores, warps in turn, 32 lanes at a time.
//!
//! Each thread of the host takes the next block that nobody has begun. Warps of a block run one after the other, each
//! until it waits, so results depend on the order of threads only where the program's do (atomics of several blocks
//! on one address). Of several faults the one of the lowest block is reported.
mod address;
mod async_copy;
mod atomics;
mod barrier;
mod bits;
mod block;
mod bulk;
mod collective;
mod compare;
mod context;
mod convert;
mod float;
mod global;
mod half;
mod int;
mod isa;
mod lanes;
mod ldmatrix;
mod local;
mod matrix;
mod mbarrier;
mod moves;
mod print;
mod product;
mod registers;
mod run;
mod shared;
mod soft;
mod step;
mod tensor;
mod traffic;
mod warp;
mod wgmma;

use crate::counters::Counters;
use crate::device::DeviceConfig;
use crate::launch::LaunchConfig;
use crate::module::LoadedKernel;
use crate::report::Fault;
use block::Worker;
use context::Grid;
use isa::{Isa, Level};
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// What a worker hands back.
struct Part {
    counters: Counters,
    /// The fault of a block, if it came to one.
    fault: Option<(u64, Fault)>,
    /// What each block printed.
    printed: Vec<(u64, String)>,
}

/// Runs every block of a grid.
pub(crate) fn run_grid(
    device: &DeviceConfig,
    kernel: &LoadedKernel,
    config: LaunchConfig,
    params: &[u8],
) -> Result<Counters, Fault> {
    let memory = kernel.memory();
    let grid = Grid {
        device,
        kernel: kernel.kernel(),
        config,
        params: &params[..kernel.kernel().param_bytes as usize],
        memory,
        allocations: memory.snapshot(),
        symbols: &kernel.module.addresses,
        epoch: memory.next_epoch(),
        next_block: AtomicU64::new(0),
        end_block: AtomicU64::new(config.blocks()),
        began: std::time::Instant::now(),
    };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let workers = device
        .workers
        .unwrap_or_else(cores)
        .clamp(1, config.blocks().min(1 << 16) as usize);
    let parts = if workers == 1 {
        vec![work(&grid)]
    } else {
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..workers).map(|_| scope.spawn(|| work(&grid))).collect();
            let mut parts = vec![work(&grid)];
            for other in others {
                match other.join() {
                    Ok(part) => parts.push(part),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            parts
        })
    };
    merge(parts)
}

fn work(grid: &Grid) -> Part {
    match Level::detect() {
        Level::Baseline => work_on::<isa::Baseline>(grid),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => work_on::<isa::Avx2>(grid),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => work_on::<isa::Avx512>(grid),
    }
}

/// Runs blocks until none is left.
fn work_on<I: Isa>(grid: &Grid) -> Part {
    let mut worker = Worker::new(grid);
    let mut fault = None;
    let mut printed = Vec::new();
    loop {
        let block = grid.next_block.fetch_add(1, Ordering::Relaxed);
        if block >= grid.end_block.load(Ordering::Relaxed) {
            break;
        }
        let result = worker.run_block::<I>(block);
        if !worker.cx.printed.is_empty() {
            printed.push((block, std::mem::take(&mut worker.cx.printed)));
        }
        if let Err(f) = result {
            // Blocks before this one still run, so that the first fault is found whatever the order.
            grid.end_block.fetch_min(block, Ordering::Relaxed);
            fault = Some((block, f));
            break;
        }
    }
    Part {
        counters: worker.into_counters(),
        fault,
        printed,
    }
}

fn merge(parts: Vec<Part>) -> Result<Counters, Fault> {
    let mut counters = Counters::default();
    let mut first: Option<(u64, Fault)> = None;
    let mut printed = Vec::new();
    for part in parts {
        counters += &part.counters;
        printed.extend(part.printed);
        if let Some((block, fault)) = part.fault
            && first.as_ref().is_none_or(|(other, _)| block < *other)
        {
            first = Some((block, fault));
        }
    }
    printed.sort_by_key(|(block, _)| *block);
    let mut out = std::io::stdout().lock();
    for (_, text) in printed {
        // `print!` would panic where nobody reads standard output.
        let _ = out.write_all(text.as_bytes());
    }
    match first {
        Some((_, fault)) => Err(fault),
        None => Ok(counters),
    }
}
