//! A graph on the device with its own operands: its buffers stay there, and each launch reads the
//! results of the previous ones.

use super::check_result::{Buffers, CheckResult, compare_graph, sample, slice};
use super::convert::{Stored, round};
use super::fill::reals;
use super::pack::{expect, pack, pack_filter, unpack};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaGraph, CudaSlice, CudaStream};
use std::sync::Arc;
use warpconv::device::{Gpu, driver_error};
use warpconv::error::Error;
use warpconv::graph::{Graph, GraphBuffers, PreparedGraph, TensorId, Weights};
use warpconv::launch::Workspace;
use warpconv::plan::{Limits, Tuning};
use warpconv::problem::{Conv2d, TensorDesc};

/// The filters and the bias of a convolution, dense, as the reference takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Operands {
    /// The filters, KCRS.
    pub w: Vec<f64>,
    /// The bias, one per filter, if the convolution has one.
    pub bias: Option<Vec<f64>>,
}

/// A graph of a few launches on the device, with operands drawn from fixed seeds.
pub struct GraphOnDevice<T> {
    stream: Arc<CudaStream>,
    prepared: PreparedGraph,
    x: CudaSlice<T>,
    intermediates: Vec<CudaSlice<T>>,
    y: CudaSlice<T>,
    weights: Vec<(CudaSlice<T>, Option<CudaSlice<T>>)>,
    workspace: Option<Workspace>,
    operands: Vec<Operands>,
}

impl<T: Stored> GraphOnDevice<T> {
    /// Draws operands, uploads them and prepares every launch in the device's own stream. Outputs
    /// of launches are filled with NaN first. Filters are scaled so that sums keep the magnitude of
    /// the inputs, however long they are.
    ///
    /// # Errors
    /// As [`Graph::prepare`]; [`Error::WrongDType`] if the graph is stored in another type than
    /// `T`; [`Error::OutOfMemory`].
    pub fn new(gpu: &Gpu, graph: &Graph) -> Result<Self, Error> {
        Self::tuned(gpu, graph, &Tuning::new(gpu.card()))
    }

    /// As [`GraphOnDevice::new`], with the fastest kernels of `tuning` where they were measured.
    ///
    /// # Errors
    /// As [`GraphOnDevice::new`].
    pub fn tuned(gpu: &Gpu, graph: &Graph, tuning: &Tuning) -> Result<Self, Error> {
        Self::in_stream(gpu, gpu.stream(), graph, tuning)
    }

    /// As [`GraphOnDevice::tuned`], in the caller's stream, such as one that can be captured.
    ///
    /// # Errors
    /// As [`GraphOnDevice::new`].
    pub fn in_stream(
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        graph: &Graph,
        tuning: &Tuning,
    ) -> Result<Self, Error> {
        Self::within(gpu, stream, graph, tuning, &Limits::default())
    }

    /// As [`GraphOnDevice::in_stream`], with plans within limits.
    ///
    /// # Errors
    /// As [`GraphOnDevice::new`].
    pub fn within(
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        graph: &Graph,
        tuning: &Tuning,
        limits: &Limits,
    ) -> Result<Self, Error> {
        let x = graph.input().map_or(0, TensorDesc::elements);
        let x = reals(x, T::DTYPE, 0);
        let weights = graph.weights();
        let operands = weights.iter().enumerate();
        let operands = operands.map(|(index, conv)| draw::<T>(conv, 2 * index as u64 + 1));
        let plans = (tuning, limits);
        Self::planned(gpu, stream, graph, plans, &x, operands.collect())
    }

    /// As [`GraphOnDevice::in_stream`], with the caller's operands: `x` is dense NCHW; `operands`
    /// has one entry per entry of [`Graph::weights`]. Both are rounded to the storage type.
    ///
    /// # Errors
    /// As [`GraphOnDevice::new`]; [`Error::Length`] if the number of elements differs from the
    /// graph's, [`Error::MissingBuffer`] or [`Error::UnexpectedBuffer`] if a bias is missing or
    /// superfluous.
    pub fn with(
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        graph: &Graph,
        tuning: &Tuning,
        x: &[f64],
        operands: Vec<Operands>,
    ) -> Result<Self, Error> {
        let plans = (tuning, &Limits::default());
        Self::planned(gpu, stream, graph, plans, x, operands)
    }

    fn planned(
        gpu: &Gpu,
        stream: &Arc<CudaStream>,
        graph: &Graph,
        (tuning, limits): (&Tuning, &Limits),
        x: &[f64],
        mut operands: Vec<Operands>,
    ) -> Result<Self, Error> {
        if graph.dtype() != T::DTYPE {
            let (problem, buffers) = (graph.dtype(), T::DTYPE);
            return Err(Error::WrongDType { problem, buffers });
        }
        let convs = graph.weights();
        expect("the weights of a graph", convs.len(), operands.len())?;
        let stream = stream.clone();
        let poisoned = |len: usize| copy_in(&stream, &vec![T::poison(); len]);
        let x = match graph.input() {
            Some(input) => pack(input, x, T::poison())?,
            None => Vec::new(),
        };
        let x = copy_in(&stream, &x)?;
        let intermediates = graph
            .intermediates()
            .iter()
            .map(|&len| poisoned(len))
            .collect::<Result<_, _>>()?;
        let y = poisoned(graph.output_len())?;
        let mut weights = Vec::new();
        for (conv, operands) in convs.iter().zip(&mut operands) {
            weights.push(upload(&stream, conv, operands)?);
        }
        let (prepared, workspace) = graph.prepare_with_workspace(gpu, &stream, tuning, limits)?;
        Ok(Self {
            workspace,
            stream,
            prepared,
            x,
            intermediates,
            y,
            weights,
            operands,
        })
    }

    /// The graph whose launches were prepared.
    pub fn graph(&self) -> &Graph {
        self.prepared.graph()
    }

    /// Number of kernel launches, including those that pack filters.
    pub fn launches(&self) -> usize {
        self.prepared.launches()
    }

    /// The stream of its launches.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    /// Queues every launch once.
    ///
    /// # Errors
    /// As [`PreparedGraph::launch`].
    pub fn launch(&mut self) -> Result<(), Error> {
        self.launch_each(|_, _| Ok(()))
    }

    /// Queues every launch once, calling `after` behind each, as [`PreparedGraph::launch_each`].
    fn launch_each(
        &mut self,
        after: impl FnMut(usize, &[CudaSlice<T>]) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let weights: Vec<Weights<'_, T>> = self
            .weights
            .iter()
            .map(|(w, bias)| Weights {
                w,
                bias: bias.as_ref().map(|bias| bias as _),
            })
            .collect();
        let buffers = GraphBuffers {
            x: &self.x,
            weights: &weights,
            intermediates: &mut self.intermediates,
            y: &mut self.y,
            workspace: self.workspace.as_mut(),
        };
        self.prepared.launch_each(&self.stream, buffers, after)
    }

    /// Replaces the input of later passes, dense NCHW.
    ///
    /// # Errors
    /// [`Error::Length`] if there are more or fewer numbers than the input has; [`Error::Driver`]
    /// if earlier work failed.
    pub fn set_input(&mut self, x: &[f64]) -> Result<(), Error> {
        let Some(input) = self.graph().input() else {
            return Ok(());
        };
        let packed: Vec<T> = pack(input, x, T::poison())?;
        let copied = self.stream.memcpy_htod(&packed, &mut self.x);
        copied.map_err(|error| driver_error("copying to the device", error))
    }

    /// Outputs of the last pass: each output tensor with the number of its node, dense NCHW.
    ///
    /// # Errors
    /// [`Error::Driver`] if a launch failed.
    pub fn outputs(&self) -> Result<Vec<(usize, Vec<f64>)>, Error> {
        let images: Vec<usize> = (0..self.graph().input().map_or(0, TensorDesc::n)).collect();
        let mut outputs = Vec::new();
        for (index, node) in self.graph().nodes().iter().enumerate() {
            for (place, desc) in node.writes() {
                if place == TensorId::Output {
                    let whole = download(&self.stream, &self.y, desc, &images)?;
                    outputs.push((index, slice(&whole, desc)));
                }
            }
        }
        Ok(outputs)
    }

    /// Outputs of one more pass, node by node, as [`GraphOnDevice::outputs`]: every tensor, dense
    /// NCHW.
    ///
    /// # Errors
    /// As [`PreparedGraph::launch`].
    pub fn trace(&mut self) -> Result<Vec<(usize, Vec<f64>)>, Error> {
        let graph = self.graph().clone();
        let images: Vec<usize> = (0..graph.input().map_or(0, TensorDesc::n)).collect();
        let stream = self.stream.clone();
        let mut traced = Vec::new();
        self.launch_each(|launch, intermediates| {
            for (place, desc) in graph.nodes()[launch].writes() {
                if let Some(buffer) = held(&graph, place, intermediates) {
                    let whole = download(&stream, buffer, desc, &images)?;
                    traced.push((launch, slice(&whole, desc)));
                }
            }
            Ok(())
        })?;
        traced.extend(self.outputs()?);
        Ok(traced)
    }

    /// Captures one pass as a CUDA graph, which replays all launches with one call. The stream must
    /// be capturable (not the default one), with event tracking off in its context. The graph must
    /// not outlive `self`.
    ///
    /// # Errors
    /// As [`PreparedGraph::launch`]; [`Error::CaptureWithEventTracking`] if tracking is on.
    pub fn capture(&mut self) -> Result<CudaGraph, Error> {
        let failed = |error| driver_error("capturing a module", error);
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_THREAD_LOCAL;
        self.stream.begin_capture(mode).map_err(failed)?;
        let launched = self.launch();
        // Capture ends even after an error: a stream left in capture mode is unusable.
        let graph = self.stream.end_capture(CUgraphInstantiate_flags(0));
        launched?;
        graph.map_err(failed)?.ok_or(Error::MissingBuffer {
            buffer: "launch to capture",
        })
    }

    /// Compares the last pass with the f64 reference. Each launch is compared for its actual
    /// inputs, within the rounding bound of its sums, and the graph's output with f64 arithmetic
    /// throughout. If that takes the reference more than `most_macs` multiplications, only some
    /// images between the first and the last are compared.
    ///
    /// If intermediates share buffers, one more pass runs, to read each launch's output before
    /// it is overwritten.
    ///
    /// # Errors
    /// [`Error::Driver`] if a launch failed.
    pub fn check(&mut self, most_macs: u64) -> Result<CheckResult, Error> {
        let sample = sample(self.graph(), most_macs);
        let device = self.look(&sample)?;
        compare_graph(&self.prepared, &device, &self.operands, &sample)
    }

    /// Elements of every tensor, for the given images.
    fn look(&mut self, images: &[usize]) -> Result<Buffers, Error> {
        let graph = self.graph().clone();
        let stream = self.stream.clone();
        let mut seen = Buffers::new();
        let tensors = (0..).map_while(|tensor| graph.buffer_of(tensor)).count();
        let between = graph.intermediates().len() < tensors;
        if between {
            self.launch_each(|launch, intermediates| {
                for (place, desc) in graph.nodes()[launch].writes() {
                    if let Some(buffer) = held(&graph, place, intermediates) {
                        seen.insert(place, download(&stream, buffer, desc, images)?);
                    }
                }
                Ok(())
            })?;
        }
        for node in graph.nodes() {
            for (place, desc) in node.reads().chain(node.writes()) {
                let buffer = match place {
                    TensorId::Input => Some(&self.x),
                    TensorId::Output => Some(&self.y),
                    TensorId::Intermediate(_) if between => None,
                    TensorId::Intermediate(_) => held(&graph, place, &self.intermediates),
                };
                if let Some(buffer) = buffer
                    && !seen.contains_key(&place)
                {
                    seen.insert(place, download(&stream, buffer, desc, images)?);
                }
            }
        }
        Ok(seen)
    }
}

/// The buffer of an intermediate tensor.
fn held<'a, T>(
    graph: &Graph,
    place: TensorId,
    intermediates: &'a [CudaSlice<T>],
) -> Option<&'a CudaSlice<T>> {
    match place {
        TensorId::Intermediate(tensor) => intermediates.get(graph.buffer_of(tensor)?),
        TensorId::Input | TensorId::Output => None,
    }
}

/// Images of a whole tensor at the start of a buffer, in dense NCHW order, one after another;
/// `desc` is any slice of it.
fn download<T: Stored>(
    stream: &Arc<CudaStream>,
    buffer: &CudaSlice<T>,
    desc: &TensorDesc,
    images: &[usize],
) -> Result<Vec<f64>, Error> {
    let whole = TensorDesc::new(
        [1, desc.channel_pitch(), desc.h(), desc.w()],
        desc.layout(),
        desc.dtype(),
    )?;
    let mut dense = Vec::with_capacity(images.len() * whole.len());
    for &image in images {
        let stored = buffer.slice(image * whole.len()..(image + 1) * whole.len());
        let stored = stream.clone_dtoh(&stored);
        dense.extend(unpack(
            &whole,
            &stored.map_err(|e| driver_error("copying from the device", e))?,
        )?);
    }
    Ok(dense)
}

/// Uploads filters and bias; the host's copies are rounded like the device's.
fn upload<T: Stored>(
    stream: &Arc<CudaStream>,
    conv: &Conv2d,
    operands: &mut Operands,
) -> Result<(CudaSlice<T>, Option<CudaSlice<T>>), Error> {
    let buffer = "bias";
    match (conv.bias(), &operands.bias) {
        (true, None) => return Err(Error::MissingBuffer { buffer }),
        (false, Some(_)) => return Err(Error::UnexpectedBuffer { buffer }),
        _ => {}
    }
    let numbers = operands.w.iter_mut();
    for value in numbers.chain(operands.bias.iter_mut().flatten()) {
        *value = round(T::DTYPE, *value);
    }
    let bias = operands.bias.as_ref().map(|bias| {
        let bias: Vec<T> = bias.iter().map(|&value| T::nearest(value)).collect();
        copy_in(stream, &bias)
    });
    Ok((
        copy_in(stream, &pack_filter(conv, &operands.w)?)?,
        bias.transpose()?,
    ))
}

/// Copies values to the device.
fn copy_in<T: Stored>(stream: &Arc<CudaStream>, values: &[T]) -> Result<CudaSlice<T>, Error> {
    stream
        .clone_htod(values)
        .map_err(|error| driver_error("copying to the device", error))
}

/// Draws filters and bias of a convolution.
fn draw<T: Stored>(conv: &Conv2d, seed: u64) -> Operands {
    let draw = |len, scale, seed| -> Vec<f64> {
        let values = reals(len, T::DTYPE, seed).into_iter();
        values.map(|value| round(T::DTYPE, value * scale)).collect()
    };
    // The mean square of a number of [-1, 1) is a third.
    let scale = (3.0 / conv.filter().gemm_k() as f64).sqrt();
    Operands {
        w: draw(conv.filter().elements(), scale, seed),
        bias: conv.bias().then(|| draw(conv.output().c(), 0.25, seed + 1)),
    }
}
