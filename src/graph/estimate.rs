//! Estimate of a graph.

use super::{Graph, Step};
use crate::error::Error;
use crate::plan::{BottleneckPlan, BranchesPlan, Capability, ConvPlan, LAUNCH_US, Operation, Plan};

/// Estimate of a graph's launches on a device, one after the other.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GraphEstimate {
    /// The model's time in microseconds: of every plan, and [`LAUNCH_US`] between two. It ranks,
    /// and is no prediction to quote.
    pub us: f64,
    /// Number of launches, the packing of filters included.
    pub launches: u32,
    /// Bytes that they move at least.
    pub bytes: u64,
}

impl Graph {
    /// Plans every launch for the device and adds up the estimates. No device is touched.
    ///
    /// # Errors
    /// [`Error::NoKernel`] if no kernel takes one of the launches.
    pub fn estimate(&self, device: &Capability) -> Result<GraphEstimate, Error> {
        let gaps = LAUNCH_US * self.launches().saturating_sub(1) as f64;
        let mut all = GraphEstimate {
            us: gaps,
            launches: 0,
            bytes: self.min_bytes(),
        };
        for node in self.nodes() {
            let (us, launches) = planned(&node.step, device)?;
            all.us += us;
            all.launches += launches;
        }
        Ok(all)
    }
}

/// Time and number of launches of a step.
fn planned(step: &Step, device: &Capability) -> Result<(f64, u32), Error> {
    match step {
        Step::Conv(conv) => {
            let plan = ConvPlan::new(conv, device)?;
            Ok((plan.score().us, plan.launches()))
        }
        Step::Branches(branches) => {
            let plan = BranchesPlan::new(branches, device)?;
            Ok((plan.score().us, plan.launches()))
        }
        Step::Bottleneck(bottleneck) => {
            let plan = BottleneckPlan::new(bottleneck, device)?;
            Ok((plan.score().us, u32::from(plan.grid() > 0)))
        }
        Step::Pool(pool) => one(pool, device),
        Step::Relu(relu) => one(relu, device),
        Step::Lrn(lrn) => one(lrn, device),
        Step::Softmax(softmax) => one(softmax, device),
        Step::Tanh(tanh) => one(tanh, device),
        Step::Subsample(subsample) => one(subsample, device),
    }
}

fn one<P: Operation>(problem: &P, device: &Capability) -> Result<(f64, u32), Error> {
    let plan = Plan::new(problem, device)?;
    Ok((plan.score().us, u32::from(plan.grid() > 0)))
}
