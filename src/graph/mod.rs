//! A few layers, or a whole network, as launches one after the other; the branches of a
//! concatenation write their slices of it.

mod branches;
mod estimate;
mod fuse;
mod memory_plan;
mod prepared;
mod step;

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};

pub use estimate::GraphEstimate;
pub(crate) use fuse::choose;
pub use fuse::{Alternative, FuseOptions, FusePolicy, Fusion, FusionDecision, Pattern, Refused};
pub(crate) use memory_plan::MAX_TENSORS;
pub use prepared::{GraphBuffers, PreparedGraph, Weights};
pub use step::{Node, Step, TensorId};

use crate::device::Gpu;
use crate::error::Error;
use crate::kernels::DType;
use crate::launch::buffer::zeros;
use crate::launch::prepared::fitting;
use crate::launch::{Element, Workspace};
use crate::plan::{Limits, PeakRates, Roofline, Tuning};
use crate::problem::{Conv2d, TensorDesc};
use memory_plan::{Bindings, MemoryPlan};

/// Nodes in the order of their launches, the tensors between them, and the buffers of those.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    /// Elements of each intermediate tensor.
    tensors: Vec<usize>,
    memory: MemoryPlan,
    input_len: usize,
    output_len: usize,
    dtype: DType,
}

impl Graph {
    /// Checks the nodes, which launch in this order; each intermediate tensor has its own buffer.
    ///
    /// # Errors
    /// [`Error::Graph`] if a node's tensors do not fit its step, uses of one tensor differ in
    /// length or type, a tensor is read before it is written, a launch reads and writes the same
    /// tensor, or nothing writes the output.
    pub fn new(nodes: Vec<Node>, dtype: DType) -> Result<Graph, Error> {
        let mut lens = HashMap::new();
        for node in &nodes {
            check_node(node, dtype, &mut lens)?;
        }
        let whole = |reason: String| Error::Graph {
            node: String::from("the graph"),
            reason,
        };
        let count = lens
            .keys()
            .filter(|p| matches!(p, TensorId::Intermediate(_)))
            .count();
        let tensors = (0..count).map(|index| {
            let len = lens.get(&TensorId::Intermediate(index)).copied();
            len.ok_or_else(|| {
                whole(format!(
                    "intermediate tensor {index} of {count} is never written"
                ))
            })
        });
        let tensors = tensors.collect::<Result<Vec<usize>, Error>>()?;
        let output_len = lens.get(&TensorId::Output).copied();
        Ok(Graph {
            memory: MemoryPlan::own(&tensors),
            tensors,
            input_len: lens.get(&TensorId::Input).copied().unwrap_or(0),
            output_len: output_len
                .ok_or_else(|| whole(String::from("nothing is written to the output")))?,
            nodes,
            dtype,
        })
    }

    /// Lets intermediate tensors that never live at the same time share a buffer. After the last
    /// launch such a buffer holds only the tensor that was written last.
    pub fn sharing_buffers(self) -> Graph {
        let mut lives = vec![(usize::MAX, 0); self.tensors.len()];
        for (launch, node) in self.nodes.iter().enumerate() {
            let places = node.reads().chain(node.writes());
            for (place, _) in places {
                if let TensorId::Intermediate(tensor) = place {
                    let (first, last) = lives[tensor];
                    lives[tensor] = (first.min(launch), last.max(launch));
                }
            }
        }
        Graph {
            memory: MemoryPlan::shared(&self.tensors, &lives),
            ..self
        }
    }

    /// The launches, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The convolutions whose filters the launches take, in order: each needs a [`Weights`].
    pub fn weights(&self) -> Vec<Conv2d> {
        let nodes = self.nodes.iter();
        nodes.flat_map(|node| node.step.weights()).collect()
    }

    /// Elements of each intermediate buffer.
    pub fn intermediates(&self) -> &[usize] {
        &self.memory.len
    }

    /// Index of the buffer that an intermediate tensor lies in, from its start.
    pub fn buffer_of(&self, tensor: usize) -> Option<usize> {
        self.memory.of.get(tensor).copied()
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.output_len
    }

    /// Tensor of the input, as the first node that reads it has it.
    pub fn input(&self) -> Option<&TensorDesc> {
        let mut reads = self.nodes.iter().flat_map(Node::reads);
        reads
            .find(|(place, _)| *place == TensorId::Input)
            .map(|r| r.1)
    }

    /// Storage type of all tensors.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Number of nodes. Packing filters takes further launches, which [`PreparedGraph::launches`]
    /// counts.
    pub fn launches(&self) -> usize {
        self.nodes.len()
    }

    /// Multiply-adds of all launches.
    pub fn macs(&self) -> u64 {
        let macs = self.nodes.iter().map(Node::macs);
        macs.fold(0, u64::saturating_add)
    }

    /// Bytes that all launches move at least, each its operands once.
    pub fn min_bytes(&self) -> u64 {
        let bytes = self.nodes.iter().map(Node::min_bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// Least time on a card of these peak rates: the sum over the launches.
    pub fn roofline(&self, peak_rates: &PeakRates) -> Roofline {
        self.nodes
            .iter()
            .map(|node| peak_rates.bound(node.macs(), node.min_bytes()))
            .sum()
    }

    /// Plans every launch for the device and loads the kernels.
    ///
    /// # Errors
    /// As [`Plan::new`](crate::plan::Plan::new) and [`Gpu::prepare`].
    pub fn prepare(&self, gpu: &Gpu) -> Result<PreparedGraph, Error> {
        self.prepare_within(gpu, &Tuning::new(gpu.card()), &Limits::default())
    }

    /// Plans every launch within these limits, with the kernels that were measured to be fastest
    /// where measurements exist.
    ///
    /// # Errors
    /// As [`Graph::prepare`].
    pub(crate) fn prepare_within(
        &self,
        gpu: &Gpu,
        tuning: &Tuning,
        limits: &Limits,
    ) -> Result<PreparedGraph, Error> {
        self.prepare_each(gpu, tuning, |_| *limits)
    }

    /// Plans every launch with the kernels that were measured to be fastest where measurements
    /// exist, within limits per node: to force a kernel where it accepts, and leave the other nodes
    /// to their plans. [`Step::candidates_within`] lists the kernels of a
    /// node.
    ///
    /// # Errors
    /// As [`Graph::prepare`].
    pub fn prepare_each(
        &self,
        gpu: &Gpu,
        tuning: &Tuning,
        limits: impl Fn(&Node) -> Limits,
    ) -> Result<PreparedGraph, Error> {
        PreparedGraph::new(self, gpu, tuning, limits)
    }

    /// Plans every launch within limits, with the kernels that were measured to be fastest where
    /// measurements exist, and loads the kernels. Allocates a workspace for the launches if they
    /// need one. If the device has no memory for it, other plans are made within what is left:
    /// allocate everything else first.
    ///
    /// # Errors
    /// As [`Graph::prepare`] and [`Workspace::new`]; [`Error::NoWorkspace`].
    pub fn prepare_with_workspace(
        &self,
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        tuning: &Tuning,
        limits: &Limits,
    ) -> Result<(PreparedGraph, Option<Workspace>), Error> {
        let plan = |limits: &Limits| self.prepare_within(gpu, tuning, limits);
        fitting(stream, limits, plan, PreparedGraph::workspace_bytes)
    }

    /// Allocates the intermediate buffers.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Driver`] if earlier work in the context failed.
    pub fn allocate_intermediates<T: Element>(
        &self,
        stream: &Arc<CudaStream>,
    ) -> Result<Vec<CudaSlice<T>>, Error> {
        let intermediates = self.intermediates().iter();
        intermediates
            .map(|&len| zeros(stream, len, "allocating an intermediate buffer"))
            .collect()
    }

    /// Bindings of a node's tensors in the buffers of a launch.
    fn bindings(&self, node: &Node) -> Bindings {
        let binding = |place: &TensorId| self.memory.binding(*place, &self.tensors);
        Bindings {
            from: node.from.iter().map(binding).collect(),
            residual: node.residual.as_ref().map(binding),
            to: node.to.iter().map(binding).collect(),
        }
    }
}

/// Checks that a node keeps what [`Node`] promises, given the lengths of tensors in earlier nodes.
fn check_node(node: &Node, dtype: DType, lens: &mut HashMap<TensorId, usize>) -> Result<(), Error> {
    let wrong = |reason: String| Error::Graph {
        node: node.name.to_string(),
        reason,
    };
    let (inputs, outputs) = (node.step.inputs().len(), node.step.outputs().len());
    let fits = |what, places: usize, tensors: usize| {
        if places != tensors || places > MAX_TENSORS {
            return Err(wrong(format!(
                "{what} {places} places, the step has {tensors} (at most {MAX_TENSORS})"
            )));
        }
        Ok(())
    };
    fits("reads", node.from.len(), inputs)?;
    fits("writes", node.to.len(), outputs)?;
    if node.residual.is_some() != node.step.residual().is_some() {
        return Err(wrong(String::from(
            "a residual's place is given exactly if the step has one",
        )));
    }
    for (place, desc) in node.reads() {
        let known = match place {
            TensorId::Input => *lens.entry(place).or_insert(desc.len()),
            TensorId::Intermediate(_) => *lens
                .get(&place)
                .ok_or_else(|| wrong(format!("reads {place:?}, which nothing wrote before")))?,
            TensorId::Output => return Err(wrong(String::from("reads the output"))),
        };
        same(&wrong, place, known, desc, dtype)?;
    }
    for (place, desc) in node.writes() {
        if place == TensorId::Input {
            return Err(wrong(String::from("writes the input")));
        }
        if node.reads().any(|(read, _)| read == place) {
            return Err(wrong(format!("reads and writes {place:?}")));
        }
        let known = *lens.entry(place).or_insert(desc.len());
        same(&wrong, place, known, desc, dtype)?;
    }
    Ok(())
}

/// Checks whether a tensor has the length of its other uses, and the graph's type.
fn same(
    wrong: &dyn Fn(String) -> Error,
    place: TensorId,
    known: usize,
    desc: &TensorDesc,
    dtype: DType,
) -> Result<(), Error> {
    if known != desc.len() {
        let len = desc.len();
        return Err(wrong(format!(
            "a tensor of {len} elements at {place:?}, which has {known}"
        )));
    }
    if desc.dtype() != dtype {
        let (has, graph) = (desc.dtype().name(), dtype.name());
        return Err(wrong(format!("a tensor in {has}, the graph is in {graph}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Layout;
    use crate::problem::Relu;

    fn relu(n: usize) -> Step {
        Step::Relu(
            TensorDesc::new([n, 4, 2, 2], Layout::Nchw, DType::F32)
                .and_then(|x| Relu::new(&x, &x))
                .expect("a valid ReLU"),
        )
    }

    fn chain(places: &[(TensorId, TensorId)]) -> Result<Graph, Error> {
        let nodes = places
            .iter()
            .map(|&(from, to)| Node::new("relu", relu(1), from, to));
        Graph::new(nodes.collect(), DType::F32)
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        use TensorId::{Input, Intermediate, Output};
        assert!(chain(&[(Input, Intermediate(0)), (Intermediate(0), Output)]).is_ok());
        for wrong in [
            &[(Intermediate(0), Output)][..],
            &[(Input, Intermediate(0))],
            &[(Input, Intermediate(1)), (Intermediate(1), Output)],
            &[(Input, Output), (Output, Intermediate(0))],
            &[
                (Input, Intermediate(0)),
                (Intermediate(0), Intermediate(0)),
                (Intermediate(0), Output),
            ],
            &[(Input, Input), (Input, Output)],
        ] {
            let refused = chain(wrong);
            assert!(
                matches!(refused, Err(Error::Graph { .. })),
                "{wrong:?}: {refused:?}"
            );
        }
        let lengths = vec![
            Node::new("one image", relu(1), Input, Intermediate(0)),
            Node::new("two images", relu(2), Intermediate(0), Output),
        ];
        let refused = Graph::new(lengths, DType::F32).expect_err("different lengths");
        assert!(refused.to_string().starts_with("two images: "), "{refused}");
        assert!(Graph::new(vec![Node::new("f16", relu(1), Input, Output)], DType::F16).is_err());
        let residual = Node::new("relu", relu(1), Input, Output).with_residual(Input);
        assert!(Graph::new(vec![residual], DType::F32).is_err());
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        use TensorId::{Input, Intermediate, Output};
        let own = chain(&[
            (Input, Intermediate(0)),
            (Intermediate(0), Intermediate(1)),
            (Intermediate(1), Intermediate(2)),
            (Intermediate(2), Intermediate(3)),
            (Intermediate(3), Output),
        ])
        .expect("a chain");
        assert_eq!(own.intermediates(), [16; 4]);
        let shared = own.sharing_buffers();
        assert_eq!(shared.intermediates(), [16; 2]);
        let buffers: Vec<_> = (0..4).map(|tensor| shared.buffer_of(tensor)).collect();
        assert_eq!(buffers, [Some(0), Some(1), Some(0), Some(1)]);
    }
}
