//! Reference of the kernels: the definitions, computed naively in f64 on the CPU.
//!
//! Tensors are dense and in logical order for all layouts and slices of the problem: activations
//! NCHW, filters KCRS. A sum of products of f32, f16 or bf16 numbers is far more exact in f64 than
//! any kernel's result. So these results count as true.

mod activation;
mod bottleneck;
mod conv;
mod lrn;
mod pool;
#[cfg(test)]
mod tests;

pub use activation::{softmax, softmax_bound, subsample, subsample_bound, tanh, tanh_bound};
pub use bottleneck::{BottleneckOperands, bottleneck2d};
pub use conv::{conv2d, conv2d_abs};
pub use lrn::{lrn, lrn_bound, lrn_window};
pub use pool::{pool2d, pool2d_abs};

use warpconv::error::Error;

/// The unit roundoff of f32.
const UNIT: f64 = 1.0 / (1 << 24) as f64;
/// The least positive number of f32: the absolute error of results and squares near zero.
const LEAST: f64 = 1.0 / (1u128 << 75) as f64 / (1u128 << 74) as f64;

/// `max(x, 0)` of every element; NaN stays NaN.
pub fn relu(x: &[f64]) -> Vec<f64> {
    x.iter().map(|&x| rectify(x)).collect()
}

/// ReLU of a number: NaN stays NaN, which `f64::max` would not do.
fn rectify(x: f64) -> f64 {
    if x < 0.0 { 0.0 } else { x }
}

/// Fails unless `slice` has `expected` elements.
fn expect_len<T>(what: &'static str, slice: &[T], expected: usize) -> Result<(), Error> {
    if slice.len() == expected {
        Ok(())
    } else {
        Err(Error::Length {
            what,
            expected,
            got: slice.len(),
        })
    }
}

/// Calls `plane(index, chunk)` for every `len` elements of `all`, on all CPU cores.
fn for_each_plane<T: Send>(all: &mut [T], len: usize, plane: impl Fn(usize, &mut [T]) + Sync) {
    if all.is_empty() || len == 0 {
        return;
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let planes = all.len() / len;
    // Below 4096 elements a thread costs more than it saves.
    let threads = if all.len() < 1 << 12 {
        1
    } else {
        threads.min(planes).max(1)
    };
    let share = planes.div_ceil(threads);
    std::thread::scope(|scope| {
        for (part, chunk) in all.chunks_mut(share * len).enumerate() {
            let plane = &plane;
            let mut work = move || {
                for (index, chunk) in chunk.chunks_mut(len).enumerate() {
                    plane(part * share + index, chunk);
                }
            };
            if threads == 1 {
                work();
            } else {
                scope.spawn(work);
            }
        }
    });
}
