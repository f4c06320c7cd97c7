//! Execution of kernels: blocks in parallel on the host's cores, warps in turn, 32 lanes at a time.
//!
//! Each host thread takes the next block, or the next cluster of blocks, that has not started.
//! Warps of a block or cluster run one after another, each until it waits. So results depend on the
//! order of threads only if the program's do (atomics of several blocks on one address). Of several
//! faults the one of the lowest block or cluster is reported.
mod block;
mod execute;
pub(crate) mod instructions;
pub(crate) mod machine;
pub(crate) mod memory;
mod needs;
mod run;

use crate::counters::Counters;
use crate::device_config::DeviceConfig;
use crate::launch_config::LaunchConfig;
use crate::memory::Watch;
use crate::module::LoadedKernel;
use crate::panics;
use crate::report::{Fault, FaultKind};
use block::Worker;
use instructions::host_simd::{self, Level};
use instructions::isa::Isa;
use machine::context::Grid;
use machine::printed::Printed;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// Result of a worker.
struct Part {
    counters: Counters,
    /// The first fault of a cluster, with the cluster's number.
    fault: Option<(u64, Fault)>,
}

/// Runs every block of a grid and records accesses as `watch` specifies.
///
/// `together`: blocks may wait for each other, so each has its own host thread.
pub(crate) fn run_grid(
    device: &DeviceConfig,
    kernel: &LoadedKernel,
    config: LaunchConfig,
    params: &[u8],
    together: bool,
    watch: Watch,
) -> Result<Counters, Fault> {
    let memory = kernel.memory();
    let began = Instant::now();
    let (cluster, clusters) = (
        config.cluster_of(kernel.kernel()),
        config.clusters(kernel.kernel()),
    );
    let grid = Grid {
        device,
        kernel: kernel.kernel(),
        config,
        params: &params[..kernel.kernel().param_bytes as usize],
        memory,
        allocations: memory.snapshot(),
        symbols: &kernel.module.addresses,
        epoch: memory.next_epoch(),
        watch,
        cluster,
        explicit_cluster: config.cluster.is_some() || kernel.kernel().required_cluster.is_some(),
        next_cluster: AtomicU64::new(0),
        end_cluster: AtomicU64::new(clusters),
        began,
        deadline: device.time_limit.and_then(|limit| began.checked_add(limit)),
        together,
        stop: AtomicBool::new(false),
        printed: Printed::new(device.print_bytes),
    };
    let workers = workers(&grid).map_err(|message| refused(&grid, message))?;
    let (parts, threads) = if workers == 1 {
        (vec![work(&grid)], 1)
    } else {
        spread(&grid, workers)
    };
    if together && threads < workers {
        let message = format!(
            "{workers} blocks that run together need a thread each, the host gives {threads}"
        );
        return Err(refused(&grid, message));
    }
    merge(parts, &grid)
}

/// Runs `workers` threads, this one included; returns their results and the number of threads that
/// the host created.
fn spread(grid: &Grid, workers: usize) -> (Vec<Part>, usize) {
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..workers)
            .map_while(|_| {
                let thread = std::thread::Builder::new();
                thread.spawn_scoped(scope, || work(grid)).ok()
            })
            .collect();
        let threads = others.len() + 1;
        if grid.together && threads < workers {
            grid.stop.store(true, Ordering::Relaxed);
        }
        let mut parts = vec![work(grid)];
        parts.extend(others.into_iter().map(|other| {
            // `work` catches panics, so that a thread always has a result.
            let lost = |_| Part::failed(grid, 0, "a thread that ran blocks panicked".to_owned());
            other.join().unwrap_or_else(lost)
        }));
        (parts, threads)
    })
}

/// Number of threads that run blocks: limited by the device's setting, the number of blocks, and
/// the memory per block.
///
/// # Errors
/// There is not enough memory for one block, or for all blocks that run together.
fn workers(grid: &Grid) -> Result<usize, String> {
    let clusters = grid.config.clusters(grid.kernel);
    let wanted = if grid.together {
        clusters
    } else {
        let threads = grid.device.workers() as u64;
        threads.clamp(1, clusters.min(1 << 16))
    };
    let each = Worker::bytes(grid.kernel, &grid.config);
    let each = each * u64::from(grid.cluster.iter().product::<u32>());
    let limit = grid.device.memory_bytes.max(LEAST_MEMORY);
    let fitting = limit / each;
    let least = if grid.together { wanted } else { 1 };
    if fitting < least {
        return Err(format!(
            "{least} blocks at a time take {each} bytes each for local memory and registers, the \
            device has {limit} (PTX_EMULATOR_MEMORY)"
        ));
    }
    Ok(wanted.min(fitting) as usize)
}

/// Least host memory, in bytes, for local memory and registers of blocks: small test devices have
/// less device memory.
const LEAST_MEMORY: u64 = 1 << 30;

fn refused(grid: &Grid, message: String) -> Fault {
    Fault {
        kernel: grid.kernel.name.clone(),
        line: 0,
        block: [0; 3],
        thread: None,
        kind: Box::new(FaultKind::InvalidLaunch(message)),
    }
}

fn work(grid: &Grid) -> Part {
    match Level::detect() {
        Level::Baseline => work_on::<host_simd::Baseline>(grid),
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => work_on::<host_simd::Avx2>(grid),
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => work_on::<host_simd::Avx512>(grid),
    }
}

/// Runs clusters until none is left.
fn work_on<I: Isa>(grid: &Grid) -> Part {
    let mut cluster = 0;
    let done = panics::contain(|| {
        let mut worker = Worker::new(grid);
        let mut fault = None;
        loop {
            cluster = grid.next_cluster.fetch_add(1, Ordering::Relaxed);
            if cluster >= grid.end_cluster.load(Ordering::Relaxed) {
                break;
            }
            let result = panics::contain(|| worker.run_cluster::<I>(cluster));
            let result = result.unwrap_or_else(|panic| Err(worker.internal(&panic)));
            if let Err(f) = result {
                if grid.together {
                    // Other blocks may be waiting for this one.
                    if grid.stop.swap(true, Ordering::Relaxed) && worker.cx.stopped {
                        break;
                    }
                }
                // Earlier clusters still run, so that the reported fault does not depend on the
                // order.
                grid.end_cluster.fetch_min(cluster, Ordering::Relaxed);
                fault = Some((cluster, f));
                break;
            }
        }
        Part {
            counters: worker.into_counters(),
            fault,
        }
    });
    done.unwrap_or_else(|panic| {
        grid.end_cluster.fetch_min(cluster, Ordering::Relaxed);
        Part::failed(grid, cluster, panic.to_string())
    })
}

impl Part {
    /// Result of a worker that failed outside of its clusters.
    fn failed(grid: &Grid, cluster: u64, message: String) -> Part {
        let fault = Fault {
            kernel: grid.kernel.name.clone(),
            line: 0,
            block: grid.first_block(cluster),
            thread: None,
            kind: Box::new(FaultKind::Internal(message)),
        };
        Part {
            counters: Counters::default(),
            fault: Some((cluster, fault)),
        }
    }
}

fn merge(parts: Vec<Part>, grid: &Grid) -> Result<Counters, Fault> {
    let mut counters = Counters::default();
    let mut first: Option<(u64, Fault)> = None;
    for part in parts {
        counters += &part.counters;
        if let Some((block, fault)) = part.fault
            && first.as_ref().is_none_or(|(other, _)| block < *other)
        {
            first = Some((block, fault));
        }
    }
    grid.printed.show(&grid.kernel.name);
    match first {
        Some((_, fault)) => Err(fault),
        None => Ok(counters),
    }
}
