//! One pass of a graph between guard regions: every launch is examined before the next one.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};

use super::convert::{Stored, with_stored};
use super::graph_on_device::Operands;
use super::guard::{Guarded, GuardedWorkspace, Guards};
use super::pack::{each_element, expect, pack, pack_filter, unpack};
use super::run::RunError;
use warpconv::device::Gpu;
use warpconv::error::Error;
use warpconv::graph::{Graph, GraphBuffers, Node, PreparedGraph, TensorId, Weights};
use warpconv::problem::{Conv2d, TensorDesc};

/// Runs a prepared graph, and returns its whole output in dense NCHW order. `x` is dense NCHW;
/// `operands` has one entry per entry of [`Graph::weights`]. All are rounded to the storage type.
///
/// Tensors between the launches and the output are filled with NaN first, and every buffer lies
/// between guards. After each launch its own channels must be written, and nothing else in the
/// buffers that it reads or writes may have changed. The input, filters and biases are compared
/// once, after the last launch.
///
/// Intermediate tensors share buffers. In a buffer that held another tensor before, an element that
/// is not written keeps the old value: only a comparison of the output can find it.
///
/// # Errors
/// [`RunError`] if a launch fails, changes what is not its own, or leaves part of its output
/// unwritten; the error names the node. [`Error::Length`] if the number of operands differs from
/// the graph's.
pub fn run_graph(
    gpu: &Gpu,
    prepared: &PreparedGraph,
    x: &[f64],
    operands: &[Operands],
) -> Result<Vec<f64>, RunError> {
    run_graph_with_guards(gpu, prepared, Guards::of(gpu), x, operands)
}

/// [`run_graph`] with given guards.
///
/// # Errors
/// As [`run_graph`].
pub fn run_graph_with_guards(
    gpu: &Gpu,
    prepared: &PreparedGraph,
    guards: Guards,
    x: &[f64],
    operands: &[Operands],
) -> Result<Vec<f64>, RunError> {
    with_stored!(prepared.graph().dtype(), T => run::<T>(gpu, prepared, guards, x, operands))
}

fn run<T: Stored>(
    gpu: &Gpu,
    prepared: &PreparedGraph,
    guards: Guards,
    x: &[f64],
    operands: &[Operands],
) -> Result<Vec<f64>, RunError> {
    let graph = prepared.graph();
    let x = match graph.input() {
        Some(input) => pack(input, x, T::guard())?,
        None => Vec::new(),
    };
    let x = Guarded::upload(gpu, "x", guards, x)?;
    let weights = upload::<T>(gpu, guards, &graph.weights(), operands)?;
    let mut workspace = GuardedWorkspace::new(gpu, guards, prepared.workspace_bytes())?;
    let mut watch = Watch::<T>::new(gpu, guards, graph)?;
    let mut between = Aliases::of(gpu.stream(), watch.between.iter().map(|one| &one.memory));
    let mut y = Aliases::of(gpu.stream(), [&watch.y.memory]);

    let views: Vec<_> = weights
        .iter()
        .map(|(w, bias)| (w.view(), bias.as_ref().map(Guarded::view)))
        .collect();
    let views: Vec<Weights<'_, T>> = views
        .iter()
        .map(|(w, bias)| Weights {
            w,
            bias: bias.as_ref().map(|bias| bias as _),
        })
        .collect();
    let x_view = x.view();
    let buffers = GraphBuffers {
        x: &x_view,
        weights: &views,
        intermediates: &mut between.0,
        y: &mut y.0[0],
        workspace: workspace.as_mut().map(|workspace| &mut workspace.inner),
    };
    let mut found = None;
    prepared.launch_each(gpu.stream(), buffers, |launch, _| {
        gpu.synchronize()?;
        if found.is_none() {
            found = watch.examine(gpu, graph, &graph.nodes()[launch]).err();
        }
        Ok(())
    })?;
    if let Some(error) = found {
        return Err(error);
    }
    for input in weights
        .iter()
        .flat_map(|(w, bias)| [Some(w), bias.as_ref()])
    {
        input.map_or(Ok(()), |input| input.expect_untouched(gpu))?;
    }
    x.expect_untouched(gpu)?;
    if let Some(workspace) = &workspace {
        workspace.expect_ready(gpu)?;
    }
    watch.finish(gpu, graph)
}

/// Buffer with the content that the launches so far left in it.
struct Watched<T> {
    memory: Guarded<T>,
    content: Vec<T>,
}

impl<T: Stored> Watched<T> {
    fn new(gpu: &Gpu, name: &'static str, guards: Guards, len: usize) -> Result<Self, Error> {
        let content = vec![T::poison(); len];
        Ok(Watched {
            memory: Guarded::upload(gpu, name, guards, content.clone())?,
            content,
        })
    }

    /// Fails if an element other than those of `own` changed, or one of those is poison.
    fn examine(&mut self, gpu: &Gpu, own: &[&TensorDesc]) -> Result<(), RunError> {
        let now = self.memory.download(gpu)?;
        changes(self.memory.name(), &self.content, &now, own)?;
        self.content = now;
        Ok(())
    }
}

/// Fails if an element other than those of `own` changed, or one of those is poison.
fn changes<T: Stored>(
    buffer: &'static str,
    before: &[T],
    now: &[T],
    own: &[&TensorDesc],
) -> Result<(), RunError> {
    let mut is_own = vec![false; now.len()];
    for desc in own {
        each_element(desc, |index| is_own[index] = true);
    }
    for (index, (value, before)) in now.iter().zip(before).enumerate() {
        if is_own[index] && value.bits() == T::poison().bits() {
            return Err(RunError::Unwritten { buffer, index });
        }
        if !is_own[index] && value.bits() != before.bits() {
            return Err(match own {
                [] => RunError::Input { buffer, index },
                _ => RunError::Gap { buffer, index },
            });
        }
    }
    Ok(())
}

/// Buffers that the launches of a graph write.
struct Watch<T> {
    between: Vec<Watched<T>>,
    y: Watched<T>,
}

impl<T: Stored> Watch<T> {
    fn new(gpu: &Gpu, guards: Guards, graph: &Graph) -> Result<Self, Error> {
        let between = graph.intermediates().iter();
        Ok(Watch {
            between: between
                .map(|&len| Watched::new(gpu, "an intermediate tensor", guards, len))
                .collect::<Result<_, _>>()?,
            y: Watched::new(gpu, "y", guards, graph.output_len())?,
        })
    }

    /// Examines the buffers that a node just read and wrote.
    fn examine(&mut self, gpu: &Gpu, graph: &Graph, node: &Node) -> Result<(), RunError> {
        let named = |error| RunError::Node {
            node: node.name.to_string(),
            error: Box::new(error),
        };
        let mut examined = Vec::new();
        for (tensor, _) in node.writes().chain(node.reads()) {
            if examined.contains(&tensor) {
                continue;
            }
            examined.push(tensor);
            let own = node.writes().filter(|(written, _)| *written == tensor);
            let own: Vec<&TensorDesc> = own.map(|(_, desc)| desc).collect();
            let buffer = match tensor {
                TensorId::Input => None,
                TensorId::Output => Some(&mut self.y),
                TensorId::Intermediate(index) => graph
                    .buffer_of(index)
                    .and_then(|buffer| self.between.get_mut(buffer)),
            };
            buffer.map_or(Ok(()), |buffer| buffer.examine(gpu, &own).map_err(named))?;
        }
        Ok(())
    }

    /// Compares all buffers with what their last launches left, and returns the output.
    fn finish(mut self, gpu: &Gpu, graph: &Graph) -> Result<Vec<f64>, RunError> {
        for buffer in &mut self.between {
            buffer.examine(gpu, &[])?;
        }
        self.y.examine(gpu, &[])?;
        let mut writes = graph.nodes().iter().flat_map(Node::writes);
        let Some((_, desc)) = writes.find(|(tensor, _)| *tensor == TensorId::Output) else {
            return Ok(Vec::new());
        };
        let (n, pitch, h, w) = (desc.n(), desc.channel_pitch(), desc.h(), desc.w());
        let whole = TensorDesc::new([n, pitch, h, w], desc.layout(), desc.dtype())?;
        Ok(unpack(&whole, &self.y.content)?)
    }
}

/// Slices of memory that other buffers own: a launch takes slices, and the guards around them are
/// read between launches.
struct Aliases<T>(Vec<CudaSlice<T>>);

impl<T: Stored> Aliases<T> {
    fn of<'a>(
        stream: &Arc<CudaStream>,
        owners: impl IntoIterator<Item = &'a Guarded<T>>,
    ) -> Aliases<T>
    where
        T: 'a,
    {
        let alias = |owner: &Guarded<T>| {
            let (address, len) = owner.place(stream);
            // SAFETY: the owner's memory holds `len` elements from the address on. Its owner lives
            // longer than the launches, which are all queued in this stream. The alias is leaked,
            // never freed.
            unsafe { stream.upgrade_device_ptr::<T>(address, len) }
        };
        Aliases(owners.into_iter().map(alias).collect())
    }
}

impl<T> Drop for Aliases<T> {
    fn drop(&mut self) {
        for alias in self.0.drain(..) {
            alias.leak();
        }
    }
}

/// A guarded buffer of filters, and of the bias if there is one.
type Loaded<T> = (Guarded<T>, Option<Guarded<T>>);

fn upload<T: Stored>(
    gpu: &Gpu,
    guards: Guards,
    convs: &[Conv2d],
    operands: &[Operands],
) -> Result<Vec<Loaded<T>>, Error> {
    expect("the weights of a graph", convs.len(), operands.len())?;
    let loaded = convs.iter().zip(operands).map(|(conv, operands)| {
        let w = pack_filter::<T>(conv, &operands.w)?;
        let bias = operands.bias.as_ref().map(|bias| {
            let bias = bias.iter().map(|&value| T::nearest(value)).collect();
            Guarded::upload(gpu, "bias", guards, bias)
        });
        Ok((Guarded::upload(gpu, "w", guards, w)?, bias.transpose()?))
    });
    loaded.collect()
}

#[cfg(test)]
mod tests {
    use warpconv::problem::{DType, Layout};

    use super::*;

    #[test]
    fn only_the_own_channels_of_a_launch_may_change() {
        let slice = |offset| {
            let desc = TensorDesc::new([1, 2, 1, 1], Layout::Nhwc, DType::F32);
            desc.and_then(|desc| desc.slice(5, offset))
                .expect("a slice")
        };
        let (first, second) = (slice(0), slice(3));
        let poison = <f32 as Stored>::poison();
        let before = [1.0, 2.0, poison, poison, poison];
        let check = |now: &[f32], own: &[&TensorDesc]| changes("y", &before, now, own);
        assert_eq!(check(&before, &[]), Ok(()));
        assert_eq!(check(&[1.0, 2.0, poison, 3.0, 4.0], &[&second]), Ok(()));
        let buffer = "y";
        for (now, own, index) in [
            ([1.0, 2.0, 9.0, 3.0, 4.0], &second, 2),
            ([1.0, 9.0, poison, 3.0, 4.0], &second, 1),
            ([3.0, 4.0, poison, poison, 5.0], &first, 4),
        ] {
            assert_eq!(check(&now, &[own]), Err(RunError::Gap { buffer, index }));
        }
        let half = [1.0, 2.0, poison, 3.0, poison];
        let index = 4;
        let unwritten = RunError::Unwritten { buffer, index };
        assert_eq!(check(&half, &[&second]), Err(unwritten));
        let index = 0;
        let read = [9.0, 2.0, poison, poison, poison];
        assert_eq!(check(&read, &[]), Err(RunError::Input { buffer, index }));
    }
}
