//! The launches of a case as a graph of the library, run as users run it.

use std::collections::HashMap;

use warpconv::device::Gpu;
use warpconv::graph::{FuseOptions, FusePolicy, Node};
use warpconv::kernels::KernelId;
use warpconv::plan::{Capability, Tuning};
use warpconv::problem::{PoolKind, Window};
use warpconv_nets::{Builder, Network, NetworkConfig, Tensor as NetTensor};
use warpconv_testing::{Operands, run_graph};

use super::execute::Tensors;
use super::layers::{Launch, Op};
use super::lower::{
    Shapes, Storage, convolution, extents, forced, one_per_channel, planning_error, pooling,
};
use super::report::Steps;

/// The graph of a case in one of the cuts; `None` if there is none: the graph cannot express the
/// case, or the cut changes nothing.
pub fn network(
    launches: &[Launch],
    shapes: &Shapes,
    storage: Storage,
    cut: Steps,
    device: &Capability,
) -> Option<Network> {
    // A graph of one launch is no graph.
    if cut == Steps::Layers || launches.len() < 2 {
        return None;
    }
    let plain = Lowering::new(launches, shapes, storage)
        .ok()?
        .network()
        .ok()?;
    let options = FuseOptions {
        policy: FusePolicy::Always,
        ..FuseOptions::new(device)
    };
    let fused = |options: &FuseOptions<'_>| Some(plain.clone().fused(options).ok()?.0);
    match cut {
        Steps::Layers => None,
        Steps::Fused => Some(plain),
        Steps::Modules => fused(&options).filter(|fused| fused.graph() != plain.graph()),
        Steps::InThree => {
            let separate = fused(&FuseOptions {
                separate_poolings: true,
                ..options
            })?;
            let differs = |other: &Network| separate.graph() != other.graph();
            (differs(&plain) && differs(&fused(&options)?)).then_some(separate)
        }
    }
}

/// Runs the graph with the kernel where a node accepts it, and returns the output.
pub fn run(
    gpu: &Gpu,
    network: &Network,
    launches: &[Launch],
    given: &Tensors,
    (kernel, split_k): (Option<KernelId>, Option<u32>),
) -> Result<Vec<f64>, String> {
    let values = |name: &String| match given.get(name) {
        Some(tensor) => Ok(tensor.data.clone()),
        None => Err(format!("no tensor `{name}`")),
    };
    let mut operands = Vec::new();
    for parameter in network.parameters() {
        let mut named = launches.iter();
        let launch = named.find(|launch| launch.layer.output == parameter.name);
        let Some(inputs) = launch.map(|launch| &launch.layer.inputs) else {
            return Err(format!("no launch makes `{}`", parameter.name));
        };
        operands.push(Operands {
            w: values(&inputs[1])?,
            bias: inputs.get(2).map(values).transpose()?,
        });
    }
    let x = match launches.first() {
        Some(launch) => values(&launch.layer.inputs[0])?,
        None => Vec::new(),
    };
    let (device, tuning) = (gpu.capability(), Tuning::new(gpu.card()));
    let limits = |node: &Node| forced(&node.step, device, kernel, split_k);
    let prepared = network.graph().prepare_each(gpu, &tuning, limits);
    let prepared = prepared.map_err(planning_error)?;
    run_graph(gpu, &prepared, &x, &operands).map_err(|error| error.to_string())
}

/// A tensor of the network that a name of the case stands for.
#[derive(Clone, Copy)]
struct Named {
    tensor: NetTensor,
    /// True behind a flattening: rows and columns count as channels.
    is_flat: bool,
}

/// Lowering of launches to a network, one by one.
struct Lowering<'a> {
    shapes: &'a Shapes,
    builder: Builder,
    tensors: HashMap<&'a str, Named>,
    last: Named,
}

impl<'a> Lowering<'a> {
    /// Lowers all launches; the error is what a graph of the library cannot express.
    fn new(
        launches: &'a [Launch],
        shapes: &'a Shapes,
        storage: Storage,
    ) -> Result<Lowering<'a>, String> {
        let first = launches.first().ok_or("no layers")?;
        let input = &first.layer.inputs[0];
        let [n, c, h, w] = extents(shapes, input)?;
        let config = NetworkConfig {
            n,
            image: h,
            dtype: storage.dtype,
            math: storage.math,
            layout: storage.layout,
            filter_layout: storage.filter_layout,
        };
        let (builder, tensor) = Builder::with_input(&config, [c, h, w]);
        let last = Named {
            tensor,
            is_flat: false,
        };
        let mut lowering = Lowering {
            shapes,
            builder,
            tensors: HashMap::from([(&input[..], last)]),
            last,
        };
        for launch in launches {
            let output = &launch.layer.output;
            let named = lowering.launch(launch)?;
            if lowering.tensors.insert(output, named).is_some() {
                return Err(format!("`{output}` is written twice"));
            }
            lowering.last = named;
        }
        Ok(lowering)
    }

    fn network(self) -> Result<Network, String> {
        let network = self.builder.finish(self.last.tensor);
        network.map_err(|error| error.to_string())
    }

    /// Adds a launch, and returns its output.
    fn launch(&mut self, launch: &'a Launch) -> Result<Named, String> {
        let (inputs, name) = (&launch.layer.inputs, &launch.layer.output[..]);
        let from = self.find(&inputs[0])?;
        let tensor = match &launch.layer.op {
            Op::Conv { .. } | Op::Linear => self.convolution(launch, from)?,
            Op::Flatten => {
                return Ok(Named {
                    is_flat: true,
                    ..from
                });
            }
            Op::Concat => {
                let parts = inputs.iter().map(|name| self.image(self.find(name)?));
                let parts = parts.collect::<Result<Vec<NetTensor>, String>>()?;
                self.builder.concat(&parts)
            }
            Op::Add => return Err("an addition outside of epilogues".to_owned()),
            Op::Pool {
                kind: PoolKind::Max { indices: true },
                ..
            } => return Err("indices of maxima".to_owned()),
            &Op::Pool { kind, window, ceil } => {
                let from = self.image(from)?;
                self.builder
                    .pooling(name, from, pooling(kind, window, ceil))
            }
            Op::Relu => self.builder.relu(name, self.image(from)?),
            &Op::Lrn(parameters) => self.builder.lrn(name, self.image(from)?, parameters),
            Op::Softmax => self.builder.softmax(name, self.image(from)?),
            &Op::Tanh { amplitude, slope } => {
                let from = self.image(from)?;
                self.builder.tanh_scaled(name, from, [amplitude, slope])
            }
            Op::Subsample(subsampling) => {
                let from = self.image(from)?;
                self.given(&inputs[1..])?;
                let [channels, ..] = self.builder.extents(from);
                one_per_channel(launch, self.shapes, channels)?;
                self.builder.subsampling(name, from, subsampling.builder())
            }
        };
        Ok(Named {
            tensor,
            is_flat: false,
        })
    }

    /// Adds a convolution. Over a flattened image its filters are as large as the image.
    fn convolution(&mut self, launch: &Launch, from: Named) -> Result<NetTensor, String> {
        let inputs = &launch.layer.inputs;
        self.given(&inputs[1..])?;
        let [c, h, w] = self.builder.extents(from.tensor);
        let conv = match self.image(from) {
            Ok(_) => convolution(launch, self.shapes, c)?,
            Err(why) => match &launch.layer.op {
                Op::Linear => {
                    convolution(launch, self.shapes, c * h * w)?.window(Window::new(h, w))
                }
                _ => return Err(why),
            },
        };
        let residual = match &launch.residual {
            Some(name) => Some(self.image(self.find(name)?)?),
            None => None,
        };
        let name = &launch.layer.output[..];
        Ok(self.builder.convolution(name, from.tensor, conv, residual))
    }

    /// The tensor of a name that the graph's input or a launch before has.
    fn find(&self, name: &str) -> Result<Named, String> {
        let found = self.tensors.get(name).copied();
        found.ok_or_else(|| format!("`{name}` is another input"))
    }

    /// Fails if a launch writes one of the weights.
    fn given(&self, names: &[String]) -> Result<(), String> {
        let mut names = names.iter();
        match names.find(|name| self.tensors.contains_key(&name[..])) {
            Some(name) => Err(format!("the weights `{name}` are computed")),
            None => Ok(()),
        }
    }

    /// The tensor as an image: flattened, it must have one row and one column.
    fn image(&self, named: Named) -> Result<NetTensor, String> {
        let [_, h, w] = self.builder.extents(named.tensor);
        match named.is_flat && [h, w] != [1, 1] {
            true => Err(format!(
                "an image of {h}x{w} is flattened for no linear layer"
            )),
            false => Ok(named.tensor),
        }
    }
}
