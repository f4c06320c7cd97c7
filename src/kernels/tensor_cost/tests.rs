//! Orders that the model must keep, with kernels made up here: none of them has to be in the
//! catalog.

use super::super::Limits;
use super::super::tensor;
use super::*;
use crate::kernels::Algorithm;
use crate::kernels::Layout;
use crate::problem::{Conv2d, Padding};

fn kernel(tile_m: u32, tile_n: u32, threads: u32) -> Kernel {
    Kernel {
        algorithm: Algorithm::Mma,
        dtype: DType::Bf16,
        layout: Some(Layout::Nhwc),
        arch: Arch::Sm80,
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
    let peak_rates = super::super::PeakRates::H200_TENSOR;
    let roofline = peak_rates.bound(problem.macs(), problem.min_bytes());
    tensor::estimate(problem, kernel, &Capability::h200(), &roofline, &limits).expect("accepted")
}

fn rated(problem: &Conv2d, kernel: &Kernel) -> Score {
    rate_with(problem, kernel, Limits::default())
}

#[test]
fn much_work_takes_the_large_tile_unsplit() {
    let problem = conv(128, 256, 28, 256, 3);
    let large = rated(&problem, &kernel(128, 128, 256));
    assert!(large.us < rated(&problem, &small()).us);
    assert_eq!((large.split_k, large.workspace), (1, 0));
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
    assert!(best.split_k >= 4, "{best:?}");
    assert!(best.workspace > 64 << 10);
    let unsplit = Limits {
        split_k: Some(1),
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
        arch: Arch::Sm90a,
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
        .to_builder()
        .filter_layout(crate::problem::FilterLayout::Kcrs)
        .build()
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

/// Difference between a case of the table below and the plain one.
type Change = fn(&mut Capability, &mut Kernel, &mut Tiling);

/// A device with round numbers: 10 multiprocessors of 1 GHz, so that 1000 clocks are 1 us.
fn rounded() -> Capability {
    Capability {
        sm_count: 10,
        clock_khz: 1_000_000,
        shared_per_sm: 1 << 20,
        ..Capability::sm80()
    }
}

fn tiling() -> Tiling {
    Tiling {
        tiles: 47,
        split_k: 1,
        steps: 10,
        channels: 60.0,
        filters: 1.0,
        terms: 1.0,
        tile_efficiency: 0.9,
        packed_bytes: 0,
        workspace: 0,
    }
}

fn of_wgmma(algorithm: Algorithm, tile: [u32; 3], threads: u32, min_blocks: u32) -> Kernel {
    let [tile_m, tile_n, tile_k] = tile;
    Kernel {
        algorithm,
        arch: Arch::Sm90a,
        tile_k,
        min_blocks,
        ..kernel(tile_m, tile_n, threads)
    }
}

/// Every term of the model, by clocks that a second program computed from what the comments of the
/// module say. Turns are ceil(47 / 10) = 5 unless said; three blocks run side by side, the rest
/// after them.
#[test]
fn clocks_are_those_of_a_second_implementation() {
    let cases: [(&str, Change, f64); 19] = [
        ("plain", |_, _, _| {}, 31568.611111),
        ("whole groups", |_, _, t| t.tiles = 60, 37042.333333),
        ("split_k", |_, _, t| t.split_k = 3, 102697.0),
        (
            "parts",
            |_, _, t| (t.filters, t.terms) = (0.5, 0.75),
            24560.277778,
        ),
        ("8 bytes", |_, k, _| k.vector = 8, 31756.111111),
        ("4 bytes", |_, k, _| k.vector = 4, 32131.111111),
        ("2 bytes", |_, k, _| k.vector = 2, 43531.111111),
        (
            "latency",
            |_, k, t| {
                (k.threads, k.stages, k.tile_k) = (256, 2, 16);
                t.channels = 16.0;
            },
            21337.777778,
        ),
        (
            "few channels",
            |_, k, _| k.algorithm = Algorithm::MmaFewChannels,
            37531.111111,
        ),
        (
            "small groups",
            |_, k, t| {
                (k.algorithm, k.tile_k) = (Algorithm::MmaSmallGroups, 16);
                t.channels = 12.0;
            },
            16060.0,
        ),
        (
            "tf32",
            |_, k, t| {
                (k.dtype, k.math, k.tile_k) = (DType::F32, Math::Tf32, 32);
                t.channels = 32.0;
            },
            34791.111111,
        ),
        (
            "tf32x3",
            |_, k, t| {
                (k.dtype, k.math, k.tile_k) = (DType::F32, Math::Tf32x3, 32);
                t.channels = 32.0;
            },
            52711.111111,
        ),
        (
            "sm75",
            |_, k, _| (k.arch, k.stages) = (Arch::Sm75, 1),
            36688.611111,
        ),
        // 67584 bytes per block, and 1024 of the driver's.
        (
            "room for one",
            |d, _, _| d.shared_per_sm = 120 << 10,
            46612.222222,
        ),
        (
            "room for two",
            |d, _, _| d.shared_per_sm = 2 * (67584 + 1024),
            35417.333333,
        ),
        (
            "wgmma",
            |d, k, _| {
                d.major = 9;
                *k = of_wgmma(Algorithm::Wgmma, [128, 256, 64], 384, 1);
            },
            81716.605927,
        ),
        (
            "wgmma of short rows",
            |d, k, t| {
                d.major = 9;
                *k = of_wgmma(Algorithm::Wgmma, [64, 64, 16], 128, 2);
                t.channels = 16.0;
            },
            8733.307449,
        ),
        (
            "gather",
            |d, k, _| {
                d.major = 9;
                *k = of_wgmma(Algorithm::WgmmaGather, [128, 128, 64], 384, 1);
            },
            51821.696963,
        ),
        (
            "gather of one tile",
            |d, k, t| {
                d.major = 9;
                *k = of_wgmma(Algorithm::WgmmaGather, [64, 64, 64], 128, 2);
                t.tiles = 9;
            },
            8871.098316,
        ),
    ];
    for (name, change, clocks) in cases {
        let (mut device, mut kernel, mut work) = (rounded(), small(), tiling());
        change(&mut device, &mut kernel, &mut work);
        let score = score(&work, &kernel, &device, &Roofline::default());
        let got = score.arithmetic_us * 1e3;
        assert!((got - clocks).abs() < 1e-5, "{name}: {got} for {clocks}");
        assert_eq!(
            (score.us, score.memory_us, score.pack_us),
            (score.arithmetic_us, 0.0, 0.0)
        );
    }
}

/// Parts of the score beside the time, and the contributions of memory and packing.
#[test]
fn the_score_has_the_launch_s_figures() {
    let device = rounded();
    let bytes = 20 << 20;
    let roofline = Roofline {
        bytes,
        ..Roofline::default()
    };
    let work = Tiling {
        packed_bytes: 1 << 20,
        workspace: 12345,
        split_k: 2,
        ..tiling()
    };
    let plain = score(&work, &small(), &device, &roofline);
    // 4.3 TB/s for 132 multiprocessors, written and read once by the packing launch of 2 us.
    let memory = |bytes: u64| bytes as f64 / (4.3e12 * 10.0 / 132.0) * 1e6;
    let close = |got: f64, want: f64| assert!((got - want).abs() < 1e-9, "{got} is not {want}");
    close(plain.memory_us, memory(bytes));
    close(plain.pack_us, 2.0 + memory(2 << 20));
    let (longer, shorter) = (plain.arithmetic_us, plain.memory_us);
    assert!(longer > shorter);
    close(plain.us, longer + 0.1 * shorter + plain.pack_us);
    assert_eq!(
        (plain.blocks, plain.blocks_per_sm, plain.split_k),
        (94, 10, 2)
    );
    assert_eq!((plain.tile_efficiency, plain.workspace), (0.9, 12345));
    close(plain.waves, 94.0 / 30.0);
    // Blocks that take tile after tile are as many as the device holds, or as tiles.
    let nine = Capability { major: 9, ..device };
    let lasting = of_wgmma(Algorithm::Wgmma, [64, 64, 16], 128, 2);
    for (tiles, blocks) in [(20, 20), (21, 20), (19, 19)] {
        let work = Tiling { tiles, ..tiling() };
        assert_eq!(score(&work, &lasting, &nine, &roofline).blocks, blocks);
    }
}
