//! The model of CUDA cores: orders that it must keep, and its figures.

use super::*;
use crate::kernels::Algorithm;
use crate::kernels::Layout;

fn tile(tile_m: u32, tile_n: u32, threads: u32) -> Kernel {
    Kernel {
        algorithm: Algorithm::Direct,
        dtype: DType::F32,
        layout: Some(Layout::Nchw),
        arch: Arch::Sm80,
        tile_m,
        tile_n,
        tile_k: 8,
        math: Math::Strict,
        vector: 0,
        stride: 0,
        threads,
        stages: 2,
        min_blocks: 2,
    }
}

fn score(product: Product, kernel: &Kernel) -> Score {
    product.score(kernel, &Capability::h200(), &Roofline::default())
}

#[test]
fn a_large_product_takes_the_large_tile() {
    let product = Product {
        groups: 1,
        gemm_m: 256,
        gemm_n: 128 * 28 * 28,
        gemm_k: 1152,
        padded_k: 1152,
    };
    let large = score(product, &tile(128, 128, 256));
    assert!(large.us < score(product, &tile(64, 64, 128)).us);
    assert!(large.us < score(product, &tile(32, 64, 64)).us);
    assert_eq!(large.tile_efficiency, 1.0);
}

#[test]
fn few_pixels_take_a_small_tile() {
    let product = Product {
        groups: 1,
        gemm_m: 512,
        gemm_n: 49,
        gemm_k: 4608,
        padded_k: 4608,
    };
    assert!(score(product, &tile(32, 32, 64)).us < score(product, &tile(128, 128, 256)).us);
}

#[test]
fn padding_counts_against_a_tile() {
    let product = Product {
        groups: 1,
        gemm_m: 63,
        gemm_n: 128 * 56 * 56,
        gemm_k: 252,
        padded_k: 256,
    };
    let narrow = score(product, &tile(64, 128, 128));
    assert!(narrow.us < score(product, &tile(128, 128, 256)).us);
    assert!((narrow.tile_efficiency - 63.0 / 64.0 * 252.0 / 256.0).abs() < 1e-9);
}

#[test]
fn of_equal_tiles_the_kernel_that_loads_with_less_wins() {
    let product = Product {
        groups: 1,
        gemm_m: 64,
        gemm_n: 1 << 18,
        gemm_k: 256,
        padded_k: 256,
    };
    let direct = tile(64, 64, 64);
    let pointwise = Kernel {
        algorithm: Algorithm::Pointwise,
        ..direct
    };
    assert!(score(product, &pointwise).us < score(product, &direct).us);
}

#[test]
fn nothing_to_do_costs_nothing() {
    let product = Product {
        groups: 1,
        gemm_m: 8,
        gemm_n: 0,
        gemm_k: 8,
        padded_k: 8,
    };
    assert_eq!(score(product, &tile(64, 64, 128)), Score::EMPTY);
    let kernel = tile(1, 1, 256);
    let empty = streaming(
        &kernel,
        &Capability::sm75(),
        &Roofline::default(),
        0,
        0,
        1.0,
    );
    assert_eq!(empty, Score::EMPTY);
}

/// A device with round numbers: 10 multiprocessors of 64 lanes at 1 GHz.
fn rounded() -> Capability {
    Capability {
        sm_count: 10,
        clock_khz: 1_000_000,
        ..Capability::sm80()
    }
}

fn moving(bytes: u64) -> Roofline {
    Roofline {
        bytes,
        ..Roofline::default()
    }
}

fn close(name: &str, got: f64, want: f64) {
    assert!(
        (got - want).abs() <= 1e-6 * want,
        "{name}: {got} is not {want}"
    );
}

/// Every term of the model of tiles, by microseconds that a second program computed from what the
/// comments say.
#[test]
fn tiles_take_what_a_second_implementation_says() {
    let product = Product {
        groups: 2,
        gemm_m: 100,
        gemm_n: 330,
        gemm_k: 75,
        padded_k: 80,
    };
    let one_turn = Product {
        groups: 1,
        gemm_m: 64,
        gemm_n: 320,
        gemm_k: 80,
        padded_k: 80,
    };
    let plain = tile(64, 32, 64);
    let of = |algorithm| Kernel { algorithm, ..plain };
    let older = Kernel {
        arch: Arch::Sm75,
        ..plain
    };
    let filled = Kernel {
        threads: 256,
        min_blocks: 3,
        ..plain
    };
    for (name, product, kernel, us, waves) in [
        ("plain", product, plain, 43.950966799, 2.2),
        ("older", product, older, 45.171099793, 2.2),
        (
            "pointwise",
            product,
            of(Algorithm::Pointwise),
            41.550966799,
            2.2,
        ),
        (
            "few channels",
            product,
            of(Algorithm::DirectFewChannels),
            45.150966799,
            2.2,
        ),
        ("one turn", one_turn, plain, 17.280386720, 0.5),
        ("filled", product, filled, 27.250966799, 44.0 / 30.0),
    ] {
        let score = product.score(&kernel, &rounded(), &Roofline::default());
        close(name, score.us, us);
        close(name, score.arithmetic_us, us);
        close(name, score.waves, waves);
    }
    let score = product.score(&plain, &rounded(), &moving(20 << 20));
    assert_eq!(
        (score.blocks, score.blocks_per_sm, score.split_k),
        (44, 5, 1)
    );
    close("useful", score.tile_efficiency, 0.686645508);
    close("arithmetic", score.arithmetic_us, 43.950966799);
    close("memory", score.memory_us, 64.377689302);
    close("both", score.us, 68.772785982);
}

/// The same of kernels that are no products: turns, then microseconds of arithmetic, of memory and
/// of both.
#[test]
fn streams_take_what_a_second_implementation_says() {
    for (blocks, threads, bytes, blocks_per_sm, [arithmetic, memory, both]) in [
        (25, 64, 0, 3, [7.5, 0.0, 7.5]),
        (25, 128, 1 << 20, 3, [5.625, 3.218884465, 5.946888447]),
        (9, 128, 0, 1, [10.416666667, 0.0, 10.416666667]),
    ] {
        let kernel = tile(1, 1, threads);
        let score = streaming(&kernel, &rounded(), &moving(bytes), blocks, 1_000_000, 3.0);
        assert_eq!((score.blocks, score.blocks_per_sm), (blocks, blocks_per_sm));
        close("arithmetic", score.arithmetic_us, arithmetic);
        close("memory", score.memory_us, memory);
        close("both", score.us, both);
        close("waves", score.waves, blocks as f64 / 20.0);
    }
}

#[test]
fn tiers_follow_the_capability() {
    assert!(Capability::sm75().runs(Arch::Sm75));
    assert!(!Capability::sm75().runs(Arch::Sm80));
    assert!(Capability::sm80().runs(Arch::Sm80));
    assert!(Capability::h200().runs(Arch::Sm75));
    assert!(Capability::h200().runs(Arch::Sm80));
    assert!(Capability::h200().runs(Arch::Sm90a));
    let newer = Capability {
        major: 10,
        ..Capability::h200()
    };
    assert!(newer.runs(Arch::Sm80));
    for device in [Capability::sm75(), Capability::sm80(), newer] {
        assert!(!device.runs(Arch::Sm90a));
    }
    let turing_never = Capability {
        major: 7,
        minor: 0,
        ..Capability::sm75()
    };
    assert!(!turing_never.runs(Arch::Sm75));
}

#[test]
fn tensor_rates_are_those_of_the_best_programs() {
    let peak = |device: Capability, arch| {
        let clock = f64::from(device.clock_khz) * 1e3;
        2.0 * device.tensor_rate(arch) * f64::from(device.sm_count) * clock / 1e12
    };
    for (device, arch, tflops) in [
        (Capability::h200(), Arch::Sm90a, 790.0),
        (Capability::h200(), Arch::Sm80, 0.63 * 790.0),
        (Capability::sm80(), Arch::Sm80, 312.0),
        (Capability::sm75(), Arch::Sm75, 65.0),
    ] {
        let ratio = peak(device, arch) / tflops;
        assert!((ratio - 1.0).abs() < 0.01, "{tflops}: {ratio}");
    }
}

#[test]
fn peaks_are_the_published_ones() {
    // T4 8.1, A100 19.5, H200 67 TFLOP/s.
    assert!((Capability::sm75().fp32_peak() / 8.1e12 - 1.0).abs() < 0.01);
    assert!((Capability::sm80().fp32_peak() / 19.5e12 - 1.0).abs() < 0.01);
    assert!((Capability::h200().fp32_peak() / 67e12 - 1.0).abs() < 0.01);
}

const PIXELS: u64 = 128 * 56 * 56;

fn naive(peak_rates: PeakRates, size: u64) -> Roofline {
    let bytes = (2 * PIXELS * 252 + 252 * 252 * 9) * size;
    peak_rates.bound(PIXELS * 571_536, bytes)
}

/// 252 -> 63 -> 63 -> 252, three launches.
fn bottleneck(peak_rates: PeakRates, size: u64) -> Roofline {
    [(252, 63, 1), (63, 63, 9), (63, 252, 1)]
        .into_iter()
        .map(|(c, k, taps)| {
            peak_rates.bound(
                PIXELS * c * k * taps,
                (PIXELS * (c + k) + c * k * taps) * size,
            )
        })
        .sum()
}

#[test]
fn the_main_job_has_the_known_floors() {
    let close = |us: f64, want: f64| assert!((us - want).abs() < 1.0, "{us} is not {want}");
    close(naive(PeakRates::H200_FP32, 4).floor_us, 6848.0);
    close(naive(PeakRates::H200_TENSOR, 2).floor_us, 581.0);
    close(bottleneck(PeakRates::H200_FP32, 4).floor_us, 808.0);
    close(bottleneck(PeakRates::H200_TENSOR, 2).floor_us, 154.0);
    assert_eq!(bottleneck(PeakRates::H200_FP32, 4).macs, PIXELS * 67_473);
    let bytes = PIXELS * (2 * 315 + 126) + 252 * 63 * 2 + 63 * 63 * 9;
    assert_eq!(bottleneck(PeakRates::H200_FP32, 4).bytes, 4 * bytes);
    assert_eq!(naive(PeakRates::H200_FP32, 4).bound(), Bound::Compute);
    assert_eq!(bottleneck(PeakRates::H200_TENSOR, 2).bound(), Bound::Memory);
}

#[test]
fn the_floor_is_the_longer_time() {
    let bound = PeakRates::H200_FP32.bound(67_000_000, 43);
    assert!((bound.floor_us - 2.0).abs() < 1e-9);
    let bound = PeakRates::h200(DType::Bf16).bound(1, 43_000_000);
    assert!((bound.floor_us - 10.0).abs() < 1e-9);
}
