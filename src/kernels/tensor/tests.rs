//! Acceptance of kernels on tensor cores, and their costs.

use super::*;
use crate::kernels::wgmma::boxes;
use crate::kernels::{Algorithm, Operation};
use crate::kernels::{Arch, DType, Math};
use crate::problem::Padding;

fn x(text: &str) -> usize {
    x_alignment(&text.parse().expect("a valid problem"))
}

#[test]
fn x_is_as_aligned_as_its_weakest_stride() {
    assert_eq!(x("ic64oc8ih5kh3+bf16+nhwc"), 16);
    assert_eq!(x("ic252oc8ih5kh3+bf16+nhwc"), 8);
    assert_eq!(x("ic252oc8ih5kh3+nhwc"), 16);
    assert_eq!(x("ic63oc8ih5kh3+bf16+nhwc"), 2);
    assert_eq!(x("ic63oc8ih5kh3+bf16+nhwc+in64:0"), 16);
    assert_eq!(x("ic63oc8ih5kh3+bf16+nhwc+in128:2"), 4);
    assert_eq!(x("ic64oc8ih5kh3+bf16+nhwc+align4"), 4);
    assert_eq!(x("ic64oc8ih5kh3+nhwc+align256"), 256);
    // A group begins in the middle of a pixel.
    assert_eq!(x("g4ic64oc8ih5kh3+bf16+nhwc+align256"), 32);
    assert_eq!(x("g16ic64oc16ih5kh3+bf16+nhwc"), 8);
    // A row begins anywhere, a plane of 64 pixels on 128 bytes.
    assert_eq!(x("ic64oc8ih8kh3+bf16"), 2);
    assert_eq!(x("ic64oc8ih8kh1+bf16+align128"), 128);
    assert_eq!(x("ic64oc8ih8kh1sh2+bf16"), 2);
    assert_eq!(x("ic64oc8ih8kh1ph1+bf16"), 2);
}

#[test]
fn filters_are_packed_unless_they_are_rows_of_16_bytes() {
    let kernel = |algorithm| Kernel {
        algorithm,
        dtype: DType::Bf16,
        ..crate::kernels::kernels()[0]
    };
    for (text, mma, one_row) in [
        ("ic64oc8ih5kh3+krsc", false, false),
        ("ic64oc8ih5kh3+kcrs", true, true),
        ("ic64oc8ih5kh1+kcrs", false, false),
        ("ic63oc8ih5kh1+kcrs", true, true),
        ("ic63oc8ih5kh3+krsc", true, true),
        ("ic63oc8ih5kh3+packed", false, true),
        ("ic63oc8ih5kh1+packed", false, false),
        ("ic64oc8ih5kh3+packed", false, false),
        // Nine taps of two channels are no whole 16 bytes, four of two are.
        ("ic2oc8ih5kh3+krsc", true, true),
        ("ic2oc8ih5kh2+krsc", true, false),
        ("ic64oc8ih5kh3+krsc+align8", true, true),
        ("g2ic32oc8ih5kh3+krsc", false, false),
    ] {
        let problem: Conv2d = format!("{text}+bf16").parse().expect("a valid problem");
        assert_eq!(packs(&problem, &kernel(Algorithm::Mma)), mma, "{text}");
        assert_eq!(
            packs(&problem, &kernel(Algorithm::MmaFewChannels)),
            one_row,
            "{text}"
        );
        assert!(!packs(&problem, &kernel(Algorithm::Direct)), "{text}");
    }
}

#[test]
fn every_split_has_steps() {
    for steps in 1..200 {
        for wanted in 0..40 {
            let split_k = whole_split_k(steps, wanted);
            let each = steps.div_ceil(split_k);
            assert!((1..=wanted.max(1)).contains(&split_k));
            assert!((split_k - 1) * each < steps && split_k * each >= steps);
        }
    }
}

/// A kernel made up here, of tiles of 64 filters, 32 pixels and so many channels.
fn made(algorithm: Algorithm, tile_k: u32) -> Kernel {
    Kernel {
        algorithm,
        dtype: DType::Bf16,
        layout: Some(Layout::Nhwc),
        arch: Arch::Sm80,
        tile_m: 64,
        tile_n: 32,
        tile_k,
        math: Math::Strict,
        vector: 16,
        stride: 0,
        threads: 128,
        stages: 3,
        min_blocks: 2,
    }
}

fn parse(text: &str) -> Conv2d {
    text.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Limits of a tensor map, at the last valid value and at the next, along rows and along columns.
#[test]
fn boxes_are_refused_beyond_what_a_map_can_say() {
    const LAST: &str = "the distance of the last window from the image's end";
    const TAPS: &str = "the distance of a filter's first and last tap";
    // Filter, stride, dilation, padding before and after; what is refused, its value and the most.
    for (size, stride, dilation, [before, after], refused) in [
        (3, 8, 1, [1, 1], None),
        (3, 9, 1, [1, 1], Some(("a stride", 9, 8))),
        (2, 1, 255, [128, 128], None),
        (2, 1, 256, [128, 128], Some((TAPS, 256, 255))),
        (3, 1, 127, [128, 128], None),
        (3, 1, 128, [128, 128], Some((TAPS, 256, 255))),
        (
            2,
            1,
            255,
            [129, 128],
            Some(("the padding before the image", 129, 128)),
        ),
        (2, 1, 255, [128, 127], None),
        (2, 1, 255, [128, 126], Some((LAST, 129, 128))),
        (1, 1, 1, [0, 127], None),
        (1, 1, 1, [0, 128], Some((LAST, 128, 127))),
        // The last of 54 windows begins at 8 x 53 = 424, 125 beyond the image's last pixel; of 55
        // at 432.
        (1, 8, 1, [0, 125], None),
        (1, 8, 1, [0, 133], Some((LAST, 133, 127))),
    ] {
        for columns in [false, true] {
            let pair = |value, other| {
                if columns {
                    (other, value)
                } else {
                    (value, other)
                }
            };
            let (h, w) = pair(300, 4);
            let (r, s) = pair(size, 1);
            let (stride_h, stride_w) = pair(stride, 1);
            let (dilation_h, dilation_w) = pair(dilation, 1);
            let ((top, left), (bottom, right)) = (pair(before, 0), pair(after, 0));
            let padding = Padding {
                top,
                bottom,
                left,
                right,
            };
            let builder = Conv2d::builder().input(1, 64, h, w).filters(8).kernel(r, s);
            let builder = builder.stride(stride_h, stride_w).padding(padding);
            let problem = builder.dilation(dilation_h, dilation_w).build();
            let problem = problem.expect("a valid problem");
            let want = match refused {
                None => Ok(()),
                Some((what, value, most)) => Err(Refusal::TensorMap { what, value, most }),
            };
            let got = boxes(&problem, &made(Algorithm::Wgmma, 64));
            assert_eq!(got, want, "{problem}");
        }
    }
    let grouped = |text| boxes(&parse(text), &made(Algorithm::Wgmma, 64));
    let (group_c, multiple) = (32, 64);
    let refused = Refusal::GroupChannels { group_c, multiple };
    assert_eq!(grouped("ic32ih8oc8kh3"), Ok(()));
    assert_eq!(grouped("g2ic128ih8oc8kh3"), Ok(()));
    assert_eq!(grouped("g2ic64ih8oc8kh3"), Err(refused));
}

/// Kernels of small groups take groups of up to a step's channels and filters.
#[test]
fn groups_are_narrow_up_to_a_step() {
    let accepts = |text| Operation::accepts(&parse(text), &made(Algorithm::MmaSmallGroups, 16));
    let wide = |group_c, group_k| {
        let most = 16;
        Err(Refusal::WideGroups {
            group_c,
            group_k,
            most,
        })
    };
    for (text, want) in [
        ("g2ic32ih5oc32kh3+bf16+nhwc", Ok(())),
        ("g2ic48ih5oc32kh3+bf16+nhwc", wide(24, 16)),
        ("g2ic32ih5oc34kh3+bf16+nhwc", wide(16, 17)),
        ("ic16ih5oc16kh3+bf16+nhwc", Err(Refusal::SeveralGroupsOnly)),
    ] {
        assert_eq!(accepts(text), want, "{text}");
    }
}

/// Tiles, steps, channels per step and the useful share, worked out by hand.
#[test]
fn work_is_counted_in_tiles_and_steps() {
    use Algorithm::{Mma, MmaFewChannels, MmaSmallGroups};
    for (text, algorithm, tile_k, figures, brought) in [
        // 2 images of 25 pixels are two tiles, 100 filters two.
        ("mb2ic100ih5oc100kh3ph1", Mma, 64, (4, 18), 50.0),
        ("mb2ic64ih5oc64kh3ph1", Mma, 64, (2, 9), 64.0),
        ("g3mb2ic300ih5oc300kh3ph1", Mma, 64, (12, 18), 50.0),
        // 27 terms of three channels and nine taps.
        ("mb2ic3ih5oc64kh3ph1", MmaFewChannels, 16, (2, 2), 13.5),
        ("mb2ic3ih5oc64kh3ph1", MmaFewChannels, 64, (2, 1), 27.0),
        // Four groups a tile.
        ("g9mb2ic72ih5oc72kh3ph1", MmaSmallGroups, 16, (6, 9), 8.0),
        ("g8mb2ic64ih5oc64kh3ph1", MmaSmallGroups, 16, (4, 9), 8.0),
    ] {
        let (problem, kernel) = (parse(text), made(algorithm, tile_k));
        let (tiles, steps) = (tiles(&problem, &kernel), steps(&problem, &kernel));
        assert_eq!((tiles, steps), figures, "{text}");
        assert_eq!(channels(&problem, &kernel), brought, "{text}");
        let tiled = (tiles * u64::from(steps) * 64 * 32 * u64::from(tile_k)) as f64;
        let share = problem.macs() as f64 / tiled;
        assert_eq!(
            tile_efficiency(&problem, &kernel, tiles, steps),
            share,
            "{text}"
        );
    }
}

/// Counters, then packed filters, then parts of sums, each from a multiple of 256 bytes on.
#[test]
fn the_workspace_has_room_for_filters_and_parts() {
    const COUNTERS: u64 = 64 << 10;
    const PART: u64 = 4 * 64 * 32;
    for (text, split_k, bytes) in [
        ("mb1ic64ih5oc64kh3+bf16+nhwc+krsc", 1, 0),
        ("mb1ic64ih5oc64kh3+bf16+nhwc+krsc", 3, COUNTERS + 3 * PART),
        ("mb1ic64ih5oc64kh3+bf16+nhwc", 1, COUNTERS + 64 * 9 * 64 * 2),
        // Rows of 3 channels become 8: 9 x 8 x 2 bytes for each of 5 filters are 720, which is no
        // multiple of 256.
        ("mb1ic3ih5oc5kh3+bf16+nhwc", 1, COUNTERS + 768),
        ("mb1ic3ih5oc5kh3+bf16+nhwc", 2, COUNTERS + 768 + 2 * PART),
    ] {
        let (problem, kernel) = (parse(text), made(Algorithm::Mma, 64));
        assert_eq!(tiles(&problem, &kernel), 1);
        assert_eq!(workspace(&problem, &kernel, 1, split_k), bytes, "{text}");
    }
}

/// Up to sixteen blocks share a sum, as many as the model finds fastest, or as many as the limits
/// name.
#[test]
fn the_fastest_number_of_splits_is_taken() {
    let (kernel, device) = (made(Algorithm::Mma, 64), Capability::h200());
    let mut taken = Vec::new();
    for text in [
        "mb1ic512ih28oc512kh3ph1",
        "mb1ic128ih20oc256kh3ph1",
        "mb1ic512ih7oc512kh3ph1",
        "mb1ic2048ih5oc64kh3ph1",
        "mb1ic4096ih1oc64kh5ph2",
    ] {
        let problem = parse(&format!("{text}+bf16+nhwc+packed"));
        let roofline = Roofline {
            bytes: problem.min_bytes(),
            ..Roofline::default()
        };
        let estimated = |split_k| {
            let limits = Limits {
                split_k,
                ..Limits::default()
            };
            estimate(&problem, &kernel, &device, &roofline, &limits)
        };
        let steps = steps(&problem, &kernel);
        let all = (1..=16u32.min(steps)).filter_map(|split_k| estimated(Some(split_k)).ok());
        let best = all.min_by(|a, b| a.us.total_cmp(&b.us)).expect("accepted");
        assert_eq!(estimated(None), Ok(best), "{text}");
        taken.push(best.split_k);
    }
    assert!(
        taken.contains(&1) && taken.contains(&2) && taken.contains(&16),
        "{taken:?}"
    );
}

/// The refusals of a launch that is too large, at the last amount that fits and at the next.
#[test]
fn too_many_blocks_or_bytes_are_refused() {
    let kernel = made(Algorithm::Mma, 64);
    let problem = parse("mb1ic128ih16oc128kh3ph1+bf16+nhwc+packed");
    let estimated = |max_grid_x, workspace, split_k| {
        let device = Capability {
            max_grid_x,
            ..Capability::h200()
        };
        let limits = Limits {
            workspace,
            split_k: Some(split_k),
            ..Limits::default()
        };
        estimate(&problem, &kernel, &device, &Roofline::default(), &limits)
            .map(|score| score.blocks)
    };
    // 8 tiles of 32 pixels by two of 64 filters.
    let needs = (64 << 10) + 3 * 16 * 4 * 64 * 32;
    assert_eq!(estimated(48, needs, 3), Ok(48));
    let (blocks, most) = (48, 47);
    assert_eq!(estimated(47, needs, 3), Err(Refusal::Grid { blocks, most }));
    let most = needs - 1;
    assert_eq!(
        estimated(48, most, 3),
        Err(Refusal::Workspace { needs, most })
    );
    assert_eq!(estimated(16, 0, 1), Ok(16));
    // Eighteen steps: split-K of seven, three each, would leave the last none.
    let (asked, most) = (7, 18);
    assert_eq!(
        estimated(1 << 20, u64::MAX, 7),
        Err(Refusal::SplitK { asked, most })
    );
    // 64 KiB count 16384 tiles.
    for (rows, tiles) in [(4096, 16384), (4097, 16388)] {
        let problem = parse(&format!("mb1ic128ih{rows}iw128oc64kh1+bf16+nhwc+packed"));
        let limits = Limits {
            split_k: Some(2),
            workspace: u64::MAX,
            ..Limits::default()
        };
        let device = Capability::h200();
        let got = super::estimate(&problem, &kernel, &device, &Roofline::default(), &limits);
        let most = 16384;
        match tiles {
            16384 => assert!(got.is_ok(), "{got:?}"),
            _ => assert_eq!(got, Err(Refusal::SplitKTiles { tiles, most })),
        }
    }
}
