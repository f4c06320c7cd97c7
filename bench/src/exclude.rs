//! Kernels that plans leave out, such as those that failed a check on the device.

use warpconv::graph::Step;
use warpconv::kernels::{KernelId, kernels};
use warpconv::plan::{Capability, Limits};

/// Limits of every plan, without the kernels of these names. The list lives as long as the process,
/// as [`Limits`] requires.
pub fn limits(names: &[String]) -> Result<Limits, String> {
    let mut excluded = Vec::new();
    for name in names {
        let index = kernels().iter().position(|kernel| kernel.name() == *name);
        let index = index.ok_or_else(|| format!("--exclude: no kernel is called `{name}`"))?;
        excluded.push(KernelId(index));
    }
    Ok(Limits {
        excluded: excluded.leak(),
        ..Limits::default()
    })
}

/// The excluded kernel that a step would be planned with otherwise, if there is one. The error
/// names the kernels of a step for which none is left.
pub fn instead_of(
    step: &Step,
    device: &Capability,
    limits: &Limits,
) -> Result<Option<String>, String> {
    if limits.excluded.is_empty() {
        return Ok(None);
    }
    let accepted = |limits: &Limits| -> Vec<KernelId> {
        let candidates = step.candidates_within(device, limits).into_iter();
        let accepted = candidates.filter(|candidate| candidate.evaluation.is_ok());
        accepted.map(|candidate| candidate.id).collect()
    };
    let usual = accepted(&Limits {
        excluded: &[],
        ..*limits
    });
    let Some(first) = usual.first() else {
        // No kernel takes the step, excluded or not: its plan has the reasons.
        return Ok(None);
    };
    if accepted(limits).is_empty() {
        let names: Vec<String> = usual.iter().map(|id| id.kernel().name()).collect();
        return Err(format!(
            "every kernel for it is excluded: {}",
            names.join(", ")
        ));
    }
    Ok(limits
        .excluded
        .contains(first)
        .then(|| first.kernel().name()))
}
