//! Decision between several ways to launch the same operations.

use std::fmt;

use super::FuseOptions;
use crate::graph::{GraphEstimate, Node};
use crate::kernels::{KernelId, LAUNCH_US, Refusal};

/// Pattern of nodes that fewer launches can compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Pattern {
    /// 1x1, 3x3 and 1x1 convolutions in a chain, each the only reader of the one before.
    Bottleneck,
    /// Convolutions that do not wait for each other: over the same input, or of equally many output
    /// pixels.
    Branches,
}

/// Decision between several ways to launch the same operations, with the estimate of each or the
/// reason against it.
#[derive(Clone, Debug, PartialEq)]
pub struct FusionDecision {
    /// The pattern that the nodes match.
    pub pattern: Pattern,
    /// Names of the nodes, each launched by itself in the last alternative.
    pub nodes: Vec<String>,
    /// The alternatives, those with fewer launches first.
    pub alternatives: Vec<Alternative>,
    /// Index of the alternative that is taken; the last one if none can be planned.
    pub taken: usize,
}

/// A way to launch the operations of a [`FusionDecision`].
#[derive(Clone, Debug, PartialEq)]
pub struct Alternative {
    /// The launches in words, for instance `one launch`.
    pub name: &'static str,
    /// Estimate of its launches, or the reason why one of them has no kernel.
    pub estimate: Result<GraphEstimate, Refused>,
    /// The planned kernels, one per launch; empty if there is no estimate.
    pub kernels: Vec<KernelId>,
}

/// Reason against an [`Alternative`]: no kernel accepts one of its launches.
#[derive(Clone, Debug, PartialEq)]
pub struct Refused {
    /// Name of the node.
    pub node: String,
    /// Each kernel of the operation with its reason. Kernels of the node's type and layout come
    /// first, among them those with the lowest alignment.
    pub kernels: Vec<(KernelId, Refusal)>,
}

impl FusionDecision {
    /// Estimates each alternative, a name with its nodes, and takes the first of the shortest time.
    /// With [`FusePolicy::Always`](super::FusePolicy::Always) it takes the first that has kernels.
    ///
    /// # Panics
    /// If there is no alternative.
    pub(crate) fn between(
        pattern: Pattern,
        alternatives: &[(&'static str, &[Node])],
        options: &FuseOptions<'_>,
    ) -> FusionDecision {
        let (_, separate) = alternatives.last().expect("at least one alternative");
        let nodes = separate.iter().map(|node| node.name.to_string()).collect();
        let alternatives: Vec<Alternative> = alternatives
            .iter()
            .map(|&(name, nodes)| match options.plan(nodes) {
                Ok((estimate, kernels)) => Alternative {
                    name,
                    estimate: Ok(estimate),
                    kernels,
                },
                Err(refused) => Alternative {
                    name,
                    estimate: Err(refused),
                    kernels: Vec::new(),
                },
            })
            .collect();
        FusionDecision {
            pattern,
            nodes,
            taken: options.policy.choose(&alternatives),
            alternatives,
        }
    }

    /// The alternative that is taken.
    pub(crate) fn alternative(&self) -> &Alternative {
        &self.alternatives[self.taken]
    }

    /// Returns whether fewer launches are taken than one per node.
    pub fn is_fused(&self) -> bool {
        self.taken + 1 < self.alternatives.len()
    }

    /// Reason against the first alternative, unless it is taken: its estimate, or the first reason
    /// of its [`Refused`].
    pub fn reason(&self) -> Option<String> {
        let [first, ..] = &self.alternatives[..] else {
            return None;
        };
        if self.taken == 0 {
            return None;
        }
        Some(match (&first.estimate, &self.alternative().estimate) {
            (Err(refused), _) => refused.first(),
            (Ok(first_estimate), Ok(taken)) => format!(
                "the model ranks {} by {:.2} us, {} by {:.2} us",
                first.name,
                first_estimate.us,
                self.alternative().name,
                taken.us
            ),
            (Ok(_), Err(refused)) => refused.first(),
        })
    }
}

impl Refused {
    /// The first kernel with its reason.
    fn first(&self) -> String {
        match self.kernels.first() {
            Some((kernel, refusal)) => format!("{}: {refusal}", kernel.kernel().name()),
            None => format!("no kernel computes {}", self.node),
        }
    }
}

impl fmt::Display for FusionDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.alternative().name)?;
        if let Some(reason) = self.reason() {
            write!(f, ", for {reason}")?;
        }
        for Alternative { name, estimate, .. } in &self.alternatives {
            write!(f, "\n{name:<18}")?;
            match estimate {
                Ok(GraphEstimate {
                    us,
                    launches,
                    bytes,
                }) => write!(
                    f,
                    "{launches} kernels, {bytes} bytes at least; ranked by {us:.2} us, {LAUNCH_US} \
                     between launches"
                )?,
                Err(refused) => write!(f, "{}", refused.first())?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no kernel computes {}", self.node)?;
        for (kernel, refusal) in &self.kernels {
            write!(f, "\n           {}: {refusal}", kernel.kernel().name())?;
        }
        Ok(())
    }
}
