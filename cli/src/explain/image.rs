//! The loaded kernel of a plan: its image, what the driver reports of it, and its compiler's log.

use serde_json::{Value, json};
use warpconv::Error;
use warpconv::device::{DeviceKind, Gpu, Loaded};
use warpconv::launch::{FunctionAttributes, Launch};
use warpconv::plan::Plan;

use crate::exit::Failure;
use crate::output::{bytes, say};

/// A loaded kernel.
struct Kernel {
    loaded: Loaded,
    attributes: FunctionAttributes,
    log: String,
}

/// Loads the plan's kernel.
fn load<P: Launch>(gpu: &Gpu, plan: &Plan<P>) -> Result<Kernel, Error> {
    let prepared = gpu.prepare(plan)?;
    Ok(Kernel {
        loaded: prepared.loaded(),
        attributes: prepared.attributes()?,
        log: prepared.jit_log().to_owned(),
    })
}

/// Loads the plan's kernel, prints its image, and returns the JSON. With `jit` the rest of what the
/// driver reports and its compiler's log are printed too, and a kernel that does not load is a
/// failure; without, its error is printed in the image's place.
pub fn explain<P: Launch>(gpu: &Gpu, plan: &Plan<P>, jit: bool) -> Result<Value, Failure> {
    let kernel = match load(gpu, plan) {
        Ok(kernel) => kernel,
        Err(error) if jit => return Err(Failure::device(error)),
        Err(error) => {
            say(format_args!("image:   none: {error}"))?;
            return Ok(json!({"error": error.to_string()}));
        }
    };
    let attributes = kernel.attributes;
    say(format_args!(
        "image:   {}; {} registers and {} of local memory per thread",
        kernel.loaded,
        attributes.registers,
        bytes(u64::from(attributes.local_bytes))
    ))?;
    if jit {
        say(format_args!(
            "driver:  {} of shared memory per block, at most {} threads per block, {}",
            bytes(u64::from(attributes.shared_bytes)),
            attributes.max_threads,
            match attributes.carveout {
                Some(percent) => format!("shared-memory carve-out of {percent} %"),
                None => "shared-memory carve-out left to the driver".to_owned(),
            }
        ))?;
        log(gpu, &kernel)?;
    }
    Ok(json!({
        "loaded": kernel.loaded.to_string(),
        "registers": attributes.registers,
        "local_bytes": attributes.local_bytes,
        "shared_bytes": attributes.shared_bytes,
        "max_threads": attributes.max_threads,
        "carveout": attributes.carveout,
        "jit_log": kernel.log,
    }))
}

/// Prints the compiler's log, or why there is none.
fn log(gpu: &Gpu, kernel: &Kernel) -> Result<(), Failure> {
    if kernel.log.is_empty() {
        let why = match (gpu.kind(), &kernel.loaded) {
            (DeviceKind::Emulator, _) => "the emulator compiles nothing",
            (_, Loaded::Cubin { .. }) => "machine code is not compiled",
            _ => {
                "the driver has given none: it has probably compiled this PTX before and takes \
                 the result from its cache (CUDA_CACHE_DISABLE=1 compiles anew)"
            }
        };
        return say(format_args!("log:     none: {why}"));
    }
    say("log:     of the driver's compiler")?;
    let mut lines = kernel.log.lines();
    lines.try_for_each(|line| say(format_args!("         {line}")))
}
