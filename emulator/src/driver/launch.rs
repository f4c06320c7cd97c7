//! Launching kernels.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::LaunchConfig;
use crate::driver::cluster;
use crate::driver::current::stream;
use crate::driver::resources::{blocks_per_multiprocessor, card, max_threads};
use crate::driver::state::{Function, Launch, Op, driver};
use crate::driver::status::{CUresult, Result};
use crate::driver::submit::submit;
use crate::driver::types::{Handle, In, LaunchConfigC, check, host_bytes};

/// `CU_LAUNCH_PARAM_…`: tags of the entries of `extra`.
const PARAM_END: usize = 0;
const PARAM_BUFFER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;

/// Checks a launch as a driver does before anything runs.
fn admissible(function: &Function, config: &LaunchConfig) -> Result {
    let [gx, gy, gz] = config.grid;
    check(gx > 0 && gy > 0 && gz > 0 && gx <= i32::MAX as u32 && gy <= 65535 && gz <= 65535)?;
    let [bx, by, bz] = config.block;
    check(
        bx > 0 && by > 0 && bz > 0 && bx <= 1024 && by <= 1024 && bz <= 64 && bx * by * bz <= 1024,
    )?;
    let kernel = function.kernel.kernel();
    check(bx * by * bz <= max_threads(kernel))?;
    check(
        kernel
            .required_block
            .is_none_or(|required| required == config.block),
    )?;
    check(config.shared_bytes <= function.max_dynamic_shared.load(Ordering::Relaxed))?;
    let shared = kernel
        .dynamic_shared_offset()
        .checked_add(config.shared_bytes)
        .ok_or(CUresult::INVALID_VALUE)?;
    check(shared <= card(function)?.shared_per_block_optin as u32)
}

/// The parameter buffer, from one address per parameter or from one buffer.
fn parameters(
    function: &Function,
    addresses: In<*const c_void>,
    extra: In<usize>,
) -> Result<Arc<[u8]>> {
    let kernel = function.kernel.kernel();
    let mut buffer = vec![0; kernel.param_bytes as usize];
    if !addresses.is_null() {
        check(extra.is_null())?;
        for (index, param) in kernel.params.iter().enumerate() {
            let bytes = host_bytes(addresses.at(index)?, param.size as usize)?;
            buffer[param.offset as usize..][..param.size as usize].copy_from_slice(bytes);
        }
        return Ok(buffer.into());
    }
    if extra.is_null() {
        check(kernel.params.is_empty())?;
        return Ok(buffer.into());
    }
    let (mut given, mut size) = (0, None);
    for pair in 0.. {
        match extra.at(2 * pair)? {
            PARAM_END => break,
            PARAM_BUFFER => given = extra.at(2 * pair + 1)?,
            PARAM_BUFFER_SIZE => size = Some(In(extra.at(2 * pair + 1)? as *const usize).get()?),
            _ => return Err(CUresult::INVALID_VALUE),
        }
    }
    let bytes = host_bytes(given as *const c_void, size.ok_or(CUresult::INVALID_VALUE)?)?;
    check(bytes.len() >= buffer.len())?;
    buffer.copy_from_slice(&bytes[..kernel.param_bytes as usize]);
    Ok(buffer.into())
}

fn launch(
    handle: Handle,
    config: LaunchConfig,
    stream_handle: Handle,
    params: In<*const c_void>,
    extra: In<usize>,
    cooperative: bool,
) -> Result {
    let (context, stream) = stream(stream_handle)?;
    let function = driver()?.functions.get(handle)?;
    if function.module.context != context.handle {
        return Err(CUresult::INVALID_HANDLE);
    }
    admissible(&function, &config)?;
    let config = LaunchConfig {
        cluster: cluster::admissible(&function, config.cluster, &config)?,
        ..config
    };
    if cooperative {
        let card = card(&function)?;
        let threads = config.threads() as u32;
        let blocks = blocks_per_multiprocessor(
            card,
            function.kernel.kernel(),
            threads,
            config.shared_bytes as usize,
        );
        if config.blocks() > u64::from(blocks) * card.multiprocessors as u64 {
            return Err(CUresult::COOPERATIVE_LAUNCH_TOO_LARGE);
        }
    }
    let params = parameters(&function, params, extra)?;
    submit(
        &context,
        &stream,
        Op::Launch(Launch {
            function,
            config,
            params,
            cooperative,
        }),
    )
}

driver! {
    fn cuLaunchKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: Handle,
        params: In<*const c_void>,
        extra: In<usize>,
    ) {
        let config =
            LaunchConfig {
                grid: [grid_x, grid_y, grid_z],
                block: [block_x, block_y, block_z],
                shared_bytes,
                cluster: None,
            };
        launch(function, config, stream, params, extra, false)
    }

    fn cuLaunchCooperativeKernel(
        function: Handle,
        grid_x: c_uint,
        grid_y: c_uint,
        grid_z: c_uint,
        block_x: c_uint,
        block_y: c_uint,
        block_z: c_uint,
        shared_bytes: c_uint,
        stream: Handle,
        params: In<*const c_void>,
    ) {
        let config =
            LaunchConfig {
                grid: [grid_x, grid_y, grid_z],
                block: [block_x, block_y, block_z],
                shared_bytes,
                cluster: None,
            };
        launch(function, config, stream, params, In(std::ptr::null()), true)
    }

    fn cuLaunchKernelEx(
        given: In<LaunchConfigC>, function: Handle, params: In<*const c_void>, extra: In<usize>,
    ) {
        let given = given.get()?;
        let (mut cooperative, mut cluster) = (false, None);
        for index in 0..given.attribute_count as usize {
            let attribute = In(given.attributes).at(index)?;
            match attribute.id {
                2 => cooperative = attribute.value[0] != 0,
                4 => cluster = Some([attribute.value[0], attribute.value[1], attribute.value[2]]),
                // Policy of distributing the blocks of a cluster over SMs: 0 to 2.
                5 => check(attribute.value[0] <= 2)?,
                // Hints, priorities, and orderings that hold anyway.
                _ => {}
            }
        }
        let config = LaunchConfig {
            grid: given.grid, block: given.block, shared_bytes: given.shared_bytes, cluster,
        };
        launch(function, config, given.stream, params, extra, cooperative)
    }
}
