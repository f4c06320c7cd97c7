//! Two launches, three, or one per operation: the planner's estimates, and its choice.

use std::fmt;

use super::Inception;
use crate::error::Error;
use crate::graph::{Graph, GraphEstimate, Step};
use crate::plan::{BranchesPlan, Capability, LAUNCH_US};

/// A way to launch the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InceptionForm {
    /// [`Inception::fused`].
    InTwo,
    /// [`Inception::fused_in_three`].
    InThree,
    /// [`Inception::separate`].
    Separate,
}

impl InceptionForm {
    /// Every one, those with fewer launches first.
    pub const ALL: [InceptionForm; 3] = [
        InceptionForm::InTwo,
        InceptionForm::InThree,
        InceptionForm::Separate,
    ];

    /// The form in words.
    pub const fn name(self) -> &'static str {
        match self {
            InceptionForm::InTwo => "two launches",
            InceptionForm::InThree => "three launches",
            InceptionForm::Separate => "separate launches",
        }
    }
}

/// A form with the planner's estimate.
#[derive(Clone, Debug, PartialEq)]
pub struct InceptionEstimate {
    /// Form of the estimate.
    pub form: InceptionForm,
    /// Launches, bytes and the model's time; or why no kernel takes one of its launches.
    pub expected: Result<GraphEstimate, String>,
}

/// The module as it should be launched on a device. Shows all forms with their launches, bytes and
/// times.
#[derive(Clone, Debug)]
pub struct InceptionChoice {
    /// Form with the shortest expected time.
    pub form: InceptionForm,
    /// Graph of that form.
    pub module: Graph,
    /// Estimates of all forms, in the order of [`InceptionForm::ALL`].
    pub estimates: [InceptionEstimate; 3],
    /// Reason against two launches, if another form is taken: the model's times, or a kernel's
    /// refusal.
    pub reason: Option<String>,
}

impl Inception {
    /// The module in a form.
    ///
    /// # Errors
    /// As [`Inception::fused`], [`Inception::fused_in_three`] and [`Inception::separate`].
    pub fn in_form(&self, form: InceptionForm) -> Result<Graph, Error> {
        match form {
            InceptionForm::InTwo => self.fused(),
            InceptionForm::InThree => self.fused_in_three(),
            InceptionForm::Separate => self.separate(),
        }
    }

    /// The form of which the planner expects the shortest time on the device: its model of every
    /// launch, and [`LAUNCH_US`] between two. Of equals that with fewer launches. Forms that no
    /// kernel takes are left out: strict f32, which CUDA cores compute, and devices without
    /// `cp.async` are left with separate launches. Pure: no device is touched.
    ///
    /// # Errors
    /// As [`Inception::in_form`].
    pub fn choose(&self, device: &Capability) -> Result<InceptionChoice, Error> {
        let modules = [self.fused()?, self.fused_in_three()?, self.separate()?];
        let estimates = [0, 1, 2].map(|index: usize| InceptionEstimate {
            form: InceptionForm::ALL[index],
            expected: modules[index]
                .estimate(device)
                .map_err(|error| refusal(&modules[index], device, &error)),
        });
        // Where nothing can be planned, preparing separate launches says why.
        let (mut best, mut least) = (2, f64::INFINITY);
        for (index, estimate) in estimates.iter().enumerate() {
            if let Ok(expected) = &estimate.expected
                && expected.us < least
            {
                (best, least) = (index, expected.us);
            }
        }
        let reason = match &estimates[0].expected {
            _ if best == 0 => None,
            Err(why) => Some(why.clone()),
            Ok(two) => Some(format!(
                "the model ranks two launches by {:.2} us, {} by {least:.2} us",
                two.us,
                estimates[best].form.name()
            )),
        };
        let [two, three, separate] = modules;
        Ok(InceptionChoice {
            form: InceptionForm::ALL[best],
            module: match InceptionForm::ALL[best] {
                InceptionForm::InTwo => two,
                InceptionForm::InThree => three,
                InceptionForm::Separate => separate,
            },
            estimates,
            reason,
        })
    }
}

/// Reason why no kernel takes a graph: what keeps the one that asks least of the input, of those
/// that store its type and layout.
fn refusal(module: &Graph, device: &Capability, error: &Error) -> String {
    let refused = module.nodes().iter().find_map(|node| match &node.step {
        Step::Branches(branches) => {
            let candidates = BranchesPlan::candidates(branches, device);
            if candidates.iter().any(|asked| asked.evaluation.is_ok()) {
                return None;
            }
            let stored = candidates.iter().filter(|asked| {
                let kernel = asked.kernel();
                kernel.dtype == branches.dtype() && kernel.layout == Some(branches.layout())
            });
            let asked = stored.min_by_key(|asked| asked.kernel().vector)?;
            let refusal = asked.evaluation.as_ref().err()?;
            Some(format!("{}: {refusal}", asked.kernel().name()))
        }
        _ => None,
    });
    refused.unwrap_or_else(|| error.to_string())
}

impl fmt::Display for InceptionChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.form.name())?;
        if let Some(reason) = &self.reason {
            write!(f, ", for {reason}")?;
        }
        for InceptionEstimate { form, expected } in &self.estimates {
            write!(f, "\n{:<18}", form.name())?;
            match expected {
                Ok(GraphEstimate {
                    us,
                    launches,
                    bytes,
                }) => write!(
                    f,
                    "{launches} kernels, {bytes} bytes at least; ranked by {us:.2} us, {LAUNCH_US} \
                     between launches"
                )?,
                Err(why) => write!(f, "{why}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{DType, Layout};

    fn job(n: usize, image: usize) -> Inception {
        Inception {
            dtype: DType::Bf16,
            layout: Layout::Nhwc,
            ..Inception::inception_3a(n, image, image)
        }
    }

    #[test]
    fn the_shortest_time_is_taken_and_the_others_are_shown() {
        for device in [Capability::sm80(), Capability::h200()] {
            for (n, image) in [(1, 7), (1, 28), (32, 28), (128, 28)] {
                let choice = job(n, image).choose(&device).unwrap();
                let us = choice
                    .estimates
                    .each_ref()
                    .map(|estimate| estimate.expected.as_ref().unwrap().us);
                let best = InceptionForm::ALL
                    .iter()
                    .position(|form| *form == choice.form)
                    .unwrap();
                // Strictly less than what comes before, no more than what comes after.
                assert!(us[..best].iter().all(|&other| us[best] < other), "{us:?}");
                assert!(us[best..].iter().all(|&other| us[best] <= other), "{us:?}");
                assert_eq!(choice.module, job(n, image).in_form(choice.form).unwrap());
                assert_eq!(choice.reason.is_none(), best == 0);
                let text = choice.to_string();
                assert!(text.starts_with(choice.form.name()), "{text}");
                for estimate in &choice.estimates {
                    let expected = estimate.expected.as_ref().unwrap();
                    let shown = format!(
                        "{} kernels, {} bytes at least; ranked by {:.2} us",
                        expected.launches, expected.bytes, expected.us
                    );
                    assert!(text.contains(&shown), "{text}");
                }
            }
        }
    }

    /// A time is the sum of the plans' own and of what lies between launches.
    #[test]
    fn a_launch_more_costs_what_is_said() {
        let device = Capability::h200();
        let module = job(1, 7).fused().unwrap();
        let plans = module.nodes().iter().map(|node| match &node.step {
            Step::Branches(branches) => BranchesPlan::new(branches, &device).unwrap().score().us,
            step => panic!("{step:?}"),
        });
        let expected = module.estimate(&device).unwrap();
        assert_eq!(expected.launches, 2);
        assert_eq!(expected.bytes, module.min_bytes());
        let us = plans.sum::<f64>() + LAUNCH_US;
        assert!((expected.us - us).abs() < 1e-9, "{expected:?}, not {us}");
    }

    /// One small image is all launches: fewer of them win.
    #[test]
    fn small_modules_take_fewer_launches() {
        let choice = job(1, 7).choose(&Capability::h200()).unwrap();
        assert_eq!(choice.form, InceptionForm::InTwo, "{choice}");
    }
}
