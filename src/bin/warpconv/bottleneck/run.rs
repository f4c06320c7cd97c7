//! Running a module on the device: its buffers stay there, one launch feeds the next.

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaSlice, CudaStream};
use warpconv::check::{Stored, pack, pack_filter, reals, round, unpack};
use warpconv::gpu::Gpu;
use warpconv::ops::{Module, ModuleBuffers, Place, PreparedModule, Weights};
use warpconv::problem::{Conv2d, TensorDesc};

use crate::exit::Failure;

/// The filters and the bias of a convolution, dense, as the reference takes them.
pub struct Operands {
    pub w: Vec<f64>,
    pub bias: Vec<f64>,
}

/// A module on the device.
pub struct Loaded<T> {
    stream: Arc<CudaStream>,
    prepared: PreparedModule,
    x: CudaSlice<T>,
    hidden: Vec<CudaSlice<T>>,
    y: CudaSlice<T>,
    weights: Vec<(CudaSlice<T>, CudaSlice<T>)>,
    /// Those of each convolution, in order.
    pub operands: Vec<Operands>,
}

impl<T: Stored> Loaded<T> {
    /// Draws operands, uploads them and prepares every launch. Buffers that are written hold NaN first.
    pub fn new(gpu: &Gpu, module: &Module) -> Result<Loaded<T>, Failure> {
        let stream = gpu.stream().clone();
        let upload = |values: &[T]| stream.clone_htod(values).map_err(Failure::device);
        let x = match module.nodes().first() {
            Some(first) => pack(
                first.input(),
                &reals(first.input().elements(), T::DTYPE, 0),
                T::poison(),
            ),
            None => Ok(Vec::new()),
        };
        let x = upload(&x.map_err(Failure::input)?)?;
        let poisoned = |len: usize| upload(&vec![T::poison(); len]);
        let hidden = module
            .hidden()
            .iter()
            .map(|&len| poisoned(len))
            .collect::<Result<_, _>>()?;
        let y = poisoned(module.output_len())?;
        let (mut weights, mut operands) = (Vec::new(), Vec::new());
        for (index, conv) in module.convolutions().enumerate() {
            let drawn = draw::<T>(conv, 2 * index as u64 + 1);
            let bias: Vec<T> = drawn.bias.iter().map(|&value| T::nearest(value)).collect();
            weights.push((
                upload(&pack_filter(conv, &drawn.w).map_err(Failure::input)?)?,
                upload(&bias)?,
            ));
            operands.push(drawn);
        }
        let prepared = module.prepare(gpu).map_err(Failure::device)?;
        Ok(Loaded {
            stream,
            prepared,
            x,
            hidden,
            y,
            weights,
            operands,
        })
    }

    /// The module.
    pub fn module(&self) -> &Module {
        self.prepared.module()
    }

    /// Queues every launch once; `after` is called after each.
    pub fn launch(&mut self, mut after: impl FnMut()) -> Result<(), Failure> {
        let weights: Vec<Weights<'_, T>> = self
            .weights
            .iter()
            .map(|(w, bias)| Weights {
                w,
                bias: Some(bias),
            })
            .collect();
        let buffers = ModuleBuffers {
            x: &self.x,
            weights: &weights,
            hidden: &mut self.hidden,
            y: &mut self.y,
        };
        let launched = self.prepared.launch_each(&self.stream, buffers, |_| {
            after();
            Ok(())
        });
        launched.map_err(Failure::device)
    }

    /// Images of a whole buffer in dense NCHW order, one after another; `desc` is any tensor in that buffer.
    pub fn download(
        &self,
        place: Place,
        desc: &TensorDesc,
        images: &[usize],
    ) -> Result<Vec<f64>, Failure> {
        let buffer = match place {
            Place::Input => &self.x,
            Place::Hidden(index) => &self.hidden[index],
            Place::Output => &self.y,
        };
        let values = self.stream.clone_dtoh(buffer).map_err(Failure::device)?;
        let whole = TensorDesc::new(
            1,
            desc.channel_pitch(),
            desc.h(),
            desc.w(),
            desc.layout(),
            desc.dtype(),
        );
        let whole = whole.map_err(Failure::input)?;
        let mut dense = Vec::with_capacity(images.len() * whole.len());
        for &image in images {
            let stored = &values[image * whole.len()..(image + 1) * whole.len()];
            dense.extend(unpack(&whole, stored).map_err(Failure::input)?);
        }
        Ok(dense)
    }

    /// The time of one pass over all launches in microseconds, by events: the least of several.
    pub fn time_us(&mut self) -> Result<f64, Failure> {
        const WARM_UP: usize = 3;
        const MEASUREMENTS: usize = 10;
        for _ in 0..WARM_UP {
            self.launch(|| ())?;
        }
        let context = self.stream.context().clone();
        let event = || {
            context
                .new_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
                .map_err(Failure::device)
        };
        let (start, end) = (event()?, event()?);
        let mut least = f64::INFINITY;
        for _ in 0..MEASUREMENTS {
            start.record(&self.stream).map_err(Failure::device)?;
            self.launch(|| ())?;
            end.record(&self.stream).map_err(Failure::device)?;
            let ms = start.elapsed_ms(&end).map_err(Failure::device)?;
            least = least.min(f64::from(ms) * 1e3);
        }
        Ok(least)
    }
}

/// Filters and bias of a convolution, scaled so that sums keep the size of what goes in, whatever their length.
fn draw<T: Stored>(conv: &Conv2d, seed: u64) -> Operands {
    let draw = |len, scale, seed| -> Vec<f64> {
        let values = reals(len, T::DTYPE, seed).into_iter();
        values.map(|value| round(T::DTYPE, value * scale)).collect()
    };
    let scale = (3.0 / conv.gemm_k() as f64).sqrt();
    Operands {
        w: draw(conv.filter_len(), scale, seed),
        bias: draw(conv.k(), 0.25, seed + 1),
    }
}
