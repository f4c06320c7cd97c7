//! What the benchmarks share: a GPU or nothing, time by the device's own events, and a result checked before its time
//! is taken.

// Each benchmark uses its part of this.
#![allow(dead_code)]

use std::sync::Arc;

use criterion::measurement::{Measurement, ValueFormatter};
use criterion::{Criterion, Throughput};
use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaEvent, CudaSlice, CudaStream};
use warpconv::check::{self, Stored, Tolerance, pack, pack_filter, unpack};
use warpconv::gpu::{DeviceChoice, Gpu};
use warpconv::launch::{ConvBuffers, PoolBuffers, PreparedConv, PreparedPool};
use warpconv::plan::{ConvPlan, PoolPlan};
use warpconv::problem::{Conv2d, Pool2d, PoolKind, TensorDesc};
use warpconv::reference;

/// The GPU; without one a sentence, and the benchmark is over. The emulator is never timed.
pub fn gpu() -> Option<Gpu> {
    match Gpu::open(&DeviceChoice::Cuda(0)) {
        Ok(gpu) => {
            println!("device: {}, driver {}", gpu.name(), gpu.driver_version());
            Some(gpu)
        }
        Err(error) => {
            println!("No GPU, so nothing is timed: {error}.");
            None
        }
    }
}

/// Criterion over the stream's events.
pub fn criterion(stream: &Arc<CudaStream>) -> Criterion<DeviceTime> {
    Criterion::default()
        .configure_from_args()
        .with_measurement(DeviceTime {
            stream: stream.clone(),
        })
}

/// Time on the device, in nanoseconds: what lies between two events in a stream.
pub struct DeviceTime {
    stream: Arc<CudaStream>,
}

impl DeviceTime {
    /// An event behind everything queued so far.
    fn event(&self) -> CudaEvent {
        self.stream
            .record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
            .expect("the device records an event")
    }
}

impl Measurement for DeviceTime {
    type Intermediate = CudaEvent;
    type Value = f64;

    fn start(&self) -> CudaEvent {
        self.event()
    }

    fn end(&self, start: CudaEvent) -> f64 {
        let ms = start
            .elapsed_ms(&self.event())
            .expect("the launches between two events succeed");
        f64::from(ms) * 1e6
    }

    fn add(&self, a: &f64, b: &f64) -> f64 {
        a + b
    }

    fn zero(&self) -> f64 {
        0.0
    }

    fn to_f64(&self, value: &f64) -> f64 {
        *value
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        &Nanoseconds
    }
}

/// How times and rates are written.
struct Nanoseconds;

impl ValueFormatter for Nanoseconds {
    fn scale_values(&self, typical: f64, values: &mut [f64]) -> &'static str {
        let (scale, unit) = if typical < 1e3 {
            (1.0, "ns")
        } else if typical < 1e6 {
            (1e-3, "us")
        } else {
            (1e-6, "ms")
        };
        values.iter_mut().for_each(|value| *value *= scale);
        unit
    }

    fn scale_throughputs(
        &self,
        _typical: f64,
        throughput: &Throughput,
        values: &mut [f64],
    ) -> &'static str {
        // Elements are operations, so a count a nanosecond is a thousandth of a tera-operation a second.
        let (count, scale, unit) = match *throughput {
            Throughput::Bytes(bytes) | Throughput::BytesDecimal(bytes) => {
                (bytes as f64, 1.0, "GB/s")
            }
            Throughput::Elements(elements) => (elements as f64, 1e-3, "TFLOP/s"),
            _ => (1.0, 1e9, "a second"),
        };
        values
            .iter_mut()
            .for_each(|value| *value = count / *value * scale);
        unit
    }

    fn scale_for_machines(&self, _values: &mut [f64]) -> &'static str {
        "ns"
    }
}

/// Different images of a batch; the others repeat them, which makes large batches cheap to fill and to check.
const IMAGES: usize = 2;

/// The largest magnitude of operands: integers, so that results must be exact.
const MOST: u32 = 2;

/// A batch whose images are `IMAGES` different ones in turn; also those images, dense.
fn batch<T: Stored>(desc: &TensorDesc, seed: u64) -> (Vec<T>, Vec<f64>) {
    let few = few(desc);
    let dense = check::integers(few.elements(), MOST, seed);
    let stored = pack(&few, &dense, T::poison()).expect("the lengths agree");
    let image = few.len() / few.n().max(1);
    let repeated = (0..desc.n()).flat_map(|n| {
        let first = n % few.n().max(1) * image;
        stored[first..first + image].iter().copied()
    });
    (repeated.collect(), dense)
}

/// The tensor with at most `IMAGES` images.
fn few(desc: &TensorDesc) -> TensorDesc {
    let n = desc.n().min(IMAGES);
    TensorDesc::new(n, desc.c(), desc.h(), desc.w(), desc.layout(), desc.dtype())
        .expect("smaller than a valid tensor")
}

/// Compares the first images and the last one with what the first ones should be.
fn compare<T: Stored>(
    stream: &Arc<CudaStream>,
    y: &CudaSlice<T>,
    desc: &TensorDesc,
    want: &[f64],
    what: &str,
    tolerance: Tolerance<'_>,
) {
    let few = few(desc);
    let image = few.len() / few.n().max(1);
    let got = stream
        .clone_dtoh(&y.slice(0..few.len()))
        .expect("the launch succeeds");
    let got = unpack(&few, &got).expect("the lengths agree");
    if let Err(mismatch) = check::compare(&got, want, check::extents(&few), T::DTYPE, tolerance) {
        panic!("{what}: {mismatch}");
    }
    let last = desc.n() - 1;
    let got = stream
        .clone_dtoh(&y.slice(last * image..(last + 1) * image))
        .expect("the launch succeeds");
    let twin = stream
        .clone_dtoh(&y.slice(last % few.n() * image..(last % few.n() + 1) * image))
        .expect("as above");
    let same = got.iter().zip(&twin).all(|(a, b)| a.bits() == b.bits());
    assert!(
        same,
        "{what}: equal images of a batch have different results"
    );
}

/// A convolution on the device, checked once.
pub struct Conv<T> {
    stream: Arc<CudaStream>,
    prepared: PreparedConv,
    x: CudaSlice<T>,
    w: CudaSlice<T>,
    bias: CudaSlice<T>,
    y: CudaSlice<T>,
}

impl<T: Stored> Conv<T> {
    /// Uploads, launches, compares. The problem must have a bias and no residual.
    pub fn checked(gpu: &Gpu, problem: &Conv2d) -> Conv<T> {
        let stream = gpu.stream().clone();
        let plan = ConvPlan::new(problem, gpu.capability()).expect("a plan");
        let upload = |values: &[T]| stream.clone_htod(values).expect("room on the device");
        let (x, dense_x) = batch::<T>(problem.input(), 1);
        let dense_w = check::integers(problem.filter_elements(), MOST, 2);
        let dense_bias = check::integers(problem.k(), MOST, 3);
        let bias: Vec<T> = dense_bias.iter().map(|&value| T::nearest(value)).collect();
        let mut conv = Conv {
            prepared: gpu.prepare_conv(&plan).expect("the kernel loads"),
            x: upload(&x),
            w: upload(&pack_filter(problem, &dense_w).expect("the lengths agree")),
            bias: upload(&bias),
            y: upload(&vec![T::poison(); problem.output().len()]),
            stream,
        };
        conv.launch();
        let small = problem
            .with_batch(problem.n().min(IMAGES))
            .expect("smaller than a valid problem");
        let want = reference::conv2d(&small, &dense_x, &dense_w, Some(&dense_bias), None)
            .expect("the lengths agree");
        let what = problem.to_string();
        compare(
            &conv.stream,
            &conv.y,
            problem.output(),
            &want,
            &what,
            Tolerance::Exact,
        );
        conv
    }

    /// The kernel that its plan chose.
    pub fn kernel(&self) -> String {
        self.prepared.plan().kernel().kernel().id()
    }

    /// Queues it once.
    pub fn launch(&mut self) {
        let buffers = ConvBuffers::new(&self.x, &self.w, &mut self.y).bias(&self.bias);
        self.prepared
            .launch(&self.stream, buffers)
            .expect("the launch is queued");
    }
}

/// A pool on the device, checked once.
pub struct Pool<T> {
    stream: Arc<CudaStream>,
    prepared: PreparedPool,
    x: CudaSlice<T>,
    y: CudaSlice<T>,
    indices: Option<CudaSlice<u8>>,
}

impl<T: Stored> Pool<T> {
    /// Uploads, launches, compares.
    pub fn checked(gpu: &Gpu, problem: &Pool2d) -> Pool<T> {
        let stream = gpu.stream().clone();
        let plan = PoolPlan::new(problem, gpu.capability()).expect("a plan");
        let (x, dense_x) = batch::<T>(problem.input(), 1);
        let indices = problem.indices().then(|| {
            stream
                .alloc_zeros(problem.index_len())
                .expect("room on the device")
        });
        let mut pool = Pool {
            prepared: gpu.prepare_pool(&plan).expect("the kernel loads"),
            x: stream.clone_htod(&x).expect("room on the device"),
            y: stream
                .clone_htod(&vec![T::poison(); problem.output().len()])
                .expect("room on the device"),
            indices,
            stream,
        };
        pool.launch();
        let small = problem
            .with_batch(problem.n().min(IMAGES))
            .expect("smaller than a valid problem");
        let (want, _) = reference::pool2d(&small, &dense_x).expect("the lengths agree");
        let magnitudes = reference::pool2d_abs(&small, &dense_x).expect("the lengths agree");
        let tolerance = match problem.kind() {
            PoolKind::Max { .. } | PoolKind::GlobalMax => Tolerance::Exact,
            PoolKind::Average { .. } => Tolerance::Sum {
                terms: problem.r() * problem.s(),
                magnitudes: &magnitudes,
            },
            _ => Tolerance::Sum {
                terms: problem.h() * problem.w(),
                magnitudes: &magnitudes,
            },
        };
        compare(
            &pool.stream,
            &pool.y,
            problem.output(),
            &want,
            &problem.to_string(),
            tolerance,
        );
        pool
    }

    /// Queues it once.
    pub fn launch(&mut self) {
        let buffers = PoolBuffers::new(&self.x, &mut self.y);
        let buffers = match &mut self.indices {
            Some(indices) => buffers.indices(indices),
            None => buffers,
        };
        self.prepared
            .launch(&self.stream, buffers)
            .expect("the launch is queued");
    }
}
