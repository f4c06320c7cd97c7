//! The argument structs of the kernels that compute several convolutions: a mirror of
//! `kernels/mma/multi_conv_args.cuh`, field by field.

use super::split_k_of;
use crate::kernels::Kernel;
use crate::kernels::operation::{Arguments, FastDiv, Strides, int, whole_outputs};
use crate::kernels::tensor_args::TensorArgs;
use crate::problem::{Branches, MAX_MERGED, MAX_PRODUCTS, Product};

/// A range of a product's filters: one convolution. As all structs here it mirrors
/// `kernels/mma/multi_conv_args.cuh`, whose comments say what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MergedConv {
    pub w: u64,
    pub bias: u64,
    pub y: u64,
    pub y_strides: Strides,
    pub first: i32,
    pub end: i32,
    pub relu: i32,
    pub reserved: i32,
}

/// Arguments of one product.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProductArgs {
    pub tensor: TensorArgs,
    pub merged: [MergedConv; MAX_MERGED],
    pub convolutions: i32,
    pub pooled: i32,
    pub first_block: u32,
    pub by_column: FastDiv,
}

/// The arguments of the kernels that compute several convolutions.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MultiConvArgs {
    pub product: [ProductArgs; MAX_PRODUCTS],
    pub products: i32,
    pub reserved: i32,
}

const _: () = assert!(size_of::<MergedConv>() == 24 + 16 + 16);
const _: () = assert!(size_of::<ProductArgs>() == size_of::<TensorArgs>() + 4 * 56 + 24);
const _: () = assert!(size_of::<MultiConvArgs>() == 4 * size_of::<ProductArgs>() + 8);

impl MultiConvArgs {
    /// Everything but the pointers, and what [`Arguments::set_grid`] fills in.
    pub(crate) fn new(problem: &Branches, kernel: &Kernel, split_k: u32) -> MultiConvArgs {
        let mut args = MultiConvArgs {
            products: int(problem.products().len()),
            ..MultiConvArgs::default()
        };
        let each = problem.products().iter();
        let each = each.zip(split_k_of(problem, kernel, split_k));
        for (args, (product, split_k)) in args.product.iter_mut().zip(each) {
            *args = ProductArgs::new(product, kernel, split_k);
        }
        args
    }

    fn used(&mut self) -> &mut [ProductArgs] {
        &mut self.product[..self.products as usize]
    }
}

impl ProductArgs {
    fn new(product: &Product, kernel: &Kernel, split_k: u32) -> ProductArgs {
        let mut args = ProductArgs {
            tensor: TensorArgs::new(product.merged(), kernel, split_k),
            convolutions: int(product.convolutions().len()),
            pooled: i32::from(product.pooling().is_some()),
            ..ProductArgs::default()
        };
        let mut first = 0;
        for (to, conv) in args.merged.iter_mut().zip(product.convolutions()) {
            *to = MergedConv {
                y_strides: conv.output().into(),
                first: int(first),
                end: int(first + conv.k()),
                relu: i32::from(conv.relu()),
                ..MergedConv::default()
            };
            first += conv.k();
        }
        args
    }

    /// Returns whether every output may be written four elements at a time.
    fn whole_outputs(&self, kernel: &Kernel) -> bool {
        let pixels = self.tensor.conv.p as u32 * self.tensor.conv.q as u32;
        let none = (0, Strides::default());
        self.merged[..self.convolutions as usize].iter().all(|to| {
            let y = (to.y, to.y_strides);
            whole_outputs(kernel, y, none, &[to.first, to.end], pixels)
        })
    }
}

impl Arguments for MultiConvArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        let (mut column, mut columns) = (0u32, 0u64);
        for product in self.used() {
            product.tensor.set_grid(kernel);
            product.tensor.conv.y_vector = i32::from(product.whole_outputs(kernel));
            product.first_block = column;
            column += product.tensor.conv.tiles_m * product.tensor.split_k as u32;
            columns = u64::from(product.tensor.conv.gemm_n.div_ceil(kernel.tile_n));
        }
        for product in self.used() {
            product.by_column = FastDiv::new(column);
        }
        columns * u64::from(column)
    }
}

#[cfg(test)]
mod tests;
