//! Plans once, packs the filters once, and launches as often as needed without any allocation.
//!
//! `cargo run --release --example 02_plan_reuse`

use half::f16;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::launch::{ConvBuffers, Workspace};
use warpconv::plan::Plan;
use warpconv::problem::{Conv2d, Padding};
use warpconv::{DType, Error, Layout, ops};

pub fn main() -> Result<(), Error> {
    let gpu = Gpu::open(&DeviceChoice::from_env()?)?;
    let conv = Conv2d::builder()
        .input(1, 63, 14, 14)
        .filters(63)
        .kernel(3, 3)
        .padding(Padding::same(1))
        .dtype(DType::F16)
        .layout(Layout::Nhwc)
        .build()?;
    let w = gpu.upload(&vec![f16::from_f32(0.5); conv.filter().len()])?;

    // Kernels on tensor cores read packed filters. Without this step each launch packs them anew.
    let (conv, w) = ops::pack_filter(&gpu, &conv, &w)?;

    // A plan is pure: it depends on the problem and the capability, and needs no device.
    let plan = Plan::new(&conv, gpu.capability())?;
    println!("{plan}");
    println!("refused: {} other kernels", plan.refused().count());

    // A prepared plan has its kernel loaded. It is `Send + Sync`; threads can share it.
    let prepared = gpu.prepare(&plan)?;
    let mut workspace = Workspace::new(gpu.stream(), plan.workspace_bytes())?;
    let mut y = gpu.upload(&vec![f16::ZERO; conv.output().len()])?;

    for value in [1.0, 2.0] {
        let x = gpu.upload(&vec![f16::from_f32(value); conv.input().len()])?;
        let buffers = ConvBuffers::new(&x, &w, &mut y).workspace(&mut workspace);
        prepared.launch(gpu.stream(), buffers)?;
        let corner = gpu.download(&y)?[0].to_f32();
        println!("x = {value}: corner {corner}");
        assert_eq!(corner, value * 4.0 * 63.0 * 0.5);
    }
    Ok(())
}
