//! Orders that the model must keep, with kernels made up here: none of them has to be in the catalog.

use super::super::Limits;
use super::super::tensor;
use super::*;
use crate::catalog::Layout;
use crate::problem::{Conv2d, Padding};

fn kernel(tile_m: u32, tile_n: u32, threads: u32) -> Kernel {
    Kernel {
        algorithm: Algorithm::Mma,
        dtype: DType::Bf16,
        layout: Some(Layout::Nhwc),
        tier: Tier::Sm80,
        tile_m,
        tile_n,
        tile_k: 64,
        math: Math::Strict,
        vector: 16,
        stride: 0,
        threads,
        stages: 4,
        min_blocks: 1,
    }
}

fn small() -> Kernel {
    Kernel {
        min_blocks: 3,
        ..kernel(64, 64, 128)
    }
}

fn conv(n: usize, c: usize, hw: usize, k: usize, size: usize) -> Conv2d {
    Conv2d::builder()
        .input(n, c, hw, hw)
        .filters(k)
        .kernel(size, size)
        .padding(Padding::same(size / 2))
        .dtype(DType::Bf16)
        .layout(Layout::Nhwc)
        .filter_layout(crate::problem::FilterLayout::Packed)
        .build()
        .expect("a valid problem")
}

fn rate_with(problem: &Conv2d, kernel: &Kernel, limits: Limits) -> Score {
    let ceilings = super::super::Ceilings::H200_TENSOR;
    let roofline = ceilings.bound(problem.macs(), problem.min_bytes());
    tensor::rate(problem, kernel, &Capability::h200(), &roofline, &limits).expect("accepted")
}

fn rated(problem: &Conv2d, kernel: &Kernel) -> Score {
    rate_with(problem, kernel, Limits::default())
}

#[test]
fn much_work_takes_the_large_tile_unsplit() {
    let problem = conv(128, 256, 28, 256, 3);
    let large = rated(&problem, &kernel(128, 128, 256));
    assert!(large.us < rated(&problem, &small()).us);
    assert_eq!((large.splits, large.workspace), (1, 0));
    // Within a small factor of the ceiling of mma.sync, 63% of the roofline's.
    let floor = 2.0 * problem.macs() as f64 / (0.63 * 790e12) * 1e6;
    assert!(
        large.us > floor && large.us < 1.5 * floor,
        "{} of {floor}",
        large.us
    );
}

#[test]
fn few_pixels_are_split() {
    let problem = conv(1, 512, 7, 512, 3);
    let best = rated(&problem, &small());
    assert!(best.splits >= 4, "{best:?}");
    assert!(best.workspace > 64 << 10);
    let unsplit = Limits {
        splits: Some(1),
        ..Limits::default()
    };
    let one = rate_with(&problem, &small(), unsplit);
    assert!(2.0 * best.us < one.us, "{best:?} {one:?}");
    // Without room for the parts of a tile there is nothing to share.
    let frugal = Limits {
        workspace: 0,
        ..Limits::default()
    };
    assert_eq!(rate_with(&problem, &small(), frugal), one);
    let large = rated(&problem, &kernel(128, 128, 256));
    assert!(best.us < large.us);
}

#[test]
fn padding_and_narrow_copies_cost() {
    let problem = conv(128, 252, 56, 63, 1);
    let wide = kernel(128, 128, 256);
    assert!(rated(&problem, &kernel(64, 128, 256)).us < rated(&problem, &wide).us);
    let copies = |vector| Kernel { vector, ..small() };
    let busy = conv(32, 256, 28, 256, 3);
    let us = [16, 8, 4, 2].map(|vector| rated(&busy, &copies(vector)).us);
    assert!(us.is_sorted() && us[0] < us[3], "{us:?}");
}

#[test]
fn newer_instructions_and_shorter_numbers_are_faster() {
    let problem = conv(64, 256, 28, 256, 3);
    let mma = kernel(128, 128, 256);
    let wgmma = Kernel {
        algorithm: Algorithm::Wgmma,
        tier: Tier::Sm90a,
        threads: 384,
        vector: 0,
        stride: 0,
        ..kernel(128, 256, 384)
    };
    assert!(rated(&problem, &wgmma).us < rated(&problem, &mma).us);
    let tf32 = |math| Kernel {
        dtype: DType::F32,
        math,
        tile_k: 32,
        ..mma
    };
    let [single, triple] = [Math::Tf32, Math::Tf32x3].map(|math| rated(&problem, &tf32(math)).us);
    let half = rated(&problem, &mma).us;
    assert!(
        half < single && 2.0 * single < triple,
        "{half} {single} {triple}"
    );
}

#[test]
fn packing_filters_costs_a_launch() {
    let packed = conv(4, 252, 14, 64, 3);
    let plain = packed
        .with_filter_layout(crate::problem::FilterLayout::Kcrs)
        .expect("a valid problem");
    let [once, each] = [packed, plain].map(|problem| rated(&problem, &small()));
    assert_eq!(once.pack_us, 0.0);
    assert!(each.pack_us >= LAUNCH_US);
    assert!((each.us - once.us - each.pack_us).abs() < 1e-9);
    assert!(each.workspace >= 64 * 9 * 256 * 2);
}

#[test]
fn nothing_to_do_costs_nothing() {
    let problem = conv(0, 64, 7, 64, 3);
    assert_eq!(rated(&problem, &small()), Score::EMPTY);
}
