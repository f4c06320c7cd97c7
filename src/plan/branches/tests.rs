//! What mirrors the kernel, and the bound on parts of sums.

use super::*;
use crate::catalog::{DType, kernels};
use crate::problem::{FilterLayout, Padding, Pool2d, PoolKind};

fn kernel(dtype: DType, layout: Layout, tile: [u32; 2], vector: u32) -> &'static Kernel {
    let fits = |kernel: &&Kernel| {
        kernel.algorithm == Algorithm::MmaBranches
            && (kernel.dtype, kernel.layout) == (dtype, Some(layout))
            && ([kernel.tile_m, kernel.tile_n], kernel.vector) == (tile, vector)
    };
    kernels().iter().find(fits).expect("in the catalog")
}

fn conv(dtype: DType, layout: Layout, c: usize, image: [usize; 2], k: usize, r: usize) -> Conv2d {
    Conv2d::builder()
        .input(1, c, image[0], image[1])
        .filters(k)
        .kernel(r, r)
        .padding(Padding::same(r / 2))
        .dtype(dtype)
        .layout(layout)
        .math(match dtype {
            DType::F32 => crate::catalog::Math::Tf32,
            _ => crate::catalog::Math::Strict,
        })
        .filter_layout(FilterLayout::Packed)
        .build()
        .expect("a valid problem")
}

/// The widths up to which the kernel brings cells into shared memory, and what a step costs there and beyond.
#[test]
fn pooled_steps_are_quick_where_the_cells_fit() {
    for (tile, cells, most) in [
        ([128, 128], 192, 31),
        ([64, 128], 160, 15),
        ([64, 64], 160, 47),
    ] {
        for dtype in DType::ALL {
            // There is none of 64 x 128 for tf32.
            if dtype == DType::F32 && tile == [64, 128] {
                continue;
            }
            let kernel = kernel(dtype, Layout::Nhwc, tile, 16);
            assert_eq!(pooled_cells(kernel), cells, "{}", kernel.id());
            for (width, want) in [
                (1, POOLED_STEP),
                (most, POOLED_STEP),
                (most + 1, POOLED_SLOW_STEP),
                (2000, POOLED_SLOW_STEP),
            ] {
                let conv = conv(dtype, Layout::Nhwc, 64, [3, width], 32, 1);
                assert_eq!(pooled_step(kernel, &conv), want, "{} {width}", kernel.id());
            }
        }
    }
    let slow = [
        (DType::F16, Layout::Nchw, 2),
        (DType::F16, Layout::Nhwc, 2),
        (DType::F32, Layout::Nchw, 4),
        (DType::F32, Layout::Nhwc, 4),
    ];
    for (dtype, layout, vector) in slow {
        let kernel = kernel(dtype, layout, [64, 64], vector);
        let conv = conv(dtype, layout, 64, [3, 7], 32, 1);
        assert_eq!(
            pooled_step(kernel, &conv),
            POOLED_SLOW_STEP,
            "{}",
            kernel.id()
        );
    }
}

/// A pooled product alone costs as many steps more, and one of the same filters without pooling does not.
#[test]
fn only_pooled_products_are_slower() {
    let kernel = kernel(DType::Bf16, Layout::Nhwc, [64, 128], 16);
    for (width, slower) in [(15, POOLED_STEP), (28, POOLED_SLOW_STEP)] {
        let conv = conv(DType::Bf16, Layout::Nhwc, 192, [14, width], 32, 1);
        let pooling = Pool2d::builder()
            .input(1, 192, 14, width)
            .window(3, 3)
            .stride(1, 1)
            .padding(Padding::same(1))
            .kind(PoolKind::Max { indices: false })
            .dtype(DType::Bf16)
            .layout(Layout::Nhwc)
            .build()
            .expect("a valid pooling");
        let plain = Product::new(vec![conv.clone()]).expect("a product");
        let pooled = Product::pooled(pooling, vec![conv]).expect("a product");
        assert_eq!(alone(&plain, kernel, 1, 0).steps, 3);
        assert_eq!(alone(&pooled, kernel, 1, 0).steps, 3 * slower);
    }
}

/// Filters by 32, channels by 32 bytes, of tiles of 128 by 128 bytes.
#[test]
fn what_is_multiplied_is_rounded_up_to_instructions() {
    for (dtype, c, k, want) in [
        (DType::Bf16, 64, 128, [1.0, 1.0]),
        (DType::Bf16, 1, 1, [0.25, 0.25]),
        (DType::F16, 17, 33, [0.5, 0.5]),
        (DType::Bf16, 64 + 32, 128 + 64, [0.75, 0.75]),
        (DType::F32, 1, 32, [0.25, 0.25]),
        (DType::F32, 32 + 8, 96, [0.75, 0.625]),
    ] {
        let kernel = kernel(dtype, Layout::Nhwc, [128, 128], 16);
        let conv = conv(dtype, Layout::Nhwc, c, [3, 5], k, 1);
        assert_eq!(multiplied(&conv, kernel), want, "{c} {k} {}", kernel.id());
    }
}

/// Blocks share sums as long as their parts move no more than the share allows; who asks for more gets it.
#[test]
fn parts_of_sums_move_no_more_than_their_share() {
    let kernel = kernel(DType::Bf16, Layout::Nhwc, [64, 64], 16);
    let device = Capability::h200();
    // Filters, rows of them, image, the most blocks a sum: a tile of a long sum, and six tiles whose parts would be too many.
    for (k, r, side, most) in [(32, 3, 3, 3), (384, 1, 7, 1)] {
        let conv = conv(DType::Bf16, Layout::Nhwc, 832, [side, side], k, r);
        let product = Product::new(vec![conv]).expect("a product");
        let problem = Branches::new(vec![product]).expect("branches");
        let roofline = problem
            .ceilings()
            .bound(problem.macs(), problem.min_bytes());
        let rate = |splits| {
            let limits = Limits {
                splits,
                ..Limits::default()
            };
            let score = problem.rate(kernel, &device, &roofline, &limits);
            score.expect("accepted")
        };
        let share = roofline.bytes / PARTS_SHARE;
        assert!(parts_moved(&problem, kernel, most) <= share);
        assert!(parts_moved(&problem, kernel, most + 1) > share);
        let chosen = rate(None);
        assert_eq!(chosen.splits, most);
        let asked = rate(Some(most + 1));
        assert_eq!(asked.splits, most + 1);
        assert!(asked.us < chosen.us, "{} {}", asked.us, chosen.us);
    }
}
