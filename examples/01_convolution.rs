//! Computes one convolution from host data, by one call.
//!
//! `cargo run --release --example 01_convolution`

use warpconv::Error;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::ops;
use warpconv::problem::{Conv2d, Padding};

pub fn main() -> Result<(), Error> {
    // The device that WARPCONV_DEVICE names, else a GPU, else the emulator.
    let gpu = Gpu::open(&DeviceChoice::from_env()?)?;
    println!("device: {:?}", gpu.kind());

    // 3x3 over one image of 63 channels, with bias and ReLU in the epilogue.
    let conv = Conv2d::builder()
        .input(1, 63, 14, 14)
        .filters(8)
        .kernel(3, 3)
        .padding(Padding::same(1))
        .bias(true)
        .relu(true)
        .build()?;

    let x = gpu.upload(&vec![1.0f32; conv.input().len()])?;
    let w = gpu.upload(&vec![0.5f32; conv.filter().len()])?;
    let bias = gpu.upload(&vec![0.25f32; conv.output().c()])?;

    // Plans, loads the kernel, allocates the output and launches.
    let y = ops::conv2d(&gpu, &conv, &x, &w).bias(&bias).run()?;

    let y = gpu.download(&y)?;
    println!("corner {}, centre {}", y[0], y[7 * 14 + 7]);
    // The corner's window has four taps inside the image, the centre's has nine.
    assert_eq!(y[0], 4.0 * 63.0 * 0.5 + 0.25);
    assert_eq!(y[7 * 14 + 7], 9.0 * 63.0 * 0.5 + 0.25);
    Ok(())
}
