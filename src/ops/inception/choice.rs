//! The choice between two launches, three, or one per operation.

use super::Inception;
use crate::error::Error;
use crate::graph::{FuseOptions, FusionDecision, Graph, Pattern, choose};

impl Inception {
    /// The graph of the shortest estimate on the device ([`Inception::fused`],
    /// [`Inception::fused_in_three`] or [`Inception::separate`]; of equals that with fewer
    /// launches), with the decision. Without kernels for it a graph is no choice: strict f32, which
    /// CUDA cores compute, and devices without `cp.async` have separate launches. Pure: no device
    /// is touched.
    ///
    /// # Errors
    /// As [`Inception::fused`], [`Inception::fused_in_three`] and [`Inception::separate`].
    pub fn choose(&self, options: &FuseOptions<'_>) -> Result<(Graph, FusionDecision), Error> {
        let graphs = [
            ("two launches", self.fused()?),
            ("three launches", self.fused_in_three()?),
            ("separate launches", self.separate()?),
        ];
        // Where nothing can be planned, preparing separate launches returns the reasons.
        Ok(choose(Pattern::Branches, graphs, options))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Step;
    use crate::kernels::{DType, LAUNCH_US, Layout};
    use crate::plan::Capability;
    use crate::plan::Plan;

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
                let job = job(n, image);
                let (graph, decision) = job.choose(&FuseOptions::new(&device)).unwrap();
                let us: Vec<f64> = decision
                    .alternatives
                    .iter()
                    .map(|alternative| alternative.estimate.as_ref().unwrap().us)
                    .collect();
                let best = decision.taken;
                // Strictly less than what comes before, no more than what comes after.
                assert!(us[..best].iter().all(|&other| us[best] < other), "{us:?}");
                assert!(us[best..].iter().all(|&other| us[best] <= other), "{us:?}");
                let graphs = [job.fused(), job.fused_in_three(), job.separate()];
                assert_eq!(graph, *graphs[best].as_ref().unwrap());
                assert_eq!(decision.reason().is_none(), best == 0);
                assert_eq!(decision.is_fused(), best < 2);
                let text = decision.to_string();
                let taken = decision.alternative();
                assert!(text.starts_with(taken.name), "{text}");
                assert_eq!(taken.kernels.len(), graph.launches());
                for alternative in &decision.alternatives {
                    let estimate = alternative.estimate.as_ref().unwrap();
                    let shown = format!(
                        "{} kernels, {} bytes at least; ranked by {:.2} us",
                        estimate.launches, estimate.bytes, estimate.us
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
            Step::Branches(branches) => Plan::new(&**branches, &device).unwrap().score().us,
            step => panic!("{step:?}"),
        });
        let expected = module.estimate(&FuseOptions::new(&device)).unwrap();
        assert_eq!(expected.launches, 2);
        assert_eq!(expected.bytes, module.min_bytes());
        let us = plans.sum::<f64>() + LAUNCH_US;
        assert!((expected.us - us).abs() < 1e-9, "{expected:?}, not {us}");
    }

    /// One small image is all launches: fewer of them win.
    #[test]
    fn small_modules_take_fewer_launches() {
        let (graph, decision) = job(1, 7)
            .choose(&FuseOptions::new(&Capability::h200()))
            .unwrap();
        assert_eq!((graph.launches(), decision.taken), (2, 0), "{decision}");
    }
}
