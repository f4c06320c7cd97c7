//! Cases of poolings.

use warpconv::problem::{Builder, Padding, Pool2d, PoolKind};
use warpconv::{DType, Layout};

use super::{Cases, PLAIN, SmokeProblem};

/// A mean as PyTorch has it by default.
const MEAN: PoolKind = PoolKind::Average {
    count_include_pad: true,
    divisor_override: None,
};

/// Adds the cases of a pooling kernel.
pub(super) fn fill(cases: &mut Cases<'_>) {
    let kernel = cases.kernel.kernel();
    for layout in Layout::ALL {
        if kernel.layout.is_none_or(|own| own == layout) {
            for (label, builder) in windows(kernel.dtype, layout) {
                cases.offer(label, builder.build().ok(), SmokeProblem::Pool);
            }
            unaligned(cases, kernel.dtype, layout);
        }
    }
    // The first that was accepted stands for the kernel.
    if let Some(first) = cases.cases.first_mut() {
        first.label = String::from(PLAIN);
    }
}

fn start(dtype: DType, layout: Layout, kind: PoolKind) -> Builder<Pool2d> {
    let builder = Pool2d::builder().input(1, 5, 9, 10).kind(kind);
    builder.dtype(dtype).layout(layout)
}

/// The poolings that are offered.
fn windows(dtype: DType, layout: Layout) -> Vec<(&'static str, Builder<Pool2d>)> {
    let maximum = |indices| start(dtype, layout, PoolKind::Max { indices });
    let mean = |kind| start(dtype, layout, kind);
    let window = |builder: Builder<Pool2d>| builder.kernel(3, 3).stride(2, 2);
    let asymmetric = Padding {
        top: 1,
        bottom: 0,
        left: 0,
        right: 1,
    };
    let excluding = PoolKind::Average {
        count_include_pad: false,
        divisor_override: None,
    };
    let divided = PoolKind::Average {
        count_include_pad: true,
        divisor_override: Some(-3),
    };
    let adaptive = PoolKind::AdaptiveAverage { p: 2, q: 3 };
    let mut all = vec![
        ("maximum", window(maximum(false))),
        ("indices", window(maximum(true))),
        (
            "stride 1",
            maximum(true)
                .kernel(3, 3)
                .stride(1, 1)
                .padding(Padding::same(1)),
        ),
        (
            "dilation",
            maximum(true).kernel(2, 3).stride(1, 1).dilation(2, 1),
        ),
    ];
    for (label, builder) in [
        ("ceil mode, maximum", maximum(true)),
        ("ceil mode, mean", mean(MEAN)),
    ] {
        all.push((label, window(builder).input(1, 5, 8, 10).ceil_mode(true)));
    }
    for (label, builder) in [
        ("asymmetric padding, maximum", maximum(false)),
        ("asymmetric padding, mean", mean(MEAN)),
    ] {
        all.push((label, window(builder).padding(asymmetric)));
    }
    for (label, builder) in [
        ("batch 2, slices, maximum", maximum(false)),
        ("batch 2, slices, mean", mean(MEAN)),
    ] {
        all.push((label, sliced(window(builder))));
    }
    all.extend([
        ("mean", window(mean(MEAN))),
        (
            "mean without padding",
            window(mean(excluding)).padding(Padding::same(1)),
        ),
        ("mean by a divisor", window(mean(divided))),
        ("adaptive mean", mean(adaptive)),
        ("global mean", mean(PoolKind::GlobalAverage)),
        ("global maximum", mean(PoolKind::GlobalMax)),
        (
            "batch 2, slices, global mean",
            sliced(mean(PoolKind::GlobalAverage)),
        ),
        (
            "large plane",
            mean(PoolKind::GlobalAverage).input(1, 2, 40, 41),
        ),
    ]);
    all
}

/// The pooling of slices of two images.
fn sliced(builder: Builder<Pool2d>) -> Builder<Pool2d> {
    let builder = builder.input(2, 5, 9, 10);
    builder.input_slice(8, 2).output_slice(9, 3)
}

/// Adds a case of buffers that are aligned to their elements only, of whole vectors otherwise.
fn unaligned(cases: &mut Cases<'_>, dtype: DType, layout: Layout) {
    let kinds = [
        PoolKind::Max { indices: false },
        MEAN,
        PoolKind::GlobalAverage,
    ];
    for kind in kinds {
        let builder = start(dtype, layout, kind).input(1, 16, 8, 8);
        let builder = match kind {
            PoolKind::GlobalAverage => builder,
            _ => builder.kernel(3, 3).stride(2, 2),
        };
        let (problem, wrap) = (builder.build().ok(), SmokeProblem::Pool);
        cases.offer_with("unaligned", problem, [None, Some(1)], wrap);
    }
}
