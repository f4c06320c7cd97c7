//! A bottleneck by one launch or by three, and why.

use std::fmt;

use super::{BottleneckPlan, Capability, ConvPlan, LAUNCH_US, Limits, Plan, Refusal, Tuning};
use crate::error::Error;
use crate::kernels::KernelId;
use crate::problem::{Bottleneck2d, Conv2d};

/// Decision for a bottleneck: by one launch where a kernel takes it and the model says that it
/// pays, else by three.
///
/// ```
/// use warpconv::plan::{BottleneckWay, Capability};
/// use warpconv::problem::Bottleneck2d;
/// let wide = Bottleneck2d::builder().input(1, 2048, 7, 7).mid_channels(512);
/// let wide = wide.filters(2048).build()?;
/// let way = BottleneckWay::new(&wide, &Capability::h200())?;
/// println!("{way}"); // which kernels, why, launches and bytes
/// assert_eq!(way.launches(), 3);
/// # Ok::<(), warpconv::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum BottleneckWay {
    /// One launch computes all of it.
    Fused {
        /// Plan of the launch.
        plan: Box<BottleneckPlan>,
        /// Estimate of three launches, in microseconds; infinite where they cannot be planned.
        separate_us: f64,
    },
    /// Three launches, with tensors in device memory between them.
    Separate {
        /// Plans of the three launches.
        plans: Box<[ConvPlan; 3]>,
        /// Reason against one launch.
        why: Unfused,
    },
}

/// Reason why a bottleneck is not computed by one launch.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Unfused {
    /// No kernel takes it: each that was asked, with its one reason.
    Refused(Vec<(KernelId, Refusal)>),
    /// The model ranks three launches before the best kernel that takes it.
    Slower {
        /// Best kernel for one launch.
        kernel: KernelId,
        /// The model's time of one launch, in microseconds.
        fused_us: f64,
        /// The model's time of three, those between launches included.
        separate_us: f64,
    },
}

impl BottleneckWay {
    /// The better of the two ways on a device.
    ///
    /// # Errors
    /// [`Error::NoKernel`] if neither can be planned.
    pub fn new(problem: &Bottleneck2d, capability: &Capability) -> Result<BottleneckWay, Error> {
        let (limits, nobody) = (Limits::default(), None);
        BottleneckWay::choose(problem, capability, &limits, nobody)
    }

    /// As [`BottleneckWay::new`], within limits and with measured kernels where a measurement
    /// exists.
    ///
    /// # Errors
    /// As [`BottleneckWay::new`].
    pub fn tuned(
        problem: &Bottleneck2d,
        capability: &Capability,
        limits: &Limits,
        tuning: &Tuning,
    ) -> Result<BottleneckWay, Error> {
        BottleneckWay::choose(problem, capability, limits, Some(tuning))
    }

    fn choose(
        problem: &Bottleneck2d,
        capability: &Capability,
        limits: &Limits,
        tuning: Option<&Tuning>,
    ) -> Result<BottleneckWay, Error> {
        let convolution = |conv: &Conv2d| match tuning {
            Some(tuning) => Plan::tuned(conv, capability, limits, tuning),
            None => Plan::within(conv, capability, limits),
        };
        let fused = match tuning {
            Some(tuning) => Plan::tuned(problem, capability, limits, tuning),
            None => Plan::within(problem, capability, limits),
        };
        let [reduce, middle, expand] = problem.convolutions().each_ref().map(convolution);
        let plans = match (reduce, middle, expand) {
            (Ok(reduce), Ok(middle), Ok(expand)) => Ok(Box::new([reduce, middle, expand])),
            (Err(error), ..) | (_, Err(error), _) | (.., Err(error)) => Err(error),
        };
        let separate_us = plans
            .as_ref()
            .map_or(f64::INFINITY, |plans| model(&**plans));
        match (fused, plans) {
            (Ok(plan), plans) => {
                let fused_us = plan.score().us;
                match plans {
                    Ok(plans) if fused_us > separate_us => Ok(BottleneckWay::Separate {
                        plans,
                        why: Unfused::Slower {
                            kernel: plan.kernel_id(),
                            fused_us,
                            separate_us,
                        },
                    }),
                    _ => Ok(BottleneckWay::Fused {
                        plan: Box::new(plan),
                        separate_us,
                    }),
                }
            }
            (Err(_), Ok(plans)) => {
                let asked = BottleneckPlan::candidates_within(problem, capability, limits);
                let refused = asked
                    .into_iter()
                    .filter_map(|candidate| Some((candidate.id, candidate.evaluation.err()?)));
                Ok(BottleneckWay::Separate {
                    plans,
                    why: Unfused::Refused(refused.collect()),
                })
            }
            (Err(_), Err(error)) => Err(error),
        }
    }

    /// Returns whether it is one launch.
    pub fn is_fused(&self) -> bool {
        matches!(self, BottleneckWay::Fused { .. })
    }

    /// Kernels that are launched, those that pack filters first among them.
    pub fn launches(&self) -> u32 {
        match self {
            BottleneckWay::Fused { plan, .. } => u32::from(plan.grid() > 0),
            BottleneckWay::Separate { plans, .. } => plans.iter().map(ConvPlan::launches).sum(),
        }
    }

    /// Bytes that the launches move at least.
    pub fn min_bytes(&self) -> u64 {
        match self {
            BottleneckWay::Fused { plan, .. } => plan.problem().min_bytes(),
            BottleneckWay::Separate { plans, .. } => {
                plans.iter().map(|plan| plan.problem().min_bytes()).sum()
            }
        }
    }

    /// The model's time, in microseconds: it ranks, and is no prediction to quote.
    pub fn model_us(&self) -> f64 {
        match self {
            BottleneckWay::Fused { plan, .. } => plan.score().us,
            BottleneckWay::Separate { plans, .. } => model(&**plans),
        }
    }
}

/// The model's time of launches one after the other.
fn model(plans: &[ConvPlan]) -> f64 {
    let gaps = LAUNCH_US * plans.len().saturating_sub(1) as f64;
    gaps + plans.iter().map(|plan| plan.score().us).sum::<f64>()
}

impl fmt::Display for BottleneckWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BottleneckWay::Fused { plan, separate_us } => {
                writeln!(f, "one launch: {}", plan.kernel().name())?;
                write!(
                    f,
                    "why      the model ranks it by {:.2} us, ",
                    plan.score().us
                )?;
                match separate_us.is_finite() {
                    true => writeln!(f, "three launches by {separate_us:.2} us")?,
                    false => writeln!(f, "three launches cannot be planned")?,
                }
            }
            BottleneckWay::Separate { plans, why } => {
                let kernels = plans.each_ref().map(|plan| plan.kernel().name());
                writeln!(f, "three launches: {}", kernels.join(", "))?;
                writeln!(f, "why      {why}")?;
            }
        }
        writeln!(f, "launches {}", self.launches())?;
        write!(f, "moves    {} bytes at least", self.min_bytes())
    }
}

impl fmt::Display for Unfused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfused::Refused(refused) => {
                write!(f, "no kernel takes it at once")?;
                for (kernel, refusal) in refused {
                    write!(f, "\n           {}: {refusal}", kernel.kernel().name())?;
                }
                Ok(())
            }
            Unfused::Slower {
                kernel,
                fused_us,
                separate_us,
            } => write!(
                f,
                "the model ranks {} by {fused_us:.2} us, three launches by {separate_us:.2} us",
                kernel.kernel().name()
            ),
        }
    }
}
