//! The one output-size formula, and the limits of the kernels' arithmetic.

use crate::error::Error;

/// The largest number that the kernels' `int` arithmetic holds: every extent stays at or below it,
/// and of a convolution every span within one image and the number of output pixels. Poolings and
/// what keeps the extents count elements in 64 bits.
pub const MAX_INDEX: u64 = i32::MAX as u64;

/// One axis of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Axis {
    /// Elements of the input.
    pub input: usize,
    /// Taps of the window.
    pub window: usize,
    /// Elements between two windows.
    pub stride: usize,
    /// Elements between two taps; 1 is dense.
    pub dilation: usize,
    /// Padding before the first element.
    pub before: usize,
    /// Padding after the last element.
    pub after: usize,
}

impl Axis {
    /// Elements that the window spans: `(window - 1) * dilation + 1`. `window` is at least 1.
    pub fn effective(&self) -> u128 {
        (self.window as u128).saturating_sub(1) * self.dilation as u128 + 1
    }

    /// Elements of the input with its padding.
    pub fn padded(&self) -> u128 {
        self.input as u128 + self.before as u128 + self.after as u128
    }

    /// The number of outputs, or `None` where the window does not fit into the padded input. Stride
    /// and window are at least 1.
    ///
    /// Without `ceil` that is `floor((padded - effective) / stride) + 1`. With it the division
    /// rounds up, and the last window is dropped if it would start at or after the end of the
    /// input, that is, in the padding after it.
    pub fn outputs(&self, ceil: bool) -> Option<u128> {
        let room = self.padded().checked_sub(self.effective())?;
        let stride = (self.stride as u128).max(1);
        let mut outputs = if ceil {
            room.div_ceil(stride)
        } else {
            room / stride
        } + 1;
        if ceil && (outputs - 1) * stride >= self.input as u128 + self.before as u128 {
            outputs -= 1;
        }
        Some(outputs).filter(|&outputs| outputs > 0)
    }
}

/// The outputs of both axes (rows, columns), with everything that can be wrong about them as an
/// error.
pub(crate) fn outputs(rows: Axis, columns: Axis, ceil: bool) -> Result<[usize; 2], Error> {
    for axis in [&rows, &columns] {
        at_most("the padded input", axis.padded())?;
        at_most("the stride", axis.stride as u128)?;
        at_most("the dilation", axis.dilation as u128)?;
    }
    let too_large = || Error::WindowTooLarge {
        padded: [rows.padded(), columns.padded()],
        effective: [rows.effective(), columns.effective()],
    };
    let p = rows.outputs(ceil).ok_or_else(too_large)?;
    let q = columns.outputs(ceil).ok_or_else(too_large)?;
    // The padded input bounds the number of outputs, so both fit.
    Ok([p as usize, q as usize])
}

/// Fails unless `value` is at most [`MAX_INDEX`].
pub(crate) fn at_most(what: &'static str, value: u128) -> Result<(), Error> {
    if value > u128::from(MAX_INDEX) {
        return Err(Error::TooLarge {
            what,
            value,
            limit: MAX_INDEX,
        });
    }
    Ok(())
}

/// Fails if `value` is zero.
pub(crate) fn nonzero(what: &'static str, value: usize) -> Result<(), Error> {
    if value == 0 {
        return Err(Error::Zero { what });
    }
    Ok(())
}

/// The product of several extents, saturated.
pub(crate) fn product(factors: &[usize]) -> u128 {
    factors.iter().fold(1u128, |product, &factor| {
        product.saturating_mul(factor as u128)
    })
}

#[cfg(test)]
mod tests {
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
}
