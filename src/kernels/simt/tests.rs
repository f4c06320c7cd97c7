//! Acceptance and estimate of the kernels on CUDA cores.

use super::*;
use crate::kernels::Operation;

/// Filters of one size, steps of one or two rows, rows that are neighbours; columns are free.
/// Kernels of size 1 take all.
#[test]
fn modules_of_one_filter_take_nothing_else() {
    for (axes, fits) in [
        ("kh3ph1", true),
        ("kh3ph1sh2", true),
        ("kh3ph1sh3", false),
        ("kh3ph1sh3sw1", false),
        ("kh3kw3ph1pw1sh1sw3", true),
        ("kh3ph1dh1", false),
        ("kh3kw3ph1pw1dh0dw1", true),
        ("kh5ph2", false),
        ("kh3kw5ph1pw2", false),
        ("kh5kw3ph2pw1", false),
    ] {
        let problem: Conv2d = format!("g8mb1ic8ih20iw20oc8{axes}")
            .parse()
            .expect("a valid problem");
        assert_eq!(fixed_filter(&problem, 3).is_ok(), fits, "{problem}");
        assert_eq!(fixed_filter(&problem, 1), Ok(()), "{problem}");
    }
    let problem: Conv2d = "g8mb1ic8ih20oc8kh3ph1sh3".parse().expect("a valid problem");
    let refused = Refusal::FixedFilter {
        size: 3,
        r: 3,
        s: 3,
        stride: 3,
        dilation: 1,
    };
    assert_eq!(fixed_filter(&problem, 3), Err(refused));
}

/// The model is asked for the terms that a kernel walks, padding included, and for what its
/// multiplications cost.
#[test]
fn kernels_are_scored_by_the_work_that_they_do() {
    use crate::kernels::{DType, Layout};
    let made = |algorithm, tile_m, tile_k| Kernel {
        algorithm,
        dtype: DType::F32,
        layout: Some(Layout::Nchw),
        tile_m,
        tile_n: 32,
        tile_k,
        threads: 64,
        ..crate::kernels::kernels()[0]
    };
    let (device, roofline) = (Capability::h200(), Roofline::default());
    // Terms of a sum: nine taps of 10 channels, each as 16 or 90 in all as 96.
    for (algorithm, padded_k) in [(Algorithm::Direct, 144), (Algorithm::DirectFewChannels, 96)] {
        let (problem, kernel): (Conv2d, _) = (
            "mb2ic10ih9oc24kh3ph1".parse().expect("a valid problem"),
            made(algorithm, 16, 16),
        );
        let product = Product {
            groups: 1,
            gemm_m: 24,
            gemm_n: 162,
            gemm_k: 90,
            padded_k,
        };
        let want = product.score(&kernel, &device, &roofline);
        assert_eq!(problem.score(&kernel, &device, &roofline), want);
    }
    // Multiply-adds, filters of a group rounded up to the tile; their cost.
    for (line, algorithm, tile_k, work, cost) in [
        (
            "g4mb2ic8ih9oc24kh3ph1",
            Algorithm::SmallGroups,
            1,
            162 * 9 * 2 * 32,
            2.0,
        ),
        (
            "g4mb2ic4ih9oc24kh3ph1",
            Algorithm::SmallGroups,
            1,
            162 * 9 * 32,
            31.0,
        ),
        (
            "g8mb2ic8ih9oc8kh3ph1",
            Algorithm::Depthwise,
            3,
            162 * 9 * 8,
            2.0,
        ),
        (
            "g8mb2ic8ih9oc8kh3ph1",
            Algorithm::Depthwise,
            1,
            162 * 9 * 8,
            3.0,
        ),
    ] {
        let (problem, kernel): (Conv2d, _) = (
            line.parse().expect("a valid problem"),
            made(algorithm, 8, tile_k),
        );
        let blocks = problem.blocks(&kernel);
        let want = streaming(&kernel, &device, &roofline, blocks, work, cost);
        assert_eq!(
            problem.score(&kernel, &device, &roofline),
            want,
            "{line} {tile_k}"
        );
    }
}
