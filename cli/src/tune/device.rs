//! Running candidates on the device: timed by a GPU's own events, or counted by the emulator.

use std::sync::Arc;

use cudarc::driver::sys::CUevent_flags;
use cudarc::driver::{CudaSlice, CudaStream, DriverError};
use warpconv::Error;
use warpconv::device::Gpu;
use warpconv::launch::{ConvBuffers, PoolBuffers, Workspace};
use warpconv::plan::{Measure, Plan};
use warpconv::problem::{Conv2d, Pool2d};
use warpconv_testing as check;
use warpconv_testing::Stored;

use super::search::{Measured, Measuring};

/// The largest magnitude of operands: integers, so that all kernels' results are bitwise equal.
const MAX: u32 = 2;

/// Number of different operand elements; longer operands repeat these.
const DRAWN: usize = 1 << 18;

/// Maximum number of result elements that are compared.
const COMPARED: usize = 1 << 22;

/// Number of warm-up launches, which are not measured.
const WARM_UP: usize = 3;

/// Minimum length of a sample in microseconds: events have a resolution of half a microsecond.
const SAMPLE_US: f64 = 200.0;

/// Maximum number of launches per sample.
const MAX_LAUNCHES: f64 = 100.0;

/// A candidate this many times slower than the best is not measured further.
const HOPELESS: f64 = 3.0;

/// A problem's operands on a GPU.
pub struct Timing<'a, T> {
    gpu: &'a Gpu,
    samples: usize,
    x: CudaSlice<T>,
    w: Option<CudaSlice<T>>,
    bias: Option<CudaSlice<T>>,
    residual: Option<CudaSlice<T>>,
    y: CudaSlice<T>,
    indices: Option<CudaSlice<u8>>,
}

/// Generated elements of a buffer.
fn drawn<T: Stored>(len: usize, seed: u64) -> Vec<T> {
    let few: Vec<T> = check::integers(len.min(DRAWN), MAX, seed)
        .into_iter()
        .map(T::nearest)
        .collect();
    few.iter().copied().cycle().take(len).collect()
}

/// Filters in the problem's layout, with zeros where a layout has gaps.
fn filters<T: Stored>(conv: &Conv2d) -> Result<Vec<T>, Error> {
    let dense = check::integers(conv.filter().elements(), MAX, 2);
    check::pack_filter(conv, &dense)
}

impl<'a, T: Stored> Timing<'a, T> {
    /// Operands of a convolution.
    pub fn conv(gpu: &'a Gpu, conv: &Conv2d, samples: usize) -> Result<Self, Error> {
        let upload = |len, seed| gpu.upload(&drawn::<T>(len, seed));
        let bias = conv.bias().then(|| upload(conv.output().c(), 3));
        let residual = conv.residual().map(|desc| upload(desc.len(), 4));
        Ok(Timing {
            gpu,
            samples,
            x: upload(conv.input().len(), 1)?,
            w: Some(gpu.upload(&filters::<T>(conv)?)?),
            bias: bias.transpose()?,
            residual: residual.transpose()?,
            y: upload(conv.output().len(), 5)?,
            indices: None,
        })
    }

    /// Operands of a pooling.
    pub fn pool(gpu: &'a Gpu, pool: &Pool2d, samples: usize) -> Result<Self, Error> {
        let upload = |len, seed| gpu.upload(&drawn::<T>(len, seed));
        let indices = pool
            .indices()
            .then(|| gpu.upload(&vec![0; pool.output().elements()]));
        Ok(Timing {
            gpu,
            samples,
            x: upload(pool.input().len(), 1)?,
            w: None,
            bias: None,
            residual: None,
            y: upload(pool.output().len(), 5)?,
            indices: indices.transpose()?,
        })
    }

    /// A fingerprint of the last launch's output.
    fn result(&self) -> Result<u64, Error> {
        let all = self.gpu.download(&self.y)?;
        Ok(fingerprint(
            all.iter()
                .take(COMPARED)
                .map(|value| u64::from(value.bits())),
        ))
    }

    /// Zeroes the output, so that elements that a kernel leaves out differ from the previous
    /// kernel's.
    fn clear(&mut self) -> Result<(), String> {
        self.gpu
            .stream()
            .memset_zeros(&mut self.y)
            .map_err(|error| format!("clearing the output: {error}"))
    }
}

impl<T: Stored> Measuring<Conv2d> for Timing<'_, T> {
    fn by(&self) -> Measure {
        Measure::Time
    }

    fn measure(&mut self, plan: &Plan<Conv2d>, best: Option<f64>) -> Result<Measured, String> {
        self.clear()?;
        let failed = |error: Error| error.to_string();
        let (gpu, samples) = (self.gpu, self.samples);
        let stream = gpu.stream().clone();
        let prepared = gpu.prepare(plan).map_err(failed)?;
        let workspace = match plan.workspace_bytes() {
            0 => None,
            bytes => Some(Workspace::new(&stream, bytes)),
        };
        let mut workspace = workspace.transpose().map_err(failed)?;
        let (x, bias, residual) = (&self.x, &self.bias, &self.residual);
        let w = self.w.as_ref().ok_or("a convolution without filters")?;
        let y = &mut self.y;
        let amount = time(&stream, samples, best, || {
            let mut buffers = ConvBuffers::new(x, w, y);
            if let Some(bias) = bias {
                buffers = buffers.bias(bias);
            }
            if let Some(residual) = residual {
                buffers = buffers.residual(residual);
            }
            if let Some(workspace) = &mut workspace {
                buffers = buffers.workspace(workspace);
            }
            prepared.launch(&stream, buffers)
        })
        .map_err(failed)?;
        Ok(Measured {
            amount,
            result: self.result().map_err(failed)?,
        })
    }

    fn usable(&self) -> bool {
        self.gpu.synchronize().is_ok()
    }
}

impl<T: Stored> Measuring<Pool2d> for Timing<'_, T> {
    fn by(&self) -> Measure {
        Measure::Time
    }

    fn measure(&mut self, plan: &Plan<Pool2d>, best: Option<f64>) -> Result<Measured, String> {
        self.clear()?;
        let failed = |error: Error| error.to_string();
        let (gpu, samples) = (self.gpu, self.samples);
        let stream = gpu.stream().clone();
        let prepared = gpu.prepare(plan).map_err(failed)?;
        let (x, y, indices) = (&self.x, &mut self.y, &mut self.indices);
        let amount = time(&stream, samples, best, || {
            let mut buffers = PoolBuffers {
                x,
                y,
                indices: None,
            };
            if let Some(indices) = indices {
                buffers.indices = Some(indices);
            }
            prepared.launch(&stream, buffers)
        })
        .map_err(failed)?;
        Ok(Measured {
            amount,
            result: self.result().map_err(failed)?,
        })
    }

    fn usable(&self) -> bool {
        self.gpu.synchronize().is_ok()
    }
}

/// The median time of a launch in microseconds, after warm-up launches; each sample is long enough
/// for the resolution of events.
fn time(
    stream: &Arc<CudaStream>,
    samples: usize,
    best: Option<f64>,
    mut launch: impl FnMut() -> Result<(), Error>,
) -> Result<f64, Error> {
    let failed = |error: DriverError| Error::Driver {
        operation: "timing a launch",
        code: error.0 as u32,
        message: error.to_string(),
    };
    let event = || {
        stream
            .context()
            .new_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
            .map_err(failed)
    };
    let (start, end) = (event()?, event()?);
    let mut sample = |launches: usize| -> Result<f64, Error> {
        start.record(stream).map_err(failed)?;
        for _ in 0..launches {
            launch()?;
        }
        end.record(stream).map_err(failed)?;
        let ms = start.elapsed_ms(&end).map_err(failed)?;
        Ok(f64::from(ms) * 1e3 / launches as f64)
    };
    for _ in 0..WARM_UP {
        sample(1)?;
    }
    let first = sample(1)?;
    if best.is_some_and(|best| first > HOPELESS * best + SAMPLE_US) {
        return Ok(first);
    }
    let launches = (SAMPLE_US / first.max(0.1)).clamp(1.0, MAX_LAUNCHES) as usize;
    let mut times = Vec::with_capacity(samples);
    for _ in 0..samples {
        times.push(sample(launches)?);
    }
    Ok(median(&mut times))
}

/// The median: the middle value, or the mean of the two in the middle; infinite for no values.
fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    match times {
        [] => f64::INFINITY,
        _ => (times[times.len() / 2] + times[(times.len() - 1) / 2]) / 2.0,
    }
}

/// A problem's launches on the emulator: counted, not timed.
pub struct Counting<'a> {
    /// The emulated device.
    pub gpu: &'a Gpu,
}

impl Counting<'_> {
    /// Counters of the launches since the last reset.
    fn measured(&self, y: &[f64]) -> Result<Measured, String> {
        let counters = self.gpu.counters().ok_or("a GPU counts no instructions")?;
        Ok(Measured {
            amount: counters.instructions().warp as f64,
            result: fingerprint(y.iter().map(|value| value.to_bits())),
        })
    }
}

impl Measuring<Conv2d> for Counting<'_> {
    fn by(&self) -> Measure {
        Measure::Instructions
    }

    fn measure(&mut self, plan: &Plan<Conv2d>, _: Option<f64>) -> Result<Measured, String> {
        let conv = plan.problem();
        let draw = |len, seed| check::integers(len, MAX, seed);
        let bias = conv.bias().then(|| draw(conv.output().c(), 3));
        let residual = conv.residual().map(|desc| draw(desc.elements(), 4));
        let (x, w) = (
            draw(conv.input().elements(), 1),
            draw(conv.filter().elements(), 2),
        );
        self.gpu.reset_counters();
        let y = check::run_conv(self.gpu, plan, &x, &w, bias.as_deref(), residual.as_deref());
        self.measured(&y.map_err(|error| error.to_string())?)
    }

    fn usable(&self) -> bool {
        self.gpu.synchronize().is_ok()
    }
}

impl Measuring<Pool2d> for Counting<'_> {
    fn by(&self) -> Measure {
        Measure::Instructions
    }

    fn measure(&mut self, plan: &Plan<Pool2d>, _: Option<f64>) -> Result<Measured, String> {
        let x = check::integers(plan.problem().input().elements(), MAX, 1);
        self.gpu.reset_counters();
        let y = check::run_pool(self.gpu, plan, &x);
        self.measured(&y.map_err(|error| error.to_string())?.0)
    }

    fn usable(&self) -> bool {
        self.gpu.synchronize().is_ok()
    }
}

/// FNV-1a hash of words.
fn fingerprint(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0xcbf2_9ce4_8422_2325, |print, word| {
        (print ^ word).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median(&mut [3.0, 1.0, 100.0]), 3.0);
        assert_eq!(median(&mut [4.0, 1.0, 2.0, 100.0]), 3.0);
        assert_eq!(median(&mut []), f64::INFINITY);
    }

    #[test]
    fn operands_repeat() {
        let drawn = drawn::<f32>(DRAWN + 3, 1);
        assert_eq!(drawn.len(), DRAWN + 3);
        assert_eq!(drawn[..3], drawn[DRAWN..]);
        assert!(drawn.iter().any(|&value| value != 0.0));
    }
}
