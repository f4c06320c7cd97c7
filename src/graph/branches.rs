//! Several convolutions as one step of a graph.

use std::array::from_fn;

use cudarc::driver::CudaStream;

use super::MAX_TENSORS;
use super::memory_plan::Operands;
use super::step::TensorId;
use crate::error::Error;
use crate::launch::{BranchesBuffers, Element, Prepared};
use crate::plan::Plan;
use crate::problem::Branches;

/// Several convolutions in one launch, and the output buffer of each.
#[derive(Clone, Debug)]
pub(crate) struct LoadedBranches {
    prepared: Prepared<Branches>,
    y_of: Vec<usize>,
}

impl LoadedBranches {
    /// Takes the tensors `to` of the outputs; equal ones are one buffer.
    pub(super) fn new(prepared: Prepared<Branches>, to: &[TensorId]) -> LoadedBranches {
        let mut different = Vec::new();
        let each = to.iter().map(|place| {
            let known = different.iter().position(|known| known == place);
            known.unwrap_or_else(|| {
                different.push(*place);
                different.len() - 1
            })
        });
        LoadedBranches {
            y_of: each.collect(),
            prepared,
        }
    }

    /// The plan.
    pub(crate) fn plan(&self) -> &Plan<Branches> {
        self.prepared.plan()
    }

    /// Launches the kernel on the operands' buffers.
    pub(super) fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        operands: Operands<'_, T>,
    ) -> Result<(), Error> {
        let missing = |buffer| Error::MissingBuffer { buffer };
        let Operands {
            from,
            mut to,
            weights,
            workspace,
            ..
        } = operands;
        let reads = self.plan().problem().inputs().count();
        let first = weights.first().ok_or(missing("filter"))?;
        let x = from[0].as_ref().ok_or(missing("input"))?.buffer();
        let x: [_; MAX_TENSORS] = from_fn(|i| from[i].as_ref().map_or(x, |read| read.buffer()));
        let of = |i: usize| weights.get(i).unwrap_or(first);
        let w: [_; MAX_TENSORS] = from_fn(|i| of(i).w);
        let bias: [_; MAX_TENSORS] = from_fn(|i| of(i).bias);
        let mut written = to
            .iter_mut()
            .filter_map(|write| Some(write.as_mut()?.buffer()));
        let y: [_; MAX_TENSORS] = from_fn(|_| written.next());
        let count = self.y_of.len();
        self.prepared.launch(
            stream,
            BranchesBuffers {
                x: &x[..reads],
                w: &w[..count],
                bias: &bias[..count],
                y,
                y_of: &self.y_of,
                workspace,
            },
        )
    }
}
