//! Strides and slices of tensors.

use super::*;

#[test]
fn strides_offset_and_index_agree() {
    for layout in Layout::ALL {
        let desc = TensorDesc::new([2, 3, 4, 5], layout, DType::F16)
            .unwrap()
            .slice(11, 6)
            .unwrap();
        let TensorStrides {
            image,
            channel,
            pixel,
        } = desc.strides();
        assert_eq!(desc.len(), 2 * 11 * 4 * 5);
        assert_eq!(desc.elements(), 2 * 3 * 4 * 5);
        let at = desc.offset() as i64 + image + 2 * channel + (3 * 5 + 4) * pixel;
        assert_eq!(desc.index(1, 2, 3, 4) as i64, at);
    }
}

#[test]
fn slices_must_lie_inside() {
    let desc = TensorDesc::new([1, 3, 2, 2], Layout::Nchw, DType::F32).unwrap();
    for (pitch, offset) in [(2, 0), (4, 2), (8, usize::MAX)] {
        let error = desc.slice(pitch, offset).unwrap_err();
        assert_eq!(
            error,
            Error::Slice {
                what: "tensor",
                channels: 3,
                pitch,
                offset
            }
        );
    }
    assert_eq!(
        desc.slice(4, 2).unwrap_err().to_string(),
        "tensor: channels 2..5 do not lie in a tensor of 4 channels"
    );
}

#[test]
fn a_convolution_s_image_has_less_than_two_to_the_31_elements() {
    let build = |c, h, w| TensorDesc::new([3, c, h, w], Layout::Nhwc, DType::F16);
    let convolvable = |c, h, w| build(c, h, w).and_then(TensorDesc::convolvable);
    assert!(convolvable(1, 46340, 46341).is_ok());
    assert!(build(1, 1 << 16, 1 << 15).is_ok());
    assert!(matches!(
        convolvable(1, 1 << 16, 1 << 15),
        Err(Error::TooLarge { value, .. }) if value == 1 << 31
    ));
    assert!(matches!(build(1, 1 << 31, 1), Err(Error::TooLarge { .. })));
    assert!(matches!(
        build(usize::MAX, usize::MAX, usize::MAX),
        Err(Error::TooLarge { .. })
    ));
    // The whole tensor may be larger.
    assert!(TensorDesc::new([1 << 20, 1 << 10, 64, 64], Layout::Nchw, DType::F16).is_ok());
}
