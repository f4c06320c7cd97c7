//! A graph planned for a device, and its launch, which allocates nothing.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};

use super::branches::LoadedBranches;
use super::memory_plan::{Bindings, Operands, Shared};
use super::{Graph, Node, Step};
use crate::device::Gpu;
use crate::error::Error;
use crate::kernels::Kernel;
use crate::launch::prepared::workspace;
use crate::launch::{
    BottleneckBuffers, ConvBuffers, DeviceBuffer, DeviceBufferMut, Element, Launch, PoolBuffers,
    Prepared, SubsampleBuffers, UnaryBuffers, Workspace,
};
use crate::plan::{Limits, Plan, Tuning};
use crate::problem::{Bottleneck2d, Conv2d, Lrn, Pool2d, Relu, Softmax, Subsample, Tanh};

/// The filters and the bias of one convolution.
#[derive(Clone, Copy)]
pub struct Weights<'a, T> {
    /// The filters: [`FilterDesc::len`](crate::problem::FilterDesc::len) elements.
    pub w: &'a dyn DeviceBuffer<T>,
    /// The bias, one per filter, exactly if the convolution has one.
    pub bias: Option<&'a dyn DeviceBuffer<T>>,
}

/// Operands of a graph. Lengths in elements.
pub struct GraphBuffers<'a, T> {
    /// The input: [`Graph::input_len`].
    pub x: &'a dyn DeviceBuffer<T>,
    /// Filters and bias of each of [`Graph::weights`].
    pub weights: &'a [Weights<'a, T>],
    /// One buffer for each of [`Graph::intermediates`], as from [`Graph::allocate_intermediates`].
    pub intermediates: &'a mut [CudaSlice<T>],
    /// The output: [`Graph::output_len`].
    pub y: &'a mut dyn DeviceBufferMut<T>,
    /// Workspace of the launches, one after the other, if any of them needs one: at least
    /// [`PreparedGraph::workspace_bytes`], as from [`PreparedGraph::allocate_workspace`].
    pub workspace: Option<&'a mut Workspace>,
}

/// A step that was planned and whose kernel is loaded.
#[derive(Clone, Debug)]
enum PreparedStep {
    Conv(Box<Prepared<Conv2d>>),
    Pool(Box<Prepared<Pool2d>>),
    Branches(Box<LoadedBranches>),
    Relu(Box<Prepared<Relu>>),
    Bottleneck(Box<Prepared<Bottleneck2d>>),
    Lrn(Box<Prepared<Lrn>>),
    Softmax(Box<Prepared<Softmax>>),
    Tanh(Box<Prepared<Tanh>>),
    Subsample(Box<Prepared<Subsample>>),
}

impl PreparedStep {
    fn new(
        node: &Node,
        gpu: &Gpu,
        tuning: &Tuning,
        limits: &Limits,
    ) -> Result<PreparedStep, Error> {
        Ok(match &node.step {
            Step::Conv(conv) => PreparedStep::Conv(prepare(conv, gpu, tuning, limits)?),
            Step::Pool(pool) => PreparedStep::Pool(prepare(pool, gpu, tuning, limits)?),
            Step::Branches(branches) => {
                let prepared = prepare(&**branches, gpu, tuning, limits)?;
                PreparedStep::Branches(Box::new(LoadedBranches::new(*prepared, &node.to)))
            }
            Step::Relu(relu) => PreparedStep::Relu(prepare(relu, gpu, tuning, limits)?),
            Step::Bottleneck(bottleneck) => {
                PreparedStep::Bottleneck(prepare(bottleneck, gpu, tuning, limits)?)
            }
            Step::Lrn(lrn) => PreparedStep::Lrn(prepare(lrn, gpu, tuning, limits)?),
            Step::Softmax(softmax) => PreparedStep::Softmax(prepare(softmax, gpu, tuning, limits)?),
            Step::Tanh(tanh) => PreparedStep::Tanh(prepare(tanh, gpu, tuning, limits)?),
            Step::Subsample(subsample) => {
                PreparedStep::Subsample(prepare(subsample, gpu, tuning, limits)?)
            }
        })
    }

    /// Kernel of the step, and its split-K.
    fn kernel(&self) -> (&'static Kernel, u32) {
        match self {
            PreparedStep::Conv(conv) => (conv.plan().kernel(), conv.plan().split_k()),
            PreparedStep::Branches(branches) => {
                (branches.plan().kernel(), branches.plan().split_k())
            }
            PreparedStep::Pool(pool) => (pool.plan().kernel(), 1),
            PreparedStep::Relu(relu) => (relu.plan().kernel(), 1),
            PreparedStep::Bottleneck(one) => (one.plan().kernel(), 1),
            PreparedStep::Lrn(lrn) => (lrn.plan().kernel(), 1),
            PreparedStep::Softmax(softmax) => (softmax.plan().kernel(), 1),
            PreparedStep::Tanh(tanh) => (tanh.plan().kernel(), 1),
            PreparedStep::Subsample(subsample) => (subsample.plan().kernel(), 1),
        }
    }

    /// Number of launches, the packing of filters included.
    fn launches(&self) -> usize {
        match self {
            PreparedStep::Conv(conv) => conv.plan().launches() as usize,
            PreparedStep::Branches(branches) => branches.plan().launches() as usize,
            _ => 1,
        }
    }

    fn workspace_bytes(&self) -> u64 {
        match self {
            PreparedStep::Conv(conv) => conv.plan().workspace_bytes(),
            PreparedStep::Branches(branches) => branches.plan().workspace_bytes(),
            _ => 0,
        }
    }

    fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        mut operands: Operands<'_, T>,
    ) -> Result<(), Error> {
        match self {
            PreparedStep::Conv(conv) => {
                let weights = operands.weights.first();
                let &Weights { w, bias } =
                    weights.ok_or(Error::MissingBuffer { buffer: "filter" })?;
                let one = operands.single()?;
                let buffers = ConvBuffers {
                    x: one.x,
                    w,
                    bias,
                    residual: one.residual,
                    y: one.y,
                    workspace: one.workspace,
                };
                conv.launch(stream, buffers)
            }
            PreparedStep::Pool(pool) => {
                let one = operands.single()?;
                pool.launch(
                    stream,
                    PoolBuffers {
                        x: one.x,
                        y: one.y,
                        indices: None,
                    },
                )
            }
            PreparedStep::Branches(branches) => branches.launch(stream, operands),
            PreparedStep::Relu(relu) => {
                let one = operands.single()?;
                relu.launch(stream, UnaryBuffers { x: one.x, y: one.y })
            }
            PreparedStep::Lrn(lrn) => {
                let one = operands.single()?;
                lrn.launch(stream, UnaryBuffers { x: one.x, y: one.y })
            }
            PreparedStep::Softmax(softmax) => {
                let one = operands.single()?;
                softmax.launch(stream, UnaryBuffers { x: one.x, y: one.y })
            }
            PreparedStep::Tanh(tanh) => {
                let one = operands.single()?;
                tanh.launch(stream, UnaryBuffers { x: one.x, y: one.y })
            }
            PreparedStep::Subsample(subsample) => {
                let weights = operands.weights.first();
                let &Weights { w, bias } =
                    weights.ok_or(Error::MissingBuffer { buffer: "filter" })?;
                let one = operands.single()?;
                let buffers = SubsampleBuffers {
                    x: one.x,
                    coefficient: w,
                    bias: bias.ok_or(Error::MissingBuffer { buffer: "bias" })?,
                    y: one.y,
                };
                subsample.launch(stream, buffers)
            }
            PreparedStep::Bottleneck(bottleneck) => {
                let [first, second, third] = operands.weights else {
                    return Err(Error::MissingBuffer { buffer: "filter" });
                };
                let one = operands.single()?;
                let buffers = BottleneckBuffers {
                    x: one.x,
                    w: [first.w, second.w, third.w],
                    bias: [first.bias, second.bias, third.bias],
                    residual: one.residual,
                    y: one.y,
                };
                bottleneck.launch(stream, buffers)
            }
        }
    }
}

/// Plans and prepares an operation.
fn prepare<P: Launch>(
    problem: &P,
    gpu: &Gpu,
    tuning: &Tuning,
    limits: &Limits,
) -> Result<Box<Prepared<P>>, Error> {
    let plan = Plan::tuned(problem, gpu.capability(), limits, tuning)?;
    Ok(Box::new(gpu.prepare(&plan)?))
}

/// Step with what its launch takes from the graph.
#[derive(Clone, Debug)]
struct PreparedNode {
    step: PreparedStep,
    bindings: Bindings,
    weights: usize,
}

/// A graph ready to launch; made by [`Graph::prepare`].
#[derive(Clone, Debug)]
pub struct PreparedGraph {
    graph: Graph,
    steps: Vec<PreparedNode>,
}

impl PreparedGraph {
    pub(super) fn new(
        graph: &Graph,
        gpu: &Gpu,
        tuning: &Tuning,
        limits: impl Fn(&Node) -> Limits,
    ) -> Result<PreparedGraph, Error> {
        let steps = graph.nodes().iter().map(|node| {
            Ok(PreparedNode {
                step: PreparedStep::new(node, gpu, tuning, &limits(node))?,
                bindings: graph.bindings(node),
                weights: node.step.weights().len(),
            })
        });
        Ok(PreparedGraph {
            steps: steps.collect::<Result<_, Error>>()?,
            graph: graph.clone(),
        })
    }

    /// Graph that was prepared.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// Kernel of each of [`Graph::nodes`], and its split-K: 1 if each block has tiles of its own.
    pub fn kernels(&self) -> impl Iterator<Item = (&'static Kernel, u32)> {
        self.steps().map(PreparedStep::kernel)
    }

    /// Prepared form of each of [`Graph::nodes`].
    fn steps(&self) -> impl Iterator<Item = &PreparedStep> {
        self.steps.iter().map(|prepared| &prepared.step)
    }

    /// Number of launches, the packing of filters included.
    pub fn launches(&self) -> usize {
        self.steps().map(PreparedStep::launches).sum()
    }

    /// Bytes of the workspace that the launches share: as much as the one that needs most; 0 if
    /// none needs any.
    pub fn workspace_bytes(&self) -> u64 {
        let each = self.steps().map(PreparedStep::workspace_bytes);
        each.max().unwrap_or(0)
    }

    /// A workspace for the launches, if they need one.
    ///
    /// # Errors
    /// As [`Workspace::new`].
    pub fn allocate_workspace(&self, stream: &Arc<CudaStream>) -> Result<Option<Workspace>, Error> {
        workspace(stream, self.workspace_bytes())
    }

    /// Queues all launches in the stream.
    ///
    /// # Errors
    /// As [`Prepared::launch`]; [`Error::Length`] if the number of weights or intermediate
    /// buffers is another one.
    pub fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        buffers: GraphBuffers<'_, T>,
    ) -> Result<(), Error> {
        self.launch_each(stream, buffers, |_, _| Ok(()))
    }

    /// As [`PreparedGraph::launch`], calling `after` behind each launch with its number and the
    /// intermediate buffers: to record an event, read the emulator's counters, or copy what was
    /// just written.
    ///
    /// # Errors
    /// As [`PreparedGraph::launch`], and what `after` returns.
    #[doc(hidden)]
    pub fn launch_each<T: Element>(
        &self,
        stream: &CudaStream,
        buffers: GraphBuffers<'_, T>,
        mut after: impl FnMut(usize, &[CudaSlice<T>]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.check(&buffers)?;
        let GraphBuffers {
            x,
            mut weights,
            intermediates,
            y,
            mut workspace,
        } = buffers;
        for (index, prepared) in self.steps.iter().enumerate() {
            let (own, others) = weights
                .split_at_checked(prepared.weights)
                .unwrap_or_default();
            weights = others;
            let shared = Shared {
                x,
                intermediates: &mut *intermediates,
                y: &mut *y,
            };
            let workspace = workspace.as_deref_mut();
            let operands = Operands::new(&prepared.bindings, shared, own, workspace)?;
            prepared.step.launch(stream, operands)?;
            after(index, intermediates)?;
        }
        Ok(())
    }

    /// Checks all numbers of buffers before the first launch, so that no graph stops half done.
    fn check<T>(&self, buffers: &GraphBuffers<'_, T>) -> Result<(), Error> {
        let weights = self.steps.iter().map(|prepared| prepared.weights).sum();
        count("the weights of a graph", weights, buffers.weights.len())?;
        let intermediates = self.graph.intermediates().len();
        count(
            "the intermediate buffers of a graph",
            intermediates,
            buffers.intermediates.len(),
        )?;
        let needs = self.workspace_bytes();
        let has = buffers.workspace.as_deref().map(Workspace::bytes);
        match has {
            None if needs > 0 => Err(Error::MissingBuffer {
                buffer: "workspace",
            }),
            Some(has) if has < needs => Err(Error::WorkspaceTooSmall { needs, has }),
            _ => Ok(()),
        }
    }
}

fn count(what: &'static str, expected: usize, got: usize) -> Result<(), Error> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::Length {
            what,
            expected,
            got,
        })
    }
}
