//! Runs each program of `examples/`: on the device of `WARPCONV_DEVICE`, else a GPU, else the
//! emulator. Each checks its own results, in a process of its own: counters are those of the
//! process, and waiting for the context breaks captures of other threads.
//!
//! They are compiled into this binary, so that running it alone never runs a stale program.

use crate::common::gpu;
use crate::common::process::own_process;

#[path = "../../examples/04_captured_graph.rs"]
mod captured_graph;
#[path = "../../examples/01_convolution.rs"]
mod convolution;
#[path = "../../examples/06_counters.rs"]
mod counters;
#[path = "../../examples/05_fused_bottleneck.rs"]
mod fused_bottleneck;
#[path = "../../examples/03_own_stream.rs"]
mod own_stream;
#[path = "../../examples/02_plan_reuse.rs"]
mod plan_reuse;

fn run<E: std::fmt::Display>(main: fn() -> Result<(), E>) {
    if let Err(error) = main() {
        panic!("{error}");
    }
}

#[test]
fn convolution_from_host_data() {
    own_process(|| run(convolution::main));
}

#[test]
fn plan_reuse_with_packed_filters() {
    own_process(|| run(plan_reuse::main));
}

#[test]
fn own_context_and_stream() {
    own_process(|| run(own_stream::main));
}

#[test]
fn captured_graph_is_replayed() {
    own_process(|| run(captured_graph::main));
}

#[test]
fn fused_bottleneck_equals_three_launches() {
    own_process(|| run(fused_bottleneck::main));
}

/// The example needs the emulator. A process has one driver, so it is skipped where that is a
/// GPU's.
#[test]
fn counters_on_the_emulator() {
    own_process(|| {
        if gpu().kind() == warpconv::device::DeviceKind::Emulator {
            run(counters::main);
        }
    });
}
