//! Refusals of invalid problems, with their numbers.

mod pool;

use warpconv::kernels::Math;
use warpconv::launch::Unary;
use warpconv::plan::Operation;
use warpconv::problem::{
    Builder, Conv2d, FilterLayout, Padding, Pool2d, PoolKind, Relu, TensorDesc,
};
use warpconv::{DType, Error, Layout};

/// A 3x3 convolution of 4x4 images, six channels to eight.
fn conv() -> Builder<Conv2d> {
    Conv2d::builder().input(2, 6, 4, 4).filters(8).kernel(3, 3)
}

/// A 2x2 pooling of 4x4 images.
fn pool() -> Builder<Pool2d> {
    Pool2d::builder().input(2, 6, 4, 4).kernel(2, 2)
}

fn message(result: Result<Conv2d, Error>) -> String {
    result.expect_err("this cannot be computed").to_string()
}

#[test]
fn zeros_are_refused_by_name() {
    let zero = |what| Err(Error::Zero { what });
    let cases = [
        (conv().input(1, 0, 4, 4), "the number of channels"),
        (conv().input(1, 6, 0, 4), "the height"),
        (conv().input(1, 6, 4, 0), "the width"),
        (conv().filters(0), "the number of filters"),
        (conv().groups(0), "the number of groups"),
        (conv().kernel(0, 3), "the height of the kernel"),
        (conv().kernel(3, 0), "the width of the kernel"),
        (conv().stride(0, 1), "the vertical stride"),
        (conv().stride(1, 0), "the horizontal stride"),
        (conv().dilation(0, 1), "the vertical dilation"),
        (conv().dilation(1, 0), "the horizontal dilation"),
        (Conv2d::builder(), "the number of channels"),
    ];
    for (builder, what) in cases {
        assert_eq!(builder.build(), zero(what));
    }
}

#[test]
fn an_empty_batch_is_valid() {
    let conv = conv()
        .input(0, 6, 4, 4)
        .bias(true)
        .residual(true)
        .build()
        .unwrap();
    assert_eq!(
        (
            conv.input().n(),
            conv.output().h(),
            conv.output().w(),
            conv.output().elements()
        ),
        (0, 2, 2, 0)
    );
    assert!(conv.input().is_empty() && conv.output().is_empty());
    assert_eq!((conv.output().len(), conv.macs()), (0, 0));
    let pool = pool()
        .input(0, 6, 4, 4)
        .kind(PoolKind::Max { indices: true })
        .build()
        .unwrap();
    assert_eq!((pool.output().h(), pool.output().elements()), (3, 0));
    assert!(
        TensorDesc::new([0, 3, 4, 4], Layout::Nchw, DType::F16)
            .and_then(|x| Relu::new(&x, &x))
            .unwrap()
            .output()
            .is_empty()
    );
}

#[test]
fn groups_divide_channels_and_filters() {
    assert_eq!(
        message(conv().groups(4).build()),
        "6 channels do not divide into 4 groups"
    );
    assert_eq!(
        message(conv().groups(3).build()),
        "8 filters do not divide into 3 groups"
    );
    assert_eq!(
        message(conv().groups(usize::MAX).build()),
        format!("6 channels do not divide into {} groups", usize::MAX)
    );
    assert!(conv().groups(2).build().is_ok());
}

#[test]
fn the_kernel_fits_the_padded_input() {
    assert_eq!(
        message(conv().kernel(5, 5).build()),
        "padded input 4x4, effective kernel 5x5: no output"
    );
    let padded = conv().kernel(3, 2).dilation(3, 9).padding(Padding {
        top: 1,
        bottom: 1,
        left: 2,
        right: 2,
    });
    assert_eq!(
        message(padded.build()),
        "padded input 6x8, effective kernel 7x10: no output"
    );
    // Larger than the image but not than the image with its padding.
    let conv = conv()
        .kernel(5, 5)
        .padding(Padding {
            top: 0,
            bottom: 1,
            left: 1,
            right: 0,
        })
        .build()
        .unwrap();
    assert_eq!((conv.output().h(), conv.output().w()), (1, 1));
    assert!(pool().kernel(5, 5).build().is_err());
    // Ceil mode does not help a window that does not fit.
    assert!(pool().kernel(5, 5).ceil_mode(true).build().is_err());
}

#[test]
fn absurd_parameters_are_errors() {
    let huge = 1usize << 62;
    for padding in [
        Padding {
            top: huge,
            ..Padding::default()
        },
        Padding {
            right: usize::MAX,
            ..Padding::default()
        },
        Padding::same(usize::MAX),
    ] {
        assert!(matches!(
            conv().padding(padding).build(),
            Err(Error::TooLarge { .. })
        ));
        assert!(matches!(
            pool().padding(padding).build(),
            Err(Error::TooLarge { .. })
        ));
    }
    assert!(matches!(
        conv().kernel(1 << 32, 3).build(),
        Err(Error::WindowTooLarge { .. })
    ));
    assert!(matches!(
        conv().kernel(3, usize::MAX).dilation(1, usize::MAX).build(),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(
        conv().stride(huge, 1).build(),
        Err(Error::TooLarge {
            what: "the stride",
            ..
        })
    ));
    assert!(matches!(
        conv().filters(usize::MAX).build(),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(
        conv().input(usize::MAX, 6, 4, 4).build(),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(
        conv().input(1, usize::MAX, 1, 1).kernel(1, 1).build(),
        Err(Error::TooLarge { .. })
    ));
    assert!(matches!(
        TensorDesc::new([usize::MAX, 1, 1, 1], Layout::Nchw, DType::F32),
        Err(Error::TooLarge { .. })
    ));
}

#[test]
fn indices_keep_within_31_bits() {
    // One image of 2^31 elements.
    let image = Conv2d::builder()
        .input(1, 1 << 11, 1 << 10, 1 << 10)
        .filters(1)
        .kernel(1, 1);
    assert_eq!(
        message(image.build()),
        format!(
            "the elements of one image of a convolution (compute bands of rows one by one, with \
             the rows that their \
             windows share): {}, beyond the limit of 2147483647",
            1u64 << 31
        )
    );
    // 2^31 output pixels of many small images, and one less.
    let pixels = |n| {
        Conv2d::builder()
            .input(n, 1, 1 << 8, 1 << 8)
            .filters(1)
            .kernel(1, 1)
            .build()
    };
    assert!(matches!(
        pixels(1 << 15),
        Err(Error::TooLarge {
            what: "the number of output pixels",
            ..
        })
    ));
    assert!(pixels((1 << 15) - 1).is_ok());
    // An output larger than its input.
    let many = Conv2d::builder()
        .input(1, 1, 1 << 10, 1 << 10)
        .filters(1 << 11)
        .kernel(1, 1)
        .build();
    assert!(matches!(
        many,
        Err(Error::TooLarge { what, .. }) if what.starts_with("the elements of one image")
    ));
    let filters = Conv2d::builder()
        .input(1, 1 << 16, 1, 1)
        .filters(1 << 15)
        .kernel(1, 1)
        .build();
    assert!(matches!(
        filters,
        Err(Error::TooLarge {
            what: "the elements of the filters",
            ..
        })
    ));
    // A slice counts with the tensor around it.
    let slice = Conv2d::builder()
        .input(1, 1, 1 << 10, 1 << 10)
        .filters(1)
        .kernel(1, 1)
        .output_slice(1 << 11, 0);
    assert!(matches!(
        slice.build(),
        Err(Error::TooLarge { what, .. }) if what.starts_with("the elements of one image")
    ));
}

#[test]
fn more_than_two_to_the_31_elements_in_all_are_fine() {
    let conv = Conv2d::builder()
        .input(1 << 12, 256, 56, 56)
        .filters(64)
        .kernel(1, 1)
        .build()
        .unwrap();
    assert_eq!(conv.input().len(), (256 * 56 * 56) << 12);
    assert_eq!(
        conv.input().index(4095, 255, 55, 55),
        conv.input().len() - 1
    );
    assert_eq!(conv.macs(), 4096 * 56 * 56 * 256 * 64);
    // Sizes are whole numbers: 2^24 + 1 does not become 2^24.
    let wide = Pool2d::builder()
        .input(1, 1, 1, 16_777_217)
        .kernel(1, 1)
        .build()
        .unwrap();
    assert_eq!(wide.output().w(), 16_777_217);
}

#[test]
fn slices_are_checked_and_kept() {
    let error = conv().output_slice(16, 9).build().unwrap_err();
    assert_eq!(
        error,
        Error::Slice {
            what: "output",
            channels: 8,
            pitch: 16,
            offset: 9
        }
    );
    assert_eq!(
        error.to_string(),
        "output: channels 9..17 do not lie in a tensor of 16 channels"
    );
    assert!(conv().input_slice(5, 0).build().is_err());
    assert!(conv().residual_slice(8, usize::MAX).build().is_err());
    let conv = conv()
        .input_slice(7, 1)
        .output_slice(16, 5)
        .residual_slice(9, 1)
        .build()
        .unwrap();
    for layout in Layout::ALL {
        let conv = conv.to_builder().layout(layout).build().unwrap();
        assert_eq!(
            (conv.input().channel_pitch(), conv.input().channel_offset()),
            (7, 1)
        );
        assert_eq!(
            (
                conv.output().channel_pitch(),
                conv.output().channel_offset()
            ),
            (16, 5)
        );
        let residual = conv.residual().unwrap();
        assert_eq!(
            (residual.channel_pitch(), residual.channel_offset()),
            (9, 1)
        );
        assert_eq!(conv.output().len(), 2 * 16 * 2 * 2);
    }
    let dense = TensorDesc::new([1, 4, 2, 2], Layout::Nhwc, DType::F32).unwrap();
    let relu = Relu::new(&dense, &dense.slice(9, 3).unwrap()).unwrap();
    assert_eq!(relu.output().len(), 36);
    let other = TensorDesc::new([1, 4, 2, 3], Layout::Nhwc, DType::F32).unwrap();
    assert!(matches!(
        Relu::new(relu.input(), &other),
        Err(Error::Shape { .. })
    ));
}

#[test]
fn math_and_alignment_go_with_the_type() {
    let plain = conv().build().unwrap();
    assert_eq!((plain.math(), plain.alignment()), (Math::Strict, 16));
    for math in [Math::Tf32, Math::Tf32x3] {
        let problem = plain.to_builder().math(math).build().unwrap();
        assert_eq!(problem.math(), math);
        for dtype in [DType::F16, DType::Bf16] {
            let error = problem.to_builder().dtype(dtype).build().unwrap_err();
            assert_eq!(error, Error::MathMode { math, dtype });
        }
    }
    let error = conv().dtype(DType::Bf16).math(Math::Tf32x3).build();
    assert_eq!(
        error.unwrap_err().to_string(),
        "tf32x3 is a way to multiply f32 numbers, the problem is in bf16"
    );
    for (dtype, bytes, valid) in [
        (DType::F16, 1, false),
        (DType::F16, 2, true),
        (DType::F32, 2, false),
        (DType::F32, 4, true),
        (DType::F32, 12, false),
        (DType::F32, 0, false),
        (DType::Bf16, 256, true),
        (DType::Bf16, 512, false),
        (DType::F32, usize::MAX, false),
    ] {
        let built = conv().dtype(dtype).alignment(bytes).build();
        match built {
            Ok(problem) => assert!(valid && problem.alignment() == bytes, "{bytes}"),
            Err(error) => {
                let element = dtype.size();
                let most = 256;
                let expected = Error::Alignment {
                    bytes,
                    element,
                    most,
                };
                assert!(!valid, "{bytes}");
                assert_eq!(error, expected);
            }
        }
    }
}

#[test]
fn packed_filters_have_a_pitch_of_16_bytes() {
    for (dtype, c, pitch) in [
        (DType::F32, 3, 4),
        (DType::F32, 63, 64),
        (DType::F32, 64, 64),
        (DType::F16, 3, 8),
        (DType::Bf16, 252, 256),
        (DType::Bf16, 256, 256),
    ] {
        let packed = Conv2d::builder()
            .input(1, 2 * c, 5, 5)
            .filters(6)
            .groups(2)
            .kernel(3, 2)
            .dtype(dtype)
            .filter_layout(FilterLayout::Packed)
            .build()
            .unwrap();
        assert_eq!(packed.filter().len(), 6 * 3 * 2 * pitch);
        assert_eq!(packed.filter().elements(), 6 * 3 * 2 * c);
        // The last weight is the last of the buffer, less the gap.
        let last = packed.filter().index(5, c - 1, 2, 1);
        assert_eq!(last + 1, packed.filter().len() - (pitch - c));
        let plain = packed
            .to_builder()
            .filter_layout(FilterLayout::Krsc)
            .build()
            .unwrap();
        assert_eq!(plain.filter().len(), plain.filter().elements());
        assert_eq!(plain.macs(), packed.macs());
        assert_eq!(plain.min_bytes(), packed.min_bytes());
    }
    // The gaps count where the limit is.
    let build = |layout| {
        Conv2d::builder()
            .input(1, 1, 1, 1)
            .filters(1 << 29)
            .kernel(1, 1)
            .filter_layout(layout)
            .build()
    };
    assert!(build(FilterLayout::Krsc).is_ok());
    let refused = build(FilterLayout::Packed);
    assert!(
        matches!(refused, Err(Error::TooLarge { value, .. }) if value == 1 << 31),
        "{refused:?}"
    );
}

#[test]
fn changes_are_checked_again() {
    let conv = conv()
        .padding(Padding {
            top: 0,
            bottom: 1,
            left: 2,
            right: 3,
        })
        .relu(true)
        .build()
        .unwrap();
    let other = conv
        .to_builder()
        .dtype(DType::Bf16)
        .build()
        .unwrap()
        .to_builder()
        .filter_layout(FilterLayout::Krsc)
        .build()
        .unwrap();
    assert_eq!(
        (other.input().dtype(), other.filter().layout),
        (DType::Bf16, FilterLayout::Krsc)
    );
    assert_eq!(
        (
            other.window().padding,
            other.relu(),
            other.output().h(),
            other.output().w()
        ),
        (conv.window().padding, true, 3, 7)
    );
    assert_eq!(conv.with_batch(1).unwrap().input().n(), 1);
    assert!(conv.with_batch(1 << 40).is_err());
    assert_eq!(conv.to_builder().build().unwrap(), conv);
    let fused = conv
        .to_builder()
        .bias(true)
        .residual(true)
        .relu(false)
        .build()
        .unwrap();
    assert!(fused.bias() && fused.residual().is_some() && !fused.relu());
}

#[test]
fn the_counts_of_the_bottleneck() {
    let naive = Conv2d::builder()
        .input(1, 252, 56, 56)
        .filters(252)
        .kernel(3, 3)
        .padding(Padding::same(1));
    let naive = naive.build().unwrap();
    assert_eq!(naive.macs() / (56 * 56), 571_536);
    assert_eq!(naive.filter().gemm_k(), 252 * 9);
    let layer = |c, k, r| {
        let conv = Conv2d::builder()
            .input(1, c, 56, 56)
            .filters(k)
            .kernel(r, r)
            .padding(Padding::same(r / 2));
        conv.build().unwrap().macs() / (56 * 56)
    };
    assert_eq!(
        layer(252, 63, 1) + layer(63, 63, 3) + layer(63, 252, 1),
        67_473
    );
    let fused = naive
        .to_builder()
        .bias(true)
        .residual(true)
        .relu(true)
        .build()
        .unwrap()
        .to_builder()
        .dtype(DType::F16)
        .build()
        .unwrap();
    assert_eq!(
        fused.min_bytes(),
        2 * (3 * 252 * 56 * 56 + 252 * 252 * 9 + 252)
    );
}
