//! A few layers, or a whole network, as launches one after the other; the branches of a
//! concatenation write their slices of it.

mod branches;
mod expected;
mod places;
mod prepared;
mod step;

use std::collections::HashMap;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};

pub use expected::Expected;
pub use places::MOST_PLACES;
pub use prepared::{ModuleBuffers, PreparedModule, Weights};
pub use step::{Node, Place, Step};

use super::memory::{fitting, zeros};
use crate::catalog::DType;
use crate::error::Error;
use crate::gpu::Gpu;
use crate::launch::{Element, Workspace};
use crate::plan::{Ceilings, Limits, Roofline, Tuning};
use crate::problem::{Conv2d, TensorDesc};
use places::{Rooms, Seats};

/// A module: its launches in order, the tensors between them and the buffers that these lie in.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    nodes: Vec<Node>,
    /// Elements of each hidden tensor.
    tensors: Vec<usize>,
    rooms: Rooms,
    input_len: usize,
    output_len: usize,
    dtype: DType,
}

impl Module {
    /// A module of these launches, in this order; each hidden tensor has a buffer of its own.
    ///
    /// # Errors
    /// [`Error::Module`] if a node's places do not fit its step, tensors of one place differ in
    /// length or in type, a place is read before anything was written there, or read and written by
    /// the same launch, or nothing writes the output.
    pub fn new(nodes: Vec<Node>, dtype: DType) -> Result<Module, Error> {
        let mut lens = HashMap::new();
        for node in &nodes {
            check_node(node, dtype, &mut lens)?;
        }
        let whole = |reason: String| Error::Module {
            node: String::from("the module"),
            reason,
        };
        let count = lens
            .keys()
            .filter(|p| matches!(p, Place::Hidden(_)))
            .count();
        let tensors = (0..count).map(|index| {
            let len = lens.get(&Place::Hidden(index)).copied();
            len.ok_or_else(|| whole(format!("hidden tensor {index} of {count} is never written")))
        });
        let tensors = tensors.collect::<Result<Vec<usize>, Error>>()?;
        let output_len = lens.get(&Place::Output).copied();
        Ok(Module {
            rooms: Rooms::own(&tensors),
            tensors,
            input_len: lens.get(&Place::Input).copied().unwrap_or(0),
            output_len: output_len
                .ok_or_else(|| whole(String::from("nothing is written to the output")))?,
            nodes,
            dtype,
        })
    }

    /// The same with hidden tensors that are never needed at the same time in one buffer. Planned
    /// here, once; what is between launches can then not be looked at after the last one.
    pub fn sharing_buffers(self) -> Module {
        let mut lives = vec![(usize::MAX, 0); self.tensors.len()];
        for (launch, node) in self.nodes.iter().enumerate() {
            let places = node.reads().chain(node.writes());
            for (place, _) in places {
                if let Place::Hidden(tensor) = place {
                    let (first, last) = lives[tensor];
                    lives[tensor] = (first.min(launch), last.max(launch));
                }
            }
        }
        Module {
            rooms: Rooms::shared(&self.tensors, &lives),
            ..self
        }
    }

    /// Whether hidden tensors share buffers.
    pub fn shares_buffers(&self) -> bool {
        self.rooms.len.len() < self.tensors.len()
    }

    /// The launches, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The convolutions whose filters the launches take, in order: each wants a [`Weights`].
    pub fn weights(&self) -> Vec<Conv2d> {
        let nodes = self.nodes.iter();
        nodes.flat_map(|node| node.step.weights()).collect()
    }

    /// Elements of each buffer between launches.
    pub fn hidden(&self) -> &[usize] {
        &self.rooms.len
    }

    /// The buffer that a hidden tensor lies in, from its start.
    pub fn buffer_of(&self, tensor: usize) -> Option<usize> {
        self.rooms.of.get(tensor).copied()
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.output_len
    }

    /// The tensor that the input is, whole: the first that is read there.
    pub fn input(&self) -> Option<&TensorDesc> {
        let mut reads = self.nodes.iter().flat_map(Node::reads);
        reads.find(|(place, _)| *place == Place::Input).map(|r| r.1)
    }

    /// How everything is stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Operations that are launched one after the other; a plan may bring filters into order by a
    /// launch of its own before one of them: [`PreparedModule::launches`] counts those too.
    pub fn launches(&self) -> usize {
        self.nodes.len()
    }

    /// Multiplications of all launches.
    pub fn macs(&self) -> u64 {
        let macs = self.nodes.iter().map(Node::macs);
        macs.fold(0, u64::saturating_add)
    }

    /// Bytes that all launches move at least, each its operands once.
    pub fn min_bytes(&self) -> u64 {
        let bytes = self.nodes.iter().map(Node::min_bytes);
        bytes.fold(0, u64::saturating_add)
    }

    /// The least time on a card of these ceilings: the sum of the launches' own.
    pub fn roofline(&self, ceilings: &Ceilings) -> Roofline {
        self.nodes
            .iter()
            .map(|node| ceilings.bound(node.macs(), node.min_bytes()))
            .sum()
    }

    /// Plans every launch for the device and loads the kernels.
    ///
    /// # Errors
    /// As [`ConvPlan::new`](crate::plan::Plan::new) and [`Gpu::prepare_conv`].
    pub fn prepare(&self, gpu: &Gpu) -> Result<PreparedModule, Error> {
        self.prepare_tuned(gpu, &Tuning::new(gpu.card()))
    }

    /// As [`Module::prepare`], with the kernels that were fastest where somebody measured.
    ///
    /// # Errors
    /// As [`Module::prepare`].
    pub fn prepare_tuned(&self, gpu: &Gpu, tuning: &Tuning) -> Result<PreparedModule, Error> {
        self.prepare_within(gpu, tuning, &Limits::default())
    }

    /// As [`Module::prepare_tuned`], with every plan within these limits.
    ///
    /// # Errors
    /// As [`Module::prepare`].
    pub fn prepare_within(
        &self,
        gpu: &Gpu,
        tuning: &Tuning,
        limits: &Limits,
    ) -> Result<PreparedModule, Error> {
        PreparedModule::new(self, gpu, tuning, limits)
    }

    /// As [`Module::prepare_within`], with a workspace for the launches if they need one. If the
    /// device has no memory for it, other plans are made within what is left: allocate everything
    /// else first.
    ///
    /// # Errors
    /// As [`Module::prepare`] and [`Workspace::new`]; [`Error::NoWorkspace`].
    pub fn prepare_with_workspace(
        &self,
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        tuning: &Tuning,
        limits: &Limits,
    ) -> Result<(PreparedModule, Option<Workspace>), Error> {
        let plan = |limits: &Limits| self.prepare_within(gpu, tuning, limits);
        fitting(stream, limits, plan, PreparedModule::workspace_bytes)
    }

    /// New buffers for what lies between the launches.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Driver`] if earlier work in the context failed.
    pub fn allocate_hidden<T: Element>(
        &self,
        stream: &Arc<CudaStream>,
    ) -> Result<Vec<CudaSlice<T>>, Error> {
        let hidden = self.hidden().iter();
        hidden
            .map(|&len| zeros(stream, len, "allocating a hidden buffer"))
            .collect()
    }

    /// Where a node's places are in the buffers of a launch.
    fn seats(&self, node: &Node) -> Seats {
        let seat = |place: &Place| self.rooms.seat(*place, &self.tensors);
        Seats {
            from: node.from.iter().map(seat).collect(),
            residual: node.residual.as_ref().map(seat),
            to: node.to.iter().map(seat).collect(),
        }
    }
}

/// Holds a node to what [`Node`] promises, given the lengths of the places that earlier nodes used.
fn check_node(node: &Node, dtype: DType, lens: &mut HashMap<Place, usize>) -> Result<(), Error> {
    let wrong = |reason: String| Error::Module {
        node: node.name.to_string(),
        reason,
    };
    let (inputs, outputs) = (node.step.inputs().len(), node.step.outputs().len());
    let fits = |what, places: usize, tensors: usize| {
        if places != tensors || places > MOST_PLACES {
            return Err(wrong(format!(
                "{what} {places} places, the step has {tensors} (at most {MOST_PLACES})"
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
            Place::Input => *lens.entry(place).or_insert(desc.len()),
            Place::Hidden(_) => *lens
                .get(&place)
                .ok_or_else(|| wrong(format!("reads {place:?}, which nothing wrote before")))?,
            Place::Output => return Err(wrong(String::from("reads the output"))),
        };
        same(&wrong, place, known, desc, dtype)?;
    }
    for (place, desc) in node.writes() {
        if place == Place::Input {
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

/// Whether a tensor is as long as what else lies at its place, and of the module's type.
fn same(
    wrong: &dyn Fn(String) -> Error,
    place: Place,
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
        let (has, module) = (desc.dtype().name(), dtype.name());
        return Err(wrong(format!(
            "a tensor in {has}, the module is in {module}"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Layout;
    use crate::problem::Relu;

    fn relu(n: usize) -> Step {
        Step::Relu(Relu::new(n, 4, 2, 2, Layout::Nchw, DType::F32).expect("a valid ReLU"))
    }

    fn chain(places: &[(Place, Place)]) -> Result<Module, Error> {
        let nodes = places
            .iter()
            .map(|&(from, to)| Node::new("relu", relu(1), from, to));
        Module::new(nodes.collect(), DType::F32)
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        use Place::{Hidden, Input, Output};
        assert!(chain(&[(Input, Hidden(0)), (Hidden(0), Output)]).is_ok());
        for wrong in [
            &[(Hidden(0), Output)][..],
            &[(Input, Hidden(0))],
            &[(Input, Hidden(1)), (Hidden(1), Output)],
            &[(Input, Output), (Output, Hidden(0))],
            &[
                (Input, Hidden(0)),
                (Hidden(0), Hidden(0)),
                (Hidden(0), Output),
            ],
            &[(Input, Input), (Input, Output)],
        ] {
            let refused = chain(wrong);
            assert!(
                matches!(refused, Err(Error::Module { .. })),
                "{wrong:?}: {refused:?}"
            );
        }
        let lengths = vec![
            Node::new("one image", relu(1), Input, Hidden(0)),
            Node::new("two images", relu(2), Hidden(0), Output),
        ];
        let refused = Module::new(lengths, DType::F32).expect_err("different lengths");
        assert!(refused.to_string().starts_with("two images: "), "{refused}");
        assert!(Module::new(vec![Node::new("f16", relu(1), Input, Output)], DType::F16).is_err());
        let residual = Node::new("relu", relu(1), Input, Output).with_residual(Input);
        assert!(Module::new(vec![residual], DType::F32).is_err());
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        use Place::{Hidden, Input, Output};
        let own = chain(&[
            (Input, Hidden(0)),
            (Hidden(0), Hidden(1)),
            (Hidden(1), Hidden(2)),
            (Hidden(2), Hidden(3)),
            (Hidden(3), Output),
        ])
        .expect("a chain");
        assert_eq!((own.hidden(), own.shares_buffers()), (&[16; 4][..], false));
        let shared = own.sharing_buffers();
        assert_eq!(
            (shared.hidden(), shared.shares_buffers()),
            (&[16; 2][..], true)
        );
        let buffers: Vec<_> = (0..4).map(|tensor| shared.buffer_of(tensor)).collect();
        assert_eq!(buffers, [Some(0), Some(1), Some(0), Some(1)]);
    }
}
