//! The argument structs of the kernels that compute several convolutions: a mirror of
//! `kernels/mma/multi_conv_args.cuh`, field by field.

use super::split_k_of;
use crate::kernels::args::{Arguments, int};
use crate::kernels::args::{FastDiv, Strides};
use crate::kernels::tensor_args::TensorArgs;
use crate::kernels::{Kernel, Layout};
use crate::problem::{Branches, MAX_MERGED, MAX_PRODUCTS, Product};

/// A range of a product's filters: one convolution. As all structs here it mirrors
/// `kernels/mma/multi_conv_args.cuh`, whose comments say what each field holds.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Destination {
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
pub struct BranchArgs {
    pub tensor: TensorArgs,
    pub to: [Destination; MAX_MERGED],
    pub destinations: i32,
    pub pooled: i32,
    pub first: u32,
    pub by_column: FastDiv,
}

/// The arguments of the kernels that compute several convolutions.
#[allow(missing_docs)]
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BranchesArgs {
    pub branch: [BranchArgs; MAX_PRODUCTS],
    pub branches: i32,
    pub reserved: i32,
}

const _: () = assert!(size_of::<Destination>() == 24 + 16 + 16);
const _: () = assert!(size_of::<BranchArgs>() == size_of::<TensorArgs>() + 4 * 56 + 24);
const _: () = assert!(size_of::<BranchesArgs>() == 4 * size_of::<BranchArgs>() + 8);

impl BranchesArgs {
    /// Everything but the pointers, and what [`Arguments::set_grid`] fills in.
    pub(crate) fn new(problem: &Branches, kernel: &Kernel, split_k: u32) -> BranchesArgs {
        let mut args = BranchesArgs {
            branches: int(problem.products().len()),
            ..BranchesArgs::default()
        };
        let each = problem.products().iter();
        let each = each.zip(split_k_of(problem, kernel, split_k));
        for (branch, (product, split_k)) in args.branch.iter_mut().zip(each) {
            *branch = BranchArgs::new(product, kernel, split_k);
        }
        args
    }

    fn used(&mut self) -> &mut [BranchArgs] {
        &mut self.branch[..self.branches as usize]
    }
}

impl BranchArgs {
    fn new(product: &Product, kernel: &Kernel, split_k: u32) -> BranchArgs {
        let mut branch = BranchArgs {
            tensor: TensorArgs::new(product.merged(), kernel, split_k),
            destinations: int(product.convolutions().len()),
            pooled: i32::from(product.pooling().is_some()),
            ..BranchArgs::default()
        };
        let mut first = 0;
        for (to, conv) in branch.to.iter_mut().zip(product.convolutions()) {
            *to = Destination {
                y_strides: conv.output().into(),
                first: int(first),
                end: int(first + conv.k()),
                relu: i32::from(conv.relu()),
                ..Destination::default()
            };
            first += conv.k();
        }
        branch
    }

    /// Returns whether every destination may be written four elements at a time.
    fn whole_outputs(&self, kernel: &Kernel) -> bool {
        let bytes = 4 * kernel.dtype.size() as u64;
        let plane = self.tensor.conv.p as u32 * self.tensor.conv.q as u32;
        self.to[..self.destinations as usize].iter().all(|to| {
            let whole = match kernel.layout {
                Some(Layout::Nhwc) => {
                    to.first % 4 == 0 && to.end % 4 == 0 && to.y_strides.pixel % 4 == 0
                }
                _ => plane.is_multiple_of(4),
            };
            whole && to.y_strides.image % 4 == 0 && to.y.is_multiple_of(bytes)
        })
    }
}

impl Arguments for BranchesArgs {
    fn set_grid(&mut self, kernel: &Kernel) -> u64 {
        let (mut column, mut columns) = (0u32, 0u64);
        for branch in self.used() {
            branch.tensor.set_grid(kernel);
            branch.tensor.conv.y_vector = i32::from(branch.whole_outputs(kernel));
            branch.first = column;
            column += branch.tensor.conv.tiles_m * branch.tensor.split_k as u32;
            columns = u64::from(branch.tensor.conv.gemm_n.div_ceil(kernel.tile_n));
        }
        for branch in self.used() {
            branch.by_column = FastDiv::new(column);
        }
        columns * u64::from(column)
    }
}

#[cfg(test)]
mod tests;
