//! Poolings: windows, indices, divisors, and how many windows there are.

use super::pool;
use warpconv::Error;
use warpconv::plan::Operation;
use warpconv::problem::{Activation, Builder, Padding, Pool2d, PoolKind, Subsample};

#[test]
fn zeros_are_refused_by_name() {
    assert_eq!(
        pool().kernel(0, 1).build(),
        Err(Error::Zero {
            what: "the height of the window"
        })
    );
    assert_eq!(
        pool().stride(1, 0).build(),
        Err(Error::Zero {
            what: "the horizontal stride"
        })
    );
    let adaptive = Pool2d::builder()
        .input(1, 1, 4, 4)
        .kind(PoolKind::AdaptiveAverage { p: 0, q: 3 });
    assert_eq!(
        adaptive.build(),
        Err(Error::Zero {
            what: "the height of the output"
        })
    );
}

#[test]
fn poolings() {
    let max = PoolKind::Max { indices: true };
    let wide = pool().input(1, 1, 20, 20).kernel(16, 16).kind(max).build();
    assert_eq!(wide, Err(Error::IndexRange { window: [16, 16] }));
    assert_eq!(
        wide.unwrap_err().to_string(),
        "a 16x16 window has 256 positions; one-byte indices name at most 255"
    );
    assert!(
        pool()
            .input(1, 1, 20, 20)
            .kernel(15, 17)
            .kind(max)
            .build()
            .is_ok()
    );
    let zero = PoolKind::Average {
        count_include_pad: true,
        divisor_override: Some(0),
    };
    assert_eq!(pool().kind(zero).build(), Err(Error::ZeroDivisor));
    let global = pool().kind(PoolKind::GlobalMax).build();
    assert!(matches!(
        global,
        Err(Error::Incompatible {
            what: "a window",
            ..
        })
    ));
    let global = Pool2d::builder()
        .input(2, 6, 4, 5)
        .kind(PoolKind::GlobalAverage)
        .build()
        .unwrap();
    assert_eq!(
        (
            global.output().h(),
            global.output().w(),
            global.window().kernel[0],
            global.window().kernel[1]
        ),
        (1, 1, 4, 5)
    );
    assert_eq!(global.to_builder().build().unwrap(), global);
    // Padding beyond half the window is oneDNN's and ONNX's to ask for.
    let padded = pool()
        .kernel(5, 5)
        .stride(5, 5)
        .input(1, 16, 10, 10)
        .padding(Padding::same(10))
        .build()
        .unwrap();
    assert_eq!((padded.output().h(), padded.output().w()), (6, 6));
    // Fewer outputs than fit, not more.
    let few = pool().output_size(1, 2).build().unwrap();
    assert_eq!((few.output().h(), few.output().w()), (1, 2));
    assert_eq!(few.to_builder().build().unwrap(), few);
    assert!(matches!(
        pool().output_size(4, 3).build(),
        Err(Error::Shape { .. })
    ));
    assert!(matches!(
        pool().output_size(0, 3).build(),
        Err(Error::Zero { .. })
    ));
}

#[test]
fn ceil_mode_adds_at_most_one_window() {
    for (h, r, stride, pad) in (1..12).flat_map(|h| {
        (1..5)
            .flat_map(move |r| (1..5).flat_map(move |s| (0..=r / 2).map(move |pad| (h, r, s, pad))))
    }) {
        let build = |ceil| {
            let pool = Pool2d::builder()
                .input(1, 1, h, h)
                .kernel(r, r)
                .stride(stride, stride);
            pool.padding(Padding::same(pad)).ceil_mode(ceil).build()
        };
        let (Ok(floor), Ok(ceil)) = (build(false), build(true)) else {
            assert!(h + 2 * pad < r);
            continue;
        };
        assert!(
            floor.output().h() <= ceil.output().h() && ceil.output().h() <= floor.output().h() + 1
        );
        assert!(
            (ceil.output().h() - 1) * stride < h + pad,
            "a window starts in the padding"
        );
    }
}

/// A 2x2 subsampling of 4x5 images, windows side by side.
fn subsample() -> Builder<Subsample> {
    let builder = Subsample::builder().input(2, 6, 4, 5);
    builder.kernel(2, 2).stride(2, 2)
}

#[test]
fn a_subsampling_leaves_out_the_last_column_and_is_built_again() {
    let activation = Activation::Tanh {
        amplitude: 1.5,
        slope: -0.5,
    };
    let builder = subsample().mean(true).activation(activation);
    let builder = builder.input_slice(9, 1).output_slice(11, 5);
    let made = builder.build().unwrap();
    assert_eq!((made.output().h(), made.output().w()), (2, 2));
    assert_eq!((made.divisor(), made.activation()), (4, activation));
    assert_eq!(made.input().channel_pitch(), 9);
    assert_eq!(made.output().channel_offset(), 5);
    assert_eq!(made.to_builder().build(), Ok(made.clone()));
    let more = made.to_builder().input(7, 6, 4, 5).build().unwrap();
    assert_eq!(made.with_batch(7), Ok(more));
}

#[test]
fn subsamplings_that_no_kernel_computes_are_refused() {
    let with = Error::Incompatible {
        what: "dilation or padding",
        with: "a subsampling",
    };
    let padded = subsample().padding(Padding::same(1));
    assert_eq!(padded.build(), Err(with.clone()));
    assert_eq!(subsample().dilation(1, 2).build(), Err(with));
    let what = "the width of the window";
    assert_eq!(subsample().kernel(2, 0).build(), Err(Error::Zero { what }));
    let large = subsample().kernel(5, 2).build();
    assert!(matches!(large, Err(Error::WindowTooLarge { .. })));
    for [amplitude, slope] in [[f64::INFINITY, 1.0], [1.0, f64::NAN]] {
        let tanh = Activation::Tanh { amplitude, slope };
        let refused = subsample().activation(tanh).build();
        assert!(matches!(refused, Err(Error::Parameter { .. })));
    }
}
