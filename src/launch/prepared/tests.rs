//! Conditions under which two operands share memory.

use super::*;
use crate::kernels::Layout;

#[test]
fn spans_meet_where_they_share_a_byte() {
    let last = u64::MAX - 7;
    for (a, b, meet) in [
        ((100, 8), (108, 8), false),
        ((100, 8), (107, 8), true),
        ((108, 8), (100, 8), false),
        ((107, 8), (100, 8), true),
        ((100, 8), (104, 1), true),
        ((104, 1), (100, 8), true),
        ((100, 0), (100, 8), false),
        ((100, 8), (102, 0), false),
        ((last, 8), (0, 8), false),
        ((last, 8), (last + 2, 1), true),
    ] {
        let [one, other] =
            [("y", a), ("x", b)].map(|(name, (at, len))| Span::new(name, at, len, 1));
        assert_eq!(one.apart_from(&other).is_err(), meet, "{one:?} {other:?}");
    }
}

/// Channels 2 to 4 of twelve beside other channels of the same tensor, and beside tensors that are
/// not the same.
#[test]
fn slices_of_one_tensor_are_told_apart() {
    let slice = |[n, c, h, w]: [usize; 4], layout, dtype, pitch, offset| {
        let whole = TensorDesc::new([n, c, h, w], layout, dtype).expect("a valid tensor");
        whole.slice(pitch, offset).expect("a slice")
    };
    let (layout, dtype) = (Layout::Nhwc, DType::F16);
    let extents = [2, 3, 5, 7];
    let of = |c, pitch, offset| slice([2, c, 5, 7], layout, dtype, pitch, offset);
    let own = of(3, 12, 2);
    for (other, at, disjoint, same) in [
        (of(3, 12, 5), 64, true, false),
        (of(2, 12, 0), 64, true, false),
        (of(3, 12, 4), 64, false, false),
        (of(3, 12, 0), 64, false, false),
        (of(3, 12, 5), 66, false, false),
        (of(3, 12, 2), 64, false, true),
        (of(3, 12, 2), 62, false, false),
        (of(2, 12, 2), 64, false, false),
        (of(3, 13, 5), 64, false, false),
        (of(3, 13, 2), 64, false, false),
        (slice([3, 3, 5, 7], layout, dtype, 12, 5), 64, false, false),
        (slice([2, 3, 6, 7], layout, dtype, 12, 5), 64, false, false),
        (slice([2, 3, 5, 6], layout, dtype, 12, 5), 64, false, false),
        (slice(extents, Layout::Nchw, dtype, 12, 5), 64, false, false),
        (slice(extents, layout, DType::Bf16, 12, 5), 64, false, false),
    ] {
        let span = |address| Span::new("y", address, 840, 2);
        let (a, b) = (span(64), span(at));
        let pair = ((&a, &own), (&b, &other));
        assert_eq!(
            disjoint_slices(pair.0, pair.1),
            disjoint,
            "{other:?} at {at}"
        );
        assert_eq!(
            disjoint_slices(pair.1, pair.0),
            disjoint,
            "{other:?} at {at}"
        );
        assert_eq!(same_elements(pair.0, pair.1), same, "{other:?} at {at}");
    }
}
