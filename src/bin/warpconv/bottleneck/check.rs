//! Whether a module computed what it should: each launch by itself, and the module as a whole.

use std::collections::HashMap;
use std::fmt;

use warpconv::check::{Stored, Tolerance, compare};
use warpconv::ops::{Module, Node, Place, Step};
use warpconv::problem::TensorDesc;
use warpconv::reference;

use super::run::{Loaded, Operands};
use crate::exit::Failure;

/// Multiplications that the f64 reference may take for one variant; beyond, it looks at some images of the batch.
const REFERENCE_MACS: u64 = 20_000_000_000;

/// What the check found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What is wrong, if anything.
    pub failure: Option<String>,
    /// The largest difference of the module's output from f64 arithmetic throughout, relative to the output's largest
    /// magnitude.
    pub max_rel_error: Option<f64>,
    /// Images compared, and images there are.
    pub images: (usize, usize),
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (compared, all) = self.images;
        match (&self.failure, self.max_rel_error) {
            (Some(_), _) => f.write_str("FAILED")?,
            (None, Some(error)) => write!(f, "ok, error {error:.1e}")?,
            (None, None) => f.write_str("ok")?,
        }
        if compared < all {
            write!(f, " ({compared} of {all} images)")
        } else {
            Ok(())
        }
    }
}

/// Whole buffers by their place, dense NCHW.
type Buffers = HashMap<Place, Vec<f64>>;

/// Compares every launch with the f64 reference of what it was given, within the bound that rounding its sums can
/// cost, and the module's output with f64 arithmetic throughout.
pub fn check<T: Stored>(loaded: &Loaded<T>) -> Result<Verdict, Failure> {
    let module = loaded.module();
    let all = module.nodes().first().map_or(0, |node| node.input().n());
    let images = sample(module, all);
    let (mut device, mut exact) = (Buffers::new(), Buffers::new());
    for node in module.nodes() {
        for (place, desc) in [(node.from, node.input()), (node.to, node.output())] {
            if !device.contains_key(&place) {
                let values = loaded.download(place, desc, &images)?;
                // What the device would hold if it never rounded: filled in launch by launch.
                let unknown = if place == Place::Input {
                    values.clone()
                } else {
                    vec![f64::NAN; values.len()]
                };
                exact.insert(place, unknown);
                device.insert(place, values);
            }
        }
    }
    let mut failure = None;
    let mut operands = loaded.operands.iter();
    for node in module.nodes() {
        let operands = matches!(node.step, Step::Conv(_))
            .then(|| operands.next())
            .flatten();
        let should = Reference::of(node, part(&device, node.from), operands, images.len())?;
        let got = slice(part(&device, node.to), node.output());
        let output = node.output();
        let extents = [images.len(), output.c(), output.h(), output.w()];
        if let Err(mismatch) = compare(&got, &should.values, extents, T::DTYPE, should.tolerance())
        {
            failure.get_or_insert(format!("{}: {mismatch}", node.name));
        }
        // The module's input is exact, so that what is made of it need not be computed twice.
        let values = match node.from {
            Place::Input => should.values,
            from => Reference::of(node, part(&exact, from), operands, images.len())?.values,
        };
        if let Some(whole) = exact.get_mut(&node.to) {
            paste(whole, &values, output);
        }
    }
    let max_rel_error = relative_error(part(&device, Place::Output), part(&exact, Place::Output));
    Ok(Verdict {
        failure,
        max_rel_error: Some(max_rel_error),
        images: (images.len(), all),
    })
}

/// A buffer's values.
fn part(buffers: &Buffers, place: Place) -> &[f64] {
    buffers.get(&place).map_or(&[], Vec::as_slice)
}

/// The images that the reference can afford: all, or some from the first to the last.
fn sample(module: &Module, images: usize) -> Vec<usize> {
    let per_image = (module.macs() / images.max(1) as u64).max(1);
    let affordable = ((REFERENCE_MACS / per_image) as usize).max(2);
    if affordable >= images {
        return (0..images).collect();
    }
    (0..affordable)
        .map(|index| index * (images - 1) / (affordable - 1))
        .collect()
}

/// What a launch should have made.
struct Reference {
    values: Vec<f64>,
    /// Sums of magnitudes and the length of the sums; a maximum has none and is exact.
    magnitudes: Option<(Vec<f64>, usize)>,
}

impl Reference {
    /// The result of a launch for `n` images.
    fn of(
        node: &Node,
        x: &[f64],
        operands: Option<&Operands>,
        n: usize,
    ) -> Result<Reference, Failure> {
        match (&node.step, operands) {
            (Step::Conv(conv), Some(Operands { w, bias })) => {
                let conv = conv.with_batch(n).map_err(Failure::input)?;
                let values =
                    reference::conv2d(&conv, x, w, Some(bias), None).map_err(Failure::input)?;
                let abs =
                    reference::conv2d_abs(&conv, x, w, Some(bias), None).map_err(Failure::input)?;
                Ok(Reference {
                    values,
                    magnitudes: Some((abs, conv.gemm_k())),
                })
            }
            (Step::Pool(pool), _) => {
                let pool = pool.with_batch(n).map_err(Failure::input)?;
                let (values, _) = reference::pool2d(&pool, x).map_err(Failure::input)?;
                Ok(Reference {
                    values,
                    magnitudes: None,
                })
            }
            (Step::Conv(conv), None) => Err(Failure::Input(format!("{conv} has no filters"))),
        }
    }

    /// How near a result must be.
    fn tolerance(&self) -> Tolerance<'_> {
        match &self.magnitudes {
            Some((magnitudes, terms)) => Tolerance::Sum {
                terms: *terms,
                magnitudes,
            },
            None => Tolerance::Exact,
        }
    }
}

/// A tensor's own channels of its whole buffer, dense.
fn slice(whole: &[f64], desc: &TensorDesc) -> Vec<f64> {
    let plane = desc.h() * desc.w();
    let (first, end) = (desc.channel_offset(), desc.channel_offset() + desc.c());
    let images = whole.chunks(desc.channel_pitch() * plane);
    images
        .flat_map(|image| &image[first * plane..end * plane])
        .copied()
        .collect()
}

/// Writes a tensor's own channels into its whole buffer, dense.
fn paste(whole: &mut [f64], values: &[f64], desc: &TensorDesc) {
    let plane = desc.h() * desc.w();
    let (first, end) = (desc.channel_offset(), desc.channel_offset() + desc.c());
    for (image, values) in whole
        .chunks_mut(desc.channel_pitch() * plane)
        .zip(values.chunks(desc.c() * plane))
    {
        image[first * plane..end * plane].copy_from_slice(values);
    }
}

/// The largest difference, relative to the largest magnitude; NaN if anything is NaN.
fn relative_error(got: &[f64], exact: &[f64]) -> f64 {
    let scale = exact
        .iter()
        .fold(0.0f64, |scale, value| scale.max(value.abs()));
    let errors = got
        .iter()
        .zip(exact)
        .map(|(got, exact)| (got - exact).abs());
    // `max` would drop a NaN.
    let worst = errors.fold(0.0f64, |worst, error| {
        if error > worst || error.is_nan() {
            error
        } else {
            worst
        }
    });
    if worst == 0.0 { 0.0 } else { worst / scale }
}

#[cfg(test)]
mod tests {
    use super::super::variants::{Size, VARIANTS};
    use super::*;
    use warpconv::{DType, Layout};

    #[test]
    fn slices_are_pasted_back() {
        let desc =
            TensorDesc::new(2, 2, 1, 1, Layout::Nhwc, DType::F32).and_then(|desc| desc.slice(5, 2));
        let desc = desc.expect("a valid slice");
        let mut whole = vec![0.0; 2 * 5];
        paste(&mut whole, &[1.0, 2.0, 3.0, 4.0], &desc);
        assert_eq!(whole, [0.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 3.0, 4.0, 0.0]);
        assert_eq!(slice(&whole, &desc), [1.0, 2.0, 3.0, 4.0]);
    }

    #[test]
    fn a_nan_is_no_small_error() {
        assert_eq!(relative_error(&[1.0, 4.5], &[1.0, 5.0]), 0.1);
        assert!(relative_error(&[f64::NAN, 5.0], &[1.0, 5.0]).is_nan());
        assert!(relative_error(&[1.0, f64::NAN, 1.0], &[1.0, 5.0, 1.0]).is_nan());
    }

    #[test]
    fn large_batches_are_sampled_from_end_to_end() {
        let module = |n, hw| {
            let size = Size {
                n,
                hw,
                dtype: DType::F32,
                layout: Layout::Nchw,
            };
            VARIANTS[0].at(size).expect("a valid module")
        };
        let images = sample(&module(128, 56), 128);
        assert_eq!((images.first(), images.last()), (Some(&0), Some(&127)));
        assert!(images.len() >= 2 && images.len() < 128);
        assert_eq!(sample(&module(3, 7), 3), [0, 1, 2]);
        assert!(sample(&module(0, 7), 0).is_empty());
    }
}
