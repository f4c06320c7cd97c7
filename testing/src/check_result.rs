//! Check of a graph's results: each launch by itself, and the graph as a whole.

use super::compare::compare;
use super::graph_on_device::Operands;
use super::step::Reference;
use std::collections::HashMap;
use std::fmt;
use warpconv::error::Error;
use warpconv::graph::{Graph, PreparedGraph, Step, TensorId};
use warpconv::problem::TensorDesc;

/// Outcome of a graph's check.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckResult {
    /// Description of the failure, if any: the first wrong launch, with its first wrong element.
    pub failure: Option<String>,
    /// The largest difference of the graph's output from f64 arithmetic throughout, relative to the
    /// output's largest magnitude; NaN if the output contains one.
    pub max_rel_error: f64,
    /// Images that were compared.
    pub compared: usize,
    /// Images in total.
    pub images: usize,
}

impl fmt::Display for CheckResult {
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

/// Whole tensors by their id, dense NCHW.
pub(super) type Buffers = HashMap<TensorId, Vec<f64>>;

/// Compares every launch and the whole graph with the reference, given the device's tensors of the
/// `sample`'s images.
pub(super) fn compare_graph(
    prepared: &PreparedGraph,
    device: &Buffers,
    operands: &[Operands],
    sample: &[usize],
) -> Result<CheckResult, Error> {
    let graph = prepared.graph();
    // Tensors without any rounding; only the input is available at first.
    let mut exact: Buffers = device
        .iter()
        .map(|(&place, values)| match place {
            TensorId::Input => (place, values.clone()),
            _ => (place, vec![f64::NAN; values.len()]),
        })
        .collect();
    let mut failure = None;
    let mut operands = operands;
    for (node, launched) in graph.nodes().iter().zip(prepared.kernels()) {
        let count = node.step.weights().len();
        let (own, others) = operands.split_at_checked(count).unwrap_or_default();
        operands = others;
        let should = Reference::of(node, device, own, sample.len(), Some(launched))?;
        for (output, ((place, desc), should)) in node.writes().zip(&should).enumerate() {
            let got = slice(part(device, place), desc);
            let extents = [sample.len(), desc.c(), desc.h(), desc.w()];
            let tolerance = should.tolerance(&node.step, output, launched);
            if let Err(mismatch) = compare(&got, &should.values, extents, desc.dtype(), tolerance) {
                failure.get_or_insert(format!("{}: {mismatch}", node.name));
            }
        }
        // The graph's input is exact, so results computed directly from it need no second
        // reference.
        let from_input = node.reads().all(|(place, _)| place == TensorId::Input);
        let should = match &node.step {
            // The step rounds its intermediates.
            Step::Bottleneck(_) => Reference::of(node, &exact, own, sample.len(), None)?,
            _ if from_input => should,
            _ => Reference::of(node, &exact, own, sample.len(), None)?,
        };
        for ((place, desc), should) in node.writes().zip(should) {
            if let Some(whole) = exact.get_mut(&place) {
                paste(whole, &should.values, desc);
            }
        }
    }
    Ok(CheckResult {
        failure,
        max_rel_error: relative_error(
            part(device, TensorId::Output),
            part(&exact, TensorId::Output),
        ),
        compared: sample.len(),
        images: images(graph),
    })
}

/// Elements of a tensor.
pub(super) fn part(buffers: &Buffers, place: TensorId) -> &[f64] {
    buffers.get(&place).map_or(&[], Vec::as_slice)
}

/// Number of images of a graph's input.
fn images(graph: &Graph) -> usize {
    graph.input().map_or(0, TensorDesc::n)
}

/// Indices of the images that the reference can afford: all, or some between the first and the
/// last.
pub(super) fn sample(graph: &Graph, most_macs: u64) -> Vec<usize> {
    let images = images(graph);
    let per_image = (graph.macs() / images.max(1) as u64).max(1);
    let affordable = ((most_macs / per_image) as usize).max(2);
    if affordable >= images {
        return (0..images).collect();
    }
    (0..affordable)
        .map(|index| index * (images - 1) / (affordable - 1))
        .collect()
}

/// A tensor's own channels of its whole buffer, dense.
pub(super) fn slice(whole: &[f64], desc: &TensorDesc) -> Vec<f64> {
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
    use warpconv::kernels::{DType, Layout};
    use warpconv::ops::Bottleneck;

    #[test]
    fn slices_are_pasted_back() {
        let desc = TensorDesc::new([2, 2, 1, 1], Layout::Nhwc, DType::F32)
            .and_then(|desc| desc.slice(5, 2));
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
        let graph = |n, hw| {
            Bottleneck::main_job(n, hw, hw)
                .naive()
                .expect("a valid module")
        };
        let sample = |n, hw| sample(&graph(n, hw), 20_000_000_000);
        let images = sample(128, 56);
        assert_eq!((images.first(), images.last()), (Some(&0), Some(&127)));
        assert!(images.len() >= 2 && images.len() < 128);
        assert_eq!(sample(3, 7), [0, 1, 2]);
        assert!(sample(0, 7).is_empty());
    }
}
