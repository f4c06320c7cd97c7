//! Whether a module computed what it should: each launch by itself, and the module as a whole.

use super::compare::{Tolerance, compare};
use super::module::{LoadedModule, Operands};
use super::stored::Stored;
use crate::error::Error;
use crate::ops::{Module, Node, Place, Step};
use crate::problem::TensorDesc;
use crate::reference;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;

/// What the check of a module found.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// What is wrong, if anything: the first launch, with its first wrong element.
    pub failure: Option<String>,
    /// The largest difference of the module's output from f64 arithmetic throughout, relative to the output's largest
    /// magnitude; NaN if the output has one.
    pub max_rel_error: f64,
    /// Images that were compared.
    pub compared: usize,
    /// Images that there are.
    pub images: usize,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            Some(_) => f.write_str("FAILED")?,
            None => write!(f, "ok, error {:.1e}", self.max_rel_error)?,
        }
        if self.compared < self.images {
            write!(f, " ({} of {} images)", self.compared, self.images)?;
        }
        Ok(())
    }
}

/// Whole buffers by their place, dense NCHW.
type Buffers = HashMap<Place, Vec<f64>>;

/// Compares every launch and the whole.
pub(super) fn judge<T: Stored>(
    loaded: &LoadedModule<T>,
    operands: &[Operands],
    most_macs: u64,
) -> Result<Verdict, Error> {
    let module = loaded.module();
    let images = module.nodes().first().map_or(0, |node| node.input().n());
    let sample = sample(module, images, most_macs);
    let (device, mut exact) = buffers(loaded, &sample)?;
    let mut failure = None;
    let mut operands = operands.iter();
    for node in module.nodes() {
        let operands = matches!(node.step, Step::Conv(_))
            .then(|| operands.next())
            .flatten();
        let input = part(&device, Place::Input);
        let should = Reference::of(
            node,
            part(&device, node.from),
            input,
            operands,
            sample.len(),
        )?;
        let output = node.output();
        let got = slice(part(&device, node.to), output);
        let extents = [sample.len(), output.c(), output.h(), output.w()];
        if let Err(mismatch) = compare(&got, &should.values, extents, T::DTYPE, should.tolerance())
        {
            failure.get_or_insert(format!("{}: {mismatch}", node.name));
        }
        // The module's input is exact, so that what is made of it need not be computed twice.
        let values = match node.from {
            Place::Input => should.values,
            from => Reference::of(node, part(&exact, from), input, operands, sample.len())?.values,
        };
        if let Some(whole) = exact.get_mut(&node.to) {
            paste(whole, &values, output);
        }
    }
    let max_rel_error = relative_error(part(&device, Place::Output), part(&exact, Place::Output));
    Ok(Verdict {
        failure,
        max_rel_error,
        compared: sample.len(),
        images,
    })
}

/// What the device holds; and room for what it would hold if it never rounded, of which the input is known.
fn buffers<T: Stored>(
    loaded: &LoadedModule<T>,
    sample: &[usize],
) -> Result<(Buffers, Buffers), Error> {
    let (mut device, mut exact) = (Buffers::new(), Buffers::new());
    for node in loaded.module().nodes() {
        for (place, desc) in [(node.from, node.input()), (node.to, node.output())] {
            if let Entry::Vacant(room) = device.entry(place) {
                let values = loaded.download(place, desc, sample)?;
                let unknown = vec![f64::NAN; values.len()];
                exact.insert(
                    place,
                    if place == Place::Input {
                        values.clone()
                    } else {
                        unknown
                    },
                );
                room.insert(values);
            }
        }
    }
    Ok((device, exact))
}

/// A buffer's values.
fn part(buffers: &Buffers, place: Place) -> &[f64] {
    buffers.get(&place).map_or(&[], Vec::as_slice)
}

/// The images that the reference can afford: all, or some from the first to the last.
fn sample(module: &Module, images: usize, most_macs: u64) -> Vec<usize> {
    let per_image = (module.macs() / images.max(1) as u64).max(1);
    let affordable = ((most_macs / per_image) as usize).max(2);
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
        module_input: &[f64],
        operands: Option<&Operands>,
        n: usize,
    ) -> Result<Reference, Error> {
        match &node.step {
            Step::Conv(conv) => {
                let conv = conv.with_batch(n)?;
                let (w, bias) = operands.map_or((&[][..], None), |o| (&o.w[..], o.bias.as_deref()));
                let residual = conv.residual().map(|_| module_input);
                let values = reference::conv2d(&conv, x, w, bias, residual)?;
                let magnitudes = reference::conv2d_abs(&conv, x, w, bias, residual)?;
                Ok(Reference {
                    values,
                    magnitudes: Some((magnitudes, conv.gemm_k())),
                })
            }
            Step::Pool(pool) => {
                let (values, _) = reference::pool2d(&pool.with_batch(n)?, x)?;
                Ok(Reference {
                    values,
                    magnitudes: None,
                })
            }
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
    use super::*;
    use crate::catalog::{DType, Layout};
    use crate::ops::Bottleneck;

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
            Bottleneck::main_job(n, hw, hw)
                .naive()
                .expect("a valid module")
        };
        let sample = |n, hw| sample(&module(n, hw), n, 20_000_000_000);
        let images = sample(128, 56);
        assert_eq!((images.first(), images.last()), (Some(&0), Some(&127)));
        assert!(images.len() >= 2 && images.len() < 128);
        assert_eq!(sample(3, 7), [0, 1, 2]);
        assert!(sample(0, 7).is_empty());
    }
}
