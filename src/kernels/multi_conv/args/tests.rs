//! Distribution of a launch's columns over several products, and the condition for writing their
//! results four elements at a time.

use super::*;
use crate::error::Error;
use crate::kernels::Layout;
use crate::kernels::{DType, kernels};
use crate::problem::Conv2d;

/// A kernel made up here, of tiles of 64 filters, 32 pixels and 32 channels.
fn kernel(layout: Layout) -> Kernel {
    Kernel {
        algorithm: crate::kernels::Algorithm::MmaMultiConv,
        dtype: DType::F32,
        layout: Some(layout),
        tile_m: 64,
        tile_n: 32,
        tile_k: 32,
        threads: 128,
        ..kernels()[0]
    }
}

fn branches(lines: &[&[&str]]) -> Branches {
    let parse = |line: &&str| -> Conv2d {
        line.parse()
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    let each = lines.iter();
    let products = each.map(|convs| Product::new(convs.iter().map(parse).collect()));
    let products: Result<Vec<Product>, Error> = products.collect();
    let problem = products.and_then(Branches::new);
    problem.unwrap_or_else(|error| panic!("{lines:?}: {error}"))
}

/// 2 images of 5 x 5 pixels are two tiles. Columns: 100 filters are two, three blocks share those
/// of 32 filters and three steps, and both of 20 and 40 are one.
#[test]
fn columns_of_tiles_follow_each_other() {
    let problem = branches(&[
        &["mb2ic32ih5oc100kh1+tf32+nhwc+packed"],
        &["mb2ic96ih5oc32kh1+tf32+nhwc+packed"],
        &[
            "mb2ic64ih5oc20kh1+tf32+nhwc+packed",
            "mb2ic64ih5oc40kh1+tf32+nhwc+packed+relu",
        ],
    ]);
    let kernel = kernel(Layout::Nhwc);
    let mut args = MultiConvArgs::new(&problem, &kernel, 3);
    let split_k = args.used().iter().map(|product| product.tensor.split_k);
    assert_eq!(split_k.collect::<Vec<_>>(), [1, 3, 2]);
    assert_eq!(args.set_grid(&kernel), 2 * (2 + 3 + 2));
    let first = args.used().iter().map(|product| product.first_block);
    assert_eq!(first.collect::<Vec<_>>(), [0, 2, 5]);
    for product in args.used() {
        assert_eq!(product.by_column.divisor(), 7);
    }
    let last = &args.used()[2];
    assert_eq!((last.convolutions, last.pooled), (2, 0));
    let filters = last.merged.map(|to| (to.first, to.end, to.relu));
    assert_eq!(filters[..2], [(0, 20, 0), (20, 60, 1)]);
}

#[test]
fn results_are_wide_where_all_is_whole() {
    let nhwc = "mb2ic32ih5oc8kh1+tf32+nhwc+packed";
    for (lines, layout, ys, wide) in [
        (&[nhwc, nhwc][..], Layout::Nhwc, [16, 32], 1),
        (&[nhwc, nhwc], Layout::Nhwc, [8, 16], 0),
        (&[nhwc, nhwc], Layout::Nhwc, [16, 4], 0),
        (
            &["mb2ic32ih5oc6kh1+tf32+nhwc+packed", nhwc],
            Layout::Nhwc,
            [16, 16],
            0,
        ),
        (
            &[nhwc, "mb2ic32ih5oc6kh1+tf32+nhwc+packed+out8:0"],
            Layout::Nhwc,
            [16, 16],
            0,
        ),
        (
            &[nhwc, "mb2ic32ih5oc8kh1+tf32+nhwc+packed+out10:0"],
            Layout::Nhwc,
            [16, 16],
            0,
        ),
        (
            &[nhwc, "mb2ic32ih5oc8kh1+tf32+nhwc+packed+out12:0"],
            Layout::Nhwc,
            [16, 16],
            1,
        ),
        (&["mb2ic32ih4oc6kh1+tf32+packed"], Layout::Nchw, [16, 0], 1),
        (&["mb2ic32ih4oc6kh1+tf32+packed"], Layout::Nchw, [8, 0], 0),
        (
            &["mb2ic32ih2iw6oc6kh1+tf32+packed"],
            Layout::Nchw,
            [16, 0],
            1,
        ),
        (&["mb2ic32ih5oc8kh1+tf32+packed"], Layout::Nchw, [16, 0], 0),
    ] {
        let (problem, kernel) = (branches(&[lines]), kernel(layout));
        let mut args = MultiConvArgs::new(&problem, &kernel, 1);
        for (to, y) in args.product[0].merged.iter_mut().zip(ys) {
            to.y = y;
        }
        args.set_grid(&kernel);
        let got = args.product[0].tensor.conv.y_vector;
        assert_eq!(got, wide, "{lines:?} {ys:?}");
    }
}
