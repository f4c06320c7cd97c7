//! Runs a case on a device and compares the result.

use warpconv::device::{Gpu, Loaded};
use warpconv::error::Error;
use warpconv::graph::{Graph, Node, Step, TensorId};
use warpconv::launch::{FunctionAttributes, Launch, Prepared, Unary};
use warpconv::plan::{Plan, Tuning};
use warpconv::problem::{Added, Bottleneck2d, Branches, Conv2d, Pool2d, Subsample, TensorDesc};

use super::{SmokeCase, SmokeProblem};
use crate::bottleneck::run_bottleneck_with_guards;
use crate::compare::{Mismatch, Stats, Tolerance, compare, compare_indices};
use crate::convert::{Stored, round, with_stored};
use crate::extents;
use crate::fill::integers;
use crate::graph_on_device::Operands;
use crate::guard::{Guarded, Guards};
use crate::pack::pack_filter;
use crate::reference::{self, BottleneckOperands};
use crate::run::{
    RunError, run_conv_with_guards, run_pool_with_guards, run_subsample, run_unary_with_guards,
};
use crate::run_graph::run_graph_with_guards;

/// Reason why a case failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SmokeError {
    /// The problem has no plan on this device, or its kernel does not load.
    #[error(transparent)]
    Refused(Error),
    /// The launch failed, or wrote what is not its own, or not all that is.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The result is wrong.
    #[error(transparent)]
    Wrong(#[from] Mismatch),
}

impl From<Error> for SmokeError {
    fn from(error: Error) -> SmokeError {
        SmokeError::Run(RunError::Device(error))
    }
}

/// Runs a case between guard bytes, on small integers, and compares it with the f64 reference:
/// exactly, where sums of integers and maxima are.
///
/// # Errors
/// [`SmokeError`], which tells a refusal, a failed launch and a wrong result apart.
pub fn run(gpu: &Gpu, case: &SmokeCase) -> Result<Stats, SmokeError> {
    let guards = Guards::of(gpu).shifted(case.shift);
    let run = Run { gpu, case, guards };
    match &case.problem {
        SmokeProblem::Conv(conv) => run.conv(conv),
        SmokeProblem::Pool(pool) => run.pool(pool),
        SmokeProblem::Bottleneck(bottleneck) => run.bottleneck(bottleneck),
        SmokeProblem::Branches(branches) => run.branches(branches),
        SmokeProblem::Relu(relu) => run.unary(relu, |x| Ok((reference::relu(x), None))),
        SmokeProblem::Lrn(lrn) => run.unary(lrn, |x| {
            Ok((reference::lrn(lrn, x)?, Some(reference::lrn_bound(lrn, x)?)))
        }),
        SmokeProblem::Softmax(softmax) => run.unary(softmax, |x| {
            let bound = reference::softmax_bound(softmax, x)?;
            Ok((reference::softmax(softmax, x)?, Some(bound)))
        }),
        SmokeProblem::Tanh(tanh) => run.unary(tanh, |x| {
            Ok((
                reference::tanh(tanh, x),
                Some(reference::tanh_bound(tanh, x)),
            ))
        }),
        SmokeProblem::Subsample(subsample) => run.subsample(subsample),
        SmokeProblem::PackFilter(conv) => {
            with_stored!(conv.output().dtype(), T => run.pack_filter::<T>(conv))
        }
    }
}

/// Kernel as it was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadedImage {
    /// Image that the kernel was loaded from.
    pub loaded: Loaded,
    /// Its registers and memory, as the driver reports them.
    pub attributes: FunctionAttributes,
}

/// Loads the kernel of a case.
///
/// # Errors
/// [`SmokeError::Refused`] if there is no plan, or the kernel does not load.
pub fn load(gpu: &Gpu, case: &SmokeCase) -> Result<LoadedImage, SmokeError> {
    let run = Run {
        gpu,
        case,
        guards: Guards::of(gpu),
    };
    match &case.problem {
        SmokeProblem::Conv(conv) => run.load(conv),
        SmokeProblem::Pool(pool) => run.load(pool),
        SmokeProblem::Bottleneck(bottleneck) => run.load(bottleneck),
        SmokeProblem::Branches(branches) => run.load(branches),
        SmokeProblem::Relu(relu) => run.load(relu),
        SmokeProblem::Lrn(lrn) => run.load(lrn),
        SmokeProblem::Softmax(softmax) => run.load(softmax),
        SmokeProblem::Tanh(tanh) => run.load(tanh),
        SmokeProblem::Subsample(subsample) => run.load(subsample),
        SmokeProblem::PackFilter(conv) => {
            let pack = gpu.prepare_pack_filter(conv).map_err(SmokeError::Refused)?;
            Ok(LoadedImage {
                loaded: pack.loaded(),
                attributes: pack.attributes()?,
            })
        }
    }
}

/// The largest magnitude of an operand: sums of such products are exact in f32.
const MAX_MAGNITUDE: u32 = 4;

/// A case that is being run.
struct Run<'a> {
    gpu: &'a Gpu,
    case: &'a SmokeCase,
    guards: Guards,
}

impl Run<'_> {
    fn plan<P: Launch>(&self, problem: &P) -> Result<Plan<P>, SmokeError> {
        Ok(self.prepare(problem)?.plan().clone())
    }

    /// Plans the problem with the case's kernel, and loads it.
    fn prepare<P: Launch>(&self, problem: &P) -> Result<Prepared<P>, SmokeError> {
        let plan = Plan::within(problem, self.gpu.capability(), &self.case.limits());
        let plan = plan.map_err(SmokeError::Refused)?;
        self.gpu.prepare(&plan).map_err(SmokeError::Refused)
    }

    fn load<P: Launch>(&self, problem: &P) -> Result<LoadedImage, SmokeError> {
        let prepared = self.prepare(problem)?;
        Ok(LoadedImage {
            loaded: prepared.loaded(),
            attributes: prepared.attributes()?,
        })
    }

    fn conv(&self, conv: &Conv2d) -> Result<Stats, SmokeError> {
        let plan = self.plan(conv)?;
        let x = integers(conv.input().elements(), MAX_MAGNITUDE, 1);
        let w = integers(conv.filter().elements(), MAX_MAGNITUDE, 2);
        let output = conv.output();
        let bias = conv.bias().then(|| integers(output.c(), MAX_MAGNITUDE, 3));
        let residual = conv.residual();
        let residual = residual.map(|_| integers(output.elements(), MAX_MAGNITUDE, 4));
        let (bias, residual) = (bias.as_deref(), residual.as_deref());
        let operands = [Some(&x[..]), Some(&w[..]), bias, residual];
        let got = run_conv_with_guards(self.gpu, &plan, self.guards, operands)?;
        let want = reference::conv2d(conv, &x, &w, bias, residual)?;
        Ok(compare(
            &got,
            &want,
            extents(output),
            output.dtype(),
            Tolerance::Exact,
        )?)
    }

    fn pool(&self, pool: &Pool2d) -> Result<Stats, SmokeError> {
        let plan = self.plan(pool)?;
        let x = integers(pool.input().elements(), 9, 1);
        let (got, got_indices) = run_pool_with_guards(self.gpu, &plan, self.guards, &x)?;
        let (want, indices) = reference::pool2d(pool, &x)?;
        let magnitudes = reference::pool2d_abs(pool, &x)?;
        let (output, tolerance) = (pool.output(), Tolerance::of_pool(pool, &magnitudes));
        let stats = compare(&got, &want, extents(output), output.dtype(), tolerance)?;
        let missing = Error::MissingBuffer { buffer: "indices" };
        match (got_indices, indices) {
            (Some(got), Some(want)) => {
                compare_indices(&got, &want, extents(output))?;
            }
            (None, None) => {}
            _ => return Err(missing.into()),
        }
        Ok(stats)
    }

    fn bottleneck(&self, problem: &Bottleneck2d) -> Result<Stats, SmokeError> {
        let plan = self.plan(problem)?;
        // Integers of -1 to 1: intermediates, too, are exact or round one exact sum.
        let x = integers(problem.input().elements(), 1, 1);
        let convs = problem.convolutions();
        let w = [0, 1, 2].map(|i| integers(convs[i].filter().elements(), 1, 2 + i as u64));
        let bias = [0, 1, 2].map(|i| {
            let conv = &convs[i];
            conv.bias()
                .then(|| integers(conv.output().c(), 1, 5 + i as u64))
        });
        let output = problem.output();
        let residual = problem.added() == Added::Tensor;
        let residual = residual.then(|| integers(output.elements(), 1, 8));
        let operands = BottleneckOperands {
            x: &x,
            w: w.each_ref().map(Vec::as_slice),
            bias: bias.each_ref().map(Option::as_deref),
            residual: residual.as_deref(),
        };
        let got = run_bottleneck_with_guards(self.gpu, &plan, self.guards, &operands)?;
        let store = |value| round(output.dtype(), value);
        let want = reference::bottleneck2d(problem, &operands, store)?;
        Ok(compare(
            &got,
            &want,
            extents(output),
            output.dtype(),
            Tolerance::Exact,
        )?)
    }

    /// Runs the branches as a graph of one node, whose outputs are slices of one tensor.
    fn branches(&self, branches: &Branches) -> Result<Stats, SmokeError> {
        self.plan(branches)?;
        let node = Node {
            name: "branches".into(),
            step: Step::Branches(Box::new(branches.clone())),
            from: vec![TensorId::Input; branches.inputs().count()],
            to: vec![TensorId::Output; branches.convolutions().count()],
            residual: None,
        };
        let convs: Vec<&Conv2d> = branches.convolutions().collect();
        let operand = |(index, conv): (usize, &&Conv2d)| Operands {
            w: integers(conv.filter().elements(), MAX_MAGNITUDE, 10 + index as u64),
            bias: conv
                .bias()
                .then(|| integers(conv.output().c(), MAX_MAGNITUDE, 50 + index as u64)),
        };
        let operands: Vec<Operands> = convs.iter().enumerate().map(operand).collect();
        let Some(input) = branches.inputs().next() else {
            return Err(Error::MissingBuffer { buffer: "x" }.into());
        };
        let x = integers(input.elements(), MAX_MAGNITUDE, 1);
        let graph = Graph::new(vec![node], input.dtype()).map_err(SmokeError::Refused)?;
        let limits = self.case.limits();
        let tuning = Tuning::new(self.gpu.card());
        let prepared = graph.prepare_each(self.gpu, &tuning, |_| limits);
        let prepared = prepared.map_err(SmokeError::Refused)?;
        let got = run_graph_with_guards(self.gpu, &prepared, self.guards, &x, &operands)?;
        let want = module(branches, &x, &operands)?;
        let all = whole(convs[0].output());
        Ok(compare(&got, &want, all, input.dtype(), Tolerance::Exact)?)
    }

    fn unary<P: Unary + Launch>(
        &self,
        problem: &P,
        reference: impl Fn(&[f64]) -> Result<(Vec<f64>, Option<Vec<f64>>), Error>,
    ) -> Result<Stats, SmokeError> {
        let plan = self.plan(problem)?;
        let x = integers(problem.input().elements(), MAX_MAGNITUDE, 1);
        let got = run_unary_with_guards(self.gpu, &plan, self.guards, &x)?;
        let (want, bound) = reference(&x)?;
        let tolerance = match &bound {
            Some(sums) => Tolerance::Off { sums },
            None => Tolerance::Exact,
        };
        let output = problem.output();
        Ok(compare(
            &got,
            &want,
            extents(output),
            output.dtype(),
            tolerance,
        )?)
    }

    fn subsample(&self, subsample: &Subsample) -> Result<Stats, SmokeError> {
        let plan = self.plan(subsample)?;
        let x = integers(subsample.input().elements(), MAX_MAGNITUDE, 1);
        let output = subsample.output();
        let [w, bias] = [2, 3].map(|seed| integers(output.c(), 2, seed));
        let got = run_subsample(self.gpu, &plan, self.guards, [&x, &w, &bias])?;
        let want = reference::subsample(subsample, &x, &w, &bias)?;
        let sums = reference::subsample_bound(subsample, &x, &w, &bias)?;
        let tolerance = Tolerance::Off { sums: &sums };
        Ok(compare(
            &got,
            &want,
            extents(output),
            output.dtype(),
            tolerance,
        )?)
    }

    fn pack_filter<T: Stored>(&self, conv: &Conv2d) -> Result<Stats, SmokeError> {
        let pack = self
            .gpu
            .prepare_pack_filter(conv)
            .map_err(SmokeError::Refused)?;
        let dense = integers(conv.filter().elements(), 99, 1);
        let filters = pack_filter::<T>(conv, &dense)?;
        let w = Guarded::upload(self.gpu, "w", self.guards, filters)?;
        let want = pack_filter::<T>(pack.packed(), &dense)?;
        let poison = vec![T::poison(); want.len()];
        let mut packed = Guarded::upload(self.gpu, "packed", self.guards, poison)?;
        pack.launch(self.gpu.stream(), &w.view(), &mut packed.view_mut())?;
        self.gpu.synchronize()?;
        let got = packed.download(self.gpu)?;
        w.expect_untouched(self.gpu)?;
        let wide = |values: &[T]| values.iter().map(|value| value.value()).collect::<Vec<_>>();
        let all = [1, 1, 1, want.len()];
        Ok(compare(
            &wide(&got),
            &wide(&want),
            all,
            conv.output().dtype(),
            Tolerance::Exact,
        )?)
    }
}

/// Extents of the whole tensor that a slice belongs to.
fn whole(desc: &TensorDesc) -> [usize; 4] {
    let [n, _, h, w] = extents(desc);
    [n, desc.channel_pitch(), h, w]
}

/// The expected output of branches that write slices of one tensor.
fn module(branches: &Branches, x: &[f64], operands: &[Operands]) -> Result<Vec<f64>, Error> {
    let mut all = Vec::new();
    let mut operands = operands.iter();
    for product in branches.products() {
        let pooled = match product.pooling() {
            Some(pooling) => Some(reference::pool2d(pooling, x)?.0),
            None => None,
        };
        let x = pooled.as_deref().unwrap_or(x);
        for conv in product.convolutions() {
            let own = operands.next();
            let (w, bias) = own.map_or((&[][..], None), |one| (&one.w[..], one.bias.as_deref()));
            let values = reference::conv2d(conv, x, w, bias, None)?;
            let output = conv.output();
            if all.is_empty() {
                all = vec![f64::NAN; whole(output).iter().product()];
            }
            paste(&mut all, &values, output);
        }
    }
    Ok(all)
}

/// Writes a slice into its whole tensor, both in NCHW.
fn paste(all: &mut [f64], values: &[f64], desc: &TensorDesc) {
    let plane = desc.h() * desc.w();
    let wide = desc.channel_pitch() * plane;
    let images = all.chunks_mut(wide).zip(values.chunks(desc.c() * plane));
    for (image, values) in images {
        let first = desc.channel_offset() * plane;
        image[first..first + values.len()].copy_from_slice(values);
    }
}
