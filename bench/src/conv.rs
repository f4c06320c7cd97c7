//! A convolution on the device: copies of its operands, launched once and checked, then timed in a
//! chain.

use std::rc::Rc;
use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use warpconv::device::Gpu;
use warpconv::launch::{ConvPointers, Prepared};
use warpconv::plan::{Limits, Plan};
use warpconv::problem::{Conv2d, FilterLayout};
use warpconv_testing::{Stored, pack_filter};

use super::expected::{self, Expected, Random};
use super::measure::Judged;
use super::memory::Copies;
use super::timed_graph::{Launch, text};

/// Operands of a convolution on the device, in several copies.
pub struct Conv<T> {
    stream: Arc<CudaStream>,
    problem: Conv2d,
    x: Copies<T>,
    w: Copies<T>,
    bias: Copies<T>,
    y: Copies<T>,
    expected: Rc<Expected>,
    /// The filters in the layout that this crate's kernel reads, where that differs from the
    /// problem's, and the problem with that layout. They are packed once, as the filters of a
    /// trained network are.
    packed: Option<(Copies<T>, Conv2d)>,
    /// Workspace of the kernel, if it needs one.
    workspace: Option<CudaSlice<u8>>,
}

/// This crate's plan for a problem within limits; with filters packed beforehand where its kernel
/// needs them packed.
pub fn plan(gpu: &Gpu, problem: &Conv2d, limits: &Limits) -> Result<Plan<Conv2d>, String> {
    let plan = Plan::within(problem, gpu.capability(), limits).map_err(text)?;
    if plan.launches() < 2 {
        return Ok(plan);
    }
    let packed = problem
        .to_builder()
        .filter_layout(FilterLayout::Packed)
        .build()
        .map_err(text)?;
    Plan::within(&packed, gpu.capability(), limits).map_err(text)
}

/// Largest accepted error of cuDNN, relative to the largest value: Winograd's transforms in 16 bits
/// round coarsely. The check detects a baseline that computes something else.
const CUDNN_SLACK: f64 = 0.05;

/// Bytes of one copy of the operands.
pub fn bytes(problem: &Conv2d) -> u64 {
    let elements = problem.input().len() + problem.filter().len() + problem.output().len();
    (elements * problem.input().dtype().size()) as u64
}

impl<T: Stored> Conv<T> {
    /// Uploads the operands of a check for a plan of the problem; outputs hold NaN. The problem is
    /// dense and has no residual.
    pub fn new(
        stream: &Arc<CudaStream>,
        problem: &Conv2d,
        plan: &Plan<Conv2d>,
        expected: Rc<Expected>,
        copies: usize,
    ) -> Result<Conv<T>, String> {
        let (input, output) = (problem.input(), problem.output());
        let x = expected::images::<T>(input, &expected.x)?;
        let w = pack_filter(problem, &expected.w).map_err(text)?;
        let packed = if plan.problem().filter().layout == problem.filter().layout {
            None
        } else {
            let w = pack_filter(plan.problem(), &expected.w).map_err(text)?;
            let packed = Copies::new(stream, &w, w.len(), copies)?;
            Some((packed, plan.problem().clone()))
        };
        // The whole workspace is zeroed; only the counters need it.
        let bytes = usize::try_from(plan.workspace_bytes()).map_err(text)?;
        let workspace = (bytes > 0).then(|| stream.alloc_zeros::<u8>(bytes).map_err(text));
        let poison = vec![T::poison(); output.len() / output.n().max(1)];
        let bias: Vec<T> = expected
            .bias
            .iter()
            .map(|&value| T::nearest(value))
            .collect();
        Ok(Conv {
            x: Copies::new(stream, &x, input.len(), copies)?,
            w: Copies::new(stream, &w, w.len(), copies)?,
            bias: Copies::new(stream, &bias, bias.len(), 1)?,
            y: Copies::new(stream, &poison, output.len(), copies)?,
            stream: stream.clone(),
            problem: problem.clone(),
            expected,
            packed,
            workspace: workspace.transpose()?,
        })
    }

    /// The problem of the operands.
    pub fn problem(&self) -> &Conv2d {
        &self.problem
    }

    /// The operands of copy `i`.
    pub fn pointers(&self, i: usize) -> ConvPointers {
        let bias = if self.problem.bias() {
            self.bias.at(i)
        } else {
            0
        };
        ConvPointers {
            x: self.x.at(i),
            w: self.w.at(i),
            bias,
            y: self.y.at(i),
            ..ConvPointers::default()
        }
    }

    /// Compares the first copy's output with the reference; `slack` as for [`expected::compare`].
    pub fn compare(&self, slack: f64) -> Result<(), String> {
        let read = |elements| self.y.read(&self.stream, elements);
        expected::compare(self.problem.output(), &self.expected.y, slack, read)
    }

    /// Replaces the operands of every copy.
    fn fill(&self, x: &[f64], w: &[f64], bias: &[f64]) -> Result<(), String> {
        let stream = &self.stream;
        let x = expected::images::<T>(self.problem.input(), x)?;
        self.x.fill(stream, &x)?;
        let filters = pack_filter(&self.problem, w).map_err(text)?;
        self.w.fill(stream, &filters)?;
        if let Some((packed, problem)) = &self.packed {
            packed.fill(stream, &pack_filter(problem, w).map_err(text)?)?;
        }
        let bias: Vec<T> = bias.iter().map(|&value| T::nearest(value)).collect();
        self.bias.fill(stream, &bias)
    }

    /// Returns a closure that launches the plan on copy after copy.
    pub fn launcher<'a>(
        &'a self,
        gpu: &Gpu,
        plan: &Plan<Conv2d>,
    ) -> Result<Box<Launch<'a>>, String> {
        let prepared: Prepared<Conv2d> = gpu.prepare(plan).map_err(text)?;
        let workspace = self
            .workspace
            .as_ref()
            .map_or(0, |held| held.device_ptr(&self.stream).0);
        Ok(Box::new(move |i| {
            let mut pointers = self.pointers(i);
            pointers.workspace = workspace;
            if let Some((packed, _)) = &self.packed {
                pointers.w = packed.at(i);
            }
            // SAFETY: the addresses are those of buffers as long as the plan's problem requires,
            // which `self` keeps alive; nothing else uses them meanwhile, and the stream belongs to
            // their context.
            unsafe { prepared.launch_raw(self.stream.cu_stream(), pointers) }.map_err(text)
        }))
    }
}

impl<T: Stored> Judged for Conv<T> {
    fn poison(&self) -> Result<(), String> {
        self.y.poison(&self.stream)
    }

    fn judge_peer(&self) -> Result<(), String> {
        self.compare(CUDNN_SLACK)
    }

    fn fill_integers(&self) -> Result<(), String> {
        let Expected { x, w, bias, .. } = &*self.expected;
        self.fill(x, w, bias)
    }

    fn fill_reals(&self) -> Result<(), String> {
        let Random { x, w, bias } = Random::of(&self.problem)?;
        self.fill(&x, &w, &bias)
    }
}
