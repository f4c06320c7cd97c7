//! A pooling on the device, like [`super::conv`].

use std::sync::Arc;

use cudarc::driver::CudaStream;
use warpconv::device::Gpu;
use warpconv::launch::{PoolPointers, Prepared};
use warpconv::plan::{Operation, Plan};
use warpconv::problem::{Pool2d, PoolKind};
use warpconv_testing as check;
use warpconv_testing::reference;
use warpconv_testing::{Stored, Tolerance, unpack};

use super::expected;
use super::measure::Judged;
use super::memory::Copies;
use super::timed_graph::{Launch, text};

/// The largest magnitude of operands of a check.
const MAX: u32 = 100;

/// Seed of the random input that launches are timed with.
const SEED: u64 = 11;

/// Operands of a pooling on the device, in several copies.
pub struct Pool<T> {
    stream: Arc<CudaStream>,
    problem: Pool2d,
    x: Copies<T>,
    y: Copies<T>,
    indices: Option<cudarc::driver::CudaSlice<u8>>,
    dense: Vec<f64>,
}

/// Bytes of one copy of the operands.
pub fn bytes(problem: &Pool2d) -> u64 {
    ((problem.input().len() + problem.output().len()) * problem.input().dtype().size()) as u64
}

impl<T: Stored> Pool<T> {
    /// Uploads the input; outputs hold NaN.
    pub fn new(
        stream: &Arc<CudaStream>,
        problem: &Pool2d,
        copies: usize,
    ) -> Result<Pool<T>, String> {
        let (input, output) = (problem.input(), problem.output());
        let few = expected::few(input).map_err(text)?;
        let dense = check::integers(few.elements(), MAX, 1);
        let x = expected::images::<T>(input, &dense)?;
        let poison = vec![T::poison(); output.len() / output.n().max(1)];
        let indices = problem.indices().then(|| {
            stream
                .alloc_zeros(problem.output().elements())
                .map_err(text)
        });
        Ok(Pool {
            x: Copies::new(stream, &x, input.len(), copies)?,
            y: Copies::new(stream, &poison, output.len(), copies)?,
            indices: indices.transpose()?,
            stream: stream.clone(),
            problem: problem.clone(),
            dense,
        })
    }

    /// The problem of the operands.
    pub fn problem(&self) -> &Pool2d {
        &self.problem
    }

    /// The operands of copy `i`.
    pub fn pointers(&self, i: usize) -> PoolPointers {
        use cudarc::driver::DevicePtr;
        let indices = self.indices.as_ref();
        PoolPointers {
            x: self.x.at(i),
            y: self.y.at(i),
            indices: indices.map_or(0, |indices| indices.device_ptr(&self.stream).0),
        }
    }

    /// Compares the first copy's output with the reference.
    pub fn compare(&self) -> Result<(), String> {
        let few = self
            .problem
            .with_batch(self.problem.input().n().min(expected::IMAGES))
            .map_err(text)?;
        let (want, _) = reference::pool2d(&few, &self.dense).map_err(text)?;
        let magnitudes = reference::pool2d_abs(&few, &self.dense).map_err(text)?;
        let sum = |terms| Tolerance::Sum {
            terms,
            magnitudes: &magnitudes,
        };
        let tolerance = match few.kind() {
            PoolKind::Max { .. } | PoolKind::GlobalMax => Tolerance::Exact,
            PoolKind::Average { .. } => sum(few.window().kernel[0] * few.window().kernel[1]),
            PoolKind::GlobalAverage | PoolKind::AdaptiveAverage { .. } => {
                sum(few.input().h() * few.input().w())
            }
        };
        let got = self.y.read(&self.stream, 0..few.output().len())?;
        let got = unpack(few.output(), &got).map_err(text)?;
        check::compare(
            &got,
            &want,
            check::extents(few.output()),
            T::DTYPE,
            tolerance,
        )
        .map(|_| ())
        .map_err(text)
    }

    /// Replaces the input of every copy.
    fn fill(&self, dense: &[f64]) -> Result<(), String> {
        let x = expected::images::<T>(self.problem.input(), dense)?;
        self.x.fill(&self.stream, &x)
    }

    /// Returns a closure that launches the plan on copy after copy.
    pub fn launcher<'a>(
        &'a self,
        gpu: &Gpu,
        plan: &Plan<Pool2d>,
    ) -> Result<Box<Launch<'a>>, String> {
        let prepared: Prepared<Pool2d> = gpu.prepare(plan).map_err(text)?;
        Ok(Box::new(move |i| {
            // SAFETY: as for convolutions: the buffers belong to `self`, are long enough, and are
            // of the stream's context.
            unsafe { prepared.launch_raw(self.stream.cu_stream(), self.pointers(i)) }.map_err(text)
        }))
    }
}

impl<T: Stored> Judged for Pool<T> {
    fn poison(&self) -> Result<(), String> {
        self.y.poison(&self.stream)
    }

    /// cuDNN's windows are shifted where padding replaces ceil mode: then only writing of the
    /// output is checked.
    fn judge_peer(&self) -> Result<(), String> {
        let got = self.y.read(&self.stream, 0..self.y.elements())?;
        let left = got.iter().filter(|y| y.value().is_nan()).count();
        if left == 0 {
            return Ok(());
        }
        Err(format!("{left} elements were not written"))
    }

    fn fill_integers(&self) -> Result<(), String> {
        self.fill(&self.dense)
    }

    fn fill_reals(&self) -> Result<(), String> {
        self.fill(&check::reals(self.dense.len(), T::DTYPE, SEED))
    }
}
