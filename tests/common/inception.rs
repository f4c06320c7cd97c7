//! Shared parts of the tests of Inception modules.

use warpconv::kernels::{DType, Layout, Math};
use warpconv::ops::Inception;
use warpconv::problem::Conv2d;
use warpconv_testing::integers;

use super::gpu;

/// An image small enough for the emulator, odd in both directions.
pub const IMAGE: (usize, usize) = (5, 7);

/// GoogLeNet's modules: channels, then the widths of 1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5 and
/// projection.
pub const GOOGLENET: [(&str, [usize; 7]); 9] = [
    ("3a", [192, 64, 96, 128, 16, 32, 32]),
    ("3b", [256, 128, 128, 192, 32, 96, 64]),
    ("4a", [480, 192, 96, 208, 16, 48, 64]),
    ("4b", [512, 160, 112, 224, 24, 64, 64]),
    ("4c", [512, 128, 128, 256, 24, 64, 64]),
    ("4d", [512, 112, 144, 288, 32, 64, 64]),
    ("4e", [528, 256, 160, 320, 32, 128, 128]),
    ("5a", [832, 256, 160, 320, 32, 128, 128]),
    ("5b", [832, 384, 192, 384, 48, 128, 128]),
];

/// A module of these widths; f32 is multiplied in tf32.
pub fn module(
    widths: [usize; 7],
    n: usize,
    image: (usize, usize),
    dtype: DType,
    layout: Layout,
) -> Inception {
    let [c, k1, reduce3, k3, reduce5, k5, pool_projection] = widths;
    Inception {
        n,
        c,
        h: image.0,
        w: image.1,
        k1,
        reduce3,
        k3,
        reduce5,
        k5,
        pool_projection,
        dtype,
        layout,
        math: match dtype {
            DType::F32 => Math::Tf32,
            DType::F16 | DType::Bf16 => Math::Strict,
        },
    }
}

/// Widths that fit no tile, no vector and no half of a word.
pub const ODD: [usize; 7] = [27, 13, 11, 19, 5, 7, 9];

/// Returns whether the device has kernels for several convolutions in one launch.
pub fn fuses() -> bool {
    gpu().capability().version() >= (8, 0)
}

/// Small integers as the filters and the bias of the convolution with this number.
pub fn filters(conv: &Conv2d, index: usize) -> (Vec<f64>, Vec<f64>) {
    let w = integers(conv.filter().elements(), 1, 10 + index as u64);
    (w, integers(conv.output().c(), 3, 50 + index as u64))
}

/// Compares to the bit; NaN is NaN.
pub fn same(name: &str, got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len(), "{name}");
    for (at, (got, want)) in got.iter().zip(want).enumerate() {
        let equal = got == want || (got.is_nan() && want.is_nan());
        assert!(equal, "{name}: element {at} is {got}, wanted {want}");
    }
}
