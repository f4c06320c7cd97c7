//! Opens the device of the options, and reports the device and the reason for the choice.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use serde_json::{Value, json};
use warpconv::device::{DeviceChoice, DeviceKind, Gpu};

use crate::exit::Failure;
use crate::output::say;

/// Opens the device and prints the first line of every command: which device, and why.
pub fn open(choice: DeviceChoice) -> Result<Gpu, Failure> {
    let (gpu, why) = match choice {
        DeviceChoice::Auto => match Gpu::open(&DeviceChoice::Cuda(0)) {
            Ok(gpu) => (gpu, "auto: the first GPU found".to_owned()),
            // The reason is printed: on a machine with a GPU it explains why the GPU is not used.
            Err(no_gpu) => {
                let gpu = Gpu::open(&DeviceChoice::Auto).map_err(Failure::device)?;
                let why = match gpu.kind() {
                    DeviceKind::Gpu => "auto: a GPU".to_owned(),
                    DeviceKind::Emulator => format!("auto: no GPU to use: {no_gpu}"),
                };
                (gpu, why)
            }
        },
        chosen => (
            Gpu::open(&chosen).map_err(Failure::device)?,
            format!("--device {chosen}"),
        ),
    };
    say(format_args!("device: {} ({why})", describe(&gpu)))?;
    Ok(gpu)
}

/// The stream of a command that times passes as CUDA graphs: all its work is queued there.
pub fn stream(gpu: &Gpu) -> Result<Arc<CudaStream>, Failure> {
    // SAFETY: each buffer of such a command is used only in this stream, which orders all work.
    unsafe { gpu.context().disable_event_tracking() };
    gpu.context().new_stream().map_err(Failure::device)
}

/// Text of the device.
fn describe(gpu: &Gpu) -> String {
    let capability = gpu.capability();
    let sm = format!(
        "compute capability {}.{}",
        capability.major, capability.minor
    );
    match gpu.kind() {
        DeviceKind::Gpu => format!(
            "{}, {sm}, {} multiprocessors",
            gpu.card().name,
            capability.sm_count
        ),
        DeviceKind::Emulator => {
            format!("the emulator, on this machine's processor, posing as {sm}")
        }
    }
}

/// The device in JSON.
pub fn to_json(gpu: &Gpu) -> Value {
    let capability = gpu.capability();
    json!({
        "kind": gpu.kind().to_string(),
        "name": gpu.card().name,
        "sm": capability.major * 10 + capability.minor,
    })
}

/// The choice that opens the same device again.
pub fn opened(gpu: &Gpu, choice: DeviceChoice) -> DeviceChoice {
    let capability = gpu.capability();
    match (gpu.kind(), choice) {
        (DeviceKind::Emulator, _) => DeviceChoice::Emulator {
            sm: capability.major * 10 + capability.minor,
        },
        (DeviceKind::Gpu, DeviceChoice::Auto) => DeviceChoice::Cuda(0),
        (DeviceKind::Gpu, chosen) => chosen,
    }
}
