//! Packing of dense tensors in logical order into buffers, and unpacking.

use super::convert::Stored;
use warpconv::error::Error;
use warpconv::problem::{Conv2d, TensorDesc};

/// The whole buffer of a tensor: `dense` (NCHW) rounded and laid out by `desc`, with `gap` in
/// the channels of the wider tensor that are not its own.
///
/// # Errors
/// [`Error::Length`] if `dense` does not have the tensor's elements.
pub fn pack<T: Stored>(desc: &TensorDesc, dense: &[f64], gap: T) -> Result<Vec<T>, Error> {
    expect("dense tensor", desc.elements(), dense.len())?;
    let mut buffer = vec![gap; desc.len()];
    let mut values = dense.iter();
    each_element(desc, |place| {
        if let Some(&value) = values.next() {
            buffer[place] = T::nearest(value);
        }
    });
    Ok(buffer)
}

/// The dense tensor (NCHW) that a whole buffer holds.
///
/// # Errors
/// [`Error::Length`] if `buffer` does not have the elements of the wider tensor.
pub fn unpack<T: Stored>(desc: &TensorDesc, buffer: &[T]) -> Result<Vec<f64>, Error> {
    expect("buffer", desc.len(), buffer.len())?;
    let mut dense = Vec::with_capacity(desc.elements());
    each_element(desc, |place| dense.push(buffer[place].value()));
    Ok(dense)
}

/// The filter buffer of a convolution from its dense filters (KCRS).
///
/// # Errors
/// [`Error::Length`] if `dense` does not have the filters' elements.
pub fn pack_filter<T: Stored>(conv: &Conv2d, dense: &[f64]) -> Result<Vec<T>, Error> {
    expect("filters", conv.filter().elements(), dense.len())?;
    let mut buffer = vec![T::nearest(0.0); conv.filter().len()];
    let taps = conv.filter().r * conv.filter().s;
    for (place, &value) in dense.iter().enumerate() {
        let (plane, tap) = (place / taps, place % taps);
        let (k, c) = (plane / conv.filter().c, plane % conv.filter().c);
        buffer[conv
            .filter()
            .index(k, c, tap / conv.filter().s, tap % conv.filter().s)] = T::nearest(value);
    }
    Ok(buffer)
}

/// Index of the first element outside the tensor's own channels that no longer holds `gap`.
pub fn disturbed_gap<T: Stored>(desc: &TensorDesc, buffer: &[T], gap: T) -> Option<usize> {
    if desc.is_dense() {
        return None;
    }
    let mut own = vec![false; desc.len()];
    each_element(desc, |place| own[place] = true);
    let disturbed = |(own, value): (&bool, &T)| !own && value.bits() != gap.bits();
    own.iter().zip(buffer).position(disturbed)
}

/// Visits the tensor's own elements in NCHW order, passing the index of each in the buffer.
pub(super) fn each_element(desc: &TensorDesc, mut visit: impl FnMut(usize)) {
    // The rows of a channel follow each other, as its columns do.
    let pixel = desc.index(0, 0, 0, 1) - desc.index(0, 0, 0, 0);
    for n in 0..desc.n() {
        for c in 0..desc.c() {
            let start = desc.index(n, c, 0, 0);
            for hw in 0..desc.h() * desc.w() {
                visit(start + hw * pixel);
            }
        }
    }
}

pub(crate) fn expect(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::Length {
            what,
            expected,
            got,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use warpconv::kernels::{DType, Layout};
    use warpconv::problem::FilterLayout;

    #[test]
    fn packing_is_undone_by_unpacking() {
        for layout in Layout::ALL {
            let desc = TensorDesc::new([2, 3, 2, 3], layout, DType::F32)
                .unwrap()
                .slice(7, 2)
                .unwrap();
            let dense: Vec<f64> = (0..desc.elements()).map(|i| i as f64).collect();
            let mut buffer = pack(&desc, &dense, f32::guard()).unwrap();
            assert_eq!(unpack(&desc, &buffer).unwrap(), dense);
            assert_eq!(
                buffer[desc.index(1, 2, 1, 0)].value(),
                dense[((3 + 2) * 2 + 1) * 3]
            );
            assert_eq!(
                buffer.iter().filter(|value| value.is_nan()).count(),
                2 * 4 * 6
            );
            assert_eq!(disturbed_gap(&desc, &buffer, f32::guard()), None);
            buffer[0] = 1.0;
            assert_eq!(disturbed_gap(&desc, &buffer, f32::guard()), Some(0));
        }
    }

    #[test]
    fn filters_are_permuted() {
        let conv: Conv2d = "g2mb1ic4ih3oc2kh2kw3ph0pw0iw3".parse().unwrap();
        let dense: Vec<f64> = (0..conv.filter().len()).map(|i| i as f64).collect();
        assert_eq!(
            pack_filter::<f32>(&conv, &dense).unwrap()[..3],
            [0.0, 1.0, 2.0]
        );
        let conv = conv
            .to_builder()
            .filter_layout(FilterLayout::Krsc)
            .build()
            .unwrap();
        assert_eq!(
            pack_filter::<f32>(&conv, &dense).unwrap()[..4],
            [0.0, 6.0, 1.0, 7.0]
        );
    }
}
