//! Output sizes of sliding windows.

use super::*;

fn axis(input: usize, window: usize, stride: usize, before: usize, after: usize) -> Axis {
    Axis {
        input,
        window,
        stride,
        dilation: 1,
        before,
        after,
    }
}

#[test]
fn floor_counts_whole_windows() {
    assert_eq!(axis(224, 7, 2, 3, 3).outputs(false), Some(112));
    assert_eq!(axis(227, 11, 4, 0, 0).outputs(false), Some(55));
    assert_eq!(axis(4, 5, 1, 0, 0).outputs(false), None);
    assert_eq!(axis(4, 5, 1, 0, 1).outputs(false), Some(1));
}

#[test]
fn ceil_drops_a_window_that_starts_in_the_padding() {
    assert_eq!(axis(112, 3, 2, 0, 0).outputs(true), Some(56));
    // 1x1 stride 2 on 2: rounding up gives 2 windows, the second would start at 2.
    assert_eq!(axis(2, 1, 2, 0, 0).outputs(true), Some(1));
    assert_eq!(axis(3, 2, 2, 1, 1).outputs(true), Some(2));
    assert_eq!(axis(4, 2, 2, 1, 1).outputs(true), Some(3));
    assert_eq!(axis(5, 2, 2, 1, 1).outputs(true), Some(3));
}

#[test]
fn sizes_are_never_rounded() {
    assert_eq!(
        axis(16_777_217, 1, 1, 0, 0).outputs(false),
        Some(16_777_217)
    );
}

#[test]
fn absurd_numbers_are_errors() {
    let padded = axis(8, 3, 1, 1 << 62, 1 << 62);
    assert!(matches!(
        outputs(padded, axis(8, 3, 1, 1, 1), false),
        Err(Error::TooLarge { what: "the padded input", value, .. }) if value == (1 << 63) + 8
    ));
    let wide = axis(8, 1 << 32, 1, 1, 1);
    assert_eq!(
        outputs(wide, axis(8, 3, 1, 1, 1), false),
        Err(Error::WindowTooLarge {
            padded: [10, 10],
            effective: [1 << 32, 3]
        })
    );
}
