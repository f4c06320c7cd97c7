//! Shared parts of the tests that need a device.
// Each test binary uses its part of this.
#![allow(dead_code)]

pub mod inception;
pub mod process;
pub mod tensor;

use std::sync::OnceLock;

use warpconv::device::{DeviceChoice, Gpu};
use warpconv::launch::Element;
use warpconv::problem::{Conv2d, Padding};
use warpconv_testing::reference;

/// The device of `WARPCONV_DEVICE`, else a GPU, else the emulator; one for the whole process.
pub fn gpu() -> &'static Gpu {
    process::use_device();
    static GPU: OnceLock<Gpu> = OnceLock::new();
    GPU.get_or_init(|| {
        let choice = DeviceChoice::from_env().expect("WARPCONV_DEVICE names a device");
        Gpu::open(&choice).expect("there is a GPU, or the emulator's library beside the tests")
    })
}

/// A small 3x3 convolution with bias and ReLU.
pub fn small_conv() -> Conv2d {
    Conv2d::builder()
        .input(2, 5, 9, 7)
        .filters(6)
        .kernel(3, 3)
        .padding(Padding::same(1))
        .bias(true)
        .relu(true)
        .build()
        .expect("the problem is valid")
}

/// Small integers, the same every time: their sums are exact in f32.
pub fn integers(len: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((state >> 33) % 7) as f32 - 3.0
    };
    (0..len).map(|_| next()).collect()
}

/// Operands of [`small_conv`] (or one like it, dense, NCHW, KCRS) with the result.
pub struct Case {
    pub problem: Conv2d,
    pub x: Vec<f32>,
    pub w: Vec<f32>,
    pub bias: Vec<f32>,
    pub y: Vec<f32>,
}

impl Case {
    pub fn new(problem: Conv2d, seed: u64) -> Case {
        let x = integers(problem.input().len(), seed);
        let w = integers(problem.filter().len(), seed + 1);
        let bias = integers(problem.output().c(), seed + 2);
        let wide = |values: &[f32]| values.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let added = problem.bias().then(|| wide(&bias));
        let y = reference::conv2d(&problem, &wide(&x), &wide(&w), added.as_deref(), None)
            .expect("the operands fit the problem");
        Case {
            problem,
            x,
            w,
            bias,
            y: y.into_iter().map(|v| v as f32).collect(),
        }
    }
}

/// Zeros of the given type on the device.
pub fn zeros<T: Element>(len: usize) -> cudarc::driver::CudaSlice<T> {
    gpu()
        .stream()
        .alloc_zeros(len)
        .expect("the device has memory for a test")
}
