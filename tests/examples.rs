//! Runs each program of `examples/`: on the device of `WARPCONV_DEVICE`, else a GPU, else the
//! emulator. Each checks its own results.
//!
//! They are compiled into this binary, so that running it alone never runs a stale program.

use std::sync::{Mutex, PoisonError};

#[path = "../examples/04_captured_graph.rs"]
mod captured_graph;
#[path = "../examples/01_convolution.rs"]
mod convolution;
#[path = "../examples/06_counters.rs"]
mod counters;
#[path = "../examples/05_fused_bottleneck.rs"]
mod fused_bottleneck;
#[path = "../examples/03_own_stream.rs"]
mod own_stream;
#[path = "../examples/02_plan_reuse.rs"]
mod plan_reuse;

/// One example at a time: counters are those of the process, and waiting for the context breaks
/// captures of other threads.
static ALONE: Mutex<()> = Mutex::new(());

fn run<E: std::fmt::Display>(main: fn() -> Result<(), E>) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Err(error) = main() {
        panic!("{error}");
    }
}

#[test]
fn convolution_from_host_data() {
    run(convolution::main);
}

#[test]
fn plan_reuse_with_packed_filters() {
    run(plan_reuse::main);
}

#[test]
fn own_context_and_stream() {
    run(own_stream::main);
}

#[test]
fn captured_graph_is_replayed() {
    run(captured_graph::main);
}

#[test]
fn fused_bottleneck_equals_three_launches() {
    run(fused_bottleneck::main);
}

/// The example needs the emulator. A process has one driver, so it is skipped where that is a GPU's.
#[test]
fn counters_on_the_emulator() {
    use warpconv::device::{DeviceChoice, DeviceKind, Gpu};
    let choice = DeviceChoice::from_env().expect("WARPCONV_DEVICE names a device");
    let gpu = Gpu::open(&choice).expect("there is a GPU, or the emulator's library");
    if gpu.kind() == DeviceKind::Emulator {
        run(counters::main);
    }
}
