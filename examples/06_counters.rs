//! Counts on the emulator what a profiler counts on a GPU: compares two kernels for one problem.
//!
//! `cargo run --release --example 06_counters`

use warpconv::Error;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::launch::{ConvBuffers, Workspace};
use warpconv::plan::Plan;
use warpconv::problem::Conv2d;

pub fn main() -> Result<(), Error> {
    let gpu = Gpu::open(&DeviceChoice::Emulator { sm: 90 })?;
    let conv: Conv2d = "mb1ic64ih14oc64oh14kh3ph1+f16+nhwc".parse()?;

    let ranked = Plan::new(&conv, gpu.capability())?;
    let candidates: Vec<_> = ranked.accepted().map(|c| c.id).collect();
    let (best, worst) = (candidates[0], candidates[candidates.len() - 1]);

    // Each operand once: f16 has two bytes.
    let least = 2 * (conv.input().len() + conv.filter().len()) as u64;
    println!("least bytes read        {least:>10}");
    for kernel in [best, worst] {
        let plan = Plan::with_kernel(&conv, gpu.capability(), kernel)?;
        let prepared = gpu.prepare(&plan)?;
        let zero = half::f16::ZERO;
        let x = gpu.upload(&vec![zero; conv.input().len()])?;
        let w = gpu.upload(&vec![zero; conv.filter().len()])?;
        let mut y = gpu.upload(&vec![zero; conv.output().len()])?;
        let mut workspace = Workspace::new(gpu.stream(), plan.workspace_bytes())?;
        let buffers = ConvBuffers::new(&x, &w, &mut y).workspace(&mut workspace);

        gpu.synchronize()?;
        gpu.reset_counters();
        prepared.launch(gpu.stream(), buffers)?;
        gpu.synchronize()?;
        let counted = gpu.counters().expect("this device is the emulator");

        println!("{}", kernel.kernel().name());
        println!("  blocks                {:>10}", counted.blocks);
        println!("  bytes read            {:>10}", counted.device_bytes_read);
        println!(
            "  bytes written         {:>10}",
            counted.device_bytes_written
        );
        println!(
            "  shared wavefronts     {:>10}",
            counted.shared_loads.wavefronts
        );
        println!(
            "  bank conflicts, loads {:>10}",
            counted.shared_loads.conflicts
        );
        println!("  barriers              {:>10}", counted.barriers);
        assert!(counted.device_bytes_read >= least);
    }
    Ok(())
}
