//! Limits on the size of a case.

use warpconv::graph::Step;

use super::super::Selection;
use super::super::lower::{Shapes, work};

/// Factor on `--max-macs` for a layer of a case: cases are selected one by one, problems of shape
/// files are not.
const CASE_WORK: u64 = 1000;

/// Returns whether a case's tensors, intermediates included, or its work exceed the limits of the
/// options. Padding can make large tensors of small ones, so the size of a case's files bounds
/// neither.
pub(super) fn is_too_large<'a>(
    select: &Selection,
    mut steps: impl Iterator<Item = &'a Step>,
    shapes: &Shapes,
) -> bool {
    let elements = shapes.values().map(|shape| {
        let extents = shape.iter().map(|&extent| extent as u64);
        extents.fold(1, u64::saturating_mul)
    });
    let most_work = select.max_macs.saturating_mul(CASE_WORK);
    elements.fold(0, u64::saturating_add) > select.max_elements
        || steps.any(|step| work(step) > most_work)
}

/// Message for a case that is too large.
pub(super) fn too_large(select: &Selection) -> String {
    format!(
        "cases of more than {} elements in all tensors (--max-elements), or a layer of more than \
         {CASE_WORK} times {} \
         multiplications or elements of windows (--max-macs)",
        select.max_elements, select.max_macs
    )
}
