//! A launch: checks its parameters and runs its blocks on the host's cores.
pub use crate::launch_config::LaunchConfig;

use crate::counters::Counters;
use crate::device_config::DeviceConfig;
use crate::ir::{Kernel, MAX_CLUSTER};
use crate::memory::Watch;
use crate::module::LoadedKernel;
use crate::panics;
use crate::report::{Fault, FaultKind};

/// Reason why the cluster size is invalid, if it is.
fn refuse_cluster(device: &DeviceConfig, kernel: &Kernel, config: &LaunchConfig) -> Option<String> {
    let cluster = config.cluster_of(kernel);
    let [x, y, z] = cluster;
    if kernel.explicit_cluster && config.cluster.or(kernel.required_cluster).is_none() {
        return Some("the kernel is .explicitcluster: the launch must give its cluster".to_owned());
    }
    if let Some([rx, ry, rz]) = kernel.required_cluster.filter(|&r| r != cluster) {
        return Some(format!(
            "cluster ({x},{y},{z}), the kernel's .reqnctapercluster is ({rx},{ry},{rz})"
        ));
    }
    let blocks = cluster
        .iter()
        .fold(1u32, |product, &n| product.saturating_mul(n));
    if blocks == 0 || blocks > MAX_CLUSTER {
        return Some(format!(
            "cluster ({x},{y},{z}), a cluster has 1 to {MAX_CLUSTER} blocks"
        ));
    }
    if blocks > 1 && device.sm < 90 {
        return Some(format!(
            "cluster ({x},{y},{z}), devices have clusters of several blocks from sm_90 on, this \
            one is sm_{}",
            device.sm
        ));
    }
    if let Some(most) = kernel.max_cluster.filter(|&most| blocks > most) {
        return Some(format!(
            "cluster of {blocks} blocks, the kernel's .maxclusterrank is {most}"
        ));
    }
    let [gx, gy, gz] = config.grid;
    if gx % x != 0 || gy % y != 0 || gz % z != 0 {
        return Some(format!(
            "grid ({gx},{gy},{gz}) is no multiple of the cluster ({x},{y},{z})"
        ));
    }
    None
}

/// Reason why the parameters are invalid, if they are.
fn refuse(
    device: &DeviceConfig,
    kernel: &Kernel,
    config: &LaunchConfig,
    params: usize,
) -> Option<String> {
    let [gx, gy, gz] = config.grid;
    let [bx, by, bz] = config.block;
    let threads = config.threads();
    if gx == 0 || gy == 0 || gz == 0 || gx > i32::MAX as u32 || gy > 65535 || gz > 65535 {
        return Some(format!(
            "grid ({gx},{gy},{gz}) is outside 1..(2147483647,65535,65535)"
        ));
    }
    if threads == 0 || bx > 1024 || by > 1024 || bz > 64 || threads > 1024 {
        return Some(format!(
            "block ({bx},{by},{bz}) is outside 1..(1024,1024,64) or 1024 threads"
        ));
    }
    if let Some(max) = kernel.max_threads.filter(|&max| threads > u64::from(max)) {
        return Some(format!(
            "block of {threads} threads, the kernel's .maxntid is {max}"
        ));
    }
    if let Some([x, y, z]) = kernel.required_block.filter(|&r| r != config.block) {
        return Some(format!(
            "block ({bx},{by},{bz}), the kernel's .reqntid is ({x},{y},{z})"
        ));
    }
    let shared = u64::from(kernel.dynamic_shared_offset()) + u64::from(config.shared_bytes);
    let limit = device.shared_bytes_per_block();
    if shared > u64::from(limit) {
        return Some(format!(
            "{shared} bytes of shared memory a block, the device has {limit}"
        ));
    }
    if params < kernel.param_bytes as usize {
        return Some(format!(
            "{params} bytes of parameters, the kernel takes {}",
            kernel.param_bytes
        ));
    }
    refuse_cluster(device, kernel, config)
}

/// Runs a kernel to its end.
pub(crate) fn run(
    device: &DeviceConfig,
    kernel: &LoadedKernel,
    config: LaunchConfig,
    params: &[u8],
    watch: Watch,
) -> Result<Counters, Fault> {
    guarded(device, kernel, config, params, false, watch)
}

/// Runs a kernel after checking its parameters; a panic of the emulator becomes a fault.
fn guarded(
    device: &DeviceConfig,
    kernel: &LoadedKernel,
    config: LaunchConfig,
    params: &[u8],
    together: bool,
    watch: Watch,
) -> Result<Counters, Fault> {
    if let Some(message) = refuse(device, kernel.kernel(), &config, params.len()) {
        return Err(invalid(kernel, message));
    }
    let run = || crate::exec::run_grid(device, kernel, config, params, together, watch);
    panics::contain(run).unwrap_or_else(|panic| {
        Err(Fault {
            kind: Box::new(FaultKind::Internal(panic.to_string())),
            ..invalid(kernel, String::new())
        })
    })
}

/// Runs a kernel with one thread per block or cluster, so that blocks may wait for each other.
pub(crate) fn run_cooperative(
    device: &DeviceConfig,
    kernel: &LoadedKernel,
    config: LaunchConfig,
    params: &[u8],
    watch: Watch,
) -> Result<Counters, Fault> {
    let most = u64::from(device.multiprocessors() * device.blocks_per_multiprocessor());
    let blocks = config.blocks();
    if blocks > most {
        let message = format!("{blocks} blocks that run together, the device holds {most}");
        return Err(invalid(kernel, message));
    }
    guarded(device, kernel, config, params, true, watch)
}

fn invalid(kernel: &LoadedKernel, message: String) -> Fault {
    Fault {
        kernel: kernel.kernel().name.clone(),
        line: 0,
        block: [0; 3],
        thread: None,
        kind: Box::new(FaultKind::InvalidLaunch(message)),
    }
}
