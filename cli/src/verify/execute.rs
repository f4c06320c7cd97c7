//! Runs the steps of a graph on the device, one checked launch after another.
//!
//! Every launch uses the checked runs of `warpconv_testing`: fresh buffers between guards, a
//! poisoned output, and a check that the gaps of a slice are untouched. Values pass between
//! launches through the host, rounded to the storage type by the launch that computed them.

use std::collections::HashMap;

use warpconv::device::Gpu;
use warpconv::kernels::KernelId;
use warpconv::launch::Unary;
use warpconv::plan::{Limits, Operation, Plan};
use warpconv::problem::{Added, Bottleneck2d, NO_INDEX, Pool2d};
use warpconv::{DType, Error};
use warpconv_testing as check;
use warpconv_testing::reference::BottleneckOperands;

use super::case::indices_of;
use super::graph::{Op, Step, Tensor};
use super::lower::{Problem, Shapes, extents, no_kernel};

/// Tensors by their names.
pub type Tensors = HashMap<String, Tensor>;

/// A graph ready to run.
pub struct Executor<'a> {
    pub gpu: &'a Gpu,
    pub steps: &'a [Step],
    pub problems: &'a [Problem],
    pub shapes: &'a Shapes,
    /// Type to which steps on the host round their results.
    pub dtype: DType,
    /// Kernel for every step whose problem it accepts; other steps use their plan's.
    pub kernel: Option<KernelId>,
    /// Split-K for every step whose kernel accepts it.
    pub split_k: Option<u32>,
}

/// Result of a run.
pub struct Ran {
    pub tensors: Tensors,
    /// The kernel and the split-K of each convolution, in order.
    pub convs: Vec<(KernelId, u32)>,
    /// Arithmetic steps that ran on the host, copies excluded.
    pub host: Vec<&'static str>,
}

impl Executor<'_> {
    /// Runs every step; `given` contains inputs and filters.
    pub fn run(&self, given: &Tensors) -> Result<Ran, String> {
        let mut ran = Ran {
            tensors: HashMap::new(),
            convs: Vec::new(),
            host: Vec::new(),
        };
        for (step, problem) in self.steps.iter().zip(self.problems) {
            let data = self.step(step, problem, given, &mut ran).map_err(|why| {
                format!(
                    "{} making `{}`: {why}",
                    step.layer.op.name(),
                    step.layer.output
                )
            })?;
            let shape = self
                .shapes
                .get(&step.layer.output)
                .cloned()
                .unwrap_or_default();
            ran.tensors
                .insert(step.layer.output.clone(), Tensor { shape, data });
        }
        Ok(ran)
    }

    /// Runs one step and returns the values of its output.
    fn step(
        &self,
        step: &Step,
        problem: &Problem,
        given: &Tensors,
        ran: &mut Ran,
    ) -> Result<Vec<f64>, String> {
        let inputs = &step.layer.inputs;
        match problem {
            Problem::Conv(conv) => {
                let plan = self.plan(conv)?;
                ran.convs.push((plan.kernel_id(), plan.score().split_k));
                let bias = inputs
                    .get(2)
                    .map(|name| find(given, &ran.tensors, name))
                    .transpose()?;
                let residual = step
                    .residual
                    .as_ref()
                    .map(|name| find(given, &ran.tensors, name))
                    .transpose()?;
                let (x, w) = (
                    find(given, &ran.tensors, &inputs[0])?,
                    find(given, &ran.tensors, &inputs[1])?,
                );
                check::run_conv(
                    self.gpu,
                    &plan,
                    &x.data,
                    &w.data,
                    bias.map(|b| &b.data[..]),
                    residual.map(|r| &r.data[..]),
                )
                .map_err(|error| error.to_string())
            }
            Problem::Pool(pool) => {
                let plan = self.plan(pool)?;
                let x = find(given, &ran.tensors, &inputs[0])?;
                let (y, indices) =
                    check::run_pool(self.gpu, &plan, &x.data).map_err(|error| error.to_string())?;
                if let Some(indices) = indices {
                    let flat = in_plane(pool, &indices);
                    let shape = vec![
                        pool.input().n(),
                        pool.input().c(),
                        pool.output().h(),
                        pool.output().w(),
                    ];
                    ran.tensors
                        .insert(indices_of(&step.layer.output), Tensor { shape, data: flat });
                }
                Ok(y)
            }
            Problem::Relu(relu) => self.map(relu, &inputs[0], given, ran),
            Problem::Lrn(lrn) => self.map(lrn, &inputs[0], given, ran),
            Problem::Bottleneck(bottleneck) => self.bottleneck(step, bottleneck, given, ran),
            Problem::Softmax(softmax) => self.map(softmax, &inputs[0], given, ran),
            Problem::Tanh(tanh) => self.map(tanh, &inputs[0], given, ran),
            Problem::Subsample(subsample) => {
                let plan = self.plan(subsample)?;
                let tensor = |name: &String| find(given, &ran.tensors, name);
                let [x, w, b] = [
                    tensor(&inputs[0])?,
                    tensor(&inputs[1])?,
                    tensor(&inputs[2])?,
                ];
                let operands = [&x.data[..], &w.data, &b.data];
                let guards = check::Guards::of(self.gpu);
                check::run_subsample(self.gpu, &plan, guards, operands)
                    .map_err(|error| error.to_string())
            }
            Problem::Host => self.host(step, given, ran),
        }
    }

    /// Runs a step that keeps the extents and has no weights.
    fn map<P: Unary>(
        &self,
        problem: &P,
        input: &str,
        given: &Tensors,
        ran: &Ran,
    ) -> Result<Vec<f64>, String> {
        let plan = self.plan(problem)?;
        let x = find(given, &ran.tensors, input)?;
        check::run_unary(self.gpu, &plan, &x.data).map_err(|error| error.to_string())
    }

    /// Runs a whole bottleneck in one launch.
    fn bottleneck(
        &self,
        step: &Step,
        problem: &Bottleneck2d,
        given: &Tensors,
        ran: &Ran,
    ) -> Result<Vec<f64>, String> {
        let plan = self.plan(problem)?;
        let tensor = |name: &String| find(given, &ran.tensors, name).map(|found| &found.data[..]);
        let mut inputs = Vec::new();
        for name in &step.layer.inputs {
            inputs.push(tensor(name)?);
        }
        let [x, w1, w2, w3] = inputs[..] else {
            return Err(format!("{} inputs instead of 4", inputs.len()));
        };
        let mut biases = [None; 3];
        if let Op::Bottleneck { bias, .. } = &step.layer.op {
            for (name, values) in bias.iter().zip(&mut biases) {
                *values = name.as_ref().map(tensor).transpose()?;
            }
        }
        let residual = step.residual.as_ref();
        let residual = residual.filter(|_| problem.added() == Added::Tensor);
        let operands = BottleneckOperands {
            x,
            w: [w1, w2, w3],
            bias: biases,
            residual: residual.map(tensor).transpose()?,
        };
        check::run_bottleneck(self.gpu, &plan, &operands).map_err(|error| error.to_string())
    }

    /// The plan of a problem: with the forced kernel if that accepts the problem.
    fn plan<P: Operation>(&self, problem: &P) -> Result<Plan<P>, String> {
        let capability = self.gpu.capability();
        let forced = |split_k| {
            let limits = Limits {
                kernel: Some(self.kernel?),
                split_k,
                ..Limits::default()
            };
            Plan::within(problem, capability, &limits).ok()
        };
        match forced(self.split_k).or_else(|| forced(None)) {
            Some(plan) => Ok(plan),
            None => Plan::new(problem, capability).map_err(|error| match error {
                Error::NoKernel { problem, .. } => no_kernel(&problem),
                error => error.to_string(),
            }),
        }
    }

    /// Computes a step on the host for which the crate has no kernel.
    fn host(&self, step: &Step, given: &Tensors, ran: &mut Ran) -> Result<Vec<f64>, String> {
        let inputs = &step.layer.inputs;
        match &step.layer.op {
            Op::Concat => {
                let mut parts = Vec::new();
                for name in inputs {
                    parts.push((
                        extents(self.shapes, name)?,
                        &find(given, &ran.tensors, name)?.data[..],
                    ));
                }
                Ok(concat(&parts))
            }
            Op::Add => {
                let (a, b) = (
                    find(given, &ran.tensors, &inputs[0])?,
                    find(given, &ran.tensors, &inputs[1])?,
                );
                let sum = a
                    .data
                    .iter()
                    .zip(&b.data)
                    .map(|(a, b)| check::round(self.dtype, a + b))
                    .collect();
                ran.host.push("add");
                Ok(sum)
            }
            _ => Ok(find(given, &ran.tensors, &inputs[0])?.data.clone()),
        }
    }
}

/// Finds a tensor by its name.
fn find<'t>(given: &'t Tensors, made: &'t Tensors, name: &str) -> Result<&'t Tensor, String> {
    made.get(name)
        .or_else(|| given.get(name))
        .ok_or_else(|| format!("no tensor `{name}`"))
}

/// Converts positions in windows to row * width + column in the plane; -1 for a window without
/// elements.
pub fn in_plane(pool: &Pool2d, positions: &[u8]) -> Vec<f64> {
    let (padding, [stride_h, stride_w], [dilation_h, dilation_w]) = (
        pool.window().padding,
        pool.window().stride,
        pool.window().dilation,
    );
    let flat = |(output, &position): (usize, &u8)| {
        if position == NO_INDEX {
            return -1.0;
        }
        let (r, s) = (
            usize::from(position) / pool.window().kernel[1],
            usize::from(position) % pool.window().kernel[1],
        );
        let (p, q) = (
            output / pool.output().w() % pool.output().h(),
            output % pool.output().w(),
        );
        // In floating point: a wrong position before the plane is then reported instead of wrapped.
        let row = (p * stride_h + r * dilation_h) as f64 - padding.top as f64;
        let column = (q * stride_w + s * dilation_w) as f64 - padding.left as f64;
        row * pool.input().w() as f64 + column
    };
    positions.iter().enumerate().map(flat).collect()
}

/// Concatenates tensors along the channels.
fn concat(parts: &[([usize; 4], &[f64])]) -> Vec<f64> {
    let images = parts.first().map_or(0, |(extents, _)| extents[0]);
    let mut joined = Vec::with_capacity(parts.iter().map(|(_, data)| data.len()).sum());
    for image in 0..images {
        for ([_, c, h, w], data) in parts {
            let length = c * h * w;
            joined.extend_from_slice(&data[image * length..(image + 1) * length]);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_are_joined_image_by_image() {
        let joined = concat(&[
            ([2, 1, 1, 2], &[1.0, 2.0, 3.0, 4.0]),
            ([2, 2, 1, 2], &[5., 6., 7., 8., 9., 10., 11., 12.]),
        ]);
        assert_eq!(joined, [1., 2., 5., 6., 7., 8., 3., 4., 9., 10., 11., 12.]);
    }
}
