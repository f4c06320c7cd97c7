//! Launching kernels.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use super::attributes::{card, max_threads};
use super::backend::fault_code;
use super::client_api;
use super::cluster;
use super::config;
use super::current::stream;
use super::occupancy::blocks_per_multiprocessor;
use super::state::{Context, Function, driver};
use super::status::{CUresult, Result};
use super::types::{Handle, In, LaunchConfigC, check, host_bytes};
use super::work::{Op, submit};
use crate::LaunchConfig;
use crate::report::FaultKind;

/// A kernel, its shape and its parameters.
#[derive(Clone)]
pub struct Launch {
    function: Arc<Function>,
    config: LaunchConfig,
    params: Arc<[u8]>,
    /// True for a cooperative launch, whose blocks may wait for each other.
    cooperative: bool,
}

/// `CU_LAUNCH_PARAM_…`: tags of the entries of `extra`.
const PARAM_END: usize = 0;
const PARAM_BUFFER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;

impl Launch {
    /// The kernel's name.
    pub fn name(&self) -> &str {
        &self.function.kernel.kernel().name
    }

    /// Number of worker threads that the launch can use, at most `most`.
    pub fn workers(&self, most: usize) -> usize {
        if self.cooperative {
            // Each of its blocks has its own thread.
            return most;
        }
        let clusters = self.config.clusters(self.function.kernel.kernel());
        usize::try_from(clusters).unwrap_or(most).clamp(1, most)
    }

    /// Runs the kernel. A fault is reported and breaks the context; the launch itself still
    /// succeeds.
    pub fn run(&self, context: &Arc<Context>) -> Result {
        let start = Instant::now();
        let kernel = &self.function.kernel;
        let backend = &context.device.backend;
        let print_bytes =
            crate::driver::context::limit(context, crate::driver::context::PRINT_BYTES);
        match backend.launch(
            kernel,
            self.config,
            &self.params,
            self.cooperative,
            print_bytes,
        ) {
            Ok(counters) => {
                client_api::note_launch(client_api::Record {
                    kernel: kernel.kernel().name.clone(),
                    ordinal: context.device.ordinal,
                    config: self.config,
                    nanoseconds: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
                    counters,
                });
                Ok(())
            }
            Err(fault) => {
                let report = fault.to_string();
                config::report(&format!("ptx-emulator: {report}"));
                let code = fault_code(&fault);
                client_api::note_fault(report, code);
                if matches!(*fault.kind, FaultKind::InvalidLaunch(_)) {
                    return Err(code);
                }
                context.fail(code);
                Ok(())
            }
        }
    }
}

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
