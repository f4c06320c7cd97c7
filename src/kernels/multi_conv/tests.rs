//! Mirror of the kernel, and the bound on partial tiles.

use super::*;
use crate::kernels::operation::check_entry;
use crate::kernels::{DType, kernels};
use crate::problem::{FilterLayout, Padding, Pool2d, PoolKind};

fn kernel(dtype: DType, layout: Layout, tile: [u32; 2], vector: u32) -> &'static Kernel {
    let fits = |kernel: &&Kernel| {
        kernel.algorithm == Algorithm::MmaMultiConv
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
            DType::F32 => crate::kernels::Math::Tf32,
            _ => crate::kernels::Math::Strict,
        })
        .filter_layout(FilterLayout::Packed)
        .build()
        .expect("a valid problem")
}

/// The widths up to which the kernel loads cells into shared memory, and what a step costs there
/// and beyond.
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
            assert_eq!(pooled_cells(kernel), cells, "{}", kernel.name());
            for (width, want) in [
                (1, POOLED_STEP),
                (most, POOLED_STEP),
                (most + 1, POOLED_SLOW_STEP),
                (2000, POOLED_SLOW_STEP),
            ] {
                let conv = conv(dtype, Layout::Nhwc, 64, [3, width], 32, 1);
                assert_eq!(
                    pooled_step(kernel, &conv),
                    want,
                    "{} {width}",
                    kernel.name()
                );
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
            kernel.name()
        );
    }
}

/// A pooled product alone costs as many steps more, and one of the same filters without pooling
/// does not.
#[test]
fn only_pooled_products_are_slower() {
    let kernel = kernel(DType::Bf16, Layout::Nhwc, [64, 128], 16);
    for (width, slower) in [(15, POOLED_STEP), (28, POOLED_SLOW_STEP)] {
        let conv = conv(DType::Bf16, Layout::Nhwc, 192, [14, width], 32, 1);
        let pooling = Pool2d::builder()
            .input(1, 192, 14, width)
            .kernel(3, 3)
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
        assert_eq!(multiplied(&conv, kernel), want, "{c} {k} {}", kernel.name());
    }
}

/// Blocks share sums as long as their parts move no more than the share allows; who asks for more
/// gets it.
#[test]
fn parts_of_sums_move_no_more_than_their_share() {
    let kernel = kernel(DType::Bf16, Layout::Nhwc, [64, 64], 16);
    let device = Capability::h200();
    // Filters, rows of them, image, the most blocks a sum: a tile of a long sum, and six tiles
    // whose parts would be too many.
    for (k, r, side, most) in [(32, 3, 3, 3), (384, 1, 7, 1)] {
        let conv = conv(DType::Bf16, Layout::Nhwc, 832, [side, side], k, r);
        let product = Product::new(vec![conv]).expect("a product");
        let problem = Branches::new(vec![product]).expect("branches");
        let roofline = problem
            .peak_rates()
            .bound(problem.macs(), problem.min_bytes());
        let estimated = |split_k| {
            let limits = Limits {
                split_k,
                ..Limits::default()
            };
            let score = problem.estimate(kernel, &device, &roofline, &limits);
            score.expect("accepted")
        };
        let share = roofline.bytes / PARTIALS_SHARE;
        assert!(partials_moved(&problem, kernel, most) <= share);
        assert!(partials_moved(&problem, kernel, most + 1) > share);
        let chosen = estimated(None);
        assert_eq!(chosen.split_k, most);
        let asked = estimated(Some(most + 1));
        assert_eq!(asked.split_k, most + 1);
        assert!(asked.us < chosen.us, "{} {}", asked.us, chosen.us);
    }
}

/// Three products with the same 256 pixels: one step of whole tiles; 18 steps of tiles of which 96
/// of 128 filters and channels are multiplied; two steps of a half tile's filters.
fn unequal() -> Branches {
    let of = |c, k, r| conv(DType::Bf16, Layout::Nhwc, c, [16, 16], k, r);
    let products = [of(64, 64, 1), of(96, 80, 3), of(128, 32, 1)]
        .map(|conv| Product::new(vec![conv]).expect("a product"));
    Branches::new(products.to_vec()).expect("branches")
}

/// By hand, of tiles of 64 filters, 128 pixels and 64 channels.
#[test]
fn unequal_products_are_weighted_by_their_steps() {
    let (problem, kernel) = (unequal(), kernel(DType::Bf16, Layout::Nhwc, [64, 128], 16));
    assert_eq!(longest(&problem, kernel), 18);
    for (split_k, each) in [
        (1, [1, 1, 1]),
        (3, [1, 3, 1]),
        (9, [1, 9, 1]),
        (18, [1, 18, 2]),
    ] {
        let got: Vec<u32> = split_k_of(&problem, kernel, split_k).collect();
        assert_eq!(got, each, "{split_k}");
    }
    let each: Vec<Tiling> = problem
        .products()
        .iter()
        .zip(split_k_of(&problem, kernel, 3))
        .map(|(product, split_k)| alone(product, kernel, split_k, 99))
        .collect();
    let figures = |tiling: &Tiling| {
        (
            [
                tiling.tiles,
                u64::from(tiling.split_k),
                u64::from(tiling.steps),
            ],
            [tiling.channels, tiling.filters, tiling.terms],
        )
    };
    assert_eq!(figures(&each[0]), ([2, 1, 1], [64.0, 1.0, 1.0]));
    assert_eq!(figures(&each[1]), ([4, 3, 18], [48.0, 0.75, 0.75]));
    assert_eq!(figures(&each[2]), ([2, 1, 2], [64.0, 0.5, 1.0]));
    let all = together(&problem, kernel, &each, 99);
    // 2 + 4 x 3 + 2 blocks; 2 x 1, 4 x 18 and 2 x 2 steps.
    assert_eq!((all.tiles, all.split_k, all.steps), (16, 1, 5));
    assert_eq!((all.packed_bytes, all.workspace), (0, 99));
    let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    close(all.channels, (2.0 * 64.0 + 72.0 * 48.0 + 4.0 * 64.0) / 78.0);
    let filters = 2.0 + 72.0 * 0.75 + 4.0 * 0.5;
    close(all.filters, filters / 78.0);
    let products = 2.0 + 72.0 * 0.75 * 0.75 + 4.0 * 0.5;
    close(all.terms, products / filters);
    let macs = 256.0 * (64.0 * 64.0 + 9.0 * 96.0 * 80.0 + 128.0 * 32.0);
    close(all.tile_efficiency, macs / (products * 64.0 * 128.0 * 64.0));
}

/// A tile of one product alone has that product's steps.
#[test]
fn one_tile_is_what_it_is_alone() {
    let kernel = kernel(DType::Bf16, Layout::Nhwc, [64, 128], 16);
    let conv = conv(DType::Bf16, Layout::Nhwc, 96, [4, 4], 64, 3);
    let product = Product::new(vec![conv]).expect("a product");
    let own = alone(&product, kernel, 1, 0);
    assert_eq!((own.tiles, own.steps), (1, 18));
    let problem = Branches::new(vec![product]).expect("branches");
    let all = together(&problem, kernel, &[own], 0);
    assert_eq!((all.tiles, all.steps), (1, 18));
    assert_eq!(all.channels, own.channels);
}

/// Counters and parts of each product's tiles follow those of the product before it.
#[test]
fn shared_sums_lie_one_after_another() {
    let (problem, kernel) = (unequal(), kernel(DType::Bf16, Layout::Nhwc, [64, 128], 16));
    let tile = 4 * 64 * 128;
    for (split_k, places, needs) in [
        (1, [(0, 65536); 3], 0),
        (
            3,
            [(0, 65536), (0, 65536), (4, 65536 + 12 * tile)],
            65536 + 12 * tile,
        ),
        (
            18,
            [(0, 65536), (0, 65536), (4, 65536 + 72 * tile)],
            65536 + 76 * tile,
        ),
    ] {
        assert_eq!(
            partials_layout(&problem, kernel, split_k),
            (places.to_vec(), needs)
        );
        let moved = if needs == 0 { 0 } else { 2 * (needs - 65536) };
        assert_eq!(partials_moved(&problem, kernel, split_k), moved);
    }
}

/// The time is the longer of all blocks' and of the longest product's, and the refusals have their
/// numbers.
#[test]
fn a_launch_of_unequal_products_is_scored_as_a_whole() {
    let (problem, kernel) = (unequal(), kernel(DType::Bf16, Layout::Nhwc, [64, 128], 16));
    let device = Capability::h200();
    let roofline = problem
        .peak_rates()
        .bound(problem.macs(), problem.min_bytes());
    let estimated = |device: &Capability, split_k, workspace| {
        let limits = Limits {
            split_k: Some(split_k),
            workspace,
            ..Limits::default()
        };
        problem.estimate(kernel, device, &roofline, &limits)
    };
    let needs = 65536 + 12 * 4 * 64 * 128;
    let score = estimated(&device, 3, needs).expect("accepted");
    assert_eq!((score.blocks, score.split_k), (16, 3));
    assert_eq!(score.workspace, needs);
    let most = needs - 1;
    assert_eq!(
        estimated(&device, 3, most),
        Err(Refusal::Workspace { needs, most })
    );
    // Of 18 steps split-K of four takes 5, 5, 5 and 3; seven of 3 would leave the last none.
    assert!(estimated(&device, 4, u64::MAX).is_ok() && estimated(&device, 5, u64::MAX).is_ok());
    for asked in [7, 19] {
        let refused = Refusal::SplitK { asked, most: 18 };
        assert_eq!(estimated(&device, asked, u64::MAX), Err(refused));
    }
    let small = |max_grid_x| Capability {
        max_grid_x,
        ..device
    };
    assert!(estimated(&small(16), 3, needs).is_ok());
    let (blocks, most) = (16, 15);
    assert_eq!(
        estimated(&small(15), 3, needs),
        Err(Refusal::Grid { blocks, most })
    );
    // One multiprocessor takes all blocks one after the other; of many the longest product's blocks
    // take longest.
    let one = Capability {
        sm_count: 1,
        ..device
    };
    for device in [one, device] {
        let score = estimated(&device, 1, 0).expect("accepted");
        let each: Vec<Tiling> = problem
            .products()
            .iter()
            .map(|product| alone(product, kernel, 1, 0))
            .collect();
        let all = super::score(
            &together(&problem, kernel, &each, 0),
            kernel,
            &device,
            &roofline,
        );
        let longest = super::score(&each[1], kernel, &device, &roofline);
        assert_eq!(all.us > longest.us, device.sm_count == 1);
        assert_eq!(score.us, all.us.max(longest.us));
        let arithmetic = all.arithmetic_us.max(longest.arithmetic_us);
        assert_eq!(score.arithmetic_us, arithmetic);
        assert_eq!((score.blocks_per_sm, score.blocks), (all.blocks_per_sm, 8));
    }
}

/// A kernel takes x that is just aligned enough, packed filters, and products as exact as asked.
#[test]
fn branches_are_refused_for_their_reasons() {
    let of = |dtype, c| {
        let product = Product::new(vec![conv(dtype, Layout::Nhwc, c, [4, 4], 32, 1)]);
        Branches::new(vec![product.expect("a product")]).expect("branches")
    };
    let wide = kernel(DType::Bf16, Layout::Nhwc, [64, 64], 16);
    let narrow = kernel(DType::Bf16, Layout::Nhwc, [64, 64], 2);
    let (needs, has) = (16, 8);
    assert_eq!(of(DType::Bf16, 64).accepts(wide), Ok(()));
    let refused = Refusal::Alignment { needs, has };
    assert_eq!(of(DType::Bf16, 60).accepts(wide), Err(refused));
    assert_eq!(of(DType::Bf16, 63).accepts(narrow), Ok(()));
    // The weakest product counts.
    let both = [64, 60].map(|c| {
        let conv = conv(DType::Bf16, Layout::Nhwc, c, [4, 4], 32, 1);
        Product::new(vec![conv]).expect("a product")
    });
    let both = Branches::new(both.to_vec()).expect("branches");
    assert_eq!(both.accepts(wide), Err(refused));
    let strict = "mb1ic64ih4oc32kh1+nhwc+packed";
    let plain = "mb1ic63ih4oc32kh1+bf16+nhwc";
    let single = |text: &str| {
        let conv: Conv2d = text.parse().expect("a valid problem");
        let product = Product::new(vec![conv]).expect("a product");
        Branches::new(vec![product]).expect("branches")
    };
    let tf32 = kernel(DType::F32, Layout::Nhwc, [64, 64], 16);
    assert!(matches!(
        check_entry(&single(strict), tf32, &Capability::h200()),
        Err(Refusal::Math { .. })
    ));
    assert!(matches!(
        single(plain).accepts(narrow),
        Err(Refusal::UnpackedFilters { .. })
    ));
}

/// 64 KiB count the tiles of 16384 shared sums; those that are not shared need no counter.
#[test]
fn too_many_shared_tiles_are_refused() {
    let kernel = kernel(DType::Bf16, Layout::Nhwc, [64, 128], 16);
    for (rows, tiles) in [(4096, 16384), (4097, 16388)] {
        let products = [128, 64].map(|c| {
            let conv = conv(DType::Bf16, Layout::Nhwc, c, [rows, 512], 64, 1);
            Product::new(vec![conv]).expect("a product")
        });
        let problem = Branches::new(products.to_vec()).expect("branches");
        let limits = Limits {
            split_k: Some(2),
            workspace: u64::MAX,
            ..Limits::default()
        };
        let device = Capability::h200();
        let got = problem.estimate(kernel, &device, &Roofline::default(), &limits);
        let most = 16384;
        match tiles {
            16384 => assert!(got.is_ok(), "{got:?}"),
            _ => assert_eq!(got, Err(Refusal::SplitKTiles { tiles, most })),
        }
    }
}
