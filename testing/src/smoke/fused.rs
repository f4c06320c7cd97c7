//! Cases of the kernels that compute several convolutions in one launch.

use warpconv::kernels::{Kernel, Layout};
use warpconv::problem::{
    Added, Bottleneck2d, Branches, Builder, Conv2d, FilterLayout, Padding, Pool2d, PoolKind,
    Product,
};

use super::{CHANNELS, Cases, PLAIN, SmokeProblem, before};

/// Adds the cases of a bottleneck kernel.
pub(super) fn bottlenecks(cases: &mut Cases<'_>) {
    let kernel = cases.kernel.kernel();
    let mut ladder = Vec::new();
    for stride in [1, 2] {
        // Of NCHW, rows are copied in vectors: of 8 columns, or any number of them.
        for w in [7, 8] {
            for c in CHANNELS {
                let builder = start(kernel, c, [5, w]).stride(stride);
                ladder.extend(builder.build().ok());
            }
        }
    }
    let Some(plain) = ladder.into_iter().find(|one| cases.accepts(one, None)) else {
        return;
    };
    cases.offer(PLAIN, Some(plain.clone()), SmokeProblem::Bottleneck);
    let wrap = SmokeProblem::Bottleneck;
    for (label, variant) in bottleneck_variants(&plain, kernel) {
        cases.offer(label, variant.build().ok(), wrap);
    }
    let problem = plain.to_builder().alignment(kernel.dtype.size()).build();
    cases.offer_with("unaligned", problem.ok(), [None, Some(1)], wrap);
}

/// Starts a bottleneck of the kernel's type, layout and mode.
fn start(kernel: &Kernel, c: usize, [h, w]: [usize; 2]) -> Builder<Bottleneck2d> {
    let builder = Bottleneck2d::builder()
        .input(1, c, h, w)
        .mid_channels(5)
        .filters(7)
        .dtype(kernel.dtype)
        .math(kernel.math);
    match kernel.layout {
        Some(layout) => builder.layout(layout),
        None => builder,
    }
}

/// The problem with each option.
fn bottleneck_variants(
    plain: &Bottleneck2d,
    kernel: &Kernel,
) -> Vec<(&'static str, Builder<Bottleneck2d>)> {
    let start = || plain.to_builder();
    let [_, c, h, w] = crate::extents(plain.input());
    let (k, x) = (plain.output().c(), before(c));
    let stride = plain.convolutions()[1].window().stride[0];
    // More than `plain` has, too: a case must not repeat another.
    let rows = (kernel.tile_m as usize * stride).max(h) + 1;
    vec![
        ("residual", start().added(Added::Tensor)),
        ("identity residual", start().filters(c).added(Added::Input)),
        ("no bias, no relu", start().bias([false; 3]).relu(false)),
        ("krsc", start().filter_layout(FilterLayout::Krsc)),
        ("packed", start().filter_layout(FilterLayout::Packed)),
        (
            "batch 2, slices",
            start()
                .input(2, c, h, w)
                .input_slice(c + 2 * x, x)
                .output_slice(k + 3, 1),
        ),
        ("several tiles", start().input(1, c, rows, w)),
        (
            "all channels",
            start()
                .input(1, 3 * c, 2, w)
                .mid_channels(kernel.tile_k as usize)
                .filters(67),
        ),
    ]
}

/// Adds the cases of a kernel that computes the branches of a module.
pub(super) fn branches(cases: &mut Cases<'_>) {
    let kernel = cases.kernel.kernel();
    let accepted = CHANNELS
        .into_iter()
        .find(|&c| module(kernel, &Options::of(c)).is_some_and(|one| cases.accepts(&one, None)));
    let Some(c) = accepted else {
        return;
    };
    let wrap = SmokeProblem::Branches;
    let plain = Options::of(c);
    let variants = [
        (PLAIN, plain),
        (
            "bias, relu",
            Options {
                epilogue: true,
                ..plain
            },
        ),
        (
            "pooled",
            Options {
                pooled: true,
                ..plain
            },
        ),
        ("stride 2", Options { stride: 2, ..plain }),
        ("batch 2", Options { n: 2, ..plain }),
        (
            "several tiles",
            Options {
                rows: kernel.tile_n as usize / 5 + 1,
                filters: kernel.tile_m as usize + 1,
                ..plain
            },
        ),
    ];
    for (label, options) in variants {
        cases.offer(label, module(kernel, &options), wrap);
    }
    for (label, split_k) in [("split-K 2", 2), ("split-K 3", 3)] {
        let problem = module(
            kernel,
            &Options {
                epilogue: true,
                ..plain
            },
        );
        cases.offer_with(label, problem, [Some(split_k), None], wrap);
    }
    let problem = module(
        kernel,
        &Options {
            pooled: true,
            ..Options::of(8 * c)
        },
    );
    cases.offer_with("pooled, split-K 2", problem, [Some(2), None], wrap);
}

/// What a module of branches has.
#[derive(Clone, Copy)]
struct Options {
    n: usize,
    c: usize,
    rows: usize,
    /// Filters of the first branch.
    filters: usize,
    epilogue: bool,
    pooled: bool,
    stride: usize,
}

impl Options {
    fn of(c: usize) -> Options {
        Options {
            n: 1,
            c,
            rows: 6,
            filters: 5,
            epilogue: false,
            pooled: false,
            stride: 1,
        }
    }
}

/// Two 1x1 convolutions with their filters side by side, and a 3x3 or, behind a pooling, another
/// 1x1; all write slices of one tensor.
fn module(kernel: &Kernel, options: &Options) -> Option<Branches> {
    let filters = [options.filters, 9, 6];
    let pitch = filters.iter().sum();
    let layout = kernel.layout.unwrap_or(Layout::Nchw);
    let conv = |index: usize, r: usize| -> Option<Conv2d> {
        let stride = options.stride;
        let builder = Conv2d::builder()
            .input(options.n, options.c, options.rows, 5)
            .filters(filters[index])
            .kernel(r, r)
            .padding(Padding::same(r / 2))
            .stride(stride, stride)
            .bias(options.epilogue)
            .relu(options.epilogue)
            .filter_layout(FilterLayout::Packed)
            .output_slice(pitch, filters[..index].iter().sum())
            .dtype(kernel.dtype)
            .layout(layout)
            .math(kernel.math);
        builder.build().ok()
    };
    let merged = Product::new(vec![conv(0, 1)?, conv(1, 1)?]).ok()?;
    let other = match options.pooled {
        false => Product::new(vec![conv(2, 3)?]).ok()?,
        true => {
            let pooling = Pool2d::builder()
                .input(options.n, options.c, options.rows, 5)
                .kind(PoolKind::Max { indices: false })
                .kernel(3, 3)
                .stride(1, 1)
                .padding(Padding::same(1))
                .dtype(kernel.dtype)
                .layout(layout);
            Product::pooled(pooling.build().ok()?, vec![conv(2, 1)?]).ok()?
        }
    };
    Branches::new(vec![merged, other]).ok()
}
