//! The argument struct of the kernels on tensor cores by `wgmma`: a mirror of
//! `kernels/wgmma/args.cuh`, whose comments say what each map describes.

use super::tensor_map::{Im2col, MapType, Promotion, TensorMap, TensorMaps, Tiled};
use crate::error::Error;
use crate::kernels::operation::Arguments;
use crate::kernels::operation::{FastDiv, Strides};
use crate::kernels::simt::ConvArgs;
use crate::kernels::tensor::Copies;
use crate::kernels::tensor_args::TensorArgs;
use crate::kernels::{DType, Kernel, Layout};
use crate::problem::Conv2d;

/// The arguments of every `wgmma` kernel.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub(crate) struct WgmmaArgs {
    x: TensorMap,
    w: TensorMap,
    y: TensorMap,
    residual: TensorMap,
    pub tensor: TensorArgs,
    by_taps: FastDiv,
    by_s: FastDiv,
    /// 1 where y and residual may be copied in bulk: before a launch, as far as their strides tell.
    y_bulk: i32,
    reserved: i32,
}

const _: () = assert!(
    size_of::<WgmmaArgs>() == (512 + size_of::<TensorArgs>() + 32).next_multiple_of(64)
        && align_of::<WgmmaArgs>() == 64
);

/// Bytes to which the addresses and strides of bulk copies are multiples.
const BULK: u64 = 16;

/// Bytes of a row of a box of y.
const Y_ROW: u32 = 128;

/// Pixels of a box of y.
const Y_PIXELS: u32 = 64;

impl WgmmaArgs {
    /// Everything but the addresses, and what [`WgmmaArgs::set_pointers`] fills in.
    pub(crate) fn new(
        problem: &Conv2d,
        kernel: &Kernel,
        tensor: TensorArgs,
    ) -> Result<WgmmaArgs, Error> {
        let maps = TensorMaps::get()?;
        let conv = &tensor.conv;
        let y_bulk = bulk(problem, conv, &conv.y_strides)
            && (problem.residual().is_none() || bulk(problem, conv, &conv.residual_strides));
        let output = |name, strides: &Strides, used: bool| match used {
            true => output(&maps, name, problem, conv, strides),
            false => Ok(TensorMap::NONE),
        };
        let added = y_bulk && problem.residual().is_some();
        Ok(WgmmaArgs {
            x: match kernel.tensor_traits().copies {
                Copies::Boxes => input(&maps, problem, conv, kernel)?,
                _ => TensorMap::NONE,
            },
            w: filters(&maps, problem, &tensor, kernel)?,
            y: output("y", &conv.y_strides, y_bulk)?,
            residual: output("residual", &conv.residual_strides, added)?,
            by_taps: FastDiv::new(problem.r() as u32 * problem.s() as u32),
            by_s: FastDiv::new(problem.s() as u32),
            y_bulk: i32::from(y_bulk),
            reserved: 0,
            tensor,
        })
    }

    /// Writes the addresses, which stand in `tensor.conv`, into the maps.
    pub(crate) fn set_pointers(&mut self) -> Result<(), Error> {
        let maps = TensorMaps::get()?;
        let conv = &self.tensor.conv;
        if self.x != TensorMap::NONE {
            self.x = maps.at("x", self.x, conv.x)?;
        }
        self.w = maps.at("w", self.w, conv.w)?;
        // Where there is no residual its address is 0.
        if self.y_bulk == 1 && (conv.y | conv.residual).is_multiple_of(BULK) {
            self.y = maps.at("y", self.y, conv.y)?;
            if conv.residual != 0 {
                self.residual = maps.at("residual", self.residual, conv.residual)?;
            }
        } else {
            self.y_bulk = 0;
        }
        Ok(())
    }

    /// Shares the work out, as [`Arguments::set_grid`], among blocks that each take many tiles.
    pub(crate) fn set_grid(&mut self, kernel: &Kernel, multiprocessors: u32) -> u64 {
        let items = self.tensor.set_grid(kernel);
        items.min(u64::from(kernel.min_blocks) * u64::from(multiprocessors))
    }
}

/// Element types as a map names them. f32 that is multiplied as tf32 is copied as it is: the tensor
/// core cuts its last bits off, where a map of tf32 would round, the largest numbers to infinity.
fn kind(dtype: DType) -> MapType {
    match dtype {
        DType::F16 => MapType::F16,
        DType::Bf16 => MapType::Bf16,
        DType::F32 => MapType::F32,
    }
}

/// Returns whether a tensor of these strides may be copied in bulk, its address aside.
fn bulk(problem: &Conv2d, conv: &ConvArgs, strides: &Strides) -> bool {
    let size = problem.dtype().size() as u64;
    let whole = |elements: i32| (elements as u64 * size).is_multiple_of(BULK);
    problem.layout() == Layout::Nhwc
        && whole(strides.pixel)
        && strides.image == i64::from(conv.p) * i64::from(conv.q) * i64::from(strides.pixel)
        && (problem.groups() == 1 || whole(conv.group_k))
}

fn input(
    maps: &TensorMaps,
    problem: &Conv2d,
    conv: &ConvArgs,
    kernel: &Kernel,
) -> Result<TensorMap, Error> {
    let size = problem.dtype().size() as u64;
    let (pixel, image) = (
        conv.x_strides.pixel as u64 * size,
        conv.x_strides.image as u64 * size,
    );
    // From the last pixel of an axis to where the last window begins.
    let last = |outputs: i32, stride: i32, before: i32, length: i32| {
        (outputs - 1) * stride - before - (length - 1)
    };
    maps.im2col(&Im2col {
        name: "x",
        kind: kind(problem.dtype()),
        dimensions: [problem.c(), problem.w(), problem.h(), problem.n()]
            .map(|extent| extent as u64),
        strides: [pixel, pixel * problem.w() as u64, image],
        lower: [-conv.pad_left, -conv.pad_top],
        upper: [
            last(conv.q, conv.stride_w, conv.pad_left, conv.width),
            last(conv.p, conv.stride_h, conv.pad_top, conv.h),
        ],
        channels: kernel.tile_k,
        pixels: kernel.tile_n,
        stride: [conv.stride_w as u32, conv.stride_h as u32],
        row_bytes: kernel.tile_k * size as u32,
        promotion: Promotion::Bytes128,
    })
}

fn filters(
    maps: &TensorMaps,
    problem: &Conv2d,
    tensor: &TensorArgs,
    kernel: &Kernel,
) -> Result<TensorMap, Error> {
    let size = problem.dtype().size() as u64;
    let taps = (problem.r() * problem.s()) as u64;
    let row = tensor.w_channels as u64;
    maps.tiled(&Tiled {
        name: "w",
        kind: kind(problem.dtype()),
        dimensions: &[row, taps, problem.k() as u64],
        strides: &[row * size, taps * row * size],
        extents: &[kernel.tile_k, 1, kernel.tile_m],
        row_bytes: kernel.tile_k * size as u32,
        promotion: Promotion::Bytes256,
    })
}

/// The map of y, or of a residual of these strides.
fn output(
    maps: &TensorMaps,
    name: &'static str,
    problem: &Conv2d,
    conv: &ConvArgs,
    strides: &Strides,
) -> Result<TensorMap, Error> {
    let size = problem.dtype().size() as u64;
    let (pixel, group) = (strides.pixel as u64 * size, conv.group_k as u64 * size);
    maps.tiled(&Tiled {
        name,
        kind: kind(problem.dtype()),
        dimensions: &[
            conv.group_k as u64,
            conv.groups as u64,
            u64::from(conv.gemm_n),
        ],
        strides: &[if conv.groups > 1 { group } else { pixel }, pixel],
        extents: &[Y_ROW / size as u32, 1, Y_PIXELS],
        row_bytes: Y_ROW,
        promotion: Promotion::None,
    })
}
