//! cuDNN's poolings.

use cudarc::cudnn::sys::{self, cudnnPoolingMode_t as Mode};
use warpconv::launch::PoolPointers;
use warpconv::problem::{Pool2d, PoolKind};

use super::super::cudnn_baseline::{At, Best};
use super::super::record::CudnnRecord;
use super::super::timed_graph::text;
use super::descriptors::{Pooling, Tensor};
use super::legacy::{factor, input, output};
use super::{Cudnn, Failure, checked};

static ONE: f32 = 1.0;
static ZERO: f32 = 0.0;

impl Cudnn {
    /// cuDNN's pooling, or the reason why there is none.
    pub fn pool<'a>(&'a self, pool: &Pool2d, at: At<'a, PoolPointers>) -> Result<Best<'a>, String> {
        if pool.indices() {
            return Err(String::from("cuDNN writes no indices"));
        }
        if !pool.input().is_dense() || !pool.output().is_dense() || pool.window().dilation != [1, 1]
        {
            return Err(String::from("cuDNN has no such pooling"));
        }
        let mode = mode(pool).ok_or("cuDNN has no such pooling")?;
        let (window, padding, stride, note) = window(pool)?;
        let pooling = Pooling::new(mode, window, padding, stride).map_err(text)?;
        let x = Tensor::of(pool.input()).map_err(text)?;
        let y = Tensor::of(pool.output()).map_err(text)?;
        let launch = Box::new(move |i| {
            let at = at(i);
            // SAFETY: the benchmark keeps the operands alive, as long as the problem requires;
            // descriptors and factors are live.
            let status = unsafe {
                sys::cudnnPoolingForward(
                    self.handle,
                    pooling.raw(),
                    factor(&ONE),
                    x.raw(),
                    input(at.x),
                    factor(&ZERO),
                    y.raw(),
                    output(at.y),
                )
            };
            checked("cudnnPoolingForward", status).map_err(|failure: Failure| failure.to_string())
        });
        let row = CudnnRecord {
            plan: String::from("cudnnPoolingForward"),
            fused: true,
            timed: 1,
            note,
            ..CudnnRecord::default()
        };
        Ok(Best { row, launch })
    }
}

fn mode(pool: &Pool2d) -> Option<Mode> {
    match pool.kind() {
        PoolKind::Max { .. } | PoolKind::GlobalMax => Some(Mode::CUDNN_POOLING_MAX),
        PoolKind::Average {
            divisor_override: Some(_),
            ..
        } => None,
        PoolKind::Average {
            count_include_pad: true,
            ..
        } => Some(Mode::CUDNN_POOLING_AVERAGE_COUNT_INCLUDE_PADDING),
        PoolKind::Average { .. } | PoolKind::GlobalAverage => {
            Some(Mode::CUDNN_POOLING_AVERAGE_COUNT_EXCLUDE_PADDING)
        }
        PoolKind::AdaptiveAverage { .. } => None,
    }
}

/// Window, padding, stride, and a note for the report.
type Window = ([usize; 2], [usize; 2], [usize; 2], String);

/// The window for cuDNN, which rounds output sizes down and pads opposite sides alike. Where the
/// output size would differ, one more row and column of padding may correct it: the windows are
/// shifted, but their number and size are the same.
fn window(pool: &Pool2d) -> Result<Window, String> {
    if matches!(pool.kind(), PoolKind::GlobalMax | PoolKind::GlobalAverage) {
        let all = [pool.input().h(), pool.input().w()];
        return Ok((all, [0, 0], [1, 1], String::new()));
    }
    let (window, stride) = (
        [pool.window().kernel[0], pool.window().kernel[1]],
        pool.window().stride,
    );
    let padding = pool.window().padding;
    let extents = [
        (pool.input().h(), pool.output().h()),
        (pool.input().w(), pool.output().w()),
    ];
    for more in 0..=1 {
        let padding = [padding.top + more, padding.left + more];
        let fits = (0..2).all(|side| {
            let (extent, expected) = extents[side];
            let room = extent + 2 * padding[side];
            room >= window[side] && (room - window[side]) / stride[side] + 1 == expected
        });
        if fits && padding[0] < window[0] && padding[1] < window[1] {
            let note = if more == 0 {
                String::new()
            } else {
                String::from("padded by one more in place of ceil mode: as much work")
            };
            return Ok((window, padding, stride, note));
        }
    }
    Err(String::from("cuDNN has no such windows"))
}
