//! Runs the launches of a case by themselves: single operations, and graphs layer by layer.
//!
//! Every launch uses the checked runs of `warpconv_testing`: fresh buffers between guards and a
//! poisoned output. Values pass between launches through the host, rounded to the storage type by
//! the launch that computed them. Concatenations and additions are computed on the host. Graphs in
//! fewer launches run as [`network`](super::network).

use std::collections::HashMap;

use warpconv::DType;
use warpconv::device::Gpu;
use warpconv::graph::Step;
use warpconv::kernels::KernelId;
use warpconv::launch::Unary;
use warpconv::plan::{Operation, Plan};
use warpconv::problem::{NO_INDEX, Pool2d};
use warpconv_testing as check;

use super::case::indices_of;
use super::layers::{Launch, Op, Tensor};
use super::lower::{Shapes, extents, forced, planning_error};

/// Tensors by their names.
pub type Tensors = HashMap<String, Tensor>;

/// Launches ready to run.
pub struct Executor<'a> {
    pub gpu: &'a Gpu,
    pub launches: &'a [Launch],
    /// The step of each launch; `None` where the host computes it.
    pub steps: &'a [Option<Step>],
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
    /// The kernel and the split-K of each launch, in order.
    pub launched: Vec<(KernelId, u32)>,
    /// Arithmetic steps that ran on the host, copies excluded.
    pub host: Vec<&'static str>,
}

impl Executor<'_> {
    /// Runs every launch; `given` contains inputs and filters.
    pub fn run(&self, given: &Tensors) -> Result<Ran, String> {
        let mut ran = Ran {
            tensors: HashMap::new(),
            launched: Vec::new(),
            host: Vec::new(),
        };
        for (launch, step) in self.launches.iter().zip(self.steps) {
            let output = &launch.layer.output;
            let data = match step {
                Some(step) => self.launch(launch, step, given, &mut ran),
                None => self.host(launch, given, &mut ran),
            };
            let data =
                data.map_err(|why| format!("{} making `{output}`: {why}", launch.layer.op.name()))?;
            let shape = self.shapes.get(output).cloned().unwrap_or_default();
            ran.tensors.insert(output.clone(), Tensor { shape, data });
        }
        Ok(ran)
    }

    /// Makes one launch and returns the values of its output.
    fn launch(
        &self,
        launch: &Launch,
        step: &Step,
        given: &Tensors,
        ran: &mut Ran,
    ) -> Result<Vec<f64>, String> {
        let inputs = &launch.layer.inputs;
        match step {
            Step::Conv(conv) => {
                let plan = self.plan(conv, step, ran)?;
                let bias = inputs
                    .get(2)
                    .map(|name| find(given, &ran.tensors, name))
                    .transpose()?;
                let residual = launch
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
            Step::Pool(pool) => self.pool(launch, pool, step, given, ran),
            Step::Relu(relu) => self.map(relu, step, &inputs[0], given, ran),
            Step::Lrn(lrn) => self.map(lrn, step, &inputs[0], given, ran),
            Step::Softmax(softmax) => self.map(softmax, step, &inputs[0], given, ran),
            Step::Tanh(tanh) => self.map(tanh, step, &inputs[0], given, ran),
            Step::Subsample(subsample) => {
                let plan = self.plan(subsample, step, ran)?;
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
            // Only a graph has them.
            Step::Bottleneck(_) | Step::Branches(_) => Err("a fused step by itself".to_owned()),
        }
    }

    /// Runs a pooling; its indices are a tensor of their own.
    fn pool(
        &self,
        launch: &Launch,
        pool: &Pool2d,
        step: &Step,
        given: &Tensors,
        ran: &mut Ran,
    ) -> Result<Vec<f64>, String> {
        let plan = self.plan(pool, step, ran)?;
        let x = find(given, &ran.tensors, &launch.layer.inputs[0])?;
        let (y, indices) =
            check::run_pool(self.gpu, &plan, &x.data).map_err(|error| error.to_string())?;
        if let Some(indices) = indices {
            let flat = in_plane(pool, &indices);
            let shape = check::extents(pool.output()).to_vec();
            ran.tensors.insert(
                indices_of(&launch.layer.output),
                Tensor { shape, data: flat },
            );
        }
        Ok(y)
    }

    /// Runs a step that keeps the extents and has no weights.
    fn map<P: Unary>(
        &self,
        problem: &P,
        step: &Step,
        input: &str,
        given: &Tensors,
        ran: &mut Ran,
    ) -> Result<Vec<f64>, String> {
        let plan = self.plan(problem, step, ran)?;
        let x = find(given, &ran.tensors, input)?;
        check::run_unary(self.gpu, &plan, &x.data).map_err(|error| error.to_string())
    }

    /// The plan of a step's problem, with the forced kernel if that accepts it; notes the kernel.
    fn plan<P: Operation>(
        &self,
        problem: &P,
        step: &Step,
        ran: &mut Ran,
    ) -> Result<Plan<P>, String> {
        let capability = self.gpu.capability();
        let limits = forced(step, capability, self.kernel, self.split_k);
        let plan = Plan::within(problem, capability, &limits).map_err(planning_error)?;
        ran.launched.push((plan.kernel_id(), plan.score().split_k));
        Ok(plan)
    }

    /// Computes a layer on the host for which the crate has no kernel.
    fn host(&self, launch: &Launch, given: &Tensors, ran: &mut Ran) -> Result<Vec<f64>, String> {
        let inputs = &launch.layer.inputs;
        match &launch.layer.op {
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
