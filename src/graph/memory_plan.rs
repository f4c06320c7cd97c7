//! From the tensors of a node to the buffers of its launch, without allocating.

use cudarc::driver::{CudaSlice, CudaView, CudaViewMut};

use super::prepared::Weights;
use super::step::TensorId;
use crate::error::Error;
use crate::launch::{DeviceBuffer, DeviceBufferMut, Workspace};

/// The most tensors that a step reads, and the most that it writes; the residual is apart.
pub(crate) const MAX_TENSORS: usize = 8;

/// A buffer that a step reads.
pub(super) enum Read<'a, T> {
    Given(&'a dyn DeviceBuffer<T>),
    Intermediate(CudaView<'a, T>),
}

impl<T> Read<'_, T> {
    pub(super) fn buffer(&self) -> &dyn DeviceBuffer<T> {
        match self {
            Read::Given(buffer) => *buffer,
            Read::Intermediate(view) => view,
        }
    }
}

/// A buffer that a step writes.
pub(super) enum Write<'a, T> {
    Given(&'a mut dyn DeviceBufferMut<T>),
    Intermediate(CudaViewMut<'a, T>),
}

impl<T> Write<'_, T> {
    pub(super) fn buffer(&mut self) -> &mut dyn DeviceBufferMut<T> {
        match self {
            Write::Given(buffer) => *buffer,
            Write::Intermediate(view) => view,
        }
    }
}

/// Operands of one launch.
pub(super) struct Operands<'a, T> {
    /// Tensors read, in the order of the node's `from`.
    pub from: [Option<Read<'a, T>>; MAX_TENSORS],
    /// The residual, if the step has one.
    pub residual: Option<Read<'a, T>>,
    /// Tensors written, in the order of the node's `to`. `None` where an earlier output of the node
    /// is the same tensor: it is the same buffer.
    pub to: [Option<Write<'a, T>>; MAX_TENSORS],
    /// As many as [`Step::weights`](super::Step::weights) returns.
    pub weights: &'a [Weights<'a, T>],
    /// Workspace of the launch.
    pub workspace: Option<&'a mut Workspace>,
}

/// Tensor as a launch finds it: its buffer, and how much of that it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    Input,
    Intermediate { buffer: usize, len: usize },
    Output,
}

/// The bindings of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Bindings {
    pub from: Vec<Binding>,
    pub residual: Option<Binding>,
    pub to: Vec<Binding>,
}

/// The buffers that all launches share.
pub(super) struct Shared<'a, T> {
    pub x: &'a dyn DeviceBuffer<T>,
    pub intermediates: &'a mut [CudaSlice<T>],
    pub y: &'a mut dyn DeviceBufferMut<T>,
}

impl<'a, T> Operands<'a, T> {
    /// Finds the buffer of each operand.
    pub(super) fn new(
        bindings: &Bindings,
        shared: Shared<'a, T>,
        weights: &'a [Weights<'a, T>],
        workspace: Option<&'a mut Workspace>,
    ) -> Result<Operands<'a, T>, Error> {
        let Shared {
            x,
            intermediates,
            y,
        } = shared;
        let mut operands = Operands {
            from: [const { None }; MAX_TENSORS],
            residual: None,
            to: [const { None }; MAX_TENSORS],
            weights,
            workspace,
        };
        for (binding, room) in bindings.from.iter().zip(&mut operands.from) {
            if *binding == Binding::Input {
                *room = Some(Read::Given(x));
            }
        }
        if bindings.residual == Some(Binding::Input) {
            operands.residual = Some(Read::Given(x));
        }
        if let Some(index) = bindings
            .to
            .iter()
            .position(|binding| *binding == Binding::Output)
            && let Some(room) = operands.to.get_mut(index)
        {
            *room = Some(Write::Given(y));
        }
        for (index, buffer) in intermediates.iter_mut().enumerate() {
            operands.bind(bindings, index, buffer)?;
        }
        Ok(operands)
    }

    /// Puts an intermediate buffer where it is written or read; no buffer is both.
    fn bind(
        &mut self,
        bindings: &Bindings,
        index: usize,
        slice: &'a mut CudaSlice<T>,
    ) -> Result<(), Error> {
        let here = |binding: &Binding| match *binding {
            Binding::Intermediate { buffer, len } if buffer == index => Some(len),
            _ => None,
        };
        let got = slice.len();
        let short = |expected| Error::Length {
            what: "an intermediate buffer of a graph",
            expected,
            got,
        };
        let written = bindings.to.iter().enumerate();
        if let Some((at, len)) = written.filter_map(|(at, s)| Some((at, here(s)?))).next() {
            let view = slice.try_slice_mut(..len).ok_or(short(len))?;
            if let Some(room) = self.to.get_mut(at) {
                *room = Some(Write::Intermediate(view));
            }
            return Ok(());
        }
        let slice: &'a CudaSlice<T> = slice;
        let view = |len: usize| {
            slice
                .try_slice(..len)
                .ok_or(short(len))
                .map(Read::Intermediate)
        };
        for (binding, room) in bindings.from.iter().zip(&mut self.from) {
            if let Some(len) = here(binding) {
                *room = Some(view(len)?);
            }
        }
        if let Some(len) = bindings.residual.as_ref().and_then(here) {
            self.residual = Some(view(len)?);
        }
        Ok(())
    }

    /// Input, residual and output of a step that reads one tensor and writes one.
    pub(super) fn single(&mut self) -> Result<Single<'_, T>, Error> {
        let missing = |buffer| Error::MissingBuffer { buffer };
        let x = self.from[0].as_ref().ok_or(missing("input"))?;
        let y = self.to[0].as_mut().ok_or(missing("output"))?;
        Ok(Single {
            x: x.buffer(),
            residual: self.residual.as_ref().map(Read::buffer),
            y: y.buffer(),
            workspace: self.workspace.as_deref_mut(),
        })
    }
}

/// The operands of a step that reads one tensor and writes one.
pub(super) struct Single<'a, T> {
    pub x: &'a dyn DeviceBuffer<T>,
    pub residual: Option<&'a dyn DeviceBuffer<T>>,
    pub y: &'a mut dyn DeviceBufferMut<T>,
    pub workspace: Option<&'a mut Workspace>,
}

/// Memory plan: the buffers of a graph's intermediate tensors.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct MemoryPlan {
    /// The buffer of each tensor.
    pub of: Vec<usize>,
    /// Elements of each buffer.
    pub len: Vec<usize>,
}

impl MemoryPlan {
    /// Gives each tensor a buffer of its own.
    pub(super) fn own(tensors: &[usize]) -> MemoryPlan {
        MemoryPlan {
            of: (0..tensors.len()).collect(),
            len: tensors.to_vec(),
        }
    }

    /// Lets tensors that never live at the same time share a buffer. `lives` has the first and the
    /// last launch of each. The longest tensors choose first, so that no buffer is longer than the
    /// longest tensor in it.
    pub(super) fn shared(tensors: &[usize], lives: &[(usize, usize)]) -> MemoryPlan {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&tensor| std::cmp::Reverse(tensors[tensor]));
        let mut memory = MemoryPlan {
            of: vec![0; tensors.len()],
            len: Vec::new(),
        };
        let mut live_ranges: Vec<Vec<(usize, usize)>> = Vec::new();
        for tensor in order {
            let life = lives[tensor];
            let free = |room: &Vec<(usize, usize)>| {
                room.iter()
                    .all(|other| other.1 < life.0 || life.1 < other.0)
            };
            let room = live_ranges.iter().position(free).unwrap_or_else(|| {
                live_ranges.push(Vec::new());
                memory.len.push(tensors[tensor]);
                live_ranges.len() - 1
            });
            live_ranges[room].push(life);
            memory.of[tensor] = room;
        }
        memory
    }

    /// Binding of a tensor.
    pub(super) fn binding(&self, place: TensorId, tensors: &[usize]) -> Binding {
        match place {
            TensorId::Input => Binding::Input,
            TensorId::Output => Binding::Output,
            TensorId::Intermediate(tensor) => Binding::Intermediate {
                buffer: self.of.get(tensor).copied().unwrap_or(usize::MAX),
                len: tensors.get(tensor).copied().unwrap_or(0),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_share_a_buffer_only_if_they_do_not_meet() {
        // A chain of four with a residual from the first to the third launch.
        let lens = [10, 30, 20, 10];
        let lives = [(0, 2), (1, 2), (2, 3), (3, 4)];
        let memory = MemoryPlan::shared(&lens, &lives);
        assert_eq!(memory.len, [30, 20, 10]);
        for (a, (first, last)) in lives.iter().enumerate() {
            assert!(memory.len[memory.of[a]] >= lens[a]);
            for (b, other) in lives.iter().enumerate().skip(a + 1) {
                let apart = other.0 > *last || *first > other.1;
                assert!(apart || memory.of[a] != memory.of[b], "{a} and {b}");
            }
        }
        assert_eq!(MemoryPlan::own(&lens).len, lens);
    }
}
