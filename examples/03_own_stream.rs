//! Launches in a context and a stream that the program already has, with cudarc's buffers, and once
//! more with raw device pointers.
//!
//! `cargo run --release --example 03_own_stream`

use cudarc::driver::{CudaContext, CudaSlice, CudaStream, DevicePtr, DevicePtrMut};
use warpconv::Error;
use warpconv::device::{DeviceChoice, Gpu};
use warpconv::launch::{ConvBuffers, ConvPointers, Prepared};
use warpconv::plan::Plan;
use warpconv::problem::Conv2d;

pub fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Only for the emulator: it must be loaded before cudarc's first call. A program that needs a
    // GPU leaves this line out.
    let loaded = Gpu::open(&DeviceChoice::from_env()?)?;

    // What a framework has: a context, a stream, and buffers of its own.
    let context = CudaContext::new(loaded.context().ordinal())?;
    let stream = context.new_stream()?;
    let x = stream.clone_htod(&vec![1.0f32; 32 * 9 * 9])?;
    let w = stream.clone_htod(&vec![2.0f32; 16 * 32])?;
    let mut y = stream.alloc_zeros::<f32>(16 * 9 * 9)?;

    // The same context, as this crate's device.
    let gpu = Gpu::new(context)?;
    let conv: Conv2d = "mb1ic32ih9oc16oh9kh1".parse()?;
    let prepared = gpu.prepare(&Plan::new(&conv, gpu.capability())?)?;

    // Safe: lengths, types, contexts and overlaps are checked, and the launch is ordered behind
    // earlier uses of the buffers in other streams.
    prepared.launch(&stream, ConvBuffers::new(&x, &w, &mut y))?;
    check(&stream.clone_dtoh(&y)?);

    stream.memset_zeros(&mut y)?;
    raw(&prepared, &stream, &x, &w, &mut y)?;
    check(&stream.clone_dtoh(&y)?);
    println!("both launches gave 64 everywhere");
    Ok(())
}

/// Launches with raw device pointers and a raw stream, for programs that do not use cudarc.
fn raw(
    prepared: &Prepared<Conv2d>,
    stream: &CudaStream,
    x: &CudaSlice<f32>,
    w: &CudaSlice<f32>,
    y: &mut CudaSlice<f32>,
) -> Result<(), Error> {
    let (x, _x_used) = x.device_ptr(stream);
    let (w, _w_used) = w.device_ptr(stream);
    let (y, _y_used) = y.device_ptr_mut(stream);
    let pointers = ConvPointers {
        x,
        w,
        y,
        ..ConvPointers::default()
    };
    // SAFETY: each pointer is to a buffer of the problem's length in this stream's context, and
    // all of them live until the caller's download has waited for the stream.
    unsafe { prepared.launch_raw(stream.cu_stream(), pointers) }
}

fn check(y: &[f32]) {
    assert!(y.iter().all(|&value| value == 64.0));
}
