//! Thread-block clusters: a function's attributes, valid cluster sizes of a launch, and occupancy.

use std::ffi::c_int;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::LaunchConfig;
use crate::driver::device_profiles::Card;
use crate::driver::resources::{blocks_per_multiprocessor, card};
use crate::driver::state::Function;
use crate::driver::status::{CUresult, Result};
use crate::driver::types::{LaunchConfigC, check};
use crate::ir::{Kernel, MAX_CLUSTER};

/// Number of blocks in the largest cluster that every card with clusters supports.
const PORTABLE: u32 = 8;

/// Number of SMs in each GPC of the emulated H200: a cluster lies within one GPC.
const GROUPS: [u32; 8] = [16, 16, 16, 16, 16, 16, 18, 18];

/// The cluster that a function requires, if any.
fn required(function: &Function) -> Option<[u32; 3]> {
    let set = || {
        let load = |size: &AtomicU32| size.load(Ordering::Relaxed);
        let sizes = function.cluster.required.each_ref().map(load);
        (sizes != [0; 3]).then_some(sizes)
    };
    function.kernel.kernel().required_cluster.or_else(set)
}

/// Attributes `CU_FUNC_ATTRIBUTE_*` 10 to 15.
pub fn attribute(function: &Function, number: c_int) -> u32 {
    match number {
        10 => u32::from(function.kernel.kernel().explicit_cluster || required(function).is_some()),
        11..=13 => required(function).map_or(0, |sizes| sizes[number as usize - 11]),
        14 => u32::from(function.cluster.non_portable.load(Ordering::Relaxed)),
        _ => function.cluster.policy.load(Ordering::Relaxed),
    }
}

/// Sets one of these attributes.
pub fn set_attribute(function: &Function, number: c_int, value: c_int) -> Result {
    let wanted = u32::try_from(value).map_err(|_| CUresult::INVALID_VALUE)?;
    if card(function)?.capability < 90 {
        return Err(CUresult::NOT_SUPPORTED);
    }
    match number {
        11..=13 => {
            // A cluster size in the PTX cannot be changed.
            if function.kernel.kernel().required_cluster.is_some() {
                return Err(CUresult::NOT_PERMITTED);
            }
            function.cluster.required[number as usize - 11].store(wanted, Ordering::Relaxed);
        }
        14 => {
            check(wanted <= 1)?;
            function
                .cluster
                .non_portable
                .store(wanted == 1, Ordering::Relaxed);
        }
        15 => {
            check(wanted <= 2)?;
            function.cluster.policy.store(wanted, Ordering::Relaxed);
        }
        _ => return Err(CUresult::INVALID_VALUE),
    }
    Ok(())
}

/// Number of blocks in the largest cluster of a function's launches.
fn largest(function: &Function) -> u32 {
    if function.cluster.non_portable.load(Ordering::Relaxed) {
        MAX_CLUSTER
    } else {
        PORTABLE
    }
}

/// The cluster of a launch, or the driver's error code.
pub fn admissible(
    function: &Function,
    given: Option<[u32; 3]>,
    config: &LaunchConfig,
) -> Result<Option<[u32; 3]>> {
    let kernel = function.kernel.kernel();
    let required = required(function);
    let cluster = given.or(required);
    let Some(sizes) = cluster else {
        // `.explicitcluster` without a size.
        if kernel.explicit_cluster {
            return Err(CUresult::INVALID_CLUSTER_SIZE);
        }
        return Ok(None);
    };
    let blocks = product(sizes).ok_or(CUresult::INVALID_CLUSTER_SIZE)?;
    if card(function)?.capability < 90 {
        return if blocks == 1 {
            Ok(None)
        } else {
            Err(CUresult::NOT_SUPPORTED)
        };
    }
    let divides = config
        .grid
        .iter()
        .zip(sizes)
        .all(|(grid, size)| grid.is_multiple_of(size));
    let fits = required.is_none_or(|required| required == sizes)
        && blocks <= largest(function)
        && kernel.max_cluster.is_none_or(|most| blocks <= most);
    if !divides || !fits {
        return Err(CUresult::INVALID_CLUSTER_SIZE);
    }
    Ok(cluster)
}

/// Number of blocks in a cluster; `None` if one size is zero.
fn product(sizes: [u32; 3]) -> Option<u32> {
    let blocks = sizes
        .iter()
        .try_fold(1u32, |all, &size| all.checked_mul(size));
    blocks.filter(|&blocks| blocks > 0)
}

/// Resident blocks per SM of a launch.
fn resident(card: &Card, kernel: &Kernel, config: &LaunchConfigC) -> Result<u32> {
    let threads = config
        .block
        .iter()
        .try_fold(1u32, |all, &n| all.checked_mul(n));
    let threads = threads.ok_or(CUresult::INVALID_VALUE)?;
    Ok(blocks_per_multiprocessor(
        card,
        kernel,
        threads,
        config.shared_bytes as usize,
    ))
}

/// `cuOccupancyMaxActiveClusters`: number of clusters that the device holds at a time.
pub fn active(function: &Function, config: &LaunchConfigC, given: Option<[u32; 3]>) -> Result<u32> {
    let card = card(function)?;
    if card.capability < 90 {
        return Err(CUresult::INVALID_CLUSTER_SIZE);
    }
    let sizes = given.or_else(|| required(function)).unwrap_or([1; 3]);
    let blocks = product(sizes).filter(|&blocks| blocks <= largest(function));
    let blocks = blocks.ok_or(CUresult::INVALID_CLUSTER_SIZE)?;
    let each = resident(card, function.kernel.kernel(), config)?;
    Ok(GROUPS.iter().map(|group| group * each / blocks).sum())
}

/// `cuOccupancyMaxPotentialClusterSize`: number of blocks in the largest cluster of a launch.
pub fn potential(function: &Function, config: &LaunchConfigC) -> Result<u32> {
    let card = card(function)?;
    if card.capability < 90 {
        return Err(CUresult::INVALID_CLUSTER_SIZE);
    }
    let kernel = function.kernel.kernel();
    let most = kernel
        .max_cluster
        .unwrap_or(MAX_CLUSTER)
        .min(largest(function));
    Ok(if resident(card, kernel, config)? == 0 {
        0
    } else {
        most
    })
}
