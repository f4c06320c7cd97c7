//! Alignment of x, and the figures of the model.

use super::*;
use crate::kernels::{Arch, Math};

#[test]
fn x_is_as_aligned_as_its_weakest_stride() {
    let aligned = |c, pitch, offset, layout, dtype| {
        let problem = Bottleneck2d::builder()
            .input(1, c, 8, 8)
            .input_slice(pitch, offset)
            .mid_channels(8)
            .filters(8)
            .layout(layout)
            .dtype(dtype)
            .build();
        x_alignment(&problem.expect("a valid problem"))
    };
    assert_eq!(aligned(252, 252, 0, Layout::Nhwc, DType::Bf16), 8);
    assert_eq!(aligned(252, 252, 0, Layout::Nhwc, DType::F32), 16);
    assert_eq!(aligned(63, 63, 0, Layout::Nhwc, DType::F16), 2);
    assert_eq!(aligned(63, 64, 0, Layout::Nhwc, DType::F16), 16);
    assert_eq!(aligned(60, 64, 2, Layout::Nhwc, DType::F16), 4);
    assert_eq!(aligned(64, 64, 0, Layout::Nchw, DType::F16), 16);
}

/// A device with round numbers: 10 multiprocessors of 1 GHz, so that 1000 clocks are 1 us.
fn rounded() -> Capability {
    Capability {
        sm_count: 10,
        clock_khz: 1_000_000,
        shared_per_sm: 1 << 20,
        ..Capability::sm80()
    }
}

/// Tiles of 4 x 8 outputs and 16 middle channels, two blocks per multiprocessor.
fn tiled(algorithm: Algorithm, dtype: DType) -> Kernel {
    Kernel {
        algorithm,
        dtype,
        layout: Some(Layout::Nhwc),
        arch: Arch::Sm80,
        tile_m: 4,
        tile_n: 8,
        tile_k: 16,
        math: Math::Strict,
        vector: 2,
        stride: 1,
        threads: 256,
        stages: 2,
        min_blocks: 2,
    }
}

fn problem(c: [usize; 3], dtype: DType, stride: usize, added: Added) -> Bottleneck2d {
    let [c, mid_channels, k] = c;
    let builder = Bottleneck2d::builder()
        .input(3, c, 17, 26)
        .mid_channels(mid_channels);
    let builder = builder.filters(k).stride(stride).added(added);
    let problem = builder.dtype(dtype).layout(Layout::Nhwc).build();
    problem.expect("a valid problem")
}

/// Every term of the model, by clocks that a second program computed from what the comments of the
/// module say; with them the turns of the busiest multiprocessor, the blocks, the share of products
/// that are the problem's, and the waves.
#[test]
fn clocks_are_those_of_a_second_implementation() {
    use Algorithm::{Bottleneck, BottleneckSimt, BottleneckWgmma};
    let (f16, f32) = (DType::F16, DType::F32);
    let plain = problem([20, 7, 30], f16, 1, Added::Nothing);
    let wide = problem([512, 64, 512], f32, 1, Added::Nothing)
        .with_batch(1)
        .expect("a valid problem");
    let change = |kernel: Kernel, change: fn(&mut Kernel)| {
        let mut kernel = kernel;
        change(&mut kernel);
        kernel
    };
    let mma = tiled(Bottleneck, f16);
    let simt = change(tiled(BottleneckSimt, f32), |k| k.min_blocks = 3);
    for (name, problem, kernel, clocks, [blocks_per_sm, blocks], tile_efficiency, waves) in [
        (
            "plain",
            &plain,
            mma,
            3595.944444444,
            [6, 20],
            0.142261556,
            3.0,
        ),
        (
            "added",
            &problem([20, 7, 20], f16, 1, Added::Tensor),
            mma,
            3629.388888889,
            [6, 20],
            0.129672038,
            3.0,
        ),
        (
            "stride",
            &problem([20, 7, 30], f16, 2, Added::Nothing),
            change(mma, |k| k.stride = 2),
            2860.277777778,
            [2, 18],
            0.133741591,
            0.9,
        ),
        (
            "streams",
            &plain,
            change(mma, |k| k.threads = 128),
            3688.227777778,
            [6, 20],
            0.142261556,
            3.0,
        ),
        (
            "tf32",
            &problem([20, 7, 30], f32, 1, Added::Nothing),
            tiled(Bottleneck, f32),
            5091.888888889,
            [6, 20],
            0.142261556,
            3.0,
        ),
        (
            "simt",
            &problem([20, 7, 30], f32, 1, Added::Nothing),
            simt,
            19029.031746032,
            [6, 30],
            0.142261556,
            2.0,
        ),
        (
            "no room for the filters",
            &wide,
            change(simt, |k| k.tile_k = 64),
            218203.009523810,
            [2, 20],
            0.523200758,
            2.0 / 3.0,
        ),
        (
            "wgmma",
            &plain,
            change(tiled(BottleneckWgmma, f16), |k| {
                (k.arch, k.min_blocks) = (Arch::Sm90a, 1)
            }),
            3029.180711817,
            [6, 10],
            0.142261556,
            6.0,
        ),
    ] {
        let device = match kernel.arch {
            Arch::Sm90a => Capability {
                major: 9,
                ..rounded()
            },
            _ => rounded(),
        };
        let score = problem.score(&kernel, &device, &Roofline::default());
        let got = score.arithmetic_us * 1e3;
        assert!((got - clocks).abs() < 1e-5, "{name}: {got} for {clocks}");
        assert_eq!(
            [score.blocks_per_sm, score.blocks],
            [blocks_per_sm, blocks],
            "{name}"
        );
        assert!(
            (score.tile_efficiency - tile_efficiency).abs() < 1e-8,
            "{name}: {}",
            score.tile_efficiency
        );
        assert!(
            (score.waves - waves).abs() < 1e-9,
            "{name}: {}",
            score.waves
        );
        assert_eq!((score.us, score.memory_us), (score.arithmetic_us, 0.0));
    }
    // 4.3 TB/s for 132 multiprocessors; a tenth of the shorter time shows.
    let moving = Roofline {
        bytes: 1 << 20,
        ..Roofline::default()
    };
    let score = plain.score(&mma, &rounded(), &moving);
    let memory = (1 << 20) as f64 / (4.3e12 * 10.0 / 132.0) * 1e6;
    assert!((score.memory_us - memory).abs() < 1e-9);
    assert!(
        (score.us - (3.595944444 + 0.1 * memory)).abs() < 1e-6,
        "{}",
        score.us
    );
}

/// An empty batch costs nothing, a single tile something.
#[test]
fn nothing_to_do_costs_nothing() {
    let kernel = tiled(Algorithm::Bottleneck, DType::F16);
    let builder = Bottleneck2d::builder().input(1, 20, 4, 8).mid_channels(7);
    let builder = builder.filters(30).dtype(DType::F16).layout(Layout::Nhwc);
    let one = builder.build().expect("a valid problem");
    let none = one.with_batch(0).expect("a valid problem");
    let score = |problem: &Bottleneck2d| problem.score(&kernel, &rounded(), &Roofline::default());
    assert_eq!(score(&none), Score::EMPTY);
    assert_eq!((score(&one).blocks_per_sm, score(&one).blocks), (1, 1));
    assert!(score(&one).us > 2.0, "{}", score(&one).us);
}

/// A tile's sum is one block's.
#[test]
fn splits_are_refused() {
    let kernel = tiled(Algorithm::Bottleneck, DType::F16);
    let estimated = |problem: &Bottleneck2d, split_k| {
        let limits = Limits {
            split_k,
            ..Limits::default()
        };
        let score = problem.estimate(&kernel, &rounded(), &Roofline::default(), &limits);
        score.map(|score| score.split_k)
    };
    let problem = problem([20, 7, 30], DType::F16, 1, Added::Nothing);
    assert_eq!(estimated(&problem, None), Ok(1));
    assert_eq!(estimated(&problem, Some(1)), Ok(1));
    for asked in [0, 2] {
        let refused = Refusal::SplitK { asked, most: 1 };
        assert_eq!(estimated(&problem, Some(asked)), Err(refused));
    }
}
