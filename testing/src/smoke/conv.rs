//! Cases of convolutions.

use warpconv::kernels::Kernel;
use warpconv::problem::{Builder, Conv2d, FilterLayout, Padding};

use super::{CHANNELS, Cases, PLAIN, SmokeProblem, before};

/// Groups, channels and filters of a group.
type Groups = [usize; 3];

/// Groups that are offered: with odd counts, and with channels in vectors of 2, 4 and 8 elements.
const GROUPED: [Groups; 4] = [[3, 3, 2], [3, 2, 3], [3, 4, 3], [3, 8, 5]];

/// Filters of the problems with one group.
const FILTERS: usize = 7;

/// Adds the cases of a convolution kernel.
pub(super) fn fill(cases: &mut Cases<'_>) {
    let kernel = cases.kernel.kernel();
    let ladder = ladder(kernel);
    let accepted = ladder
        .into_iter()
        .flatten()
        .find(|conv| cases.accepts(conv, None));
    let Some(plain) = accepted else {
        return;
    };
    let [r, s] = plain.window().kernel;
    let label = format!("{PLAIN} {r}x{s}");
    cases.offer(&label, Some(plain.clone()), SmokeProblem::Conv);
    for (label, variant) in variants(&plain) {
        cases.offer(label, variant.build().ok(), SmokeProblem::Conv);
    }
    unaligned(cases, &plain);
    groups(cases, &plain);
    cases.offer(
        "several tiles",
        several_tiles(&plain, kernel),
        SmokeProblem::Conv,
    );
    split_k(cases, &plain);
}

/// Starts a problem of the kernel's type, layout and mode.
fn start(kernel: &Kernel, [groups, c, k]: Groups, [h, w]: [usize; 2]) -> Builder<Conv2d> {
    let builder = Conv2d::builder()
        .input(1, groups * c, h, w)
        .filters(groups * k)
        .groups(groups)
        .dtype(kernel.dtype)
        .math(kernel.math);
    match kernel.layout {
        Some(layout) => builder.layout(layout),
        None => builder,
    }
}

/// The plain problems that are offered, cheapest first.
fn ladder(kernel: &Kernel) -> Vec<Option<Conv2d>> {
    let window = |builder: Builder<Conv2d>, r: usize| {
        let builder = builder.kernel(r, r).padding(Padding::same(r / 2));
        builder.build().ok()
    };
    let mut all = Vec::new();
    for c in CHANNELS {
        all.push(window(start(kernel, [1, c, FILTERS], [6, 5]), 3));
    }
    // Of NCHW, whole planes are copied in vectors: 24 pixels.
    for (c, image) in [(37, [5, 5]), (70, [4, 6])] {
        all.push(window(start(kernel, [1, c, FILTERS], image), 1));
    }
    for groups in GROUPED {
        all.push(window(start(kernel, groups, [6, 5]), 3));
    }
    for r in [3, 5, 7] {
        all.push(window(start(kernel, [5, 1, 1], [9, 8]), r));
    }
    all
}

/// Padding that differs on each side.
const ASYMMETRIC: Padding = Padding {
    top: 2,
    bottom: 0,
    left: 0,
    right: 1,
};

/// The problem with each option.
fn variants(plain: &Conv2d) -> Vec<(&'static str, Builder<Conv2d>)> {
    let start = || plain.to_builder();
    let [_, c, h, w] = crate::extents(plain.input());
    let k = plain.output().c();
    let mut all = vec![
        ("bias, relu", start().bias(true).relu(true)),
        ("residual", start().residual(true).bias(true).relu(true)),
        ("stride 2", start().stride(2, 2)),
        ("asymmetric padding", start().padding(ASYMMETRIC)),
        (
            "stride 2, asymmetric padding",
            start().stride(2, 2).padding(ASYMMETRIC),
        ),
    ];
    if plain.window().kernel != [1, 1] {
        all.push(("dilation", start().dilation(2, 1).padding(Padding::same(3))));
        all.push(("1x1", start().kernel(1, 1).padding(Padding::same(0))));
    }
    let (x, y) = (before(c), before(k));
    all.extend([
        (
            "batch 2, slices",
            start()
                .input(2, c, h, w)
                .input_slice(c + 2 * x, x)
                .output_slice(k + 2 * y, y),
        ),
        ("krsc", start().filter_layout(FilterLayout::Krsc)),
        ("packed", start().filter_layout(FilterLayout::Packed)),
    ]);
    if plain.groups() > 1 && plain.filter().c == 1 {
        all.push(("channel multiplier", start().filters(2 * plain.groups())));
    }
    all
}

/// Adds a case of buffers that are aligned to their elements only.
fn unaligned(cases: &mut Cases<'_>, plain: &Conv2d) {
    let problem = plain.to_builder().alignment(plain.output().dtype().size());
    let wrap = SmokeProblem::Conv;
    cases.offer_with("unaligned", problem.build().ok(), [None, Some(1)], wrap);
}

/// Adds a case of several groups for a kernel that takes one or more.
fn groups(cases: &mut Cases<'_>, plain: &Conv2d) {
    if plain.groups() > 1 {
        return;
    }
    let own = plain.filter().c;
    for c in [own, cases.kernel.kernel().tile_k as usize] {
        let [n, _, h, w] = crate::extents(plain.input());
        let problem = plain
            .to_builder()
            .input(n, 2 * c, h, w)
            .filters(6)
            .groups(2);
        if cases.offer("groups", problem.build().ok(), SmokeProblem::Conv) {
            return;
        }
    }
}

/// The problem with more filters and pixels than a tile has.
fn several_tiles(plain: &Conv2d, kernel: &Kernel) -> Option<Conv2d> {
    let (tile_m, tile_n) = (kernel.tile_m as usize, kernel.tile_n as usize);
    let c = plain.input().c();
    let builder = plain.to_builder();
    if tile_n == 1 {
        // No matrix product, but strips of rows, each of a warp's pixels.
        return builder.input(1, c, 2 * tile_m + 1, 35).build().ok();
    }
    let builder = builder.kernel(1, 1).padding(Padding::same(0));
    let image = [tile_n / 16 + 1, 16];
    let builder = match plain.groups() {
        1 => builder.input(1, c, image[0], image[1]).filters(tile_m + 1),
        _ => {
            let (group_c, group_k) = (plain.filter().c, plain.output().c() / plain.groups());
            // On tensor cores small groups share a tile.
            let groups = match kernel.algorithm.tensor() {
                true => tile_m / (kernel.tile_k as usize).max(1) + 1,
                false => plain.groups(),
            };
            builder
                .input(1, groups * group_c, image[0], image[1])
                .groups(groups)
                .filters(groups * group_k)
        }
    };
    builder.build().ok()
}

/// Adds cases of two and three partial sums per output tile: of the plain problem, or of one with a
/// longer sum.
fn split_k(cases: &mut Cases<'_>, plain: &Conv2d) {
    let longer = plain.to_builder().kernel(5, 5).padding(Padding::same(2));
    let [n, c, h, w] = crate::extents(plain.input());
    let wider = plain.to_builder().input(n, 3 * c, h, w);
    let problems = [Some(plain.clone()), longer.build().ok(), wider.build().ok()];
    for (label, split_k) in [("split-K 2", 2), ("split-K 3", 3)] {
        for problem in problems.iter().flatten() {
            let options = [Some(split_k), None];
            if cases.offer_with(label, Some(problem.clone()), options, SmokeProblem::Conv) {
                break;
            }
        }
    }
    let problem = plain.to_builder().bias(true).residual(true).relu(true);
    let options = [Some(3), None];
    let wrap = SmokeProblem::Conv;
    cases.offer_with("split-K 3, residual", problem.build().ok(), options, wrap);
}
