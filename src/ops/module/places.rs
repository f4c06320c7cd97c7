//! From the places of a node to the buffers that one launch of it takes, without allocating.

use cudarc::driver::{CudaSlice, CudaView, CudaViewMut};

use super::prepared::Weights;
use super::step::Place;
use crate::error::Error;
use crate::launch::{DeviceBuffer, DeviceBufferMut, Workspace};

/// The most tensors that a step reads, and the most that it writes; the residual is apart.
pub const MOST_PLACES: usize = 8;

/// A buffer that a step reads.
pub(super) enum Read<'a, T> {
    Given(&'a dyn DeviceBuffer<T>),
    Hidden(CudaView<'a, T>),
}

impl<T> Read<'_, T> {
    pub(super) fn buffer(&self) -> &dyn DeviceBuffer<T> {
        match self {
            Read::Given(buffer) => *buffer,
            Read::Hidden(view) => view,
        }
    }
}

/// A buffer that a step writes.
pub(super) enum Write<'a, T> {
    Given(&'a mut dyn DeviceBufferMut<T>),
    Hidden(CudaViewMut<'a, T>),
}

impl<T> Write<'_, T> {
    pub(super) fn buffer(&mut self) -> &mut dyn DeviceBufferMut<T> {
        match self {
            Write::Given(buffer) => *buffer,
            Write::Hidden(view) => view,
        }
    }
}

/// What one launch takes.
pub(super) struct Operands<'a, T> {
    /// What is read, in the order of the node's `from`.
    pub from: [Option<Read<'a, T>>; MOST_PLACES],
    /// The residual, if the step has one.
    pub residual: Option<Read<'a, T>>,
    /// What is written, in the order of the node's `to`. `None` where an earlier output of the node
    /// has the same place: it is the same buffer.
    pub to: [Option<Write<'a, T>>; MOST_PLACES],
    /// As many as [`Step::weights`](super::Step::weights) says.
    pub weights: &'a [Weights<'a, T>],
    /// What the launch may compute in.
    pub workspace: Option<&'a mut Workspace>,
}

/// A place as a launch finds it: the number of its buffer, and how much of that the tensor takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seat {
    Input,
    Hidden { buffer: usize, len: usize },
    Output,
}

/// The seats of a node.
#[derive(Clone, Debug, Default)]
pub(super) struct Seats {
    pub from: Vec<Seat>,
    pub residual: Option<Seat>,
    pub to: Vec<Seat>,
}

/// The buffers that all launches share.
pub(super) struct Shared<'a, T> {
    pub x: &'a dyn DeviceBuffer<T>,
    pub hidden: &'a mut [CudaSlice<T>],
    pub y: &'a mut dyn DeviceBufferMut<T>,
}

impl<'a, T> Operands<'a, T> {
    /// Deals the buffers out.
    pub(super) fn new(
        seats: &Seats,
        shared: Shared<'a, T>,
        weights: &'a [Weights<'a, T>],
        workspace: Option<&'a mut Workspace>,
    ) -> Result<Operands<'a, T>, Error> {
        let Shared { x, hidden, y } = shared;
        let mut operands = Operands {
            from: [const { None }; MOST_PLACES],
            residual: None,
            to: [const { None }; MOST_PLACES],
            weights,
            workspace,
        };
        for (seat, room) in seats.from.iter().zip(&mut operands.from) {
            if *seat == Seat::Input {
                *room = Some(Read::Given(x));
            }
        }
        if seats.residual == Some(Seat::Input) {
            operands.residual = Some(Read::Given(x));
        }
        if let Some(index) = seats.to.iter().position(|seat| *seat == Seat::Output)
            && let Some(room) = operands.to.get_mut(index)
        {
            *room = Some(Write::Given(y));
        }
        for (index, buffer) in hidden.iter_mut().enumerate() {
            operands.deal(seats, index, buffer)?;
        }
        Ok(operands)
    }

    /// Puts a hidden buffer where it is written or read; no buffer is both.
    fn deal(
        &mut self,
        seats: &Seats,
        index: usize,
        slice: &'a mut CudaSlice<T>,
    ) -> Result<(), Error> {
        let here = |seat: &Seat| match *seat {
            Seat::Hidden { buffer, len } if buffer == index => Some(len),
            _ => None,
        };
        let got = slice.len();
        let short = |expected| Error::Length {
            what: "a hidden buffer of a module",
            expected,
            got,
        };
        let written = seats.to.iter().enumerate();
        if let Some((at, len)) = written.filter_map(|(at, s)| Some((at, here(s)?))).next() {
            let view = slice.try_slice_mut(..len).ok_or(short(len))?;
            if let Some(room) = self.to.get_mut(at) {
                *room = Some(Write::Hidden(view));
            }
            return Ok(());
        }
        let slice: &'a CudaSlice<T> = slice;
        let view = |len: usize| slice.try_slice(..len).ok_or(short(len)).map(Read::Hidden);
        for (seat, room) in seats.from.iter().zip(&mut self.from) {
            if let Some(len) = here(seat) {
                *room = Some(view(len)?);
            }
        }
        if let Some(len) = seats.residual.as_ref().and_then(here) {
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

/// How a module's hidden tensors lie in buffers.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rooms {
    /// The buffer of each tensor.
    pub of: Vec<usize>,
    /// Elements of each buffer.
    pub len: Vec<usize>,
}

impl Rooms {
    /// A buffer for each tensor.
    pub(super) fn own(tensors: &[usize]) -> Rooms {
        Rooms {
            of: (0..tensors.len()).collect(),
            len: tensors.to_vec(),
        }
    }

    /// Tensors that are never needed at the same time share a buffer. `lives` has the first and the
    /// last launch of each. The longest tensors choose first, so that no buffer is longer than the
    /// longest tensor in it.
    pub(super) fn shared(tensors: &[usize], lives: &[(usize, usize)]) -> Rooms {
        let mut order: Vec<usize> = (0..tensors.len()).collect();
        order.sort_by_key(|&tensor| std::cmp::Reverse(tensors[tensor]));
        let mut rooms = Rooms {
            of: vec![0; tensors.len()],
            len: Vec::new(),
        };
        let mut tenants: Vec<Vec<(usize, usize)>> = Vec::new();
        for tensor in order {
            let life = lives[tensor];
            let free = |room: &Vec<(usize, usize)>| {
                room.iter()
                    .all(|other| other.1 < life.0 || life.1 < other.0)
            };
            let room = tenants.iter().position(free).unwrap_or_else(|| {
                tenants.push(Vec::new());
                rooms.len.push(tensors[tensor]);
                tenants.len() - 1
            });
            tenants[room].push(life);
            rooms.of[tensor] = room;
        }
        rooms
    }

    /// Where a place is.
    pub(super) fn seat(&self, place: Place, tensors: &[usize]) -> Seat {
        match place {
            Place::Input => Seat::Input,
            Place::Output => Seat::Output,
            Place::Hidden(tensor) => Seat::Hidden {
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
        let rooms = Rooms::shared(&lens, &lives);
        assert_eq!(rooms.len, [30, 20, 10]);
        for (a, (first, last)) in lives.iter().enumerate() {
            assert!(rooms.len[rooms.of[a]] >= lens[a]);
            for (b, other) in lives.iter().enumerate().skip(a + 1) {
                let apart = other.0 > *last || *first > other.1;
                assert!(apart || rooms.of[a] != rooms.of[b], "{a} and {b}");
            }
        }
        assert_eq!(Rooms::own(&lens).len, lens);
    }
}
