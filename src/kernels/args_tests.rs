//! Accesses of a launch, and the number of blocks that share its work. Each table begins with a
//! problem whose extents, strides and addresses permit wide accesses; the lines after it change one
//! of them. Blocks are counted by hand.

use super::bottleneck::args::BottleneckArgs;
use super::elementwise::activation_args::{ReluArgs, SubsampleArgs};
use super::elementwise::channel_args::{LrnArgs, SoftmaxArgs};
use super::operation::Arguments;
use super::pack_args::PackArgs;
use super::pool::args::PoolArgs;
use super::simt::ConvArgs;
use super::tensor_args::TensorArgs;
use crate::kernels::FilterRows;
use crate::kernels::{Algorithm, DType, Kernel, Layout, kernels};
use crate::problem::{
    Bottleneck2d, Builder, Conv2d, FilterLayout, Lrn, LrnParameters, Pool2d, PoolKind, Relu,
    Softmax, Subsample, TensorDesc,
};

/// A kernel made up here: none of these has to be in the catalog.
fn kernel(algorithm: Algorithm, tile: [u32; 3], threads: u32, layout: Layout) -> Kernel {
    let [tile_m, tile_n, tile_k] = tile;
    Kernel {
        algorithm,
        dtype: DType::F32,
        layout: Some(layout),
        tile_m,
        tile_n,
        tile_k,
        threads,
        ..kernels()[0]
    }
}

fn parse(line: &str) -> Conv2d {
    line.parse()
        .unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// A convolution's arguments with x, y and residual at the given addresses.
fn conv(problem: &Conv2d, [x, y, residual]: [u64; 3]) -> ConvArgs {
    ConvArgs {
        x,
        y,
        residual,
        ..ConvArgs::from(problem)
    }
}

/// x, y and residual four elements at a time. Tiles of 16 filters and 32 pixels.
#[test]
fn products_take_four_elements_where_all_is_whole() {
    use Algorithm::{Direct, Pointwise};
    for (line, algorithm, at, wide, blocks) in [
        ("mb2ic8ih4oc8kh1", Pointwise, [16, 16, 0], [1, 1], 1),
        ("mb2ic8ih4oc8kh1", Pointwise, [4, 16, 0], [0, 1], 1),
        ("mb2ic8ih4oc8kh1", Pointwise, [8, 16, 0], [0, 1], 1),
        ("mb2ic8ih4oc8kh1", Pointwise, [16, 8, 0], [1, 0], 1),
        ("mb2ic8ih4oc8kh1", Pointwise, [16, 16, 8], [1, 0], 1),
        ("mb2ic8ih4oc8kh1+f16", Pointwise, [8, 8, 8], [1, 1], 1),
        ("mb2ic8ih4oc8kh1+f16", Pointwise, [4, 4, 8], [0, 0], 1),
        ("mb2ic8ih4oc8kh1", Direct, [16, 16, 0], [0, 1], 1),
        ("mb2ic8ih2iw6oc8kh1", Pointwise, [16, 16, 0], [1, 1], 1),
        ("mb2ic8ih3iw7oc8kh1", Pointwise, [16, 16, 0], [0, 0], 2),
        ("mb2ic8ih4oc8kh1sh2", Pointwise, [16, 16, 0], [0, 1], 1),
        ("mb2ic8ih4oc8kh1sh1sw2", Pointwise, [16, 16, 0], [0, 1], 1),
        ("mb2ic8ih4oc8kh1sh2sw1", Pointwise, [16, 16, 0], [0, 1], 1),
        // Four filters are neighbours in NHWC, and four pixels are not.
        ("mb2ic8ih3oc8kh1+nhwc", Pointwise, [16, 16, 0], [0, 1], 1),
        ("mb2ic8ih4oc6kh1+nhwc", Direct, [16, 16, 0], [0, 0], 1),
        (
            "mb2ic8ih4oc8kh1+nhwc+out10:2",
            Direct,
            [16, 16, 0],
            [0, 0],
            1,
        ),
        (
            "mb2ic8ih4oc8kh1+nhwc+out12:2",
            Direct,
            [16, 16, 0],
            [0, 1],
            1,
        ),
        (
            "mb2ic8ih4oc8kh1+nhwc+residual10:2",
            Direct,
            [16, 16, 16],
            [0, 0],
            1,
        ),
        (
            "mb2ic8ih4oc8kh1+nhwc+residual10:2",
            Direct,
            [16, 16, 0],
            [0, 1],
            1,
        ),
        ("g2mb2ic8ih4oc12kh1+nhwc", Direct, [16, 16, 0], [0, 0], 2),
        // 50 pixels and 20 filters are two tiles each, of three groups.
        ("g3mb2ic9ih5oc60kh1", Direct, [16, 16, 0], [0, 0], 12),
    ] {
        let problem = parse(line);
        let kernel = Kernel {
            dtype: problem.dtype(),
            ..kernel(algorithm, [16, 32, 8], 64, problem.layout())
        };
        let mut args = conv(&problem, at);
        assert_eq!(args.set_grid(&kernel), blocks, "{line}");
        assert_eq!([args.x_vector, args.y_vector], wide, "{line} {at:?}");
    }
}

/// Strips of 4 rows. In NHWC a block of 128 threads has some pixels with all of their channels, one
/// or four a thread.
#[test]
fn depthwise_takes_four_channels_where_all_is_whole() {
    for (line, at, wide, blocks) in [
        // 8 channels are two lanes; 2 images of 2 strips of 5 columns, 64 of them a block.
        ("g8mb2ic8ih5oc8kh3ph1+nhwc", [16, 16, 0], 1, 1),
        ("g8mb2ic8ih5oc8kh3ph1+nhwc", [8, 16, 0], 0, 2),
        ("g8mb2ic8ih5oc8kh3ph1+nhwc", [16, 8, 0], 0, 2),
        ("g8mb2ic8ih5oc8kh3ph1+nhwc", [16, 16, 8], 0, 2),
        ("g8mb2ic8ih5oc8kh3ph1+nhwc+bf16", [8, 8, 8], 1, 1),
        ("g8mb2ic8ih5oc8kh3ph1+nhwc+bf16", [8, 4, 8], 0, 2),
        ("g8mb2ic8ih5oc8kh3ph1+nhwc+in10:0", [16, 16, 0], 0, 2),
        ("g8mb2ic8ih5oc8kh3ph1+nhwc+out10:0", [16, 16, 0], 0, 2),
        ("g8mb2ic8ih5oc8kh3ph1+nhwc+residual10:0", [16, 16, 16], 0, 2),
        ("g8mb2ic8ih5oc8kh3ph1+nhwc+residual10:0", [16, 16, 0], 1, 1),
        // Two filters per group.
        ("g8mb2ic8ih5oc16kh3ph1+nhwc", [16, 16, 0], 0, 3),
        ("g6mb2ic6ih5oc6kh3ph1+nhwc", [16, 16, 0], 0, 1),
        // 42 lanes are two warps of 21 each: 6 pixels a block of 20, and that twice.
        ("g168mb2ic168ih5oc168kh3ph1+nhwc", [16, 16, 0], 1, 8),
        // In NCHW a thread has a strip: 2 images of 8 filters, 2 strips and 5 columns.
        ("g8mb2ic8ih5oc8kh3ph1", [16, 16, 0], 0, 2),
        ("g8mb2ic8ih8oc8kh3ph1", [16, 16, 0], 0, 2),
        ("g8mb2ic8ih9oc8kh3ph1", [16, 16, 0], 0, 4),
    ] {
        let problem = parse(line);
        let kernel = Kernel {
            dtype: problem.dtype(),
            ..kernel(Algorithm::Depthwise, [4, 1, 3], 128, problem.layout())
        };
        let mut args = conv(&problem, at);
        assert_eq!(args.set_grid(&kernel), blocks, "{line} {at:?}");
        assert_eq!([args.x_vector, args.y_vector], [wide; 2], "{line} {at:?}");
    }
}

/// Tiles of 64 filters: of groups of up to 16 filters, four groups.
#[test]
fn small_groups_share_tiles() {
    for (line, tiles_m, blocks) in [
        ("g8mb1ic64ih8oc64kh3ph1+nhwc", 2, 4),
        ("g9mb1ic72ih8oc72kh3ph1+nhwc", 3, 6),
    ] {
        let problem = parse(line);
        let kernel = kernel(Algorithm::MmaSmallGroups, [64, 32, 16], 128, Layout::Nhwc);
        for split_k in [1, 3] {
            let mut args = TensorArgs::new(&problem, &kernel, split_k);
            assert_eq!(
                args.set_grid(&kernel),
                blocks * u64::from(split_k),
                "{line}"
            );
            assert_eq!(args.conv.tiles_m, tiles_m, "{line}");
            assert_eq!(args.conv.by_groups.divisor(), 1, "{line}");
            assert_eq!(args.conv.by_tiles_m.divisor(), tiles_m, "{line}");
            // Nine taps of one step each.
            assert_eq!((args.steps, args.steps_per_split), (9, 9 / split_k as i32));
            assert_eq!(u64::from(args.tiles), blocks, "{line}");
        }
    }
}

fn pool(image: [usize; 4], window: usize, kind: PoolKind, layout: Layout) -> Pool2d {
    let [n, c, h, w] = image;
    let builder = Pool2d::builder().input(n, c, h, w).kernel(window, window);
    let builder = builder.stride(1, 1).kind(kind).layout(layout);
    builder.build().expect("a valid pooling")
}

/// Windows: in NCHW one output per thread and strip of 4 rows, in NHWC one channel or four.
#[test]
fn windows_take_four_channels_where_all_is_whole() {
    const INDICES: PoolKind = PoolKind::Max { indices: true };
    let image = |c| [2, c, 6, 5];
    for (problem, at, vector, blocks) in [
        // 8 channels as two; 5 columns, 2 strips, 2 images: 40 threads.
        (pool(image(8), 2, INDICES, Layout::Nhwc), [16, 16, 4], 1, 1),
        (pool(image(8), 2, INDICES, Layout::Nhwc), [8, 16, 4], 0, 4),
        (pool(image(8), 2, INDICES, Layout::Nhwc), [16, 4, 4], 0, 4),
        (pool(image(8), 2, INDICES, Layout::Nhwc), [16, 16, 2], 0, 4),
        (pool(image(6), 2, INDICES, Layout::Nhwc), [16, 16, 4], 0, 3),
        (pool(image(8), 2, INDICES, Layout::Nchw), [16, 16, 4], 0, 4),
        (pool(image(9), 3, INDICES, Layout::Nchw), [16, 16, 4], 0, 2),
    ] {
        let kernel = kernel(Algorithm::MaxPool, [4, 1, 1], 32, problem.layout());
        let [x, y, indices] = at;
        let mut args = PoolArgs {
            x,
            y,
            indices,
            ..PoolArgs::from(&problem)
        };
        let text = format!("{problem} at {at:?}");
        assert_eq!(args.set_grid(&kernel), blocks, "{text}");
        assert_eq!(args.vector, vector, "{text}");
    }
    let slices: [fn(Builder<Pool2d>) -> Builder<Pool2d>; 2] =
        [|b| b.input_slice(10, 0), |b| b.output_slice(10, 0)];
    for slice in slices {
        let whole = pool(image(8), 2, INDICES, Layout::Nhwc);
        let problem = slice(whole.to_builder()).build().expect("a valid pooling");
        let kernel = kernel(Algorithm::MaxPool, [4, 1, 1], 32, Layout::Nhwc);
        let mut args = PoolArgs::from(&problem);
        assert_eq!((args.set_grid(&kernel), args.vector), (4, 0), "{problem}");
    }
}

/// Whole planes: in NCHW one warp or block per plane, in NHWC one group of threads per up to 32
/// channels.
#[test]
fn planes_are_shared_out_by_their_length() {
    let of = |c, [h, w]: [usize; 2], layout| {
        let builder = Pool2d::builder().input(3, c, h, w).layout(layout);
        let problem = builder.kind(PoolKind::GlobalAverage).build();
        problem.expect("a valid pooling")
    };
    for (problem, at, vector, team, blocks) in [
        // 128 threads are four warps: 15 planes.
        (of(5, [4, 4], Layout::Nchw), [16, 4], 1, 32, 4),
        (of(5, [4, 4], Layout::Nchw), [4, 16], 0, 32, 4),
        (of(5, [5, 7], Layout::Nchw), [16, 16], 0, 32, 4),
        (of(5, [32, 64], Layout::Nchw), [16, 16], 1, 32, 4),
        (of(5, [1, 2049], Layout::Nchw), [16, 16], 0, 128, 15),
        (of(12, [4, 4], Layout::Nhwc), [16, 16], 1, 4, 3),
        (of(12, [4, 4], Layout::Nhwc), [16, 8], 0, 16, 3),
        (of(12, [4, 4], Layout::Nhwc), [8, 16], 0, 16, 3),
        (of(14, [4, 4], Layout::Nhwc), [16, 16], 0, 16, 3),
        (of(33, [4, 4], Layout::Nhwc), [16, 16], 0, 32, 6),
        (of(132, [4, 4], Layout::Nhwc), [16, 16], 1, 32, 6),
    ] {
        let kernel = kernel(Algorithm::GlobalPool, [1, 1, 1], 128, problem.layout());
        let [x, y] = at;
        let mut args = PoolArgs {
            x,
            y,
            ..PoolArgs::from(&problem)
        };
        let text = format!("{problem} at {at:?}");
        assert_eq!(args.set_grid(&kernel), blocks, "{text}");
        assert_eq!((args.vector, args.team), (vector, team), "{text}");
    }
}

/// Runs of elements, of which a tensor without gaps is a single one. 64 elements per block.
#[test]
fn runs_are_wide_where_all_is_whole() {
    let of = |c, layout| {
        TensorDesc::new([2, c, 3, 5], layout, DType::F32)
            .and_then(|x| Relu::new(&x, &x))
            .expect("a valid ReLU")
    };
    let part = |problem: Relu, pitches: [usize; 2]| {
        let slice = |pitch| problem.input().slice(pitch, 0).expect("a slice");
        Relu::new(&slice(pitches[0]), &slice(pitches[1])).expect("a valid ReLU")
    };
    for (problem, at, vector, length) in [
        (of(7, Layout::Nchw), [16, 16], 1, 210),
        (of(7, Layout::Nchw), [8, 16], 0, 210),
        (of(7, Layout::Nchw), [16, 8], 0, 210),
        (of(7, Layout::Nhwc), [16, 16], 1, 210),
        (part(of(8, Layout::Nhwc), [12, 8]), [16, 16], 1, 8),
        (part(of(8, Layout::Nhwc), [8, 12]), [16, 16], 1, 8),
        (part(of(8, Layout::Nhwc), [10, 12]), [16, 16], 0, 8),
        (part(of(8, Layout::Nhwc), [12, 10]), [16, 16], 0, 8),
        (part(of(6, Layout::Nhwc), [12, 12]), [16, 16], 0, 6),
        (part(of(8, Layout::Nchw), [12, 8]), [16, 16], 1, 120),
        (part(of(7, Layout::Nchw), [8, 8]), [16, 16], 0, 105),
    ] {
        let kernel = kernel(Algorithm::Relu, [1, 64, 1], 32, problem.input().layout());
        let [x, y] = at;
        let mut args = ReluArgs {
            x,
            y,
            ..ReluArgs::from(&problem)
        };
        let blocks = (problem.output().elements() as u64).div_ceil(64);
        assert_eq!(args.set_grid(&kernel), blocks, "{problem:?}");
        assert_eq!(
            (args.vector, args.length),
            (vector, length),
            "{problem:?} {at:?}"
        );
        assert_eq!(i64::from(args.by_length.divisor()), length);
    }
}

/// Two tensors of the same extents, each a slice of a tensor of so many channels.
fn slices(extents: [usize; 4], layout: Layout, pitches: [usize; 2]) -> [TensorDesc; 2] {
    let [n, c, h, w] = extents;
    let whole = TensorDesc::new([n, c, h, w], layout, DType::F32).expect("a valid tensor");
    pitches.map(|pitch| whole.slice(pitch, 0).expect("a slice"))
}

/// In NHWC a thread has a channel or four of a pixel, in NCHW a segment of the channels of a pixel
/// or four.
#[test]
fn normalisations_share_channels_out_by_segments() {
    use Layout::{Nchw, Nhwc};
    for (extents, layout, pitches, size, at, [vector, segment], blocks) in [
        // 2 images of 15 pixels of two lanes, 32 threads per block.
        ([2, 8, 3, 5], Nhwc, [8, 8], 5, [16, 16], [1, 8], 2),
        ([2, 8, 3, 5], Nhwc, [8, 8], 5, [8, 16], [0, 8], 8),
        ([2, 8, 3, 5], Nhwc, [8, 8], 5, [16, 8], [0, 8], 8),
        ([2, 8, 3, 5], Nhwc, [8, 8], 3, [16, 16], [0, 8], 8),
        ([2, 8, 3, 5], Nhwc, [10, 8], 5, [16, 16], [0, 8], 8),
        ([2, 8, 3, 5], Nhwc, [8, 10], 5, [16, 16], [0, 8], 8),
        ([2, 6, 3, 5], Nhwc, [8, 8], 5, [16, 16], [0, 6], 6),
        // Segments of 16 channels or more, while threads are few: 40 of them are three of 14.
        ([2, 8, 4, 5], Nchw, [8, 8], 3, [16, 16], [1, 8], 1),
        ([2, 40, 4, 5], Nchw, [40, 40], 5, [16, 16], [1, 14], 1),
        ([2, 40, 4, 5], Nchw, [40, 40], 5, [4, 16], [0, 14], 4),
        ([2, 40, 3, 5], Nchw, [40, 40], 5, [16, 16], [0, 14], 3),
        ([1, 33, 132, 512], Nchw, [33, 33], 5, [4, 16], [0, 11], 6336),
        (
            [1, 33, 132, 1024],
            Nchw,
            [33, 33],
            5,
            [4, 16],
            [0, 17],
            8448,
        ),
        (
            [1, 33, 264, 1024],
            Nchw,
            [33, 33],
            5,
            [4, 16],
            [0, 33],
            8448,
        ),
    ] {
        let [input, output] = slices(extents, layout, pitches);
        let parameters = LrnParameters {
            size,
            alpha: 1e-4,
            beta: 0.75,
            k: 2.0,
        };
        let problem = Lrn::new(&input, &output, parameters).expect("a valid normalisation");
        let kernel = kernel(Algorithm::Lrn, [1, 1, 1], 32, layout);
        let [x, y] = at;
        let mut args = LrnArgs {
            x,
            y,
            ..LrnArgs::from(&problem)
        };
        let text = format!("{extents:?} {layout:?} {pitches:?} {size} {at:?}");
        assert_eq!(args.set_grid(&kernel), blocks, "{text}");
        assert_eq!([args.vector, args.segment], [vector, segment], "{text}");
    }
}

/// Rows of neighbouring channels by warps or blocks, others 32 pixels per block.
#[test]
fn softmax_rows_are_shared_out_by_their_length() {
    use Layout::{Nchw, Nhwc};
    for (extents, layout, pitches, at, [neighbours, vector, team], blocks) in [
        // 128 threads are four warps: 6 rows.
        ([2, 8, 1, 3], Nhwc, [8, 8], [16, 16], [1, 1, 32], 2),
        ([2, 8, 1, 3], Nhwc, [8, 8], [8, 16], [1, 0, 32], 2),
        ([2, 8, 1, 3], Nhwc, [8, 8], [16, 8], [1, 0, 32], 2),
        ([2, 6, 1, 3], Nhwc, [8, 8], [16, 16], [1, 0, 32], 2),
        ([2, 8, 1, 3], Nhwc, [10, 8], [16, 16], [1, 0, 32], 2),
        ([2, 8, 1, 3], Nhwc, [8, 10], [16, 16], [1, 0, 32], 2),
        // A warp holds 32 times four accesses of four elements, or eight elements.
        ([1, 512, 1, 3], Nhwc, [512, 512], [16, 16], [1, 1, 32], 1),
        ([1, 516, 1, 3], Nhwc, [516, 516], [16, 16], [1, 1, 128], 3),
        ([1, 256, 1, 3], Nhwc, [256, 256], [4, 16], [1, 0, 32], 1),
        ([1, 257, 1, 3], Nhwc, [257, 257], [16, 16], [1, 0, 128], 3),
        // One pixel: its channels are neighbours in any layout.
        ([2, 8, 1, 1], Nchw, [8, 8], [16, 16], [1, 1, 32], 1),
        ([2, 8, 1, 1], Nhwc, [12, 12], [16, 16], [1, 1, 32], 1),
        ([2, 8, 1, 33], Nchw, [8, 8], [16, 16], [0, 0, 0], 4),
        ([2, 8, 4, 8], Nchw, [8, 8], [16, 16], [0, 0, 0], 2),
    ] {
        let [input, output] = slices(extents, layout, pitches);
        let problem = Softmax::new(&input, &output).expect("a valid softmax");
        let kernel = kernel(Algorithm::Softmax, [1, 1, 1], 128, layout);
        let [x, y] = at;
        let mut args = SoftmaxArgs {
            x,
            y,
            ..SoftmaxArgs::from(&problem)
        };
        let text = format!("{extents:?} {layout:?} {pitches:?} {at:?}");
        assert_eq!(args.set_grid(&kernel), blocks, "{text}");
        let got = [args.neighbours, args.vector, args.team];
        assert_eq!(got, [neighbours, vector, team], "{text}");
    }
}

/// Four channels per thread where x, y, coefficients and biases are whole.
#[test]
fn subsamplings_take_four_channels_where_all_is_whole() {
    use Layout::{Nchw, Nhwc};
    for (c, layout, pitches, at, vector, blocks) in [
        // 2 images of 2 x 3 outputs of two lanes, 8 threads per block.
        (8, Nhwc, [8, 8], [16, 16, 16, 16], 1, 3),
        (8, Nhwc, [8, 8], [8, 16, 16, 16], 0, 12),
        (8, Nhwc, [8, 8], [16, 8, 16, 16], 0, 12),
        (8, Nhwc, [8, 8], [16, 16, 8, 16], 0, 12),
        (8, Nhwc, [8, 8], [16, 16, 16, 8], 0, 12),
        (8, Nhwc, [10, 8], [16, 16, 16, 16], 0, 12),
        (8, Nhwc, [8, 10], [16, 16, 16, 16], 0, 12),
        (6, Nhwc, [8, 8], [16, 16, 16, 16], 0, 9),
        (8, Nchw, [8, 8], [16, 16, 16, 16], 0, 12),
    ] {
        let problem = Subsample::builder()
            .input(2, c, 4, 6)
            .kernel(2, 2)
            .stride(2, 2)
            .layout(layout)
            .input_slice(pitches[0], 0)
            .output_slice(pitches[1], 0)
            .build();
        let kernel = kernel(Algorithm::Subsample, [1, 1, 1], 8, layout);
        let [x, coefficient, bias, y] = at;
        let mut args = SubsampleArgs {
            x,
            coefficient,
            bias,
            y,
            ..SubsampleArgs::from(&problem.expect("a valid subsampling"))
        };
        let text = format!("{c} {layout:?} {pitches:?} {at:?}");
        assert_eq!(args.set_grid(&kernel), blocks, "{text}");
        assert_eq!(args.vector, vector, "{text}");
    }
}

fn bottleneck(k: usize, layout: Layout, filters: FilterLayout, pitch: usize) -> Bottleneck2d {
    let builder = Bottleneck2d::builder().input(2, 8, 5, 5).mid_channels(4);
    let builder = builder.filters(k).layout(layout).filter_layout(filters);
    let problem = builder.output_slice(pitch, 0).build();
    problem.expect("a valid bottleneck")
}

/// Filters 16 bytes, results four elements at a time. Tiles of 2 x 4 outputs: 3 x 2 of an image.
#[test]
fn bottlenecks_take_wide_accesses_where_all_is_whole() {
    use FilterLayout::{Kcrs, Krsc};
    use Layout::{Nchw, Nhwc};
    for (k, layout, filters, pitch, [w, y, residual], wide) in [
        (8, Nhwc, Krsc, 8, [16, 16, 0], [1, 1]),
        (8, Nhwc, Krsc, 8, [8, 16, 0], [0, 1]),
        (8, Nhwc, Krsc, 8, [16, 8, 0], [1, 0]),
        (8, Nhwc, Krsc, 8, [16, 16, 8], [1, 0]),
        (8, Nhwc, Krsc, 10, [16, 16, 0], [1, 0]),
        (8, Nhwc, Krsc, 12, [16, 16, 0], [1, 1]),
        (6, Nhwc, Krsc, 8, [16, 16, 0], [1, 0]),
        // The nine taps of a channel are neighbours there.
        (8, Nhwc, Kcrs, 8, [16, 16, 0], [0, 1]),
        // 25 pixels are no multiple of four.
        (8, Nchw, Krsc, 8, [16, 16, 0], [1, 0]),
    ] {
        let problem = bottleneck(k, layout, filters, pitch);
        let kernel = kernel(Algorithm::Bottleneck, [2, 4, 16], 128, layout);
        let text = format!("{problem} {w} {y} {residual}");
        for which in 0..3 {
            let mut args = BottleneckArgs::from(&problem);
            args.w[which] = w;
            (args.y, args.residual) = (y, residual);
            args.residual_strides = args.y_strides;
            assert_eq!(args.set_grid(&kernel), 12, "{text}");
            assert_eq!([args.w_vector, args.y_vector], wide, "{text}");
            assert_eq!((args.tiles, args.tiles_q), (12, 2), "{text}");
            assert_eq!(args.by_tiles_q.divisor(), 2, "{text}");
            assert_eq!(args.by_tiles_image.divisor(), 6, "{text}");
        }
    }
}

/// Blocks of 16 channels and 4 taps.
#[test]
fn packing_is_shared_out_by_channels_and_taps() {
    for (line, divisors, blocks) in [
        // Rows of 20 channels are two tiles, nine taps three, of five filters.
        ("ic20ih9oc5kh3", [2, 3, 4], 30),
        // Rows of one run: as many taps of one filter.
        ("ic20ih9oc5kh3+krsc", [2, 12, 4], 24),
        ("ic16ih9oc3kh1", [1, 1, 3], 1),
    ] {
        let problem = parse(line);
        let kernel = kernel(Algorithm::PackFilter, [1, 16, 4], 64, Layout::Nchw);
        let mut args = PackArgs::new(&problem, &FilterRows::packed(&problem));
        assert_eq!(args.set_grid(&kernel), blocks, "{line}");
        let got = [args.by_channel_tiles, args.by_tap_tiles, args.by_taps].map(|by| by.divisor());
        assert_eq!(got, divisors, "{line}");
    }
}
