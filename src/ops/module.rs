//! A few layers as launches one after the other, the branches of a concatenation writing their slices of it.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};

use super::memory::{workspace, zeros};
use crate::catalog::DType;
use crate::error::Error;
use crate::gpu::Gpu;
use crate::launch::{
    ConvBuffers, DeviceBuffer, DeviceBufferMut, Element, PoolBuffers, PreparedConv, PreparedPool,
    Workspace,
};
use crate::plan::{Ceilings, ConvPlan, Limits, PoolPlan, Roofline, Tuning};
use crate::problem::{Conv2d, Pool2d, TensorDesc};

/// One launch of a module.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// A convolution, its epilogue included.
    Conv(Conv2d),
    /// A pooling.
    Pool(Pool2d),
}

/// Where a launch reads or writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// The module's input.
    Input,
    /// The buffer of this number among [`Module::hidden`].
    Hidden(usize),
    /// The module's output; the problem says which slice of it.
    Output,
}

/// One launch with where it reads and writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The layer's name, as in the literature.
    pub name: &'static str,
    /// What is computed.
    pub step: Step,
    /// Where it reads: never the output. A residual is always the module's input.
    pub from: Place,
    /// Where it writes: never the input, nor where it reads.
    pub to: Place,
}

impl Node {
    /// The tensor it reads.
    pub fn input(&self) -> &TensorDesc {
        match &self.step {
            Step::Conv(conv) => conv.input(),
            Step::Pool(pool) => pool.input(),
        }
    }

    /// The tensor it writes.
    pub fn output(&self) -> &TensorDesc {
        match &self.step {
            Step::Conv(conv) => conv.output(),
            Step::Pool(pool) => pool.output(),
        }
    }

    /// Multiplications; a pooling has none.
    pub fn macs(&self) -> u64 {
        match &self.step {
            Step::Conv(conv) => conv.macs(),
            Step::Pool(_) => 0,
        }
    }

    /// Bytes at least moved: each operand once.
    pub fn min_bytes(&self) -> u64 {
        match &self.step {
            Step::Conv(conv) => conv.min_bytes(),
            Step::Pool(pool) => pool.min_bytes(),
        }
    }
}

/// A module: its launches in order, the buffers between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Module {
    nodes: Vec<Node>,
    hidden: Vec<usize>,
    input_len: usize,
    output_len: usize,
    dtype: DType,
}

impl Module {
    /// Of nodes that this crate's own descriptions put together: places are in order and lengths agree.
    pub(super) fn new(nodes: Vec<Node>, dtype: DType) -> Module {
        let mut module = Module {
            nodes,
            hidden: Vec::new(),
            input_len: 0,
            output_len: 0,
            dtype,
        };
        for node in &module.nodes {
            if node.from == Place::Input {
                module.input_len = node.input().len();
            }
            match node.to {
                Place::Hidden(index) => {
                    let len = module.hidden.len().max(index + 1);
                    module.hidden.resize(len, 0);
                    module.hidden[index] = node.output().len();
                }
                Place::Output => module.output_len = node.output().len(),
                Place::Input => {}
            }
        }
        module
    }

    /// The launches, in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The convolutions, in order: each wants a [`Weights`].
    pub fn convolutions(&self) -> impl Iterator<Item = &Conv2d> {
        self.nodes.iter().filter_map(|node| match &node.step {
            Step::Conv(conv) => Some(conv),
            Step::Pool(_) => None,
        })
    }

    /// Elements of each buffer between launches.
    pub fn hidden(&self) -> &[usize] {
        &self.hidden
    }

    /// Elements of the input.
    pub fn input_len(&self) -> usize {
        self.input_len
    }

    /// Elements of the output.
    pub fn output_len(&self) -> usize {
        self.output_len
    }

    /// How everything is stored.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Operations that are launched one after the other; a plan may bring filters into order by a launch of its own
    /// before one of them: [`PreparedModule::launches`] counts those too.
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
        let (device, limits) = (gpu.capability(), Limits::default());
        let steps = self.nodes.iter().map(|node| match &node.step {
            Step::Conv(conv) => {
                let plan = ConvPlan::tuned(conv, device, &limits, tuning)?;
                let conv = gpu.prepare_conv(&plan)?;
                Ok(PreparedStep::Conv(Box::new(conv)))
            }
            Step::Pool(pool) => {
                let plan = PoolPlan::tuned(pool, device, &limits, tuning)?;
                let pool = gpu.prepare_pool(&plan)?;
                Ok(PreparedStep::Pool(Box::new(pool)))
            }
        });
        Ok(PreparedModule {
            steps: steps.collect::<Result<_, Error>>()?,
            module: self.clone(),
        })
    }

    /// New buffers for what lies between the launches.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`]; [`Error::Driver`] if earlier work in the context failed.
    pub fn allocate_hidden<T: Element>(
        &self,
        stream: &Arc<CudaStream>,
    ) -> Result<Vec<CudaSlice<T>>, Error> {
        let hidden = self.hidden.iter();
        hidden
            .map(|&len| zeros(stream, len, "allocating a hidden buffer"))
            .collect()
    }
}

/// The filters and the bias of one convolution.
#[derive(Clone, Copy)]
pub struct Weights<'a, T> {
    /// The filters: [`Conv2d::filter_len`] elements.
    pub w: &'a dyn DeviceBuffer<T>,
    /// The bias, one a filter, exactly if the convolution has one.
    pub bias: Option<&'a dyn DeviceBuffer<T>>,
}

/// The operands of a module. Lengths in elements.
pub struct ModuleBuffers<'a, T> {
    /// The input: [`Module::input_len`].
    pub x: &'a dyn DeviceBuffer<T>,
    /// Filters and bias of each of [`Module::convolutions`].
    pub weights: &'a [Weights<'a, T>],
    /// What lies between launches: one buffer for each of [`Module::hidden`], as from [`Module::allocate_hidden`].
    pub hidden: &'a mut [CudaSlice<T>],
    /// The output: [`Module::output_len`].
    pub y: &'a mut dyn DeviceBufferMut<T>,
    /// What the launches compute in, one after the other, if any of them needs it: at least
    /// [`PreparedModule::workspace_bytes`], as from [`PreparedModule::allocate_workspace`].
    pub workspace: Option<&'a mut Workspace>,
}

#[derive(Clone, Debug)]
enum PreparedStep {
    Conv(Box<PreparedConv>),
    Pool(Box<PreparedPool>),
}

/// A module ready to launch; made by [`Module::prepare`].
#[derive(Clone, Debug)]
pub struct PreparedModule {
    module: Module,
    steps: Vec<PreparedStep>,
}

impl PreparedModule {
    /// The module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// The prepared convolutions, in order.
    pub fn convolutions(&self) -> impl Iterator<Item = &PreparedConv> {
        self.steps.iter().filter_map(|step| match step {
            PreparedStep::Conv(conv) => Some(&**conv),
            PreparedStep::Pool(_) => None,
        })
    }

    /// Kernels that are launched, those that bring filters into a kernel's order among them.
    pub fn launches(&self) -> usize {
        let each = self.steps.iter().map(|step| match step {
            PreparedStep::Conv(conv) => conv.plan().launches() as usize,
            PreparedStep::Pool(_) => 1,
        });
        each.sum()
    }

    /// Bytes of the workspace that the launches share: as much as the one that needs most; 0 if none needs any.
    pub fn workspace_bytes(&self) -> u64 {
        let each = self
            .convolutions()
            .map(|conv| conv.plan().workspace_bytes());
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
    /// As [`PreparedConv::launch`]; [`Error::Length`] if the number of weights or hidden buffers is another one.
    pub fn launch<T: Element>(
        &self,
        stream: &CudaStream,
        buffers: ModuleBuffers<'_, T>,
    ) -> Result<(), Error> {
        self.launch_each(stream, buffers, |_| Ok(()))
    }

    /// As [`PreparedModule::launch`], calling `after` behind each launch with its number: to record an event, or to read
    /// the emulator's counters.
    ///
    /// # Errors
    /// As [`PreparedModule::launch`], and what `after` returns.
    pub fn launch_each<T: Element>(
        &self,
        stream: &CudaStream,
        buffers: ModuleBuffers<'_, T>,
        mut after: impl FnMut(usize) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let ModuleBuffers {
            x,
            weights,
            hidden,
            y,
            mut workspace,
        } = buffers;
        let convolutions = self.module.convolutions().count();
        count("the weights of a module", convolutions, weights.len())?;
        count(
            "the hidden buffers of a module",
            self.module.hidden.len(),
            hidden.len(),
        )?;
        // Before anything is launched: a launch that then finds too little would leave the module half done.
        let needs = self.workspace_bytes();
        if workspace.is_none() && needs > 0 {
            return Err(Error::MissingBuffer {
                buffer: "workspace",
            });
        }
        if let Some(has) = workspace.as_deref().map(Workspace::len)
            && has < needs
        {
            return Err(Error::WorkspaceTooSmall { needs, has });
        }
        let mut weights = weights.iter();
        for (index, (step, node)) in self.steps.iter().zip(&self.module.nodes).enumerate() {
            let (from, to) = places(node, x, hidden, y)?;
            match step {
                PreparedStep::Conv(conv) => {
                    let Some(&Weights { w, bias }) = weights.next() else {
                        break;
                    };
                    let residual = conv.problem().residual().map(|_| x);
                    conv.launch(
                        stream,
                        ConvBuffers {
                            x: from,
                            w,
                            bias,
                            residual,
                            y: to,
                            workspace: workspace.as_deref_mut(),
                        },
                    )?;
                }
                PreparedStep::Pool(pool) => pool.launch(stream, PoolBuffers::new(from, to))?,
            }
            after(index)?;
        }
        Ok(())
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

/// The buffers that a node reads and writes.
fn places<'a, T>(
    node: &Node,
    x: &'a dyn DeviceBuffer<T>,
    hidden: &'a mut [CudaSlice<T>],
    y: &'a mut dyn DeviceBufferMut<T>,
) -> Result<(&'a dyn DeviceBuffer<T>, &'a mut dyn DeviceBufferMut<T>), Error> {
    let missing = Error::MissingBuffer { buffer: "hidden" };
    match (node.from, node.to) {
        (Place::Input, Place::Output) => Ok((x, y)),
        (Place::Input, Place::Hidden(to)) => Ok((x, hidden.get_mut(to).ok_or(missing)?)),
        (Place::Hidden(from), Place::Output) => Ok((hidden.get(from).ok_or(missing)?, y)),
        (Place::Hidden(from), Place::Hidden(to)) => {
            let [from, to] = hidden.get_disjoint_mut([from, to]).map_err(|_| missing)?;
            Ok((from, to))
        }
        // `Module::new` is given no such node.
        (Place::Output, _) | (_, Place::Input) => Err(missing),
    }
}
